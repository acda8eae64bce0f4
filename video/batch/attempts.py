"""Attempts on disk: what a run has begun and not ended, so that the next process knows what killed the last one.

Memory that does not suffice is often no error but the end of the process. Without a note the next run would begin with
the same questions, and end the same way.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vtc.core.files import replace_text
from vtc.core.jsonl import append_line, read_lines

if TYPE_CHECKING:
    from .questions import Question

ENDING = ".attempts"
ROWS, MEDIUM = "rows", "medium"
MOST = 2
"""Kills after which a question is not asked any more."""


class ProcessKilled(RuntimeError):
    """A question, or the medium of one, that the process did not survive."""


class EngineStopped(RuntimeError):
    """An engine that ended over what it had in hand, which may be any of its requests."""


class Begun(Protocol):
    """Interface by which an answerer records its attempts, and learns of earlier ones that killed its process."""

    def during(self, names: Sequence[str], what: str) -> Any:
        """A block that works on `names`: `ROWS`, questions of a batch; `MEDIUM`, see `medium_name`."""

    def alone(self, name: str) -> bool:
        """Return whether the question `name` is to be asked by itself."""

    def refused(self, name: str) -> ProcessKilled | None:
        """Return why the question `name` is not to be asked; None where it is."""


def medium_name(question: Question) -> str:
    """Return the key of a stretch of a medium, the same for all questions about it."""
    return json.dumps([question.medium, question.image, question.start, question.end])


class NoAttempts:
    """Notes nothing."""

    @contextmanager
    def during(self, names: Sequence[str], what: str) -> Iterator[None]:
        """See `Begun`."""
        yield

    def alone(self, name: str) -> bool:
        """See `Begun`."""
        return False

    def refused(self, name: str) -> ProcessKilled | None:
        """See `Begun`."""
        return None


class Attempts:
    """The note beside a file of answers. One process has it at a time, any of whose threads may write.

    A process that is killed over several questions at once leaves all of them suspect: each is then asked alone, with
    nothing read ahead. One that was suspect in `MOST` kills, in the last of them alone, is refused. What Python itself
    ends, by an error or a signal that it handles, is no kill.

    Args:
        path: the note; it is there only while a run is, and after one that was killed.
        done: ids that are answered: they are beyond suspicion.
        forget: ids whose kills do not count any more.

    Raises:
        OSError: it cannot be read or written.
    """

    def __init__(self, path: Path, done: Collection[str] = (), forget: Collection[str] = ()) -> None:
        self.path = path
        self._lock, self._number = threading.Lock(), 0
        self._kills, self._last_alone, left = _read(path)
        for what, names in left:
            keys = [_key(what, name) for name in names if what == MEDIUM or name not in done]
            for key in keys:
                self._kills[key] += 1
                self._last_alone[key] = len(left) == 1 and len(keys) == 1
        self._save(forget)

    def during(self, names: Sequence[str], what: str) -> Any:
        """See `Begun`."""
        return self._noted(list(names), what)

    @contextmanager
    def _noted(self, names: list[str], what: str) -> Iterator[None]:
        number = self.begin(names, what)
        try:
            yield
        finally:
            self.end(number)

    def begin(self, names: Sequence[str], what: str) -> int:
        """Note that work on `names` begins, as `during` does; the number by which it is ended."""
        with self._lock:
            self._number += 1
            self._write({"begun": self._number, "what": what, "names": list(names)})
            return self._number

    def end(self, number: int) -> None:
        """Note that the work that `begin` gave `number` has ended."""
        with self._lock:
            self._write({"ended": number})

    def alone(self, name: str) -> bool:
        """See `Begun`."""
        return self._kills[_key(ROWS, name)] > 0

    def suspect(self, questions: Sequence[Question]) -> bool:
        """Return whether a process was killed over one of `questions`, or over its medium."""
        return any(self._kills[_key(MEDIUM, medium_name(q))] or self.alone(q.id) for q in questions)

    def refused(self, name: str) -> ProcessKilled | None:
        """See `Begun`."""
        return self._why(ROWS, name, "this question")

    def refused_medium(self, question: Question) -> ProcessKilled | None:
        """Return why no question about the medium of `question` is to be asked; None where they are."""
        return self._why(MEDIUM, medium_name(question), "this medium")

    def _why(self, what: str, name: str, spoken: str) -> ProcessKilled | None:
        key = _key(what, name)
        if self._kills[key] < MOST or not self._last_alone.get(key):
            return None
        return ProcessKilled(
            f"the process was killed {self._kills[key]} times over {spoken}, the last time over it alone (memory that "
            "does not suffice?); it is left out: ask again by --retry with a smaller batch, fewer frames or more memory"
        )

    def close(self, done: Collection[str] = ()) -> None:
        """Take the note away, as the run ended of itself; what is known of questions that are not `done` stays."""
        self._file.close()
        left = [key for key, count in self._kills.items() if count and key.startswith(ROWS)]
        if all(key.partition(":")[2] in done for key in left):
            self.path.unlink(missing_ok=True)

    def leave(self) -> None:
        """Leave the note as it is, as a killed process does: what was begun and has not ended is suspect from then."""
        self._file.close()

    def _save(self, forget: Collection[str]) -> None:
        for name in forget:
            self._kills.pop(_key(ROWS, name), None)
        kills = {key: [count, self._last_alone.get(key, False)] for key, count in self._kills.items() if count}
        replace_text(self.path, json.dumps({"kills": kills}) + "\n")
        self._file = open(self.path, "ab")  # noqa: SIM115 - closed by `close`

    def _write(self, line: dict[str, Any]) -> None:
        # No fsync: what a process has given to the system outlives it, and a power cut is nobody's fault. A disk that
        # is full ends the run at its next row, and must not become the error of a question before.
        with suppress(OSError):
            append_line(self._file, json.dumps(line))


def _key(what: str, name: str) -> str:
    return f"{what}:{name}"


def _read(path: Path) -> tuple[Counter[str], dict[str, bool], list[tuple[str, list[str]]]]:
    """Kill of each key so far, whether the last was over it alone, and what was begun and has not ended."""
    kills: Counter[str] = Counter()
    alone: dict[str, bool] = {}
    begun: dict[str, tuple[str, list[str]]] = {}
    for line in _lines(path):
        if "kills" in line:
            for key, (count, sole) in line["kills"].items():
                kills[key], alone[key] = int(count), bool(sole)
        elif "begun" in line:
            begun[str(line["begun"])] = (str(line["what"]), list(map(str, line["names"])))
        else:
            begun.pop(str(line.get("ended")), None)
    return kills, alone, list(begun.values())


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The written entries, without a torn last line."""
    for line in read_lines(path) if path.exists() else ():
        with suppress(ValueError):
            yield line.row("it was torn")
