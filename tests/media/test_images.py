import random
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import CLIPImageProcessor, Qwen2VLImageProcessor

from vtc.media.images import (
    ImageWarning,
    is_video,
    load_image,
    to_rgb,
)

RED, HALF_RED_ON_WHITE = (255, 0, 0), (255, 127, 127)


def save(image: Image.Image, path: Path, **options) -> Path:
    image.save(path, **options)
    return path


def corners() -> Image.Image:
    """An image whose four corners differ, so that a turn or a flip shows."""
    image = Image.new("RGB", (40, 20), "black")
    for color, place in (("red", (0, 0)), ("lime", (20, 0)), ("blue", (0, 10))):
        image.paste(color, (*place, place[0] + 20, place[1] + 10))
    return image


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".gif", ".bmp", ".tif", ".ppm", ".ico"])
def test_common_formats(tmp_path, suffix):
    loaded = load_image(save(Image.new("RGB", (32, 32), RED), tmp_path / f"x{suffix}"))
    assert loaded.mode == "RGB"
    assert loaded.size == (32, 32)
    assert np.abs(np.asarray(loaded, dtype=int) - RED).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(tmp_path, orientation):
    upright = corners()
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = upright if undo is None else upright.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    loaded = load_image(save(stored, tmp_path / "x.png", exif=exif))
    assert loaded.size == upright.size
    assert np.array_equal(np.asarray(loaded), np.asarray(upright))


def test_cmyk(tmp_path):
    path = save(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), tmp_path / "x.jpg", quality=100)
    assert np.abs(np.asarray(load_image(path), dtype=int) - RED).max() <= 4


