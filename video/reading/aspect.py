"""Pixels that are not square: what a player makes of them."""

from __future__ import annotations

from fractions import Fraction

from av.video.frame import VideoFrame
from av.video.stream import VideoStream

MOST = 4
"""Times that a pixel is as wide as high, or as high as wide, at most: the widest in use (discs of 352 columns shown at
16:9) are below 3. What is beyond that is a wrong header."""


def pixel_aspect(stream: VideoStream) -> tuple[Fraction, str]:
    """A pixel's width over its height, and what is said of it: empty, `64:45`, or `1:1000, ignored`.

    The container's word comes before the codec's, as FFmpeg has it.
    """
    ratio = stream.sample_aspect_ratio
    if not ratio or ratio <= 0 or ratio == 1:
        return Fraction(1), ""
    name = f"{ratio.numerator}:{ratio.denominator}"
    if not Fraction(1, MOST) <= ratio <= MOST:
        return Fraction(1), f"{name}, ignored"
    return ratio, name


def shown_size(frame: VideoFrame, aspect: Fraction) -> tuple[int, int]:
    """(width, height) of a frame with square pixels: its height stays, as players have it."""
    return max(1, round(frame.width * aspect)), frame.height
