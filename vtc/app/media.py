"""Images and videos that were uploaded, opened once for all questions about them."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from vtc.inference.prompting import Medium
from vtc.media.images import is_video, load_image
from vtc.media.video_frames import VideoFrames
from vtc.recipes.composition import Recipe
from vtc.video.clips.frame_features import features
from vtc.video.qa.two_pass import read_selected, select_frames, temporal_patch_size_of
from vtc.video.reading import ReadReport
from vtc.video.reading.sampling import Sampling
from vtc.video.stages import Keyframes

SAMPLING = Sampling(fps=2.0, frames=32)
"""How videos are read for the page."""


@dataclass(frozen=True)
class OpenMedium:
    """A medium as a model takes it.

    Attributes:
        medium: an image, or frames of a video.
        notes: what a visitor ought to know of how it was read.
    """

    medium: Medium
    notes: tuple[str, ...] = ()


class RecentCache:
    """The last few things that were made, by a key; two callers never make the same one at once."""

    def __init__(self, size: int = 8) -> None:
        self._size = size
        self._lock = Lock()
        self._held: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return the value cached under `key`, or make it; a `make` that raises is not cached."""
        with self._lock:
            if key not in self._held:
                self._held[key] = make()
            self._held.move_to_end(key)
            while len(self._held) > self._size:
                self._held.popitem(last=False)
            return self._held[key]


def stamp(path: str | Path) -> tuple[str, int, int]:
    """Return the identity of a file: path, size and time of the last change.

    Raises:
        OSError: no such file.
    """
    state = Path(path).stat()
    return str(path), state.st_size, state.st_mtime_ns


def open_image(path: str | Path) -> OpenMedium:
    """The image in `path`.

    Raises:
        OSError, ValueError: see `vtc.media.images.load_image`.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        image = load_image(path)
    return OpenMedium(image, tuple(_named(str(warning.message), path) for warning in caught))


def open_video(path: str | Path, recipe: Recipe, processor: Any, sampling: Sampling = SAMPLING) -> OpenMedium:
    """The frames of the video in `path` that a model gets, of a long one those that `recipe` chooses.

    Raises:
        OSError, ValueError: a file that is no video or cannot be read.
    """
    if not is_video(path):
        raise ValueError(f"{Path(path).name} is no video; upload MP4, WebM, MKV, MOV or AVI, or use the tab Image")
    info = sampling.probe(path)
    candidates, stage = sampling.candidates(info), recipe.input
    notes = ["the file is cut short, or its header is wrong"] if info.truncated else []
    notes += [info.choice] if info.choice else []
    if isinstance(stage, Keyframes) and not np.array_equal(sampling.scan_indices(info), candidates):
        rule, temporal_patch_size = features(stage.features), temporal_patch_size_of(processor)
        selected = select_frames(
            path, info, sampling, temporal_patch_size=temporal_patch_size, selector=stage.selector, features=rule
        )
        frames, _, report = read_selected(path, selected, sampling)
        notes.append(f"{len(frames)} of {len(selected.scanned)} frames that were looked at are shown to the model")
        notes += [f"a part could not be looked at: {selected.broken}"] if selected.broken else []
    else:
        frames, report = sampling.read(path, candidates)
    return OpenMedium(frames, (*notes, *_losses(report)))


def looks_further(path: str | Path, recipe: Recipe, sampling: Sampling = SAMPLING) -> bool:
    """Return whether the frames of the video in `path` depend on the recipe: it is long, and some are left out."""
    if not isinstance(recipe.input, Keyframes):
        return False
    info = sampling.probe(path)
    return not np.array_equal(sampling.scan_indices(info), sampling.candidates(info))


def size_of(medium: Medium) -> tuple[int, int]:
    """Width and height in pixels."""
    if isinstance(medium, Image.Image):
        return medium.size
    assert isinstance(medium, VideoFrames)
    return medium.pixels.shape[2], medium.pixels.shape[1]


def _losses(report: ReadReport) -> list[str]:
    notes = []
    if report.lost:
        notes.append(f"{len(report.lost)} of {report.asked} frames could not be read and are left out")
    if report.resized:
        notes.append(f"{len(report.resized)} frames have another size in the file and were scaled to that of the first")
    if report.damaged:
        notes.append(f"{len(report.damaged)} frames come after damage in the file and may show traces of it")
    return notes


def _named(text: str, path: str | Path) -> str:
    """`text` without the folder on the server."""
    return text.replace(str(path), Path(path).name)
