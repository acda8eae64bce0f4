"""A batch from the page: questions and media that were uploaded, and nothing else of the server."""

from __future__ import annotations

import queue
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtc.core.files import replace_text
from vtc.video.batch.summary import Summary

from .state import AppState

ANSWERS = "answers.jsonl"
ENDINGS = (".jsonl", ".csv")
HEADER = ("file", "question", "answer", "visual tokens")


@dataclass(frozen=True)
class Progress:
    """How far a batch is.

    Attributes:
        done, total: questions.
        rows: answers so far, in words, see `HEADER`.
        summary: once it has ended.
    """

    done: int
    total: int
    rows: tuple[tuple[str, ...], ...] = ()
    summary: Summary | None = None


def gathered(folder: Path, questions: str | None, media: Sequence[str]) -> Path:
    """Copy of the uploads, side by side in `folder` by their own names; answers the path of the questions.

    Raises:
        ValueError: no questions, another ending, no media, or two uploads of one name.
    """
    if questions is None or Path(questions).suffix.lower() not in ENDINGS:
        name = None if questions is None else Path(questions).name
        raise ValueError(f"questions={name!r}: upload a file that ends in {' or '.join(ENDINGS)}, a question a row")
    if not media:
        raise ValueError("no media were uploaded; upload the images and videos that the questions name")
    names = [Path(path).name for path in (questions, *media)]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled or ANSWERS in names:
        raise ValueError(f"uploads: {(doubled or [ANSWERS])[0]!r} stands for more than one file; rename one")
    for path, name in zip((questions, *media), names, strict=True):
        shutil.copyfile(path, folder / name)
    return folder / names[0]


def batch(
    state: AppState, questions: Path, stop: threading.Event, *, recipe: str, keep: float, max_new_tokens: int
) -> Iterator[Progress]:
    """Answer `questions` about media in the same folder by the page's model of videos, which takes images too.

    The answers stand beside them in `answers.jsonl`, without the folder's name. Closing the iterator stops the batch
    behind the row in hand.

    Raises:
        OSError, ValueError: see `vtc.video.batch.answer_batch`; no folder of the server is named.
    """
    loaded = state.video_model
    chosen = state.recipe(recipe, keep, video=True)
    options = {"model": loaded.name, "recipe": chosen, "max_new_tokens": max_new_tokens}
    news: queue.SimpleQueue[Progress | BaseException] = queue.SimpleQueue()
    closed = threading.Event()
    run = threading.Thread(
        target=_run, args=(state, questions, lambda: stop.is_set() or closed.is_set(), options, news.put), daemon=True
    )
    run.start()
    try:
        while True:
            update = news.get()
            if isinstance(update, (OSError, ValueError)):
                raise ValueError(_bare(str(update), questions.parent)) from update
            if isinstance(update, BaseException):
                raise update
            yield update
            if update.summary is not None:
                return
    finally:
        closed.set()
        run.join()


def _run(state: AppState, questions: Path, stop: Any, options: dict[str, Any], pass_on: Any) -> None:
    from vtc.video.batch.engine import answer_batch

    out, reached, rows = questions.with_name(ANSWERS), (0, 0), list[tuple[str, ...]]()

    def on_row(row: Mapping[str, Any]) -> None:
        """Put an answer into words; how far the batch is comes next."""
        rows.append(_cells(row, questions.parent))

    def on_update(done: int, total: int) -> None:
        """Pass on how far the batch is."""
        nonlocal reached
        reached = (done, total)
        pass_on(Progress(done, total, tuple(rows)))

    try:
        with state.inference.lock:
            summary = answer_batch(
                questions,
                out,
                root=questions.parent,
                allow_urls=False,
                progress=on_update,
                on_row=on_row,
                stop=stop,
                **options,
            )
        replace_text(out, _bare(out.read_text(encoding="utf-8"), questions.parent))
        pass_on(Progress(*reached, tuple(rows), summary))
    except BaseException as error:  # raised again where the progress is read
        pass_on(error)


def _cells(row: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    mark = {True: " ✓", False: " ✗"}.get(row.get("correct"), "")  # type: ignore[arg-type]
    answer = _bare(row["error"], folder) if row["error"] is not None else f"{row['answer']}{mark}"
    counts = "" if row["error"] is not None else f"{row['tokens_kept']:,} of {row['tokens_full']:,}"
    return Path(row.get("video") or row.get("image") or "").name, row["question"], answer, counts


def _bare(text: str, folder: Path) -> str:
    """`text` without the folder on the server."""
    for name in (str(folder.resolve()), str(folder)):
        text = text.replace(f"{name}/", "").replace(name, "")
    return text
