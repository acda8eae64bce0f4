"""The questions of a benchmark: each about one image, some with a true answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from vtc.core.json_text import loads
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
    lines = path.read_bytes().split(b"\n")
    lines = lines[:-1] if not lines[-1].strip() else lines  # what follows the last newline is no line
    if not lines:
        raise ValueError(f"--data {path} holds no line; write one object a line, such as {_example()}")
    cases, seen, unread = [], dict[str, int](), dict[str, None]()
    for number, line in enumerate(lines, start=1):
        entry = _entry(path, number, line)
        case = _case(path, number, entry)
        if case.id in seen:
            raise ValueError(
                f"--data {path}, line {number}: id {case.id!r} was given in line {seen[case.id]}; ids differ"
            )
        seen[case.id] = number
        unread.update(dict.fromkeys(name for name in entry if name not in FIELDS))
        cases.append(case)
    return cases, list(unread)


def _example() -> str:
    return '{"image": "a.png", "question": "what is it?", "answer": "a cat"}'


def _entry(path: Path, number: int, line: bytes) -> dict[str, Any]:
    where = f"--data {path}, line {number}"
    if not line.strip():
        raise ValueError(f"{where} is empty; remove it")
    try:
        entry = loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not UTF-8 ({error.reason}); save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is no JSON ({error.msg}, column {error.colno}); expected {_example()}") from error
    except ValueError as error:
        raise ValueError(f"{where} is no JSON that can be read ({error}); expected {_example()}") from error
    if not isinstance(entry, dict):
        raise ValueError(f"{where} is a {type(entry).__name__}; expected an object such as {_example()}")
    return entry


def _case(path: Path, number: int, entry: dict[str, Any]) -> Case:
    where = f"--data {path}, line {number}"
    for name in ("image", "question"):
        if name not in entry:
            close = nearest(name, entry)
            raise ValueError(f"{where} has no {name!r}{close}; expected an object such as {_example()}")
    for name in FIELDS:
        value, wanted = entry.get(name), (str, int) if name == "id" else (str,)
        if value is None and name not in ("image", "question"):
            continue
        if isinstance(value, bool) or not isinstance(value, wanted):
            raise ValueError(f"{where}: {name}={value!r} is a {type(value).__name__}; expected text")
        if not str(value).strip():
            raise ValueError(f"{where}: {name}={value!r} is empty; fill it in, or leave out what is optional")
    image = (path.parent / Path(entry["image"]).expanduser()).resolve()
    name = f"line {number}" if entry.get("id") is None else str(entry["id"])
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
