"""Pixels that are not square, and sizes that change on the way."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vtc.video import Sampling
from vtc.video.reading import Limits, frames, probe

WIDE, HIGH = 180, 144


def disc(path: Path, aspect: Fraction, *, rotation: int = 0, codec: str = "libx264") -> Path:
    """Writes a video of a disc that is round as shown."""
    y, x = np.mgrid[:HIGH, :WIDE]
    inside = ((x - WIDE / 2) * float(aspect)) ** 2 + (y - HIGH / 2) ** 2 < 30**2
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=5)
        stream.width, stream.height, stream.pix_fmt = WIDE, HIGH, "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        image = (inside[..., None] * 255).astype(np.uint8).repeat(3, 2)
        for _ in range(5):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode())
    return path


def roundness(pixels: np.ndarray) -> float:
    seen = pixels[..., 0] > 128
    return float(seen.any(0).sum() / seen.any(1).sum())


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "mpg"])
@pytest.mark.parametrize("aspect", [Fraction(64, 45), Fraction(8, 9), Fraction(2)], ids=str)
def test_pixels_that_are_not_square_are_delivered_as_shown(tmp_path, suffix, aspect):
    codec = "mpeg2video" if suffix == "mpg" else "libx264"
    if suffix == "mpg":
        aspect = Fraction(64, 45)  # MPEG-2 tells the shape of the screen, and that alone
    path = disc(tmp_path / f"x.{suffix}", aspect, codec=codec)
    info = probe(path)
    assert info.height == HIGH
    assert abs(info.width - WIDE * aspect) <= 1
    assert f"pixels of {info.pixel_aspect}" in str(info)
    for resize in (None, 100, (info.width, info.height)):
        with frames(path, resize=resize) as reading:
            pixels = next(reading).pixels
        assert roundness(pixels) == pytest.approx(1, abs=0.05)
        assert max(pixels.shape) == (100 if resize == 100 else max(info.width, info.height))


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_they_are_turned_with_the_image(tmp_path, rotation):
    path = disc(tmp_path / "x.mp4", Fraction(2), rotation=rotation)
    info = probe(path)
    assert (info.width, info.height) == ((HIGH, 2 * WIDE) if rotation != 180 else (2 * WIDE, HIGH))
    with frames(path) as reading:
        assert roundness(next(reading).pixels) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("backend", ["opencv", "decord"])
@pytest.mark.parametrize("rotation", [0, 90])
def test_other_backends_deliver_the_same(tmp_path, backend, rotation):
    path = disc(tmp_path / "x.mp4", Fraction(64, 45), rotation=rotation)
    with frames(path) as right, frames(path, backend=backend) as other:
        for one, two in zip(right, other, strict=True):
            assert one.pixels.shape == two.pixels.shape
            assert np.abs(one.pixels.astype(int) - two.pixels).mean() < 2


@pytest.mark.parametrize("aspect", [Fraction(1, 20), Fraction(20)], ids=str)
def test_a_shape_that_no_pixel_has_is_ignored_and_told(tmp_path, aspect):
    info = probe(disc(tmp_path / "x.mp4", aspect))
    assert (info.width, info.height) == (WIDE, HIGH)
    assert info.pixel_aspect.endswith(", ignored")
    assert info.pixel_aspect in str(info)


def test_limits_hold_for_what_is_shown(tmp_path):
    path = disc(tmp_path / "x.mkv", Fraction(3))
    with pytest.raises(ValueError, match="pixels"):
        probe(path, limits=Limits(pixels=2 * WIDE * HIGH))


def changing(path: Path, sizes: tuple[tuple[int, int], ...], each: int = 10) -> Path:
    """Writes a VP8 stream of `each` frames in one of `sizes` after the other, as a call is recorded."""
    with av.open(str(path), "w") as out:
        track = out.add_stream("libvpx", rate=10)
        track.width, track.height, track.pix_fmt, track.time_base = *sizes[0], "yuv420p", Fraction(1, 10)
        for part, (width, height) in enumerate(sizes):
            coder = av.CodecContext.create("libvpx", "w")
            coder.width, coder.height, coder.pix_fmt, coder.time_base = width, height, "yuv420p", Fraction(1, 10)
            made = []
            for i in range(each):
                pixels = np.full((height, width, 3), 4 * (part * each + i), np.uint8)
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = i, Fraction(1, 10)
                made += coder.encode(frame)
            for packet in made + coder.encode(None):
                moved = av.Packet(bytes(packet))
                moved.pts = moved.dts = packet.pts + part * each
                moved.time_base, moved.stream, moved.is_keyframe = Fraction(1, 10), track, packet.is_keyframe
                out.mux(moved)
    return path


SIZES = ((160, 96), (80, 48), (96, 160))


@pytest.mark.parametrize("resize", [None, (160, 96), 64, (50, 50)])
@pytest.mark.parametrize("isolated", [True, False])
def test_frames_come_in_one_size_and_it_is_told_which_were_scaled(tmp_path, resize, isolated):
    path = changing(tmp_path / "x.webm", SIZES)
    with frames(path, resize=resize, isolated=isolated) as reading:
        got = list(reading)
    assert len(got) == 30
    assert len({frame.pixels.shape for frame in got}) == 1
    assert reading.report.resized == tuple(range(10, 30))
    for frame in got:
        assert abs(float(frame.pixels.mean()) - 4 * frame.index) < 6
    seen, report = Sampling().read(path, np.arange(5, 15))
    assert seen.pixels.shape == (10, 96, 160, 3)
    assert report.resized == tuple(range(10, 15))


def test_none_are_told_where_sizes_stay(tmp_path):
    path = changing(tmp_path / "x.webm", (SIZES[0], SIZES[0]))
    with frames(path, resize=64) as reading:
        assert len(list(reading)) == 20
    assert reading.report.resized == ()


@pytest.mark.parametrize("backend", ["opencv", "decord"])
def test_other_backends_deliver_the_same_or_refuse_changes(tmp_path, backend):
    path = changing(tmp_path / "x.webm", SIZES)
    with frames(path) as reading:
        right = list(reading)
    other = []
    with suppress(ValueError), frames(path, backend=backend) as reading:  # a refusal, behind frames that are right
        other.extend(reading)
    for one, two in zip(right, other, strict=False):
        assert np.abs(one.pixels.astype(int) - two.pixels).mean() < 2
    assert len(other) in (0, 30)
