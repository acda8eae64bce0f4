"""Images from files: upright, in RGB, and with a plain word on those that cannot be read."""

from __future__ import annotations

import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .sniffing import kind_of, refuse_address

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF", "PPM", "ICO", "TGA", "QOI", "HEIF")
"""What is read, HEIF where pillow-heif is installed. Formats that Pillow hands to other programs (EPS) stay out."""

HEIC = (b"hei", b"hev", b"mif", b"msf")
SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
MAX_ASPECT = 200
"""Longer strips are refused: Qwen's processor does so itself, and a centre crop would show less than 0.5 % of them."""


class ImageWarning(UserWarning):
    """Something about an image that changes what the model sees of it."""


def load_image(path: str | Path) -> Image.Image:
    """The image in `path`, in RGB and upright (its EXIF orientation applied).

    Transparent parts become white, 16-bit values are scaled to 8 bits, and of an animated image the first frame is
    taken, with a `ImageWarning`.

    Raises:
        OSError: no such file, or a directory.
        ValueError: an address, a broken or empty file, a video, no image at all, one of too many pixels, or a strip
            more than 200 times as long as wide.
    """
    path = Path(path)
    _check_file(path)
    image = to_rgb(_decode(path), str(path))
    _check_shape(path, image)
    return image


def to_rgb(image: Image.Image, name: str = "image") -> Image.Image:
    """`image` in RGB: transparency composited on white, 16-bit values scaled to 8 bits.

    Raises:
        ValueError: a kind of pixel without a defined range (32-bit integers, floats) or without a way to RGB.
    """
    if image.mode in SIXTEEN_BIT or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return _from_16_bit(np.asarray(image), name)
    if image.mode in ("I", "F"):
        raise ValueError(f"{name}: pixels of mode {image.mode!r} have no fixed range; save the image with 8 bits")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise ValueError(f"{name}: {error}; save the image as RGB") from error


def _check_file(path: Path) -> None:
    if not path.exists():
        refuse_address(path)
        raise FileNotFoundError(f"{path}: no such file; pass the path of an image on this machine")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a directory; pass the path of one image in it")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes); fetch or export the image again")
    if kind_of(path) == "video":
        raise ValueError(
            f"{path} is a video, and an image is expected here; take frames of it with vtc.video.frames, or ask about "
            "it with `vtc ask`"
        )


def is_video(path: str | Path) -> bool:
    """Return whether `path` is to be read as a video: by its first bytes, or where they say nothing by its ending.

    Animated GIF and PNG are videos, animated WebP and AVIF are not: the reader of videos does not read them. No such
    file need exist.

    Raises:
        OSError: a file that may not be read.
    """
    return kind_of(path) in ("video", "animation")


def _decode(path: Path) -> Image.Image:
    """The first frame, upright, in the file's own mode."""
    Image.init()
    if _brand(path) in HEIC and find_spec("pillow_heif") is not None:
        import_module("pillow_heif.HeifImagePlugin")  # Pillow finds the plugins that come with it alone
    try:
        with Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN]) as opened:
            frames = int(getattr(opened, "n_frames", 1))
            # A phone's MPO holds the same photograph again for other uses: nothing is left out there.
            if frames > 1 and opened.format != "MPO":
                note = f"{path} holds {frames} frames; only the first one is read"
                warnings.warn(note, ImageWarning, stacklevel=3)
            opened.load()
            upright = ImageOps.exif_transpose(opened)
            upright.format = opened.format
            return upright
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is no image that can be read; {_remedy(path)}") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: {error} Scale the image down first.") from error
    except ImageWarning:
        raise
    except Exception as error:  # decoders raise anything at all on broken data
        raise ValueError(f"{path} is broken or cut short ({error}); fetch or export the image again") from error


def _remedy(path: Path) -> str:
    """Return the remedy for an image that Pillow cannot identify here."""
    brand = _brand(path)
    if brand == b"avi":
        return "AVIF needs Pillow 11.3 or later: pip install -U pillow"
    if brand in HEIC:
        return "HEIC needs a plugin: pip install pillow-heif"
    return "save it as PNG, JPEG or WebP"


def _brand(path: Path) -> bytes:
    """How the brand of an image in boxes (AVIF, HEIC) begins; empty for others."""
    with path.open("rb") as file:
        head = file.read(12)
    return head[8:11] if head[4:8] == b"ftyp" else b""


def _from_16_bit(values: np.ndarray, name: str) -> Image.Image:
    top = int(values.max())
    if 0 < top < 4096:
        note = f"{name} has 16-bit pixels of at most {top}: it is scaled by the full 65535 and will look dark"
        warnings.warn(note, ImageWarning, stacklevel=3)
    scaled = np.clip(values.astype(np.float32) / 257 + 0.5, 0, 255).astype(np.uint8)
    return Image.fromarray(scaled).convert("RGB")


def _check_shape(path: Path, image: Image.Image) -> None:
    width, height = image.size
    times = max(width, height) / min(width, height)
    if times > MAX_ASPECT:
        shape = "wide as high" if width > height else "high as wide"
        raise ValueError(
            f"{path} is {width} x {height} pixels, {times:.0f} times as {shape} (at most {MAX_ASPECT} is read): "
            "an encoder sees next to nothing of such a strip; crop it to the part that matters, or cut it into pieces"
        )
