"""Turning images upright by a file's display matrix."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Turn:
    """One of the eight ways to lay an image down: transposed or not, then rows and columns reversed or not."""

    transposed: bool = False
    rows: int = 1
    columns: int = 1

    @classmethod
    def of(cls, matrix: bytes | None) -> Turn:
        """From the nine 32-bit numbers of FFmpeg's display matrix, in the machine's byte order.

        A matrix that is no multiple of a right angle is taken for the nearest one, as players do.
        """
        if matrix is None or len(matrix) < 36:
            return cls()
        a, b, _, c, d, *_ = struct.unpack("=9i", matrix[:36])
        # A pixel at (x, y) is shown at (a x + c y, b x + d y).
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, -1 if d < 0 else 1, -1 if a < 0 else 1)
        return cls(True, -1 if b < 0 else 1, -1 if c < 0 else 1)

    @property
    def mirrored(self) -> bool:
        """Whether no turn alone does it."""
        return self.rows * self.columns == (1 if self.transposed else -1)

    @property
    def clockwise(self) -> int:
        """Degrees to turn by; what is mirrored is mirrored left to right after that."""
        columns = -self.columns if self.mirrored else self.columns
        return (90 if columns < 0 else 270) if self.transposed else (180 if columns < 0 else 0)

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """`pixels` `[H, W, C]` as shown, contiguous."""
        laid = pixels.transpose(1, 0, 2) if self.transposed else pixels
        return np.ascontiguousarray(laid[:: self.rows, :: self.columns])

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of the other side: stored from shown, shown from stored."""
        return (height, width) if self.transposed else (width, height)
