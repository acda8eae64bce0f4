"""When the actors of a shot do what they do: random, and never two things at once."""

from collections.abc import Sequence

import numpy as np

from . import video_spec as spec
from .placement import shuffled
from .video_parts import Life, Span

_EVENTS = {"arrive": 1, "leave": 1, "pass": 2, "change": 1}  # of a role, that keep their distance from each other


def between(rng: np.random.Generator, limits: tuple[int, int]) -> int:
    """A number from the first of `limits` to the second, both included."""
    return int(rng.integers(limits[0], limits[1] + 1))


def spread(rng: np.random.Generator, n: int, limits: tuple[int, int], gap: int) -> list[int]:
    """`n` rising frames within `limits` (included), `gap` or more from each to the next; there must be room."""
    room = limits[1] - limits[0] + 1 - (n - 1) * (gap - 1)
    chosen = sorted(shuffled(rng, room)[:n])
    return [limits[0] + at + i * (gap - 1) for i, at in enumerate(chosen)]


def fitting(roles: Sequence[str], frames: int) -> list[str]:
    """The first of `roles` whose events find room in a shot of so many `frames`."""
    out: list[str] = []
    room = frames // spec.GAP - 1
    for role in roles:
        room -= _EVENTS.get(role, 0)
        if room < 0:
            break
        out.append(role)
    return out


def lives(rng: np.random.Generator, roles: Sequence[str], span: Span) -> list[Life]:
    """A life for each of `roles` in the shot `span`; all that happens once is `spec.GAP` frames apart."""
    while True:
        first, end = span
        n = sum(_EVENTS.get(r, 0) for r in roles)
        slots = spread(rng, n, (first + 2, end - 2), spec.GAP)
        times = iter([slots[i] for i in shuffled(rng, n)])
        windows = _windows(rng, roles.count("move"), span)
        out = [_life(rng, role, span, [next(times) for _ in range(_EVENTS.get(role, 0))], windows) for role in roles]
        if all(b - a >= spec.VISIT for life in out if life.role == "pass" for a, b in life.spans):
            return out


def _life(rng: np.random.Generator, role: str, span: Span, times: list[int], windows: list[Span]) -> Life:
    first, end = span
    if role == "arrive":
        return Life(role, ((times[0], end),))
    if role == "leave":
        return Life(role, ((first, times[0]),))
    if role == "pass":
        return Life(role, ((min(times), max(times)),))
    if role == "move":
        return Life(role, (span,), windows.pop())
    if role == "change":
        return Life(role, (span,), turns=(times[0],))
    if role == "cycle":
        n = between(rng, (1, spec.MOST_TIMES))
        return Life(role, (span,), turns=tuple(spread(rng, n, (first + 2, end - 2), spec.GAP)))
    if role in ("blink", "flash"):
        return Life(role, _flashes(rng, 1 if role == "flash" else between(rng, (1, spec.MOST_TIMES)), span))
    return Life(role, (span,))


def _flashes(rng: np.random.Generator, n: int, span: Span) -> tuple[Span, ...]:
    """`n` flashes; neither the first nor the last frame shows one, and between two it is gone for `spec.GAP`."""
    first, end = span
    longest = spec.FLASH[1] if (n - 1) * (spec.FLASH[1] + spec.GAP) + spec.FLASH[1] <= end - first - 2 else 1
    lengths = [between(rng, (spec.FLASH[0], longest)) for _ in range(n)]
    starts = spread(rng, n, (first + 1, end - 1 - longest), longest + spec.GAP)
    return tuple((a, a + length) for a, length in zip(starts, lengths, strict=True))


def _windows(rng: np.random.Generator, n: int, span: Span) -> list[Span]:
    """When each of `n` things moves; of two, the second may wait for the first."""
    first, last = span[0], span[1] - 1
    if n == 2 and last - first > 2 * spec.MOVE_FRAMES and rng.random() < spec.IN_TURN:
        middle = (first + last) // 2
        halves = [_window(rng, first, middle), _window(rng, middle + 1, last)]
        return [halves[i] for i in shuffled(rng, 2)]
    return [_window(rng, first, last) for _ in range(n)]


def _window(rng: np.random.Generator, first: int, last: int) -> Span:
    frames = between(rng, (spec.MOVE_FRAMES, last - first))
    start = between(rng, (first, last - frames))
    return start, start + frames
