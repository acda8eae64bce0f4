"""Reading videos: `probe` says what one is, `frames` hands over those of its frames that are chosen."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vtc.core.validation import check_timeout

from .backends import available, check_backend
from .frame_choice import Choice
from .index import build
from .info import Info
from .limits import Limits
from .lost_frames import ON_ERROR
from .opening import check_file
from .pixels import Resize, output_size
from .sources import Local, Source
from .streams import Frame, Reading, ReadReport
from .subprocess_reader import Isolated
from .tracks import Track, check_track

__all__ = ["Frame", "Info", "Limits", "ReadReport", "Reading", "Track", "available", "frames", "probe"]

DEFAULT = Limits()


def probe(
    path: str | Path,
    *,
    track: int | None = None,
    limits: Limits = DEFAULT,
    isolated: bool = True,
    timeout: float = 60.0,
) -> Info:
    """Return the properties of the video in `path`, by its packets; one frame of it is decoded.

    Args:
        path: a video file. Its sound is not used.
        track: which track of images; None: the one that players show, the file's default or else its first.
        limits: on its pixels, seconds and frames.
        isolated: whether a child process reads it, which is killed when it hangs.
        timeout: seconds without progress after which it is.

    Raises:
        OSError: no such file, a directory, not readable; the child died or is stuck.
        ValueError: no video, no such track, a still image, sound only, beyond the limits.
    """
    path = _checked(path, timeout, track)
    if not isolated:
        return build(path, limits, track=track).info
    source = Isolated(path, limits, "pyav", timeout, probe=True, track=track)
    source.close()
    return source.info


def frames(
    path: str | Path,
    *,
    indices: Sequence[int] | NDArray[np.integer] | None = None,
    seconds: Sequence[float] | NDArray[np.floating] | None = None,
    fps: float | None = None,
    start: float | None = None,
    end: float | None = None,
    resize: Resize = None,
    track: int | None = None,
    backend: str = "pyav",
    on_error: str = "skip",
    limits: Limits = DEFAULT,
    isolated: bool = True,
    timeout: float = 60.0,
) -> Reading:
    """Chosen frames of the video in `path`, ascending, one at a time.

    Frames are chosen in one way: by `indices`; by `seconds`, the frame shown at each of them; by `fps`, the frame shown
    at start + i / fps for each such time before `end`; or by none of these, all frames of the stretch. A frame that is
    shown at several of the times comes once. Times count from the first frame (`Info.start`).

    All frames come in one size: that asked for, or that of the first, as shown (`Info.width`); a stream may change its
    own on the way, and the report tells which were scaled. Sound is not used.

    Args:
        path: a video file.
        indices: ascending, each once.
        seconds: in any order, within the video.
        fps: frames a second.
        start, end: the stretch in seconds, half-open, with `fps` or alone; the whole video by default.
        resize: the most pixels that the longer side may have, which never enlarges; or (width, height).
        track: which track of images; None: the one that players show, the file's default or else its first.
        backend: `pyav`, exact on every file that it reads; `decord`, `opencv` or `torchcodec`, which refuse files on
            which they are not.
        on_error: what happens to a frame that cannot be read: "skip" leaves it out, "nearest" delivers the nearest one
            that can be read in its place, "raise" raises. The report tells each of them.
        limits: on pixels, seconds, frames and failures.
        isolated: whether a child process decodes, which is killed when it hangs and takes no one along when it
            crashes. Without it nothing bounds the time that a damaged file takes.
        timeout: seconds without progress after which the child is killed.

    Raises:
        OSError: no such file, a directory, not readable; the child died or is stuck.
        TypeError, ValueError: an argument that is not as above; no video, a still image, sound only, beyond limits.
    """
    begun = time.perf_counter()
    path = _checked(path, timeout, track)
    choice = Choice(indices, seconds, fps, start, end)
    if on_error not in ON_ERROR:
        raise ValueError(f"on_error={on_error!r}; expected one of {', '.join(ON_ERROR)}")
    check_backend(backend)
    source: Source = (
        Isolated(path, limits, backend, timeout, track=track) if isolated else Local(path, limits, backend, track=track)
    )
    try:
        wanted = choice.of(source.info)
        size = output_size(source.info, resize, limits.pixels)
        events = source.events(wanted.tolist(), size, on_error)
        return Reading(source.info, wanted, events, source, on_error, time.perf_counter() - begun)
    except BaseException:
        source.close()
        raise


def _checked(path: str | Path, timeout: float, track: int | None) -> Path:
    check_track(track)
    if not isinstance(path, str | Path):
        raise TypeError(f"path={path!r} is a {type(path).__name__}; expected the path of a video file")
    check_timeout(timeout)
    check_file(Path(path))
    return Path(path)
