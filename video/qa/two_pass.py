"""Two-pass reading of a video: all frames of the scan go by small, and what is chosen of it is read at full size."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtc.media.video_frames import VideoFrames
from vtc.video.clips.clip import Clip
from vtc.video.clips.frame_features import ColorLayout, FrameFeatures
from vtc.video.clips.frame_scores import ScoreFrames
from vtc.video.clips.segmenters import Segmenter, unit_clips
from vtc.video.keyframes import KeyframeSelector
from vtc.video.reading import Info, ReadReport
from vtc.video.reading.sampling import Progress, Sampling
from vtc.video.stages import ClipBudget

from .low_res_scan import scan


@dataclass(frozen=True, eq=False)
class SelectedFrames:
    """Which frames of a video to decode at full size.

    Attributes:
        scanned: `[T]` the frames that were looked at and could be read; units of `temporal_patch_size` lie in them.
        chosen: `[k]` the units that were chosen, ascending.
        temporal_patch_size: frames to a unit; the last unit may have fewer.
        given: units that a model would have got had none been left out: those of the candidates.
        clips: of the units that were looked at.
        report: what became of the frames that were to be looked at.
        broken: why a part of the video could not be looked at, or empty.
        seconds: spent, by phase: `look` and `choose`.
    """

    scanned: NDArray[np.int64]
    chosen: NDArray[np.int64]
    temporal_patch_size: int
    given: int
    clips: tuple[Clip, ...]
    report: ReadReport
    broken: str
    seconds: dict[str, float]

    @property
    def frames(self) -> NDArray[np.int64]:
        """The frames of the chosen units, ascending."""
        return np.concatenate([self.unit(u) for u in self.chosen])

    def unit(self, u: int) -> NDArray[np.int64]:
        """The frames of unit `u`."""
        return self.scanned[u * self.temporal_patch_size : (u + 1) * self.temporal_patch_size]


def select_frames(
    path: str | Path,
    info: Info,
    sampling: Sampling,
    *,
    temporal_patch_size: int = 1,
    selector: KeyframeSelector | None = None,
    count: Callable[[int], int] = lambda units: units,
    budget: ClipBudget = ClipBudget(),  # noqa: B008 - frozen
    score: ScoreFrames | None = None,
    features: FrameFeatures = ColorLayout(),  # noqa: B008 - frozen
    progress: Progress | None = None,
) -> SelectedFrames:
    """Scan a video and choose `count(given)` units of it.

    Time grows with the frames that are looked at, by as many passes over their features as units are chosen; nothing
    of their number squared is held.

    Args:
        path: a video file.
        info: what `probe` says of it.
        sampling: which frames are candidates, and how many more are looked at.
        temporal_patch_size: frames to a unit.
        selector: chooses among all frames that are looked at; None: nothing is left out, and only the candidates are
            looked at.
        count: how many units to choose where a model would get so many.
        budget: cuts the clips.
        score: of frames, for a selector that asks.
        features: describes frames for the selector, and for the clips where `budget` asks for the same.
        progress: called with the phase `look`.

    Raises:
        OSError, ValueError: see `scan`; a stretch that the video does not have; scores that the selector needs.
    """
    candidates = sampling.candidates(info)
    indices = candidates if selector is None else sampling.scan_indices(info)
    count(-(-len(candidates) // temporal_patch_size))  # what cannot be is said before hours are looked at
    seconds: dict[str, float] = {}
    with ExitStack() as stack:
        with measured(seconds, "look"):
            cutters = {name: one for name, one in _cutters(selector, budget).items() if one is not None}
            opened = scan(
                path,
                indices,
                sampling,
                temporal_patch_size=temporal_patch_size,
                features=features,
                score=score,
                cutters=tuple(cutters.values()),
                progress=progress,
            )
            seen = stack.enter_context(opened)
        given = -(-min(len(candidates), len(seen.frames)) // temporal_patch_size)
        with measured(seconds, "choose"):
            found = zip(cutters, seen.cuts, strict=True)
            cut = {name: unit_clips(cuts, len(seen.frames), temporal_patch_size) for name, cuts in found}
            units = seen.units - seen.units.mean(axis=0) if features.centred else seen.units
            clips = budget.clips(units, cut.get("budget"))
            chosen = np.arange(len(units), dtype=np.int64)
            if selector is not None:
                times = seen.seconds[::temporal_patch_size]
                chosen = selector.select(
                    units, count(given), seconds=times, scores=seen.scores, clips=cut.get("selector")
                )
    return SelectedFrames(seen.frames, chosen, temporal_patch_size, given, clips, seen.report, seen.broken, seconds)


def _cutters(selector: KeyframeSelector | None, budget: ClipBudget) -> dict[str, Segmenter | None]:
    """The segmenters that must see the frames themselves."""
    return {"selector": selector.cutter if selector is not None else None, "budget": budget.cutter}


def read_selected(
    path: str | Path, selected: SelectedFrames, sampling: Sampling, progress: Progress | None = None
) -> tuple[VideoFrames, NDArray[np.int64], ReadReport]:
    """The second pass: the frames that were chosen, at full size, and the units that they are.

    A unit of which a frame is lost now is left out, so that frames still go together as they were chosen.

    Raises:
        OSError, ValueError: see `Sampling.read`, or no unit is left.
    """
    frames, report = sampling.read(path, selected.frames, progress=progress)
    if not report.lost:
        return frames, selected.chosen, report
    delivered = np.setdiff1d(selected.frames, report.lost)
    whole = np.array([u for u in selected.chosen if np.isin(selected.unit(u), delivered).all()], dtype=np.int64)
    if not len(whole):
        raise ValueError(f"{path}: of each unit that was chosen a frame could not be read again; fetch the file again")
    left = np.isin(delivered, np.concatenate([selected.unit(u) for u in whole]))
    return VideoFrames(frames.pixels[left], frames.seconds[left], frames.duration), whole, report


def temporal_patch_size_of(processor: Any) -> int:
    """Return how many frames the encoder behind `processor` takes as one unit."""
    return int(getattr(getattr(processor, "video_processor", None), "temporal_patch_size", 1))


@contextmanager
def measured(seconds: dict[str, float], phase: str) -> Iterator[None]:
    """Record in `seconds` how long the block takes."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[phase] = time.perf_counter() - start
