"""Looking at a video of any length: small frames stream by, and of each only its features stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
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
READINGS = 12
"""Readings of one video at most, of which each begins behind the break that ended the one before."""

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
        report: what became of the frames that were to be looked at; those that a break has cost are among the lost.
        broken: why a part of the video could not be looked at; empty where all of it was.
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

    It holds `CHUNK` frames, and `len(indices) * D * 4` bytes of features, in a temporary file from `large` bytes on.
    Where a video breaks on the way, what came before is used, and where decoding was given up for too many failures,
    so is what comes from a later keyframe on; `broken` says what happened.

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
    account = _Account()
    with spill(len(indices) + -len(indices) % together, large) as rows:
        with closing(_stream(path, indices, sampling, account)) as frames:
            while chunk := list(islice(frames, CHUNK)):
                rows.add(features.describe(np.stack([frame.pixels for frame in chunk])))
                seen += [(frame.index, frame.seconds) for frame in chunk]
                if score is not None:
                    scores += [score(frame.pixels) for frame in chunk]
                if progress is not None:
                    progress("look", len(seen), len(indices))
        if not seen:
            raise (
                account.errors[0]
                if account.errors
                else ValueError(
                    f"{path}: none of the {len(indices)} frames asked for could be read; fetch the file again"
                )
            )
        yield Looked(
            np.array([index for index, _ in seen], dtype=np.int64),
            np.array([time for _, time in seen]),
            _filled(rows, together),
            None if score is None else _best(scores, together),
            account.report(indices, [index for index, _ in seen]),
            "; ".join(dict.fromkeys(map(str, account.errors))),
        )


class _Account:
    """What became of the readings of one look."""

    def __init__(self) -> None:
        self.readings: list[ReadReport] = []
        self.errors: list[Exception] = []

    def report(self, indices: NDArray[np.int64], seen: list[int]) -> ReadReport:
        """All of it, in which frames that no reading came to are lost too."""
        return ReadReport(
            asked=len(indices),
            delivered=len(seen),
            lost=tuple(np.setdiff1d(indices, seen).tolist()),
            damaged=tuple(frame for one in self.readings for frame in one.damaged),
            decode_failures=sum(one.decode_failures for one in self.readings),
            seeks=sum(one.seeks for one in self.readings),
            seconds=sum(one.seconds for one in self.readings),
        )


def _stream(path: str | Path, indices: NDArray[np.int64], sampling: Sampling, account: _Account) -> Iterator[Frame]:
    """The frames `indices`; where a reading is given up, another begins at a keyframe further on.

    Each that brings nothing doubles the step to the next, so that a long gap is crossed, and the end reached, soon.
    """
    step = 1
    for _ in range(READINGS):
        with sampling.open(path, indices, LOOK) as reading:
            at = int(indices[0])
            try:
                for frame in reading:
                    at, step = frame.index, 1
                    yield frame
                return
            except ValueError as error:
                account.errors.append(error)
            except OSError as error:  # a child that died or hangs would again
                account.errors.append(error)
                return
            finally:
                account.readings.append(reading.report)
        indices = _behind(reading, max(at, *reading.report.lost, -1), step, indices)
        if not len(indices):
            return
        step *= 2


def _behind(reading: Reading, at: int, step: int, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of `indices` from the keyframe on that is the `step`th behind frame `at`."""
    keys = reading.info.keyframes[reading.info.keyframes > at]
    return indices[indices >= keys[step - 1]] if len(keys) >= step else indices[:0]


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