def test_palette_and_its_transparency(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    assert np.asarray(load_image(save(image, tmp_path / "a.png"))).tolist() == [[[255, 0, 0], [0, 0, 255]]]
    loaded = load_image(save(image, tmp_path / "b.png", transparency=1))
    assert np.asarray(loaded).tolist() == [[[255, 0, 0], [255, 255, 255]]]


def test_transparency_becomes_white(tmp_path):
    rgba = load_image(save(Image.new("RGBA", (4, 4), (255, 0, 0, 128)), tmp_path / "a.png"))
    assert np.abs(np.asarray(rgba, dtype=int) - HALF_RED_ON_WHITE).max() <= 1
    grey = load_image(save(Image.new("LA", (4, 4), (0, 0)), tmp_path / "b.png"))
    assert (np.asarray(grey) == 255).all()
    keyed = load_image(save(Image.new("RGB", (4, 4), RED), tmp_path / "c.png", transparency=RED))
    assert (np.asarray(keyed) == 255).all()


def test_grey_and_one_bit(tmp_path):
    assert (np.asarray(load_image(save(Image.new("L", (4, 4), 77), tmp_path / "a.png"))) == 77).all()
    bits = Image.new("1", (2, 1))
    bits.putpixel((1, 0), 1)
    assert np.asarray(load_image(save(bits, tmp_path / "b.png")))[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm"])
def test_16_bits_are_scaled_not_clipped(tmp_path, suffix):
    values = np.array([[0, 257, 128 * 257, 65535]], dtype=np.uint16)
    path = tmp_path / f"x{suffix}"
    if suffix == ".ppm":  # Pillow writes it from 11 on
        path.write_bytes(b"P5 4 1 65535\n" + values.astype(">u2").tobytes())
    else:
        save(Image.fromarray(values), path)
    loaded = load_image(path)
    assert np.asarray(loaded)[0].tolist() == [[v] * 3 for v in (0, 1, 128, 255)]


def test_16_bits_that_use_12_are_told(tmp_path):
    path = save(Image.fromarray(np.full((4, 4), 4000, dtype=np.uint16)), tmp_path / "x.png")
    with pytest.warns(ImageWarning, match="at most 4000"):
        load_image(path)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_without_a_range_are_refused(tmp_path, mode):
    path = save(Image.new(mode, (4, 4), 9), tmp_path / "x.tif")
    with pytest.raises(ValueError, match=r"x\.tif: .*mode '\S+'.*8 bits"):
        load_image(path)


def test_pixels_without_a_way_to_rgb_are_refused(monkeypatch):
    def refuse(image: Image.Image, mode: str) -> None:
        raise ValueError(f"conversion from {image.mode} to {mode} not supported")

    monkeypatch.setattr(Image.Image, "convert", refuse)  # what LAB meets in older versions of Pillow
    with pytest.raises(ValueError, match=r"image: .*LAB.* as RGB"):
        to_rgb(Image.new("LAB", (4, 4)))


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_animation_gives_its_first_frame_and_says_so(tmp_path, suffix):
    frames = [Image.new("RGB", (32, 32), color) for color in ("red", "blue", "lime")]
    path = save(frames[0], tmp_path / f"x{suffix}", save_all=True, append_images=frames[1:], duration=100)
    with pytest.warns(ImageWarning, match="3 frames; only the first"):
        loaded = load_image(path)
    assert np.abs(np.asarray(loaded, dtype=int) - RED).max() <= 2


def test_still_images_are_silent(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_image(save(Image.new("RGB", (8, 8)), tmp_path / "x.jpg"))


def test_not_a_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.png: no such file"):
        load_image(tmp_path / "nothing.png")
    with pytest.raises(IsADirectoryError, match=rf"{tmp_path} is a directory"):
        load_image(tmp_path)


def test_empty(tmp_path):
    (tmp_path / "x.png").touch()
    with pytest.raises(ValueError, match=r"x\.png is empty \(0 bytes\)"):
        load_image(tmp_path / "x.png")


@pytest.mark.parametrize("content", [b"hello, this is text\n", b"%PDF-1.7\n", b"%!PS-Adobe-3.0 EPSF-3.0\n" * 9])
def test_no_image(tmp_path, content):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.png is no image .* PNG"):
        load_image(tmp_path / "x.png")


@pytest.mark.parametrize("name", ["x.mp4", "x.MOV", "x.webm", "misnamed.jpg"])
def test_video(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00" + bytes(64))
    with pytest.raises(ValueError, match=rf"{name} is a video, .*vtc\.video\.frames"):
        load_image(tmp_path / name)
    assert is_video(tmp_path / name)


def test_what_is_a_video_is_told_by_content_and_by_suffix(tmp_path):
    save(Image.new("RGB", (8, 8)), tmp_path / "x.png")
    save(Image.new("RGB", (8, 8)), tmp_path / "x.gif", save_all=True, append_images=[Image.new("RGB", (8, 8), RED)])
    (tmp_path / "x.bin").write_bytes(b"\x1a\x45\xdf\xa3" + bytes(64))
    told = {name: is_video(tmp_path / name) for name in ("x.png", "x.gif", "x.bin", "none.png", "none.MKV", ".")}
    assert [name for name, video in told.items() if video] == ["x.gif", "x.bin", "none.MKV"]


def test_heic_names_what_reads_it(tmp_path, monkeypatch):
    (tmp_path / "x.heic").write_bytes(b"\x00\x00\x00\x20ftypheic" + bytes(64))
    monkeypatch.setattr("vtc.media.images.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"x\.heic is no image .*pip install pillow-heif"):
        load_image(tmp_path / "x.heic")
    monkeypatch.setattr("vtc.media.images.FORMATS", ("PNG",))
    (tmp_path / "x.avif").write_bytes(b"\x00\x00\x00\x20ftypavif" + bytes(64))
    with pytest.raises(ValueError, match=r"AVIF needs Pillow 11\.3"):
        load_image(tmp_path / "x.avif")


def test_heic_is_read_where_the_plugin_is_there(tmp_path):
    pytest.importorskip("pillow_heif.HeifImagePlugin")
    loaded = load_image(save(Image.new("RGB", (64, 48), RED), tmp_path / "x.heic"))
    assert loaded.size == (64, 48)


def test_an_address_is_told():
    with pytest.raises(ValueError, match="download it first"):
        load_image("https://x.org/a.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".webp", ".tif", ".bmp"])
def test_cut_short(tmp_path, suffix):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    whole = save(noise, tmp_path / f"whole{suffix}").read_bytes()
    (tmp_path / f"x{suffix}").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f"x\\{suffix} is "):
        load_image(tmp_path / f"x{suffix}")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".webp", ".tif", ".avif"])
def test_damage_is_read_or_refused_and_never_anything_else(tmp_path, suffix):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    try:
        whole = save(noise, tmp_path / f"whole{suffix}").read_bytes()
    except (KeyError, OSError, ValueError):
        assert suffix == ".avif"  # this Pillow was built without it, or is older than 11.3
        return
    draw = random.Random(1)
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(draw.randint(1, 8)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        (tmp_path / f"x{suffix}").write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                outcome = load_image(tmp_path / f"x{suffix}").mode
            except ValueError as error:
                outcome = str(error)
        assert outcome == "RGB" or f"x{suffix}" in outcome


def test_decompression_bomb(tmp_path):
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    with pytest.raises(ValueError, match=r"bomb\.png.*900000000 pixels"):
        load_image(path)


@pytest.mark.parametrize("size", [(20_000, 10), (10, 20_000), (201, 1)])
def test_strips_are_refused(tmp_path, size):
    path = save(Image.new("RGB", size), tmp_path / "x.png")
    with pytest.raises(ValueError, match=rf"x\.png is {size[0]} x {size[1]} pixels, \d+ times .*200.*crop"):
        load_image(path)


PROCESSORS = {
    "squeeze": CLIPImageProcessor(size={"height": 96, "width": 96}, do_center_crop=False),
    "crop": CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}),
    "qwen": Qwen2VLImageProcessor(),
}


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (3, 1), (1, 3), (3, 3), (4, 1), (200, 1), (1, 200)])
@pytest.mark.parametrize("name", PROCESSORS)
def test_smallest_images_keep_their_colour(tmp_path, name, size):
    """A side of 1, 3 or 4 pixels is where a channel axis could be guessed wrong."""
    image = load_image(save(Image.new("RGB", size, (200, 100, 50)), tmp_path / "x.png"))
    processor = PROCESSORS[name]
    pixels = processor(image, return_tensors="np")["pixel_values"]
    values = pixels.reshape(-1, 3, 2 * 14 * 14) if name == "qwen" else pixels.reshape(1, 3, -1)
    mean, std = (np.array(numbers)[:, None] for numbers in (processor.image_mean, processor.image_std))
    assert np.abs((values * std + mean) * 255 - np.array([[200], [100], [50]])).max() < 1
