"""Questions about the drawn scenes of the embedded world, spread evenly over its skills."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtc.inference.prompting import Medium
from vtc.media.video_frames import VideoFrames

from .cases import Case, check_skills

if TYPE_CHECKING:
    from vtc.embedded.questions import SceneQuestion

PER_SCENE = 4
WAIT, PATIENCE = 50, 2000
"""Scenes on end that bring nothing after which skills may grow uneven, and after which no further one is drawn."""


def skills(videos: bool = False) -> tuple[str, ...]:
    """The skills that questions of the world are labelled with."""
    from vtc.embedded import spec, video_spec

    return video_spec.SKILLS if videos else spec.SKILLS


def first_seed(first: int | None = None) -> int:
    """`first`, or the first seed that no training saw.

    Raises:
        ValueError: a seed that models were trained on, or chosen by.
    """
    from vtc.embedded.spec import HELD_OUT, VALIDATION

    if first is None:
        return HELD_OUT
    if not HELD_OUT <= first < VALIDATION:
        use = "was trained on" if first < HELD_OUT else "watches over training"
        raise ValueError(f"--first {first} {use}; unseen seeds are {HELD_OUT} to {VALIDATION - 1}")
    return first


def asked(model: str, shifted: bool, seed: int) -> Iterator[tuple[Any, SceneQuestion]]:
    """The scene of `seed` as `model` is to see it, beside each of its questions. The one way into the world.

    A directory is asked what the embedded model of its name is asked, any other model what the first one is.
    """
    from vtc.embedded import NAMES
    from vtc.embedded.exam import asked as pairs

    name = Path(model).name
    yield from pairs([seed], name=name if name in NAMES else NAMES[0], shifted=shifted)


def asked_of_videos(shifted: bool, seed: int) -> Iterator[tuple[Any, SceneQuestion]]:
    """The video of `seed`, beside each of its questions."""
    from vtc.embedded.exam import asked_videos

    yield from asked_videos([seed], shifted=shifted)


def synthetic_cases(
    model: str,
    n: int,
    first: int | None = None,
    per_scene: int = PER_SCENE,
    only: Sequence[str] = (),
    shifted: bool = False,
    videos: bool = False,
) -> list[Case]:
    """`n` questions about the scenes (or videos) from seed `first` on, the same in every process.

    Scene by scene, at most `per_scene` questions are taken, always one of the skill that was asked least so far (the
    first such in the scene's own order), and none of a skill that is ahead of the average by more than one. So skills
    are even, though some kinds of scene ask for a single one; only where 50 scenes on end bring nothing, any is taken.

    Args:
        only: skills; all where there are none.
        shifted: scenes on grounds, in fonts and in sizes that no training showed.

    Raises:
        ValueError: an unknown skill, a training seed, or a skill that no scene asks for.
    """
    check_skills(only, skills(videos))
    scenes = partial(asked_of_videos, shifted) if videos else partial(asked, model, shifted)
    tally: Counter[str] = Counter()
    cases: list[Case] = []
    unproductive = 0
    for seed in count(first_seed(first)):
        intro = 1.0 if unproductive < WAIT else float("inf")
        found = _of_scene(scenes, seed, min(per_scene, n - len(cases)), only, tally, intro)
        cases += found
        unproductive = 0 if found else unproductive + 1
        if len(cases) >= n:
            return cases
        if unproductive > PATIENCE:
            break
    raise ValueError(
        f"--skills {','.join(only)}: {PATIENCE} scenes on end ask no such question of {model}; name another skill"
    )


Scenes = Callable[[int], Iterator[tuple[Any, "SceneQuestion"]]]


def _of_scene(
    scenes: Scenes, seed: int, most: int, only: Sequence[str], tally: Counter[str], intro: float
) -> list[Case]:
    left = [(i, q) for i, (_, q) in enumerate(scenes(seed)) if not only or q.skill in only]
    chosen: list[Case] = []
    while left and len(chosen) < most:
        i, question = least = min(left, key=lambda entry: (tally[entry[1].skill], entry[0]))
        left.remove(least)
        if tally[question.skill] > tally.total() / max(1, len(tally)) + intro:
            break
        tally[question.skill] += 1
        # Drawn when it is needed: all scenes of a long run would not fit in memory.
        image = partial(_image, scenes, seed)
        chosen.append(Case(f"{seed}/{i}", str(seed), question.question, question.answer, question.skill, image))
    return chosen


def _image(scenes: Scenes, seed: int) -> Medium:
    from vtc.embedded.video import Video
    from vtc.embedded.video_spec import PIXELS

    shown, _ = next(scenes(seed))
    return VideoFrames.regular(shown.pixels(PIXELS), shown.fps) if isinstance(shown, Video) else shown.image
