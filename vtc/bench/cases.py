"""The questions of a benchmark: each about one image, some with a true answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from vtc.core.jsonl import Line, read_lines
from vtc.core.registry import nearest
from vtc.inference.prompting import Medium
from vtc.media.images import load_image

FIELDS = ("image", "question", "answer", "skill", "id")


@dataclass(frozen=True)
class Case:
    """One question about one image or video.

    Attributes:
        id: unique in its run.
        scene: what the image is called; questions of one image are resampled together.
        question: what is asked.
        answer: the true answer, or None where only agreement with the full model can be measured.
        skill: what the question needs, by which results are split.
        image: loads the image or video, and raises OSError or ValueError where it cannot be read.
    """

    id: str
    scene: str
    question: str
    answer: str | None
    skill: str | None
    image: Callable[[], Medium] = field(repr=False, compare=False)


def read(path: Path) -> tuple[list[Case], list[str]]:
    """The cases of a JSONL file, and the names of fields in it that are not read.

    Each line is an object with `image` (a path, relative to the file's folder) and `question`, and perhaps `answer`,
    `skill` and `id`. Images are not opened here.

    Raises:
        OSError: no such file.
        ValueError: a file without lines, or an empty or malformed line; the message has its number.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--data {path}: no such file; pass a JSONL file, one object a line")
    cases, seen, unread = [], dict[str, int](), dict[str, None]()
    for line in read_lines(path, f"--data {path}"):
        if line.blank and not line.ended:  # white space after the last newline is no line
            break
        entry = line.row(f"expected {_EXAMPLE}")
        case = _case(path, line, entry)
        if case.id in seen:
            raise ValueError(f"{line.place}: id {case.id!r} was given in line {seen[case.id]}; ids differ")
        seen[case.id] = line.number
        unread.update(dict.fromkeys(name for name in entry if name not in FIELDS))
        cases.append(case)
    if not cases:
        raise ValueError(f"--data {path} holds no line; write one object a line, such as {_EXAMPLE}")
    return cases, list(unread)


_EXAMPLE = '{"image": "a.png", "question": "what is it?", "answer": "a cat"}'


def _case(path: Path, line: Line, entry: dict[str, Any]) -> Case:
    where = line.place
    for name in ("image", "question"):
        if name not in entry:
            close = nearest(name, entry)
            raise ValueError(f"{where} has no {name!r}{close}; expected an object such as {_EXAMPLE}")
    for name in FIELDS:
        value, wanted = entry.get(name), (str, int) if name == "id" else (str,)
        if value is None and name not in ("image", "question"):
            continue
        if isinstance(value, bool) or not isinstance(value, wanted):
            raise ValueError(f"{where}: {name}={value!r} is a {type(value).__name__}; expected text")
        if not str(value).strip():
            raise ValueError(f"{where}: {name}={value!r} is empty; fill it in, or leave out what is optional")
    image = (path.parent / Path(entry["image"]).expanduser()).resolve()
    name = f"line {line.number}" if entry.get("id") is None else str(entry["id"])
    return Case(
        name, str(image), entry["question"], entry.get("answer"), entry.get("skill"), partial(load_image, image)
    )


def of_skills(cases: Sequence[Case], skills: Sequence[str], known: Iterable[str]) -> list[Case]:
    """The cases of the named skills; all where none is named.

    Raises:
        ValueError: a skill that is not among the known ones.
    """
    check_skills(skills, known)
    return [case for case in cases if not skills or case.skill in skills]


def check_skills(skills: Sequence[str], known: Iterable[str]) -> None:
    """Raise ValueError for a skill that is not known, with the nearest."""
    names = list(known)
    for skill in skills:
        if skill not in names:
            listed = ", ".join(names) or "none, since no line has a skill"
            raise ValueError(f"--skills {skill!r} is unknown{nearest(skill, names)} (known: {listed})")
