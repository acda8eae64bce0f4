"""Clips of the drawn world that tests of batches ask about, and their questions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from tests.video.videos import write
from vtc.embedded.video import VALIDATION, Video
from vtc.video.batch.questions import Question

FEW = dict(frames=4, max_new_tokens=6)
"""Fields of jobs that are to be quick."""


@cache
def video(number: int) -> Video:
    return Video(VALIDATION + number)


def clips(folder: Path, count: int) -> list[Path]:
    """The first `count` videos as files of `folder`."""
    return [write(folder / f"{i}.mp4", video(i).pixels(96), fps=2) for i in range(count)]


def rows(count: int, each: int) -> list[dict]:
    """Questions about clips 0 to `count` - 1, `each` of each clip, by path beside their file."""
    made = []
    for i in range(count):
        asked = (video(i).questions * each)[:each]
        made += [
            {"id": f"{i}-{j}", "video": f"{i}.mp4", "question": q.question, "answer": q.answer, "mark": j}
            for j, q in enumerate(asked)
        ]
    return made


def save(path: Path, listed: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in listed))
    return path


def question(row: dict, folder: Path, **changed) -> Question:
    given = {"id": row["id"], "medium": str(folder / row["video"]), "question": row["question"]}
    return Question(**{**given, "answer": row["answer"], **changed})


def read(path: Path) -> list[dict]:
    """The rows of a file of answers."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def timeless(listed: Iterable[dict]) -> list[dict]:
    """Rows without what differs between runs."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in listed]
