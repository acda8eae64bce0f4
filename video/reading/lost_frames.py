"""Reading what was chosen, and what happens where a frame is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .backend import Backend, Pixels

ON_ERROR = ("skip", "nearest", "raise")


@dataclass(frozen=True, eq=False)
class DecodingEvent:
    """Result for one requested frame.

    Attributes:
        index: the frame.
        pixels: `[H, W, 3]`; None where it is lost.
        source: the frame whose image this is: another one where it stands in.
        suspect: whether it may show traces of damage before it.
        resized: whether it was stored in another size than the first frame.
        failures, seeks: of the whole reading so far.
    """

    index: int
    pixels: Pixels | None
    source: int
    suspect: bool
    resized: bool
    failures: int
    seeks: int


def deliver(backend: Backend, spare: Backend, wanted: Sequence[int], on_error: str) -> Iterator[DecodingEvent]:
    """An event for each of `wanted`, ascending; the last one of them is not followed by more decoding.

    With `on_error="nearest"` the nearest frame that can be read stands in for a lost one, the lower of two. It is
    looked for by `spare`, a second view of the file, so that the first one goes on from where it is.
    """
    for index, pixels in backend.read(wanted):
        source, suspect, resized = index, backend.suspect, backend.resized
        if pixels is None and on_error == "nearest":
            source, pixels = _nearest(spare, index)
            suspect, resized = spare.suspect, spare.resized
        there = pixels is not None
        yield DecodingEvent(index, pixels, source, suspect and there, resized and there, *_counts(backend, spare))


def _counts(backend: Backend, spare: Backend) -> tuple[int, int]:
    return len(backend.tally.failed | spare.tally.failed), backend.tally.seeks + spare.tally.seeks


def _nearest(spare: Backend, lost: int) -> tuple[int, Pixels | None]:
    """The nearest readable frame and its image; (lost, None) where those next to it are lost as well."""
    last = spare.index.info.frames - 1
    for gap in range(1, max(lost, last - lost) + 1):
        for index in (lost - gap, lost + gap):
            if 0 <= index <= last:
                pixels = next(iter(spare.read([index])))[1]
                if pixels is not None:
                    return index, pixels
    return lost, None
