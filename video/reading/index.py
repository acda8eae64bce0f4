"""The index of a video: the time of each frame and where to enter, from its packets, without decoding.

A frame has one number here, its place by presentation time. Containers tell neither reliably: headers count what was
meant to be written, and variable rates make index / fps another frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from .aspect import pixel_aspect, shown_size
from .decoding import DecodingTally, decoded
from .info import Info
from .limits import Limits
from .opening import REMEDY, opened, refuse_still
from .rotation import Turn
from .tracks import Track

BESIDE = ("vp8", "vp9")
"""Codecs whose transparency is a second video beside the first."""


@dataclass(frozen=True, eq=False)
class Index:
    """Where frames are.

    Attributes:
        info: what callers see.
        pts: `[frames]` int64, ascending: the file's own timestamp of each frame, by which a decoded frame is told.
            Empty where timestamps do not tell frames apart; then a frame is told by its place in the whole video.
        entries: `[K]` int64: the frames from which decoding can begin, or, where such a one is hidden, the first
            frame shown after it.
        seeks: `[K]` int64: the timestamp to seek to for each entry.
        turn: how images are laid upright.
        upright: (width, height) of frames as stored, laid upright: what they are where pixels are square.
        origin: seconds by the file's clock that its header calls the start; not always those of the first frame.
        open_gops: whether some frames are decoded after a keyframe and shown before it.
    """

    info: Info
    pts: NDArray[np.int64]
    entries: NDArray[np.int64]
    seeks: NDArray[np.int64]
    turn: Turn
    upright: tuple[int, int]
    origin: float = 0.0
    open_gops: bool = False

    @property
    def by_place(self) -> bool:
        """Whether frames can be told by their place alone."""
        return not len(self.pts)

    def entry(self, frame: int) -> int:
        """Return which of `entries` is the last one at or before `frame`; -1 for none."""
        return int(np.searchsorted(self.entries, frame, side="right")) - 1

    def place(self, pts: int | None) -> int | None:
        """Return which frame has this timestamp."""
        if pts is None:
            return None
        at = int(np.searchsorted(self.pts, pts))
        return at if at < len(self.pts) and self.pts[at] == pts else None


@dataclass
class _Packets:
    """Packet times: (presentation, decoding) of key frames; times of shown frames."""

    shown: list[int] = field(default_factory=list)
    keys: list[tuple[int, int, bool]] = field(default_factory=list)
    last: tuple[int, int] = (0, 0)
    timed: bool = True
    open_gops: bool = False

    def add(self, packet: Packet[VideoStream], by_decoding: bool) -> None:
        """Add a packet."""
        if packet.pts is None:
            self.timed = False
            return
        if packet.is_keyframe:
            at = packet.dts if by_decoding and packet.dts is not None else packet.pts
            self.keys.append((packet.pts, at, packet.is_discard))
        elif self.keys and packet.pts < self.keys[-1][0]:
            self.open_gops = True
        if packet.is_discard:  # an edit list hides it
            return
        self.shown.append(packet.pts)
        self.last = max(self.last, (packet.pts, packet.duration or 0))


def build(path: Path, limits: Limits, tick: Callable[[], None] = lambda: None, track: int | None = None) -> Index:
    """The index of a track of `path` (see `read_track`). `tick` is called often, as a sign of life.

    Raises:
        OSError, ValueError: see `opened`; also a video of no frames, or beyond the limits.
    """
    with opened(path, limits, track=track) as (container, stream):
        limits.check(str(path), "seconds", (container.duration or 0) / 1e6)
        packets = _read(path, container, stream, limits, tick)
    pts = np.unique(np.array(packets.shown, dtype=np.int64))
    usable = packets.timed and len(pts) == len(packets.shown) > 0
    with opened(path, limits, threads="SLICE", track=track) as (container, stream):
        # Without times that tell frames apart, only decoding tells how many there are.
        first, times = _decode(path, container, stream, limits, tick, whole=not usable)
        index = _index(path, container, stream, first, packets, pts if usable else None, times)
    limits.check(str(path), "pixels", index.info.width * index.info.height)
    return index


def _read(
    path: Path, container: InputContainer, stream: VideoStream, limits: Limits, tick: Callable[[], None]
) -> _Packets:
    packets = _Packets()
    # Matroska is sought by presentation times; others by decoding times, which come before them.
    by_decoding = "matroska" not in container.format.name
    count = failures = 0
    demuxed = container.demux(stream)
    while failures <= limits.failures:
        try:
            packet = next(demuxed)
        except StopIteration:
            break
        except (FFmpegError, IndexError):  # the latter from PyAV, where damage looks like a stream that was not there
            failures += 1
            demuxed = container.demux(stream)
            continue
        if packet.size and not _never_shown(packet, stream):
            packets.add(packet, by_decoding)
            count += 1
            limits.check(str(path), "frames", count)
        tick()
    return packets


def _never_shown(packet: Packet[VideoStream], stream: VideoStream) -> bool:
    """VP8 has frames for reference only; bit 4 of the first byte says which are shown."""
    return stream.codec_context.name == "vp8" and not memoryview(packet)[0] >> 4 & 1  # type: ignore[arg-type]


def _decode(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    limits: Limits,
    tick: Callable[[], None],
    whole: bool,
) -> tuple[VideoFrame, list[int | None]]:
    """The first frame that decodes, and the timestamps of all of them if `whole`."""
    first, times = None, []
    for frame in decoded(container, stream, DecodingTally(str(path), limits.failures, tick)):
        if isinstance(frame, VideoFrame):
            first = first or frame
            times.append(frame.pts)
            limits.check(str(path), "frames", len(times))
            if not whole:
                break
    if first is None:
        raise ValueError(f"{path} has no frame that can be decoded; {REMEDY}")
    return first, times


def _index(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    first: VideoFrame,
    packets: _Packets,
    pts: NDArray[np.int64] | None,
    times: list[int | None],
) -> Index:
    count = len(times) if pts is None else len(pts)
    if container.format.name in ("gif", "apng") and count == 1:
        refuse_still(path)
    base = stream.time_base or Fraction(1, 1)
    clock, timed = _clock(stream, pts, times)
    gaps = np.diff(clock)
    last = packets.last[1] * float(base) if pts is not None else 0.0
    last = last or (float(np.median(gaps)) if count > 1 else 1 / rate if (rate := _rate(stream)) else 0.0)
    duration = float(clock[-1] - clock[0]) + last
    keys = sorted(packets.keys) if pts is not None else []
    shown = np.array([key for key, _, hidden in keys if not hidden], dtype=np.int64)
    turn = Turn.of(_matrix(first))
    aspect, aspect_text = pixel_aspect(stream)
    width, height = turn.size(*shown_size(first, aspect))
    upright = turn.size(first.width, first.height)
    info = Info(
        path=str(path),
        container=container.format.name,
        codec=stream.codec_context.codec.canonical_name,
        width=width,
        height=height,
        rotation=turn.clockwise,
        mirrored=turn.mirrored,
        bits=max(part.bits for part in first.format.components),
        alpha=_alpha(stream, first),
        frames=count,
        seconds=clock - clock[0],
        start=float(clock[0]),
        timed=timed,
        duration=duration,
        fps=count / duration if duration else 0.0,
        is_vfr=_varies(gaps, float(base)),
        keyframes=np.zeros(0, dtype=np.int64) if pts is None else np.unique(np.searchsorted(pts, shown)),
        declared_frames=stream.frames or None,
        declared_seconds=_declared_seconds(container, stream),
        pixel_aspect=aspect_text,
        track=stream.index,
        tracks=tuple(map(Track.of, container.streams.video)),
        audio=tuple(_audio(one) for one in container.streams.audio),
    )
    none = np.zeros(0, dtype=np.int64)
    if pts is None:
        return Index(info, none, none, none, turn, upright)
    entries = np.searchsorted(pts, np.array([key for key, _, _ in keys], dtype=np.int64)).astype(np.int64)
    seeks = np.array([at for _, at, _ in keys], dtype=np.int64)
    origin = float((stream.start_time or 0) * base)
    return Index(info, pts, entries, seeks, turn, upright, origin, packets.open_gops)


def _clock(
    stream: VideoStream, pts: NDArray[np.int64] | None, times: list[int | None]
) -> tuple[NDArray[np.float64], bool]:
    """Seconds of each frame by the file's clock, and whether the file says so itself."""
    base = stream.time_base or Fraction(1, 1)
    if pts is not None:
        return pts * base.numerator / base.denominator, True
    known = np.array([np.nan if time is None else float(time * base) for time in times])
    if not np.isnan(known).any() and (np.diff(known) > 0).all():
        return known, True
    return np.arange(len(times)) / (_rate(stream) or 25.0), False


