"""The tracks of images in a file, and which of them is the video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from vtc.core.validation import check_int

BESIDES = {
    Disposition.attached_pic: "cover image",
    Disposition.timed_thumbnails: "thumbnails",
    Disposition.still_image: "still image",
}
"""FFmpeg's marks of tracks that accompany a video."""


@dataclass(frozen=True)
class Track:
    """One track of images.

    Attributes:
        index: its place among all streams of the file, from 0, as FFmpeg numbers them.
        codec: as FFmpeg names it; empty for one that it does not know.
        width, height: of its images as stored; 0 where the header does not say.
        default: whether the file marks it as the one to show.
        kind: "" for a video; "cover image", "thumbnails" or "still image" for what accompanies one.
    """

    index: int
    codec: str
    width: int
    height: int
    default: bool
    kind: str

    @classmethod
    def of(cls, stream: VideoStream) -> Track:
        """Return the file's properties of `stream`."""
        coder, marks = stream.codec_context, stream.disposition
        kind = next((name for mark, name in BESIDES.items() if marks & mark), "")
        default = bool(marks & Disposition.default)
        if coder is None:  # as PyAV has it for an unknown codec, though it is typed otherwise
            return cls(stream.index, "", 0, 0, default, kind)
        return cls(stream.index, coder.codec.canonical_name, coder.width, coder.height, default, kind)

    def __str__(self) -> str:
        size = f"{self.width} x {self.height}" if self.width and self.height else ""
        facts = [self.codec or "unknown codec", size, self.kind, "default" if self.default else ""]
        return f"track {self.index} ({', '.join(fact for fact in facts if fact)})"


def check_track(track: int | None) -> None:
    """Raise TypeError or ValueError unless `track` can be the number of a track, or is None."""
    if track is None:
        return
    check_int("track", track, 0, expected="the number of a track, from 0 on, as `vtc probe` lists it, or None")


def read_track(path: Path, container: InputContainer, track: int | None) -> VideoStream:
    """The track `track` of the file, or the one that players show: its default, else its first.

    Cover images, thumbnails and stills are never it where there is another, nor what cannot be decoded.

    Raises:
        ValueError: no such track, no track of images, an unknown codec.
    """
    streams = {stream.index: stream for stream in container.streams.video}
    tracks = [Track.of(stream) for stream in streams.values()]
    if track is not None:
        if track not in streams:
            there = "; ".join(map(str, tracks)) or "none"
            raise ValueError(f"track={track} is no track of images in {path}, which has {there}")
        chosen = next(one for one in tracks if one.index == track)
    else:
        videos = [one for one in tracks if one.kind in ("", "still image")]
        if not videos:
            what = "sound only" if container.streams.audio else "no track of images"
            raise ValueError(f"{path} has {what}; pass a video that has images")
        # The header of a transport stream gives no size to a track of which nothing was sent.
        chosen = min(videos, key=lambda one: (bool(one.kind), not one.codec, not one.width, not one.default))
    if not chosen.codec:
        raise ValueError(f"{path} has images in a codec that FFmpeg does not know; export it as H.264 in mp4")
    return streams[chosen.index]
