"""Click regions of a timeline: the boxes of its image that stand for a time, and the time at a point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image


class TimeRegion(NamedTuple):
    """A box in pixels, right and bottom not in it, along which the time runs from `start` to `end`, in seconds."""

    left: int
    top: int
    right: int
    bottom: int
    start: float
    end: float


class ClickableImage(NamedTuple):
    """An image and its regions; of overlapping ones the first counts. Regions are plain numbers, cheap to store."""

    image: Image.Image
    regions: tuple[TimeRegion, ...] = ()


def second_at(regions: Sequence[TimeRegion], x: float, y: float) -> float | None:
    """The second that the point (x, y) of an image stands for; None outside of all regions."""
    for left, top, right, bottom, start, end in regions:
        if left <= x < right and top <= y < bottom:
            return start + (end - start) * (x - left) / (right - left)
    return None


def stacked(parts: Sequence[ClickableImage]) -> ClickableImage:
    """Images of one width, one under the other."""
    out = Image.new("RGB", (parts[0].image.width, sum(part.image.height for part in parts)))
    y, regions = 0, list[TimeRegion]()
    for image, inside in parts:
        out.paste(image, (0, y))
        regions += [region._replace(top=region.top + y, bottom=region.bottom + y) for region in inside]
        y += image.height
    return ClickableImage(out, tuple(regions))
