"""How many thumbnails stand in a row, and how large they are."""

from __future__ import annotations

from dataclasses import dataclass

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True)
class ThumbnailGrid:
    """Limits of a sheet of thumbnails, in pixels.

    Attributes:
        room: what the sheet fills at most, and the height that it should stay below where it can.
        gap: between thumbnails, what lies beside and under each of them included.
        largest: longest side of a thumbnail.
        smallest: rows are packed no closer, whatever the height, once the longer side is no more than that.
        least: shortest side of a thumbnail, whatever its shape.
    """

    room: Size
    gap: Size
    largest: int
    smallest: int
    least: int

    def fit(self, count: int, ratio: float) -> tuple[int, Size]:
        """Lay out `count` thumbnails, at least 1, `ratio` times as high as wide.

        Returns:
            Columns, and the size of one thumbnail: the fewest columns that nearly fill a row and whose rows fit.
        """
        columns, size = 1, (self.least, self.least)
        for columns in range(1, count + 1):
            size = self._size(columns, ratio)
            full = columns * (size[0] + self.gap[0]) >= self.room[0] * 0.9 or columns == count
            if full and (-(-count // columns) * (size[1] + self.gap[1]) <= self.room[1] or max(size) <= self.smallest):
                break
            if (columns + 1) * (self.least + self.gap[0]) - self.gap[0] > self.room[0]:
                break
        return columns, size

    def _size(self, columns: int, ratio: float) -> Size:
        share = (self.room[0] + self.gap[0]) // columns - self.gap[0]
        width = min(share, self.largest, self.largest / ratio)
        return max(int(width), self.least), max(min(round(width * ratio), self.largest), self.least)
