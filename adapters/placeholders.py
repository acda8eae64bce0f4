"""Which placeholders of a prompt are whose, where nothing but the prompt says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from vtc.core.tokens import Layout


@dataclass(frozen=True)
class PlaceholderRun:
    """Neighbouring placeholders: their row, the column of the first, and how many they are."""

    row: int
    start: int
    length: int


Lines = tuple[int, ...]
"""The lengths of the runs that belong to one image."""


def runs(rows: Sequence[Sequence[int]], token: int) -> list[PlaceholderRun]:
    """The runs of `token` in `rows` of ids, in prompt order."""
    found: list[PlaceholderRun] = []
    for r, row in enumerate(rows):
        start = None
        for column, value in enumerate([*row, None]):
            if value == token and start is None:
                start = column
            elif value != token and start is not None:
                found.append(PlaceholderRun(r, start, column - start))
                start = None
    return found


def partition(ids: Tensor, token: int, sizes: Sequence[tuple[int, int]]) -> list[Lines]:
    """Share the placeholders of a prompt among its images.

    An image has a run of its own; or several, lines that one and the same single token parts (row breaks); or, where
    images stand side by side and their runs are one, an equal share. Where more than one token could be the break,
    it is the one that gives lines of equal length, and tokens in proportion to pixels.

    Args:
        ids: `[B, L]`.
        token: the placeholder.
        sizes: height and width of each image in pixels, in prompt order.

    Returns:
        For each image, the lengths of its lines.

    Raises:
        ValueError: none of the three fits, or two ways of breaking lines fit as well.
    """
    rows = ids.tolist()
    found = runs(rows, token)
    if len(found) == len(sizes):
        return [(run.length,) for run in found]
    broken = [groups for groups in _broken(rows, found) if len(groups) == len(sizes)]
    if broken:
        return _best(broken, sizes)
    total = sum(run.length for run in found)
    share = total // max(len(sizes), 1)
    if share and total == share * len(sizes) and all(run.length % share == 0 for run in found):
        return [(share,)] * len(sizes)
    raise ValueError(
        f"input_ids hold {[row.count(token) for row in rows]} placeholders (id {token}) by row, in {len(found)} runs, "
        f"and pixel_values {len(sizes)} images: neither one run each, nor lines parted by one token, nor equal "
        "shares; pass ids and pixels of one processor call, whole rows only; if they are, the model needs an adapter "
        "of its own (about 100 lines, see CONTRIBUTING.md)"
    )


def _broken(rows: Sequence[Sequence[int]], found: Sequence[PlaceholderRun]) -> Iterator[list[Lines]]:
    """For each token that stands alone between two runs, the groups of runs that it parts."""
    gaps = [_gap(rows, one, other) for one, other in pairwise(found)]
    for token in sorted({gap for gap in gaps if gap is not None}):
        groups = [[found[0].length]]
        for gap, run in zip(gaps, found[1:], strict=True):
            if gap == token:
                groups[-1].append(run.length)
            else:
                groups.append([run.length])
        yield [tuple(group) for group in groups]


def _gap(rows: Sequence[Sequence[int]], one: PlaceholderRun, other: PlaceholderRun) -> int | None:
    """The single token between two runs; None where there is more, or an end of a row."""
    end = one.start + one.length
    return rows[one.row][end] if one.row == other.row and other.start == end + 1 else None


def _best(broken: Sequence[list[Lines]], sizes: Sequence[tuple[int, int]]) -> list[Lines]:
    def rank(groups: list[Lines]) -> tuple[int, float]:
        """How well groups of lines fit the images' sizes; the lowest is the best."""
        density = [sum(lines) / (h * w) for lines, (h, w) in zip(groups, sizes, strict=True)]
        return sum(len(set(lines)) > 1 for lines in groups), max(density) / min(density)

    ranked = sorted(broken, key=rank)
    if len(ranked) > 1 and rank(ranked[0]) == rank(ranked[1]):
        raise ValueError(
            f"input_ids part the placeholders of {len(sizes)} images in two ways that fit alike, as lines of "
            f"{ranked[0]} or of {ranked[1]}; part the images by text, or the model needs an adapter of its own "
            "(about 100 lines, see CONTRIBUTING.md)"
        )
    return ranked[0]


def arranged(lines: Lines, height: int, width: int) -> Layout:
    """Return where the tokens of an image stand, as far as can be told.

    Args:
        lines: see `partition`. Lines of equal length are a grid. One line is the grid that has the shape of the
            image, else a square, if one has exactly as many cells, and else it stays one line.
        height, width: of the image, in pixels.
    """
    total = sum(lines)
    if len(lines) > 1:
        return Layout.of_grid(len(lines), lines[0]) if len(set(lines)) == 1 else Layout.of_grid(1, total)
    for tall, wide in ((height, width), (1, 1)):
        rows = round((total * tall / wide) ** 0.5)
        if rows and total % rows == 0 and rows * wide == total // rows * tall:
            return Layout.of_grid(rows, total // rows)
    return Layout.of_grid(1, total)
