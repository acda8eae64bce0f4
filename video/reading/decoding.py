"""Decoding past what is broken: every failure is counted, and there is an end to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

READS = 4
"""Failed reads in a row after which a file has ended."""


@dataclass
class DecodingTally:
    """Errors of one reading of the file `path`.

    Attributes:
        allowed: how many packets may fail.
        tick: called for each packet, as a sign of life.
        failed: what tells apart the packets that failed, however often each was tried.
        seeks: jumps inside of the file.
    """

    path: str
    allowed: int
    tick: Callable[[], None] = lambda: None
    failed: set[tuple[object, ...]] = field(default_factory=set)
    seeks: int = 0

    def fail(self, *key: object) -> None:
        """Count a failure.

        Raises:
            ValueError: they are too many.
        """
        self.failed.add(key)
        if len(self.failed) > self.allowed:
            raise ValueError(
                f"{self.path} is damaged: {len(self.failed)} packets cannot be decoded, and {self.allowed} may fail; "
                "repair or export the video again, or raise the limit: limits=Limits(failures=...)"
            )


@dataclass(frozen=True)
class FrameFailure:
    """Placeholder of a frame that cannot be decoded; `pts` is its timestamp, if it is known."""

    pts: int | None = None


def decoded(
    container: InputContainer, stream: VideoStream, tally: DecodingTally
) -> Iterator[VideoFrame | FrameFailure]:
    """The frames from where `container` stands, in order of presentation, and failures when they are noticed.

    Raises:
        ValueError: more failures than `tally` allows.
    """
    last: tuple[int | None, int | None] = (None, None)
    demuxed, failures = container.demux(stream), 0
    while True:
        tally.tick()
        try:
            packet = next(demuxed)
        except StopIteration:
            return
        except (FFmpegError, IndexError):  # the latter from PyAV, where damage looks like a stream that was not there
            failures += 1
            tally.fail("read", *last, failures)
            yield FrameFailure()
            if failures == READS:
                yield from _rest(stream)
                return
            demuxed = container.demux(stream)
            continue
        failures, last = 0, (packet.pts, packet.dts)
        if packet.is_corrupt:  # a part of it is missing; what can be made of the rest comes all the same
            tally.fail("packet", *last)
            yield FrameFailure(packet.pts)
        yield from _frames(packet, tally)


def _frames(packet: Packet[VideoStream], tally: DecodingTally) -> Iterator[VideoFrame | FrameFailure]:
    try:
        frames = packet.decode()
    except EOFError:
        return
    except FFmpegError:
        tally.fail("packet", packet.pts, packet.dts)
        yield FrameFailure(packet.pts)
        return
    for frame in frames:
        if frame.is_corrupt:
            tally.fail("frame", frame.pts, frame.dts)
            yield FrameFailure(frame.pts)
        else:
            yield frame


def _rest(stream: VideoStream) -> Iterator[VideoFrame]:
    """Return the frames that the decoder still holds."""
    try:
        yield from stream.decode(None)
    except (EOFError, FFmpegError):
        return
