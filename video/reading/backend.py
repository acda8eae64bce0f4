"""Interface of a decoding library to the reader: it returns the frames asked for, or reports one as lost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from .decoding import DecodingTally
from .index import Index
from .limits import Limits

Pixels = NDArray[np.uint8]
Picked = tuple[int, "Pixels | None"]


class Backend(ABC):
    """One open video.

    Args:
        path: the file.
        index: its index, by which frames are numbered.
        size: (width, height) of delivered frames.
        limits: on pixels and failures.
        tally: where failures and seeks are counted.
    """

    name: ClassVar[str]

    def __init__(self, path: Path, index: Index, size: tuple[int, int], limits: Limits, tally: DecodingTally) -> None:
        self.scaler = VideoReformatter()
        self.path, self.index, self.size, self.limits, self.tally = path, index, size, limits, tally

    @abstractmethod
    def read(self, wanted: Sequence[int]) -> Iterator[Picked]:
        """Each index of `wanted`, ascending, with its image `[H, W, 3]` RGB, or with None where that frame is lost.

        May be called again, for other frames. An image is that of its index for sure: a backend that cannot tell
        refuses.

        Raises:
            ValueError: this library cannot be exact on this file; too many failures.
        """

    @property
    def suspect(self) -> bool:
        """Whether the frame that `read` answered last was decoded after a failure and may show traces of it."""
        return False

    @property
    def resized(self) -> bool:
        """Whether the frame that `read` answered last was stored in another size than the first of the video."""
        return False

    @abstractmethod
    def close(self) -> None:
        """Close the file; harmless when repeated."""
