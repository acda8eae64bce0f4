"""Where a run on Ray leaves its answers: a folder of blocks, or a file that is made of them when all are answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vtc.video.batch.journal import row_of, rows
from vtc.video.batch.merge import FORMATS, write_rows
from vtc.video.batch.parquet import check_rows, check_table
from vtc.video.batch.questions import Question
from vtc.video.batch.tables import ENDING

from .folder import answers, clear


@dataclass(frozen=True)
class Place:
    """Where the answers go.

    Attributes:
        out: as the caller gave it: a .jsonl or .parquet file, or a folder.
    """

    out: Path

    @property
    def folder(self) -> Path:
        """The folder of the blocks: `out` itself, or one beside the file."""
        return self.out.with_name(f"{self.out.name}.blocks") if self.is_file else self.out

    @property
    def is_file(self) -> bool:
        """Whether `out` is a file, or is to become one; what is a folder stays one, whatever it is called."""
        return self.out.suffix.lower() in FORMATS and not self.out.is_dir()

    def check(self, asked: Sequence[Question], overwrite: bool) -> None:
        """Find out beforehand what would keep a night's answers from becoming the file.

        Raises:
            ValueError: the file is there without its blocks, or holds something else than answers; or answers to
                `asked` do not fit into a table.
        """
        if not self.is_file:
            return
        if self.out.suffix.lower() == ENDING:
            check_table(self.out, self.folder, overwrite)
            check_rows([*answers(self.folder), *map(row_of, asked)])
        elif self.out.exists():
            if not overwrite and not self.folder.exists():
                raise ValueError(
                    f"out={self.out} is there, but {self.folder.name}, which Ray makes it of, is not: what it holds "
                    "cannot be gone on with; write to another file, or start again (--overwrite), which throws it away"
                )
            for _ in rows(self.out):  # all of it, since all of it is replaced
                pass

    def clear(self) -> None:
        """Throw away the answers of an earlier run."""
        if self.is_file:
            self.out.unlink(missing_ok=True)
        clear(self.folder)

    def finish(self, asked: Sequence[Question]) -> None:
        """Write the file, in the order of `asked`, which are all answered, others behind them; it appears when it is
        whole."""
        if self.is_file:
            found = {row["id"]: row for row in answers(self.folder)}
            order = dict.fromkeys([*(question.id for question in asked), *found])
            write_rows([found[name] for name in order], self.out)
