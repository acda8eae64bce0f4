"""The frames of a video on one sheet, each with what was kept of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from vtc.media.video_frames import VideoFrames
from vtc.reduction.report import ItemReport

from .cell_marks import colors_of, marked, marks_of
from .colors import PAPER, Color
from .drawing import crossed, length, write
from .legend import EMPTY, SKIPPED, Mark, captioned
from .thumbnail_grid import ThumbnailGrid

WIDTH, GAP, UNDER = 1200, 8, 18
"""Pixels: how wide a sheet is at most, between its frames, and of the line under each."""
GRID = ThumbnailGrid(room=(WIDTH, 1400), gap=(GAP, UNDER + GAP), largest=320, smallest=96, least=16)
MOST = 64


def contact_sheet(
    frames: VideoFrames,
    item: ItemReport | None,
    caption: str = "",
    *,
    encoded: Sequence[bool] | None = None,
    most: int = MOST,
) -> Image.Image:
    """Draw the frames of a video in their order, with their times, kept cells and counts, above a legend.

    Frames that are encoded together are one unit, drawn by its first frame. A region that was merged over frames has
    one colour in all of them. A frame that was not encoded is pale and crossed out.

    Args:
        frames: all that the model was given.
        item: the report's only item; None draws the frames alone.
        caption: a line to put under them.
        encoded: whether each unit went through the encoder, as `vtc.video.qa.token_usage.token_usage` finds it; by
            default units of which no token is kept are drawn like those that did not.
        most: units that are drawn at most; of more, that many evenly spaced ones, as the caption then says.

    Returns:
        An RGB image at most 1200 pixels wide.

    Raises:
        ValueError: frames that the item is not about, `encoded` of another length, or a `most` below 1.
    """
    if most < 1:
        raise ValueError(f"most={most}; expected at least 1 unit to draw")
    units = _alone(frames) if item is None else _units(frames, item, encoded)
    chosen = units if len(units) <= most else [units[int((i + 0.5) * len(units) / most)] for i in range(most)]
    if len(chosen) < len(units):
        caption = f"{caption}{'; ' if caption else ''}{len(chosen)} of {len(units)} are shown"
    colors = {} if item is None else colors_of(item)
    columns, size = GRID.fit(len(chosen), frames.pixels.shape[1] / frames.pixels.shape[2])
    out = Image.new("RGB", _sheet_size(len(chosen), columns, size), PAPER)
    for number, unit in enumerate(chosen):
        left, top = (number % columns) * (size[0] + GAP), (number // columns) * (size[1] + UNDER + GAP)
        image = Image.fromarray(frames.pixels[unit.first]).resize(size, Image.Resampling.LANCZOS)
        out.paste(_drawn(image, item, unit, colors), (left, top))
        _line_under(out, (left, top + size[1]), size[0], f"{frames.seconds[unit.first]:.4g} s", unit.count)
    return captioned(out, caption, _marks(item, units, encoded))


@dataclass(frozen=True)
class _Unit:
    """What is drawn by one frame: `first` is its number, `place` its unit and time in the item, `count` its line."""

    first: int
    place: tuple[int, int]
    count: str
    through: bool = True


def _alone(frames: VideoFrames) -> list[_Unit]:
    return [_Unit(number, (0, number), "") for number in range(len(frames))]


def _units(frames: VideoFrames, item: ItemReport, encoded: Sequence[bool] | None) -> list[_Unit]:
    places = [(unit, time) for unit, part in enumerate(item.units) for time in range(part.grid[0])]
    temporal_patch_size = _temporal_patch_size(len(frames), len(places))
    if encoded is not None and len(encoded) != len(places):
        raise ValueError(f"encoded has {len(encoded)} entries; the item has {len(places)} units of frames")
    found = []
    for number, (unit, time) in enumerate(places):
        kept = int((item.units[unit].cells[:, 0] == time).sum())
        through = kept > 0 if encoded is None else bool(encoded[number])
        before = item.units[unit].before // item.units[unit].grid[0]
        found.append(
            _Unit(number * temporal_patch_size, (unit, time), f"{kept} of {before}" if through else "", through)
        )
    return found


def _drawn(image: Image.Image, item: ItemReport | None, unit: _Unit, colors: Mapping[int, Color]) -> Image.Image:
    if item is None:
        return image
    return marked(image, item, *unit.place, colors) if unit.through else crossed(image)


def _marks(item: ItemReport | None, units: Sequence[_Unit], encoded: Sequence[bool] | None) -> tuple[Mark, ...]:
    if item is None:
        return ()
    left_out = () if all(unit.through for unit in units) else (EMPTY if encoded is None else SKIPPED,)
    return (*marks_of(item), *left_out)


def _temporal_patch_size(frames: int, places: int) -> int:
    temporal_patch_size = -(-frames // places) if places else 0
    if not places or -(-frames // temporal_patch_size) != places:
        raise ValueError(
            f"frames={frames}: the item has {places} units of frames; pass the frames that the model was given"
        )
    return temporal_patch_size


def _sheet_size(count: int, columns: int, size: tuple[int, int]) -> tuple[int, int]:
    rows = -(-count // columns)
    return columns * (size[0] + GAP) - GAP, rows * (size[1] + UNDER + GAP) - GAP


def _line_under(out: Image.Image, at: tuple[int, int], room: int, left: str, right: str) -> None:
    """The time at the left, the count at the right where both fit."""
    pen, middle = ImageDraw.Draw(out), at[1] + UNDER / 2
    if length(left, 12) <= room:
        write(pen, (at[0], middle), left, 12)
    if length(left, 12) + length(right, 12) + 8 <= room:
        write(pen, (at[0] + room, middle), right, 12, anchor="rm")
