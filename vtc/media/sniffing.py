"""Kind of a file by its first bytes: nothing is decoded, and no more is read than a head."""

from __future__ import annotations

import re
import struct
from pathlib import Path

HEAD = 1 << 20
"""Bytes that are looked at: an animated image says so in front of its second frame at the latest."""
_NAMES = (
    "mp4 m4v mov qt mkv webm avi divx mpg mpeg mpe m1v m2v mpv ts mts m2ts m2t vob wmv asf flv f4v "
    "3gp 3g2 ogv ogm y4m mxf ivf nut wtv rm rmvb dv 264 h264 avc 265 h265 hevc obu"
)
SUFFIXES = frozenset(f".{name}" for name in _NAMES.split())
"""Endings of videos: what counts where the first bytes say nothing, as in a raw stream, or where there is no file."""

IMAGES = (b"avi", b"mif", b"msf", b"hei", b"hev")
"""How the brands of AVIF and HEIC begin, which lie in the boxes of an mp4."""
BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"pnot", b"skip", b"free")
MAGIC_VIDEO = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"FLV\x01",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF
    b"OggS",
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"\x00\x00\x01\xb3",  # MPEG-1 and MPEG-2, raw
    b"YUV4MPEG2 ",
    b"DKIF",  # IVF
    b".RMF",
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01",  # MXF
    b"nut/multimedia container",
    b"\xb7\xd8\x00\x20\x37\x49\xda\x11",  # WTV
)
MAGIC_IMAGE = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"BM",
    b"II*\x00",
    b"MM\x00*",
    b"qoif",
    b"\x00\x00\x00\x0cjP  ",
)
PACKETS = ((0, 188), (4, 192), (0, 204))
"""Where a transport stream's sync bytes lie: the first, and how far apart; plain, on Blu-ray, with error correction."""
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def kind_of(path: str | Path) -> str:
    """`video`, `animation` (a GIF or PNG of several frames), `image`, or empty where bytes and ending say nothing.

    Raises:
        OSError: a file that may not be read.
    """
    path = Path(path)
    head = b""
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(HEAD)
    return by_content(head) or ("video" if path.suffix.lower() in SUFFIXES else "")


def by_content(head: bytes) -> str:
    """`kind_of` a file that begins with `head`; empty where its ending must tell."""
    if head[4:8] == b"ftyp" and head[8:11] in IMAGES:
        return "image"
    if head[4:8] in BOXES or head.startswith(MAGIC_VIDEO) or (head[:4], head[8:12]) == (b"RIFF", b"AVI "):
        return "video"
    if any(all(head[first + i * step : first + i * step + 1] == b"G" for i in range(4)) for first, step in PACKETS):
        return "video"
    if _gif_frames(head) > 1 or _png_frames(head) > 1:
        return "animation"
    if head.startswith(MAGIC_IMAGE) or (head[:4], head[8:12]) == (b"RIFF", b"WEBP"):
        return "image"
    return ""


def refuse_address(path: str | Path) -> None:
    """Raise ValueError where `path` is a URL. `Path` leaves one slash of two behind its scheme."""
    if ADDRESS.match(str(path)):
        scheme, _, rest = str(path).partition(":")
        raise ValueError(
            f"{scheme}://{rest.lstrip('/')} is an address, and only files are read; download it first, and pass the "
            "path of the file"
        )


def _gif_frames(head: bytes) -> int:
    """How many frames a GIF has: 0, 1, or 2 for more. One whose first fills all of `head` has more if it repeats."""
    if not head.startswith((b"GIF87a", b"GIF89a")) or len(head) < 13:
        return 0
    at, frames, repeats = 13 + _palette(head[10]), 0, False
    while at + 10 <= len(head) and frames < 2:
        if head[at] == 0x2C:  # an image: its place and size, its colours, the width of its codes, its data
            frames, at = frames + 1, _behind_blocks(head, at + 11 + _palette(head[at + 9]))
        elif head[at] == 0x21:
            repeats |= head[at + 3 : at + 14] == b"NETSCAPE2.0"
            at = _behind_blocks(head, at + 2)
        else:
            break
    return 2 if repeats and frames == 1 and at >= HEAD else frames


def _palette(flags: int) -> int:
    """Bytes of the table of colours that `flags` tell of."""
    return 3 << (1 + (flags & 7)) if flags & 0x80 else 0


def _behind_blocks(head: bytes, at: int) -> int:
    """Return where the blocks end that begin at `at`; the length of `head` where that is behind it."""
    while at < len(head) and head[at]:
        at += 1 + head[at]
    return min(at + 1, len(head))


def _png_frames(head: bytes) -> int:
    """Return how many frames a PNG says that it has; 0 where it says nothing."""
    at = 8
    while head.startswith(b"\x89PNG\r\n\x1a\n") and at + 12 <= len(head):
        size, kind = struct.unpack_from(">I4s", head, at)
        if kind == b"acTL":
            return int.from_bytes(head[at + 8 : at + 12], "big")
        if kind == b"IDAT":
            break
        at += 12 + size
    return 0
