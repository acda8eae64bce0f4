"""The script of a video: its shots, their grounds, and who does what in each."""

import numpy as np

from . import video_spec as spec
from .backgrounds import ground
from .placement import pick
from .spec import (
    FONTS,
    GROUNDS,
    SHIFTED_FONTS,
    SHIFTED_GROUNDS,
    SHIFTED_SCALE,
)
from .video_actors import Cast
from .video_events import (
    between,
    fitting,
    lives,
    spread,
)
from .video_parts import Span, Take

# Streams of random numbers of a seed; those of its scene are 0 to 2.
SCRIPT, COLORING, ASKING, GROUND = 3, 4, 5, 6


def write(rng: np.random.Generator, seed: int, kind: str, frames: int, shifted: bool) -> list[Take]:
    """The takes of a video of `kind` with so many `frames`."""
    cast = Cast(rng, SHIFTED_FONTS if shifted else FONTS, pick(rng, SHIFTED_SCALE) if shifted else 1.0)
    shortest = spec.SHORTEST_SHOT
    n = between(rng, (1, spec.MOST_SHOTS)) if kind == "shots" else 1
    cuts = spread(rng, n - 1, (shortest, frames - shortest), shortest)
    spans = list(zip([0, *cuts], [*cuts, frames], strict=True))
    takes = []
    for i, (span, (name, entropy)) in enumerate(zip(spans, _grounds(seed, len(spans), shifted), strict=True)):
        roles, plates = _lone_roles(rng, kind, frames) if len(spans) == 1 else _shot_roles(rng, span)
        soft = i > 0 and rng.random() < spec.SOFT
        takes.append(Take(span, name, entropy, cast.play(lives(rng, roles, span), plates), soft))
    return takes


def _lone_roles(rng: np.random.Generator, kind: str, frames: int) -> tuple[list[str], list[bool]]:
    """What is done in a video of one shot, and which of its actors are plates."""
    rules = spec.KINDS[kind]
    roles = [pick(rng, rules.roles) for _ in range(between(rng, rules.actors))]
    extra = spec.LONE_SHOT if kind == "shots" else rules.extra
    if extra and (kind == "shots" or rng.random() < spec.EXTRA):
        roles.append(pick(rng, extra))
    roles = fitting(roles, frames)
    plates = [kind == "needle" and rng.random() < spec.NEEDLE_PLATE for _ in roles]
    stay = between(rng, rules.stay)
    second = rng.random() < (spec.SECOND_PLATE if any(plates) else rules.plate)
    return [*roles, *["stay"] * (stay + second)], [*plates, *[False] * stay, *[True] * second]


def _shot_roles(rng: np.random.Generator, span: Span) -> tuple[list[str], list[bool]]:
    """What is done in one shot of several; nothing moves in a shot that is too short for it."""
    rules = spec.KINDS["shots"]
    roles = [pick(rng, rules.roles) for _ in range(between(rng, rules.actors))]
    if span[1] - span[0] <= spec.MOVE_FRAMES:
        roles = ["stay"] * len(roles)
    return roles, [False] * len(roles)


def _grounds(seed: int, n: int, shifted: bool) -> list[tuple[str, tuple[int, ...]]]:
    """The ground of each of `n` shots and its entropy; each clearly differs from the one before."""
    out: list[tuple[str, tuple[int, ...]]] = []
    choice = np.random.Generator(np.random.PCG64([seed, GROUND]))
    names: tuple[str, ...] = SHIFTED_GROUNDS if shifted else GROUNDS
    before: np.ndarray | None = None
    attempt = 0
    while len(out) < n:
        attempt += 1  # never 0: numpy seeds alike with and without zeros at the end
        entropy = (seed, GROUND, attempt)
        name = pick(choice, [n for n in names if not out or n != out[-1][0]])
        image = ground(np.random.Generator(np.random.PCG64(entropy)), name, spec.PIXELS, spec.PIXELS)
        mean = image.sum((0, 1), dtype=np.int64) // spec.PIXELS**2
        if before is None or np.abs(mean - before).max() >= spec.CUT:
            out.append((name, entropy))
            before = mean
    return out
