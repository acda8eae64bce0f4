"""Questions about the drawn scenes of the embedded world, spread evenly over its skills."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from PIL import Image

from .cases import Case, check_skills

if TYPE_CHECKING:
    from vtc.tiny.questions import Question

PER_SCENE = 4
PATIENCE = 2000
"""Scenes without a question of the wanted skills after which no further one is drawn."""


def skills() -> tuple[str, ...]:
    """The skills that questions of the world are labelled with."""
    from vtc.tiny.questions import SKILLS

    return tuple(SKILLS)


def held_out() -> int:
    """The first seed that no training saw."""
    from vtc.tiny.world import HELD_OUT

    return HELD_OUT


def asked(model: str, seed: int) -> Iterator[tuple[Any, Question]]:
    """The scene of `seed` as `model` is to see it, beside each of its questions. The one way into the world."""
    from vtc.tiny.evaluate import asked as pairs

    yield from pairs([seed])


def drawn(
    model: str, n: int, first: int | None = None, per_scene: int = PER_SCENE, only: Sequence[str] = ()
) -> list[Case]:
    """`n` questions about the scenes from seed `first` on, the same in every process.

    Scene by scene, at most `per_scene` questions are taken, always one of the skill that was asked least so far (the
    first such in the scene's own order), so that skills are as even as the scenes allow.

    Raises:
        ValueError: an unknown skill, a training seed, or a skill that no scene asks for.
    """
    check_skills(only, skills())
    first = held_out() if first is None else first
    if first < held_out():
        raise ValueError(f"--first {first} is a training seed; unseen ones start at {held_out()}")
    tally: Counter[str] = Counter()
    cases: list[Case] = []
    barren = 0
    for seed in count(first):
        found = _of_scene(model, seed, min(per_scene, n - len(cases)), only, tally)
        cases += found
        barren = 0 if found else barren + 1
        if len(cases) >= n:
            return cases
        if barren > PATIENCE:
            break
    raise ValueError(f"--skills {','.join(only)}: {PATIENCE} scenes on end ask no such question; name another skill")


def _of_scene(model: str, seed: int, most: int, only: Sequence[str], tally: Counter[str]) -> list[Case]:
    left = [(i, q) for i, (_, q) in enumerate(asked(model, seed)) if not only or q.skill in only]
    chosen: list[Case] = []
    while left and len(chosen) < most:
        i, question = least = min(left, key=lambda entry: (tally[entry[1].skill], entry[0]))
        left.remove(least)
        tally[question.skill] += 1
        # Drawn when it is needed: all scenes of a long run would not fit in memory.
        picture = partial(_picture, model, seed)
        chosen.append(Case(f"{seed}/{i}", str(seed), question.question, question.answer, question.skill, picture))
    return chosen


def _picture(model: str, seed: int) -> Image.Image:
    scene, _ = next(asked(model, seed))
    return scene.image
