"""Clips of units from cuts between frames: an encoder takes several frames together, a detector one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtc.video.clips.clip import Clip

from .base import SceneCut, Segmenter
from .cover import segment, to_clips


def frame_cuts(segmenter: Segmenter, frames: Iterable[NDArray[np.uint8]]) -> list[SceneCut]:
    """Return where `segmenter` cuts a series of frames, uint8 `[H, W, 3]` RGB each, evenly spaced."""
    run = segmenter.begin()
    cuts: list[SceneCut] = []
    for i, frame in enumerate(frames):
        cuts += run.push(float(i), frame)
    return cuts + run.flush()


def unit_clips(cuts: Iterable[SceneCut], frames: int, temporal_patch_size: int) -> tuple[Clip, ...]:
    """The clips of the units of `temporal_patch_size` frames.

    A cut inside a unit counts for the unit that begins nearest to it, the later of two; of several that count for one
    unit the strongest stays.
    """
    units = -(-frames // temporal_patch_size)
    best: dict[int, SceneCut] = {}
    for cut in cuts:
        unit = (2 * cut.index + temporal_patch_size) // (2 * temporal_patch_size)
        if 0 < unit < units and (unit not in best or cut.score > best[unit].score):
            best[unit] = SceneCut(unit, float(unit), cut.score, cut.reason)
    return to_clips(best.values(), np.arange(units, dtype=float).tolist())


def clips_of(
    segmenter: Segmenter,
    features: NDArray[np.floating[Any]],
    cuts: Sequence[SceneCut] | None = None,
    temporal_patch_size: int = 1,
    frames: int | None = None,
) -> tuple[Clip, ...]:
    """The clips of the units that `features` `[T, D]` describe, evenly spaced.

    Args:
        segmenter: cuts them.
        features: of units.
        cuts: of `frame_cuts`, for a segmenter that looks at frames.
        temporal_patch_size: frames to a unit.
        frames: how many frames there are; None: all units are full.

    Raises:
        ValueError: a segmenter that looks at frames, and no cuts.
    """
    if segmenter.wants != "frame":
        return segment(features, np.arange(len(features), dtype=float), segmenter)
    if cuts is None:
        raise ValueError(
            f"segmenter={segmenter.name!r} looks at the frames themselves, and there are features alone; pass its "
            "cuts, or take one such as 'neighbour'"
        )
    return unit_clips(cuts, len(features) * temporal_patch_size if frames is None else frames, temporal_patch_size)