def _rate(stream: VideoStream) -> float:
    """The nominal rate, 0 if there is none."""
    return float(stream.average_rate or stream.base_rate or 0)


def _varies(gaps: NDArray[np.float64], tick: float) -> bool:
    """Return whether gaps differ by more than the rounding of a container's clock."""
    return len(gaps) > 1 and bool(np.ptp(gaps) > max(2.01 * tick, 0.02 * np.median(gaps)))


def _matrix(frame: VideoFrame) -> bytes | None:
    parts: Any = frame.side_data  # gone through by its values up to PyAV 18, by its types from PyAV 19 on
    try:
        return bytes(parts["DISPLAYMATRIX"])
    except KeyError:
        return None


def _alpha(stream: VideoStream, first: VideoFrame) -> str:
    if any(part.is_alpha for part in first.format.components):
        return "on white"
    beside = stream.codec_context.name in BESIDE and stream.metadata.get("alpha_mode") == "1"
    return "ignored" if beside else ""


def _audio(stream: AudioStream) -> str:
    """Its codec, if FFmpeg knows it."""
    coder: Any = stream.codec_context
    return str(coder.codec.canonical_name) if coder is not None else "unknown codec"


def _declared_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """Return the header's value for this track, or for the file if it is the only one."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    alone = len(container.streams) == 1 and container.format.name in ("matroska,webm", "avi")
    return container.duration / 1e6 if alone and container.duration else None
