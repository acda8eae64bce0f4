"""How many tokens each frame gets: shared over clips, then over the frames inside each, before the encoder runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from vtc.core.allocation import allocate
from vtc.core.budget import Budget, Keep
from vtc.core.validation import check_int, check_number

from .clip import Clip, check_cover
from .frame_arrays import (
    Floats,
    as_floats,
    changes,
    unit_rows,
)

Rule = Literal["even", "change", "first"]
RULES: tuple[Rule, ...] = ("even", "change", "first")


def count(candidates: Sequence[int], keep: Keep) -> int:
    """The exact number of tokens of a video that go on, by `Budget.count`. Known before any encoder runs.

    Args:
        candidates: `[T]` tokens of each frame.
        keep: a share in (0, 1] of all of them, or at most that many.

    Raises:
        TypeError, ValueError: `keep` is neither, or a frame has a number of tokens that is no int of at least 0.
    """
    return Budget(keep).count(sum(_counts(candidates)))


def clip_budget(
    clips: Sequence[Clip],
    candidates: Sequence[int],
    total: int,
    weights: Sequence[float],
    *,
    frame_weights: Sequence[float] | None = None,
    floor: int = 0,
    clip_floor: int = 1,
) -> list[int]:
    """Share `total` tokens over clips by weight, then each clip's over its frames; exact at every step.

    Both shares are water-filling (`allocate`): nobody gets more than its candidates, and what a full clip or frame
    cannot take goes to the others. The answer depends on the arguments alone, not on what is encoded.

    Args:
        clips: cover all frames in order.
        candidates: `[T]` tokens that each frame could give.
        total: tokens that go on, at most the sum of `candidates`; see `count`.
        weights: one per clip, at least 0 (`vtc.video.clips.weights.ClipWeights`).
        frame_weights: `[T]`, at least 0, compared inside a clip only (`frame_weights`); None: the candidates.
        floor: the least tokens of each frame; all of a frame that has fewer.
        clip_floor: the least tokens of each clip; all of a clip that has fewer. With 0 a clip of little weight may be
            left out altogether: `left_out` says which.

    Returns:
        `[T]` counts, which sum to `total` exactly.

    Raises:
        TypeError: a number is not an int.
        ValueError: lengths do not fit, `clips` do not cover the frames, a number is below 0, `total` is above the
            candidates, or too small for `floor` or `clip_floor`.
    """
    own = _counts(candidates)
    total, floor = check_int("total", total, 0), check_int("floor", floor, 0)
    clip_floor = check_int("clip_floor", clip_floor, 0)
    check_cover(clips, len(own))
    _check_length("weights", weights, len(clips), "clip")
    inside = own if frame_weights is None else list(frame_weights)
    _check_length("frame_weights", inside, len(own), "frame")
    least = [min(floor, most) for most in own]
    low, high = _clip_bounds(clips, own, least, clip_floor)
    _check_total(total, least, low, high, floor, clip_floor)
    out: list[int] = []
    for clip, part in zip(clips, allocate(weights, total, min_per=low, max_per=high), strict=True):
        span = slice(clip.start, clip.end)
        out += allocate(inside[span], part, min_per=least[span], max_per=own[span])
    assert sum(out) == total
    return out


def left_out(clips: Sequence[Clip], counts: Sequence[int]) -> tuple[Clip, ...]:
    """The clips none of whose frames gets a token by `counts` `[T]`: what `clip_floor=0` may cost."""
    check_cover(clips, len(counts))
    return tuple(clip for clip in clips if not any(counts[clip.start : clip.end]))


def frame_weights(features: Any, rule: Rule = "change", *, lead: float = 9.0) -> Floats:
    """Return the weights of the frames of one clip: the first the most, near-repeats little.

    Args:
        features: `[L, D]` of the frames of the clip, an array or a tensor. A row that holds NaN or infinity counts as
            a repeat of the one before.
        rule: `even`: all alike. `first`: the first frame weighs 1, as the key frame, each other `1 / lead`. `change`:
            the first weighs 1, a repeat of the frame before it `1 / lead`, one at right angles to it 1, others in
            between by cosine distance.
        lead: how many repeats the first frame weighs as much as, at least 1. The default is that of TDC-Video, where
            the first of eight frames keeps 144 tokens and each other 16.

    Returns:
        `[L]` fp64, in (0, 1].

    Raises:
        TypeError: `lead` is no number.
        ValueError: `rule` is unknown, `lead` is below 1 or not finite, or `features` is not `[L, D]`.
    """
    if rule not in RULES:
        raise ValueError(f"rule={rule!r} is unknown; expected one of {', '.join(map(repr, RULES))}")
    lead = check_lead(lead)
    rows = unit_rows(as_floats("features", features, 2))
    if rule == "even":
        return np.ones(len(rows))
    new = np.minimum(changes(rows), 1.0) if rule == "change" else np.zeros(len(rows))
    new[:1] = 1.0
    return 1 / lead + (1 - 1 / lead) * new


def check_lead(lead: object) -> float:
    """`lead` as a float: how many sparse frames a dense one weighs as much as.

    Raises:
        TypeError: it is no number.
        ValueError: it is below 1 or not finite.
    """
    return check_number("lead", lead, 1, ends="[)")


def _counts(candidates: Sequence[int]) -> list[int]:
    return [check_int(f"candidates[{i}]", own, 0) for i, own in enumerate(candidates)]


def _check_length(name: str, values: Sequence[float], length: int, unit: str) -> None:
    if len(values) != length:
        raise ValueError(f"{name} has {len(values)} entries for {length} {unit}s; expected one per {unit}")


def _clip_bounds(
    clips: Sequence[Clip], own: Sequence[int], least: Sequence[int], clip_floor: int
) -> tuple[list[int], list[int]]:
    """The least and the most tokens of each clip."""
    high = [sum(own[clip.start : clip.end]) for clip in clips]
    inside = [sum(least[clip.start : clip.end]) for clip in clips]
    return [max(part, min(clip_floor, most)) for part, most in zip(inside, high, strict=True)], high


def _check_total(
    total: int, least: Sequence[int], low: Sequence[int], high: Sequence[int], floor: int, clip_floor: int
) -> None:
    """Raise ValueError unless `total` lies between what the floors need and what there is."""
    if total > sum(high):
        raise ValueError(f"total={total} is above the {sum(high)} tokens of all frames; expected at most as many")
    if total < sum(least):
        raise ValueError(
            f"total={total} cannot give each of {len(least)} frames floor={floor} tokens, which takes {sum(least)}; "
            f"keep at least {sum(least)}, take fewer frames, or lower floor"
        )
    if total < sum(low):
        raise ValueError(
            f"total={total} cannot give each of {len(low)} clips clip_floor={clip_floor} tokens, which takes "
            f"{sum(low)}; keep at least {sum(low)}, cut into fewer clips, or pass clip_floor=0, which leaves clips out"
        )
