"""Looking at a video of any length: small frames stream by, and of each only its features stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .features import ColorLayout, FrameFeatures
from .reader import Frame, Reading, ReadReport
from .sampling import Progress, Sampling
from .spill import LARGE, Spill, spill

LOOK = 128
"""Pixels of the longer side of frames that are only looked at."""
CHUNK = 64
"""Small frames that are held at once, besides the few that the child has ready."""

Seen = Callable[[NDArray[np.uint8]], float]
"""What a frame, uint8 `[H, W, 3]`, scores."""


@dataclass(frozen=True, eq=False)
class Looked:
    """What was seen of a video.

    Attributes:
        frames: `[T]` those that could be read, ascending.
        seconds: `[T]` when each is shown.
        units: `[U, together * D]` float32 features of as many frames as the encoder takes together; the last unit
            repeats its last frame where it is not full. Mapped from a file where they are large, and gone with it.
        scores: `[U]` the best score of each unit's frames; None where nothing scores them.
        report: what became of the frames that were to be looked at; those behind a break count as lost.
        broken: why looking ended before the end of the video; empty where it did not.
    """

    frames: NDArray[np.int64]
    seconds: NDArray[np.float64]
    units: NDArray[np.float32]
    scores: NDArray[np.float64] | None
    report: ReadReport
    broken: str


@contextmanager
def look(
    path: str | Path,
    indices: NDArray[np.int64],
    sampling: Sampling,
    *,
    together: int = 1,
    features: FrameFeatures = ColorLayout(),  # noqa: B008 - frozen
    score: Seen | None = None,
    progress: Progress | None = None,
    large: int = LARGE,
) -> Iterator[Looked]:
    """Streams the frames `indices` by, small, and describes them; what was seen is good inside of the block.

    It holds `CHUNK` frames, and `len(indices) * D * 4` bytes of features, in a temporary file from `large` bytes on. A
    video that breaks on the way is seen up to there, and `broken` says why.

    Args:
        path: a video file.
        indices: frames, ascending, each once.
        sampling: how it is read.
        together: frames to a unit.
        features: what describes frames.
        score: of a frame, if any.
        progress: is told of the phase `look` after each chunk.
        large: see above.

    Raises:
        OSError: the file cannot be read, or there is no space for features.
        ValueError: no video, or none of the frames could be read.
    """
    seen: list[tuple[int, float]] = []
    scores: list[float] = []
    broken: list[str] = []
    with spill(len(indices) + -len(indices) % together, large) as rows:
        with sampling.open(path, indices, LOOK) as reading:
            frames = _until_broken(reading, broken)
            while chunk := list(islice(frames, CHUNK)):
                rows.add(features.describe(np.stack([frame.pixels for frame in chunk])))
                seen += [(frame.index, frame.seconds) for frame in chunk]
                if score is not None:
                    scores += [score(frame.pixels) for frame in chunk]
                if progress is not None:
                    progress("look", len(seen), len(indices))
            report = _account(reading, seen)
        if not seen:
            raise ValueError(f"{path}: none of the {len(indices)} frames asked for could be read; fetch the file again")
        yield Looked(
            np.array([index for index, _ in seen], dtype=np.int64),
            np.array([time for _, time in seen]),
            _filled(rows, together),
            None if score is None else _best(scores, together),
            report,
            "".join(broken),
        )


def _until_broken(reading: Reading, broken: list[str]) -> Iterator[Frame]:
    """The frames of `reading`; an error behind the first one ends them and is noted in `broken`."""
    some = False
    try:
        for frame in reading:
            some = True
            yield frame
    except (OSError, ValueError) as error:
        if not some:
            raise
        broken.append(str(error))


def _account(reading: Reading, seen: list[tuple[int, float]]) -> ReadReport:
    """The report, in which frames that reading did not come to are lost too."""
    lost = np.setdiff1d(reading.indices, [index for index, _ in seen])
    return replace(reading.report, lost=tuple(lost.tolist()))


def _filled(rows: Spill, together: int) -> NDArray[np.float32]:
    """The rows of frames as rows of units."""
    missing = -len(rows) % together
    if missing:
        rows.add(np.repeat(rows.rows[-1:], missing, axis=0))
    found = rows.rows
    return found.reshape(-1, together * found.shape[1])


def _best(scores: list[float], together: int) -> NDArray[np.float64]:
    found = np.array(scores, dtype=np.float64)
    missing = -len(found) % together
    return np.concatenate([found, np.repeat(found[-1:], missing)]).reshape(-1, together).max(axis=1)
