"""Properties of a video: its size, its times, its keyframes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .tracks import Track


@dataclass(frozen=True, eq=False)
class Info:
    """A video as its own packets have it, not as its header claims.

    Attributes:
        path: the file.
        container, codec: as FFmpeg names them.
        width, height: of delivered frames, as shown: upright, and with square pixels.
        rotation: degrees clockwise by which frames are turned before they are delivered: 0, 90, 180 or 270.
        mirrored: whether they are then mirrored left to right.
        bits: of each colour as stored; delivered frames have 8. HDR is not tone-mapped.
        alpha: "" for an opaque video; "on white" where transparent parts become white; "ignored" where the codec
            stores them beside the images (VP8, VP9), and colours are delivered as if opaque.
        frames: how many frames can be asked for. Those that an edit list hides are not among them.
        seconds: `[frames]` fp64, ascending; when each frame is shown, the first at 0.
        start: when the first frame is shown by the file's own clock, in seconds; often not 0, and may be negative.
        timed: False where the file has no timestamps (raw H.264): `seconds` then are its nominal rate.
        duration: seconds, to the end of the last frame.
        fps: frames a second on average; 0 where a single frame has no duration.
        is_vfr: whether frames are unevenly spaced.
        keyframes: `[K]` int64, ascending; the frames that need no other frame.
        declared_frames, declared_seconds: what the header claims, if anything.
        pixel_aspect: a stored pixel's width over its height, such as `64:45`; empty where it is square; `1:1000,
            ignored` where it is beyond what is in use.
        track: which track was read.
        tracks: all tracks of images, cover images and thumbnails among them.
        audio: the codecs of its sound tracks. Sound is not used.
    """

    path: str
    container: str
    codec: str
    width: int
    height: int
    rotation: int
    mirrored: bool
    bits: int
    alpha: str
    frames: int
    seconds: NDArray[np.float64]
    start: float
    timed: bool
    duration: float
    fps: float
    is_vfr: bool
    keyframes: NDArray[np.int64]
    declared_frames: int | None = None
    declared_seconds: float | None = None
    pixel_aspect: str = ""
    track: int = 0
    tracks: tuple[Track, ...] = ()
    audio: tuple[str, ...] = ()

    @property
    def truncated(self) -> bool:
        """Whether the header promises more than is there: a file that was cut short, or a wrong header."""
        if self.declared_seconds is None or not self.timed:
            return self.declared_frames is not None and self.declared_frames > self.frames
        # A header may count from the file's own zero. Counts of frames include those that an edit list hides.
        gap = float(np.diff(self.seconds).max()) if self.frames > 1 else self.duration
        return self.declared_seconds > self.duration + max(self.start, 0) + max(0.05, 2 * gap)

    @property
    def others(self) -> tuple[Track, ...]:
        """Tracks that could have been read instead: all but cover images, thumbnails and stills."""
        return tuple(track for track in self.tracks if track.index != self.track and not track.kind)

    @property
    def choice(self) -> str:
        """Which track was read, where there are several videos in the file; else empty."""
        if not self.others:
            return ""
        read = next(track for track in self.tracks if track.index == self.track)
        return f"{read} is read; there are {', '.join(map(str, self.others))} too"

    def __str__(self) -> str:
        rate = f"{self.fps:.6g} frames/s" + (" on average (variable)" if self.is_vfr else "")
        turned = [f"turned {self.rotation} degrees clockwise"] if self.rotation else []
        turned += ["mirrored"] if self.mirrored else []
        image = [f"{self.width} x {self.height} pixels", *turned, f"{self.bits} bits"]
        image += [f"pixels of {self.pixel_aspect}"] if self.pixel_aspect else []
        image += [f"alpha {self.alpha}"] if self.alpha else []
        lines = [
            f"{self.path}",
            f"  {self.codec} in {self.container}: {', '.join(image)}",
            f"  {self.frames} frames in {self.duration:.6g} s, {rate}, {len(self.keyframes)} keyframes",
        ]
        if len(self.tracks) > 1:
            beside = [str(track) for track in self.tracks if track.index != self.track and track.kind]
            lines += [f"  {self.choice}; --track N reads another"] if self.choice else []
            lines += [f"  has {', '.join(beside)} beside its video"] if beside else []
        if self.audio:
            lines.append(f"  has sound ({', '.join(self.audio)}), which is not used")
        if self.start:
            lines.append(
                f"  begins at {self.start:.6g} s of the file's own clock; times here count from the first frame"
            )
        if not self.timed:
            lines.append("  has no timestamps: times are those of its nominal rate")
        if self.truncated:
            lines.append(f"  is cut short, or its header is wrong: {self._claim()} promised")
        return "\n".join(lines)

    def _claim(self) -> str:
        claims = [] if self.declared_frames is None else [f"{self.declared_frames} frames"]
        claims += [] if self.declared_seconds is None else [f"{self.declared_seconds:.6g} s"]
        return " and ".join(claims)
