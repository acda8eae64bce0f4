"""What a file is, by its first bytes."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vtc.media.sniffing import (
    HEAD,
    SUFFIXES,
    by_content,
    kind_of,
    refuse_address,
)

CONTAINERS = {
    "mp4": "libx264",
    "mov": "libx264",
    "matroska": "libx264",
    "webm": "libvpx",
    "avi": "mpeg4",
    "mpegts": "libx264",
    "vob": "mpeg2video",
    "mpeg": "mpeg1video",
    "mpeg2video": "mpeg2video",
    "asf": "wmv2",
    "flv": "flv",
    "ogg": "libvpx",
    "yuv4mpegpipe": "wrapped_avframe",
    "ivf": "libvpx",
    "nut": "libx264",
    "mxf": "mpeg2video",
    "rm": "rv10",
    "3gp": "libx264",
    "f4v": "libx264",
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_videos_are_known_by_their_content(tmp_path, container):
    path = tmp_path / "unnamed"
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(CONTAINERS[container], rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for i in range(12):
            frame = av.VideoFrame.from_ndarray(np.full((96, 128, 3), 9 * i, np.uint8), format="rgb24")
            out.mux(stream.encode(frame.reformat(format="yuv420p")))
        out.mux(stream.encode())
    assert kind_of(path) == "video"


def saved(name: str, frames: int = 1, **options) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (frames, 32, 32, 3), np.uint8)
    first, *rest = map(Image.fromarray, noise)
    file = BytesIO()
    first.save(file, name, **({"save_all": True, "append_images": rest} if rest else {}), **options)
    return file.getvalue()


@pytest.mark.parametrize("name", ["GIF", "PNG"])
@pytest.mark.parametrize("options", [{}, {"loop": 0}, {"loop": 3, "duration": 40}], ids=str)
def test_animated_images(name, options):
    assert by_content(saved(name, 3, **options)) == "animation"
    assert by_content(saved(name)) == "image"


def test_a_still_gif_that_says_it_repeats_is_a_image():
    whole = saved("GIF")
    behind = 13 + (3 << (1 + (whole[10] & 7))) * (whole[10] >> 7)
    repeats = b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"
    assert by_content(whole[:behind] + repeats + whole[behind:]) == "image"
    assert repeats in saved("GIF", 2, loop=0)  # control


def test_a_first_frame_that_fills_the_head():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1500, 1500), np.uint8)
    first, second = (Image.fromarray(one, "L") for one in pixels)
    for loop, kind in (({"loop": 0}, "animation"), ({}, "image")):
        file = BytesIO()
        first.save(file, "GIF", save_all=True, append_images=[second], **loop)
        assert by_content(file.getvalue()[:HEAD]) == kind


@pytest.mark.parametrize("name", ["JPEG", "WEBP", "BMP", "TIFF", "QOI", "JPEG2000"])
def test_images(name):
    assert by_content(saved(name)) == "image"
    if name == "WEBP":
        assert by_content(saved(name, 3)) == "image"  # which the reader of videos does not read


@pytest.mark.parametrize("brand", [b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1", b"hevc"])
def test_images_in_boxes(brand):
    assert by_content(b"\x00\x00\x00\x20ftyp" + brand + bytes(64)) == "image"


def test_content_comes_before_the_ending(tmp_path):
    for name, data, kind in (
        ("x.mp4", saved("PNG"), "image"),
        ("x.png", b"\x1a\x45\xdf\xa3" + bytes(64), "video"),
        ("x.h264", b"\x00\x00\x00\x01\x67" + bytes(64), "video"),
        ("x.txt", b"words", ""),
        ("x.MTS", b"", "video"),
    ):
        (tmp_path / name).write_bytes(data)
        assert kind_of(tmp_path / name) == kind
    assert kind_of(tmp_path / "missing.M2TS") == "video"
    assert kind_of(tmp_path) == ""
    assert {".mts", ".m2ts", ".vob", ".ogv", ".asf", ".y4m", ".f4v", ".mpe"} <= SUFFIXES


def test_no_more_is_read_than_a_head(tmp_path, monkeypatch):
    (tmp_path / "x.gif").write_bytes(saved("GIF") + bytes(2 * HEAD))
    taken = []
    opened = Path.open

    def spied(self, *args):
        file = opened(self, *args)
        monkeypatch.setattr(type(self), "open", opened)

        class Spy:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.close()

            def read(self, size):
                taken.append(size)
                return file.read(size)

        return Spy()

    monkeypatch.setattr(Path, "open", spied)
    assert kind_of(tmp_path / "x.gif") == "image"
    assert taken == [HEAD]


@given(st.binary(max_size=60), st.sampled_from(["GIF", "PNG", ""]), st.integers(0, 400))
def test_damage_is_no_error(noise, name, at):
    whole = bytearray(saved(name, 2) if name else b"")
    whole[at : at + len(noise)] = noise
    assert by_content(bytes(whole)) in ("video", "animation", "image", "")


def test_addresses_are_told():
    for address in ("https://x.org/a.mp4", Path("https://x.org/a.mp4"), "file:///a.mp4", "s3://a/b", "RTSP://a"):
        with pytest.raises(ValueError, match=r"(https|file|s3|RTSP)://.*a(\.mp4|/b)? is an address"):
            refuse_address(address)
    for path in ("a.mp4", "/a/b:/c.mp4", "C:/a.mp4", "a b:c", Path("x/https:/y")):
        refuse_address(path)
