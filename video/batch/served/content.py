"""Media as parts of a chat message: data URLs from which a server gets the very pixels."""

from __future__ import annotations

import base64
import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vtc.media.video_frames import VideoFrames


def image_part(image: Image.Image) -> dict[str, Any]:
    """An image as a part of a message, without loss."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return {"type": "image_url", "image_url": {"url": _url("image/png", file.getvalue())}}


def frame_parts(frames: VideoFrames) -> list[dict[str, Any]]:
    """The frames of a video as images, in order."""
    return [image_part(Image.fromarray(pixels)) for pixels in frames.pixels]


def video_part(frames: VideoFrames) -> dict[str, Any]:
    """The frames as one video without loss, evenly spaced over the time from the first to the last."""
    return {"type": "video_url", "video_url": {"url": _url("video/mp4", encoded(frames))}}


def encoded(frames: VideoFrames) -> bytes:
    """`frames` as an MP4 file of lossless H.264 in RGB, whose rate is the mean of their own.

    Raises:
        ValueError: PyAV was built without the encoder.
    """
    span = float(frames.seconds[-1] - frames.seconds[0])
    rate = Fraction((len(frames) - 1) / span).limit_denominator(1000) if span > 0 else Fraction(1)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        try:
            stream: Any = container.add_stream("libx264rgb", rate=rate, options={"qp": "0", "preset": "ultrafast"})
        except ValueError as error:
            raise ValueError(f"PyAV cannot write lossless H.264 here ({error}); take --video-as frames") from None
        stream.height, stream.width = frames.pixels.shape[1:3]
        stream.pix_fmt = "rgb24"
        for pixels in frames.pixels:
            container.mux(stream.encode(_frame(pixels)))
        container.mux(stream.encode())
    return file.getvalue()


def _frame(pixels: NDArray[np.uint8]) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")


def _url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
