"""Opening a file that nobody vouches for: which containers are read, and a plain word on what cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from vtc.media.sniffing import refuse_address

from .limits import Limits
from .tracks import read_track

VIDEOS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,gif,apng,ivf,h264,hevc,obu,av1,m4v,mpegvideo,"
    "rm,wtv,mxf,dv,nut,y4m,yuv4mpegpipe"
)
SOUNDS = "mp3,wav,flac,aac,aiff,w64,amr,ac3,eac3,dts,au,caf"
STILLS = (
    "png_pipe,jpeg_pipe,jpegls_pipe,webp_pipe,bmp_pipe,tiff_pipe,ico,j2k_pipe,jpegxl_pipe,jpegxl_anim,qoi_pipe,"
    "ppm_pipe,pgm_pipe,pam_pipe,svg_pipe,psd_pipe,dds_pipe,exr_pipe,hdr_pipe,gem_pipe,pcx_pipe,sgi_pipe,xpm_pipe"
)
"""FFmpeg reads more, among it playlists that name other files and addresses: those stay closed."""

PYAV = int(av.__version__.split(".")[0])
OLDEST = 17
"""The first PyAV whose scaler reads colour space, range and chroma siting off each frame: older ones give other colours
(up to 30 of 255 off on BT.709)."""
NAMES: dict[str, Any] = {"metadata_errors": "replace"} if PYAV < 19 else {}
"""That names of tracks need not be UTF-8: PyAV 19 has no such option, and never refuses them."""
JPEG = b"\xff\xd8\xff"
STILL_BRANDS = ("avif", "mif1", "heic", "heix")
PADDING = 1 << 16


@contextmanager
def opened(
    path: Path, limits: Limits, threads: str = "AUTO", track: int | None = None
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and the track of it that is read (see `read_track`), ready to decode with FFmpeg's `threads`.

    Frame threads are fast; with "SLICE" alone an error belongs to the packet that caused it.

    Raises:
        OSError: no such file, a directory, not readable, or a PyAV that gives other colours.
        ValueError: empty, no video that can be read, no such track, a still image, too many pixels.
    """
    if PYAV < OLDEST:
        raise OSError(f"PyAV {av.__version__} converts colours wrongly; pip install 'av>={OLDEST}'")
    check_file(path)
    try:
        # The name is no address and no pattern, whatever characters it has.
        container = av.open(
            f"file:{path.absolute()}",
            **NAMES,
            options={"format_whitelist": f"{VIDEOS},{SOUNDS},{STILLS}", "protocol_whitelist": "file"},
        )
    except FFmpegError as error:
        if isinstance(error, PermissionError):
            raise PermissionError(f"{path} may not be read; change its permissions") from error
        with path.open("rb") as file:
            if file.read(3) == JPEG:  # by its suffix FFmpeg takes it for one of a numbered series, which stays closed
                refuse_still(path)
        raise ValueError(f"{path} is no video that can be read ({_why(error)}); {REMEDY}") from error
    with container:
        _check_kind(path, container)
        stream = read_track(path, container, track)
        width, height = stream.codec_context.width, stream.codec_context.height
        limits.check(str(path), "pixels", width * height)
        stream.thread_type = threads
        # A stream may grow while it is decoded: the decoder itself refuses that, but counts pixels of padding.
        stream.codec_context.options = {"max_pixels": str(2 * limits.pixels + PADDING)}
        yield container, stream


REMEDY = "a download that was cut short lacks its index: fetch or export the video again"


def check_file(path: Path) -> None:
    """Raise OSError or ValueError unless `path` is a file, and no address, with something in it."""
    if not path.exists():
        refuse_address(path)
        raise FileNotFoundError(f"{path}: no such file; pass the path of a video on this machine")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a directory; pass the path of one video in it")
    if not path.is_file():
        raise OSError(f"{path} is no regular file; copy the video to one")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes); fetch or export the video again")


def refuse_still(path: Path) -> None:
    """Raise the ValueError of a still image."""
    raise ValueError(f"{path} is a still image, no video; pass it as an image (vtc.media.images.load_image)")


def _check_kind(path: Path, container: InputContainer) -> None:
    brand = container.metadata.get("major_brand", "")
    if container.format.name in STILLS.split(",") or brand in STILL_BRANDS:
        refuse_still(path)


def _why(error: FFmpegError) -> str:
    return f"FFmpeg: {error.strerror}"
