"""TorchCodec's decoder, held to the index: each frame is told by the timestamp that comes with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torchcodec.decoders import VideoDecoder  # type: ignore[import-not-found]

from .backend import Backend, Picked, Pixels
from .pixels import scaled
from .pyav import PyAV

REMEDY = "use backend='pyav', which is exact on it"


class TorchCodec(Backend):
    """`torchcodec.decoders.VideoDecoder`, which lists the packets itself. It needs torch and FFmpeg's libraries.

    A frame that comes with another time than the index has for it refuses the file, and so does one that PyAV alone
    can read.
    """

    name = "torchcodec"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        info = self.index.info
        if self.index.by_place or not info.timed:
            raise ValueError(f"{self.path} has no timestamps to tell TorchCodec's frames by; {REMEDY}")
        if info.alpha == "on white":
            raise ValueError(f"{self.path} has transparent pixels, which TorchCodec drops; use backend='pyav'")
        if info.mirrored:
            raise ValueError(f"{self.path} is mirrored, which TorchCodec ignores; use backend='pyav'")
        self._decoder: Any = None
        self._judge = PyAV(*args, **kwargs)

    def read(self, wanted: Sequence[int]) -> Iterator[Picked]:
        """See `Backend.read`."""
        for target in wanted:
            yield int(target), self._one(int(target))

    def close(self) -> None:
        """See `Backend.close`."""
        self._decoder = None
        self._judge.close()

    def _one(self, target: int) -> Pixels | None:
        self.tally.tick()
        info = self.index.info
        try:
            if self._decoder is None:
                self._decoder = VideoDecoder(
                    str(self.path.absolute()), stream_index=info.track, dimension_order="NHWC", num_ffmpeg_threads=0
                )
            frame = self._decoder.get_frame_at(target)
        except (RuntimeError, ValueError, IndexError) as error:
            self._agree(target, error)
            return None
        seconds_shown = frame.pts_seconds - info.start
        if abs(seconds_shown - info.seconds[target]) > 1e-6:
            raise ValueError(
                f"{self.path}: TorchCodec gives a frame at {seconds_shown:.6g} s for frame {target}; {REMEDY}"
            )
        pixels = np.ascontiguousarray(frame.data.numpy())
        width, height = self.index.upright
        if pixels.shape != (height, width, 3):
            raise ValueError(f"{self.path}: TorchCodec gives pixels {pixels.shape}; {REMEDY}")
        return scaled(pixels, self.size, self.scaler)

    def _agree(self, target: int, error: Exception) -> None:
        """Count a failure, and refuse unless `target` is lost by PyAV's account as well."""
        self.tally.fail("frame", target)
        if next(self._judge.read([target]))[1] is not None and not self._judge.suspect:
            why = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise ValueError(f"{self.path}: TorchCodec fails at frame {target} ({why}); {REMEDY}") from error
