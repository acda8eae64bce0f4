"""A video on the command line: read in one pass, or in two where it is long, with bars, and notes of what was lost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from vtc.media.video_frames import VideoFrames
from vtc.recipes.composition import Recipe
from vtc.video.clips.frame_features import features
from vtc.video.qa.two_pass import (
    SelectedFrames,
    read_selected,
    select_frames,
    temporal_patch_size_of,
)
from vtc.video.reading import Info, ReadReport
from vtc.video.reading.sampling import Progress, Sampling
from vtc.video.stages import Keyframes

from .console import note
from .progress import bars


@dataclass(frozen=True)
class Watched:
    """A video that was read.

    Attributes:
        frames: what a model gets of it.
        report: what became of those.
        selected: how they were chosen; None where they are the candidates.
    """

    frames: VideoFrames
    report: ReadReport
    selected: SelectedFrames | None


@dataclass(frozen=True)
class VideoInput:
    """A video that is known and not read yet."""

    path: Path
    info: Info
    sampling: Sampling

    def read(self, recipe: Recipe, processor: Any) -> Watched:
        """The frames that a model gets: its candidates, or as many that `recipe` chooses from more that are looked at.

        Says so where some could not be read.

        Raises:
            OSError, ValueError: see `vtc.video.reading.sampling.Sampling.read` and
                `vtc.video.qa.two_pass.select_frames`.
        """
        with bars() as progress:
            watched = self._watched(recipe, processor, progress)
        if watched.selected is not None:
            _tell_looking(watched.selected)
        if watched.report.lost:
            note(f"{len(watched.report.lost)} of {watched.report.asked} frames could not be read and are left out")
        if watched.report.resized:
            count = len(watched.report.resized)
            note(f"{count} frames have another size in the file and were scaled to that of the first")
        if watched.report.damaged:
            note(f"{len(watched.report.damaged)} frames come after damage in the file and may show traces of it")
        return watched

    def _watched(self, recipe: Recipe, processor: Any, progress: Progress) -> Watched:
        stage, sampling = recipe.input, self.sampling
        candidates = sampling.candidates(self.info)
        if not isinstance(stage, Keyframes) or np.array_equal(sampling.scan_indices(self.info), candidates):
            frames, report = sampling.read(self.path, candidates, progress=progress)
            return Watched(frames, report, None)
        temporal_patch_size = temporal_patch_size_of(processor)
        selected = select_frames(
            self.path,
            self.info,
            sampling,
            temporal_patch_size=temporal_patch_size,
            selector=stage.selector,
            features=features(stage.features),
            progress=progress,
        )
        frames, _, report = read_selected(self.path, selected, sampling, progress)
        return Watched(frames, report, selected)


def print_picked(watched: Watched | None) -> None:
    """Print how the frames of a long video were chosen; nothing of another."""
    if watched is None or watched.selected is None:
        return
    scanned, seconds = len(watched.selected.scanned), watched.selected.seconds
    line = f"chosen: {len(watched.frames)} of {scanned} frames that were looked at"
    Console().print(f"{line}, {sum(seconds.values()):.3g} s of looking and choosing", highlight=False)


def _tell_looking(selected: SelectedFrames) -> None:
    """Note what was not looked at."""
    if selected.broken:
        note(f"a part of the video could not be looked at: {selected.broken}")
    if selected.report.lost:
        lost, asked = len(selected.report.lost), selected.report.asked
        note(f"{lost} of {asked} frames to look at could not be read; those of the model are chosen from the others")
