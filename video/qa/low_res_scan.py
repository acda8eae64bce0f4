"""Looking at a video of any length: small frames stream by, and of each only its features stay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vtc.video.clips.frame_features import ColorLayout, FrameFeatures
from vtc.video.clips.frame_scores import ScoreFrames
from vtc.video.clips.segmenters import SceneCut, Segmenter
from vtc.video.reading import ReadReport
from vtc.video.reading.disk_buffer import LARGE, DiskBackedRows, disk_backed_rows
from vtc.video.reading.resilient_reader import Stream
from vtc.video.reading.sampling import Progress, Sampling

LOOK = 128
"""Pixels of the longer side of frames that are only looked at."""
CHUNK = 64
"""Small frames that are held at once, besides the few that the child has ready."""


@dataclass(frozen=True, eq=False)
class ScanResult:
    """Result of a low-resolution scan of a video.

    Attributes:
        frames: `[T]` those that could be read, ascending.
        seconds: `[T]` when each is shown.
        units: `[U, temporal_patch_size * D]` float32 features of as many frames as the encoder takes together; the last
            unit repeats its last frame where it is not full. Mapped from a file where they are large, and gone with it.
        scores: `[U]` the best score of each unit's frames; None where nothing scores them.
        cuts: of each segmenter that was shown the frames, between frames.
        report: what became of the frames that were to be looked at; those that a break has cost are among the lost.
        broken: why a part of the video could not be looked at; empty where all of it was.
    """

    frames: NDArray[np.int64]
    seconds: NDArray[np.float64]
    units: NDArray[np.float32]
    scores: NDArray[np.float64] | None
    report: ReadReport
    broken: str
    cuts: tuple[tuple[SceneCut, ...], ...] = ()


@contextmanager
def scan(
    path: str | Path,
    indices: NDArray[np.int64],
    sampling: Sampling,
    *,
    temporal_patch_size: int = 1,
    features: FrameFeatures = ColorLayout(),  # noqa: B008 - frozen
    score: ScoreFrames | None = None,
    cutters: Sequence[Segmenter] = (),
    progress: Progress | None = None,
    large: int = LARGE,
) -> Iterator[ScanResult]:
    """Streams the frames `indices` by, small, and describes them; what was seen is good inside of the block.

    It holds `CHUNK` frames, and `len(indices) * D * 4` bytes of features, in a temporary file from `large` bytes on.
    Where a video breaks on the way, what came before is used, and where decoding was given up for too many failures,
    so is what comes from a later keyframe on; `broken` says what happened.

    Args:
        path: a video file.
        indices: frames, ascending, each once.
        sampling: how it is read.
        temporal_patch_size: frames to a unit.
        features: what describes frames.
        score: of frames, if any.
        cutters: segmenters that look at the frames themselves; they are shown all of them, in order.
        progress: called with the phase `look` after each chunk.
        large: see above.

    Raises:
        OSError: the file cannot be read, or there is no space for features.
        ValueError: no video, or none of the frames could be read.
    """
    times: list[float] = []
    scores: list[float] = []
    runs = [cutter.begin() for cutter in cutters]
    cuts: list[list[SceneCut]] = [[] for _ in runs]
    with disk_backed_rows(len(indices) + -len(indices) % temporal_patch_size, large) as rows:
        with Stream(str(path), indices, partial(sampling.open, path, resize=LOOK)) as stream:
            while chunk := list(islice(stream, CHUNK)):
                pixels = np.stack([frame.pixels for frame in chunk])
                rows.add(features.describe(pixels))
                for run, found in zip(runs, cuts, strict=True):
                    found += [cut for i, one in enumerate(pixels, len(times)) for cut in run.push(float(i), one)]
                times += [frame.seconds for frame in chunk]
                if score is not None:
                    scores += map(float, score(pixels))
                del pixels  # before the next chunk is decoded: two of them would be held
                if progress is not None:
                    progress("look", len(times), len(indices))
        for run, found in zip(runs, cuts, strict=True):
            found += run.flush()
        yield ScanResult(
            stream.seen,
            np.array(times),
            _filled(rows, temporal_patch_size),
            None if score is None else _best(scores, temporal_patch_size),
            stream.report,
            stream.broken,
            tuple(map(tuple, cuts)),
        )


def _filled(rows: DiskBackedRows, temporal_patch_size: int) -> NDArray[np.float32]:
    """The rows of frames as rows of units."""
    missing = -len(rows) % temporal_patch_size
    if missing:
        rows.add(np.repeat(rows.rows[-1:], missing, axis=0))
    found = rows.rows
    return found.reshape(-1, temporal_patch_size * found.shape[1])


def _best(scores: list[float], temporal_patch_size: int) -> NDArray[np.float64]:
    found = np.array(scores, dtype=np.float64)
    missing = -len(found) % temporal_patch_size
    return np.concatenate([found, np.repeat(found[-1:], missing)]).reshape(-1, temporal_patch_size).max(axis=1)
