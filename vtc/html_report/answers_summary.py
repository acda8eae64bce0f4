"""A file of answers, read once from front to back: what it comes to, and the rows that are worth a look."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vtc.video.batch.merge import read_answers

KINDS = 40
"""Kinds of errors that are told apart; further ones are counted as `other`."""
OTHER = "other"
MEDIA = ("medium", "video", "image", "path", "media")
"""Columns that may name the medium of a row, the first one goes."""
_CLASS = re.compile(r"^([A-Za-z_][\w.]*(?:(?=:)|(?<=Error)\b|(?<=Exception)\b|(?<=Expired)\b))|^([A-Za-z_][\w.]*)$")
_VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|\S*[/\\]\S*|\d+(?:\.\d+)?")


@dataclass
class RecipeTally:
    """Summary of the rows of one recipe.

    Attributes:
        rows, errors, known, right: rows; those with an error; those known to be right or wrong; those right.
        full, kept, counted: visual tokens before and after, over the answered rows that tell both, and those rows.
        seconds: by stage, of answered rows.
        outcome: (medium, right) of each row whose answer is known, for the interval.
    """

    rows: int = 0
    errors: int = 0
    known: int = 0
    right: int = 0
    full: float = 0.0
    kept: float = 0.0
    counted: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    outcome: list[tuple[int, bool]] = field(default_factory=list)


@dataclass
class AnswersSummary:
    """A file of answers.

    Attributes:
        tallies: by recipe.
        kinds: rows of each kind of error.
        versions, seeds: as rows tell them, with the number of rows.
        fingerprints: those of jobs.
        twice: rows whose id had come before, by the same recipe.
        torn: the file, if its last line is half a line, which is left out.
        worst: (line, row), those with errors first (one of each kind before a second of any), then wrong ones.
    """

    tallies: dict[str, RecipeTally] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    seeds: Counter[str] = field(default_factory=Counter)
    fingerprints: set[str] = field(default_factory=set)
    twice: int = 0
    torn: list[str] = field(default_factory=list)
    worst: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)


def summarize(path: Path, examples: int) -> AnswersSummary:
    """Read the answers in `path`; of a file of any length, no more than a few times `examples` rows are held.

    Raises:
        ValueError: no answers in it, or a line that is none; the message has its number.
    """
    found, picked = AnswersSummary(), _Picked(examples)
    media: dict[str, int] = {}
    seen: set[tuple[str, str]] = set()
    for number, row in read_answers(path, found.torn):
        label = recipe_label(row)
        tally = found.tallies.setdefault(label, RecipeTally())
        key = (label, str(row["id"]))
        found.twice += key in seen
        seen.add(key)
        _count(tally, row, media, f"{path}, line {number}")
        kind = None if row.get("error") is None else error_kind(row["error"])
        if kind is not None:
            found.kinds[kind if kind in found.kinds or len(found.kinds) < KINDS else OTHER] += 1
        _note(found, row)
        picked.offer(number, row, kind)
    if not found.tallies:
        raise ValueError(f"{path} holds no whole answer; pass what `vtc batch --out` wrote, or a benchmark's folder")
    found.worst = picked.chosen()
    return found


def _count(tally: RecipeTally, row: Mapping[str, Any], media: dict[str, int], where: str) -> None:
    tally.rows += 1
    tally.errors += row.get("error") is not None
    full, kept = (_number(row, name, where) for name in ("tokens_full", "tokens_kept"))
    seconds = row.get("seconds") or {}
    if not isinstance(seconds, dict):
        raise ValueError(f"{where}: seconds={seconds!r}; expected an object of stages and their seconds")
    spent = {stage: _number(seconds, stage, where) or 0.0 for stage in seconds}
    if row.get("error") is None:  # one with an error was not measured
        if full is not None and kept is not None:
            tally.full, tally.kept, tally.counted = tally.full + full, tally.kept + kept, tally.counted + 1
        for stage, some in spent.items():
            tally.seconds[stage] = tally.seconds.get(stage, 0.0) + some
    correct = row.get("correct")
    if isinstance(correct, bool):
        tally.known, tally.right = tally.known + 1, tally.right + correct
        medium = medium_of(row)
        scene = len(media) if medium is None else media.get(medium, len(media))
        media[f"\0{scene}" if medium is None else medium] = scene
        tally.outcome.append((scene, correct))


def _number(row: Mapping[str, Any], name: str, where: str) -> float | None:
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{where}: {name}={value!r}; expected a number from 0, or nothing")
    return float(value)


def _note(found: AnswersSummary, row: Mapping[str, Any]) -> None:
    versions = row.get("versions")
    if versions:
        listed = versions.items() if isinstance(versions, dict) else [("", versions)]
        found.versions[", ".join(f"{name} {number}".strip() for name, number in listed)] += 1
    if row.get("seed") is not None:
        found.seeds[str(row["seed"])] += 1
    if row.get("fingerprint"):
        found.fingerprints.add(str(row["fingerprint"]).partition("-")[0])  # medium and question apart


def medium_of(row: Mapping[str, Any]) -> str | None:
    """The medium that a row names, if it does."""
    return next((str(row[name]) for name in MEDIA if isinstance(row.get(name), str) and row[name]), None)


def recipe_label(row: Mapping[str, Any]) -> str:
    """Return the label of a row's recipe: its name, and its keep where the row has it."""
    recipe = row.get("recipe")
    keep = row.get("keep")
    if isinstance(recipe, dict):
        keep = recipe.get("keep") if keep is None else keep
        recipe = recipe.get("name")
    name = "all tokens" if recipe is None else str(recipe)
    return name if keep is None else f"{name}, keep {keep}"


def error_kind(error: object) -> str:
    """The kind of an error: its class where it names one, or else its words without what varies."""
    if isinstance(error, dict):
        named = next((error[name] for name in ("kind", "type", "class") if error.get(name)), None)
        return str(named) if named is not None else error_kind(error_text(error))
    text = " ".join(str(error).split())
    found = _CLASS.match(text)
    return found.group(0) if found else _VARYING.sub("…", text)[:80] or "without words"


def error_text(error: object) -> str:
    """The words of an error."""
    if isinstance(error, dict):
        return str(next((error[name] for name in ("message", "text", "error") if error.get(name)), json.dumps(error)))
    return str(error)


class _Picked:
    """The rows to show: of errors, of wrong ones and of the others no more than can be shown."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._firsts: dict[str, tuple[int, Mapping[str, Any]]] = {}
        self._ranks: tuple[list[tuple[int, Mapping[str, Any]]], ...] = ([], [], [])

    def offer(self, number: int, row: Mapping[str, Any], kind: str | None) -> None:
        """Take a row in, if there is room for one of its rank."""
        if kind is not None and kind not in self._firsts and len(self._firsts) < self._most:
            self._firsts[kind] = (number, row)
            return
        rank = self._ranks[0 if kind is not None else 1 if row.get("correct") is False else 2]
        if len(rank) < self._most:
            rank.append((number, row))

    def chosen(self) -> list[tuple[int, Mapping[str, Any]]]:
        """Errors, then wrong ones, then the rest; where there are too many, each of the first two leaves room."""
        errors = [*self._firsts.values(), *self._ranks[0]]
        wrong, rest = self._ranks[1], self._ranks[2]
        room = self._most
        some = errors[: min(room, max(1, room // 2, room - len(wrong) - len(rest)))]
        left = room - len(some)
        more = wrong[: min(left, max(1, left * 3 // 4, left - len(rest)))]
        return [*some, *more, *rest[: left - len(more)]]
