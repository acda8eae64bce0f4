"""A video's tokens as one image: its clips and budgets along the seconds, and its frames with what was kept."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from vtc.media.video_frames import VideoFrames
from vtc.recipes.composition import Recipe
from vtc.reduction.report import Report
from vtc.video.qa.token_usage import TokenUsage, VideoUnit, token_usage

from .cell_marks import colors_of, marked
from .colors import KEPT, REGIONS
from .drawing import (
    DIM,
    FAINT,
    INK,
    MARGIN,
    SOFT,
    WIDTH,
    canvas,
    clock,
    color_of,
    cross,
    diamond,
    fitting,
    length,
    shortened,
    stacked,
    write,
)
from .timeline_tracks import lanes

Size = tuple[int, int]

GAP, STRIP, UNDER, BEHIND = 10, 6, 20, 6
"""Pixels between thumbnails, of the strip in a clip's color, of the line under it, by which a second frame stands out.
"""
ROOM, LARGEST, SMALLEST, LEAST, FEWEST = 860, 324, 96, 24, 4
"""Thumbnails fill that many pixels in height where they can, in columns of that many at least; their longer side stays
below the second of these and, where there is a choice, above the third, and no side falls below the fourth."""


def timeline(
    frames: VideoFrames, report: Report, recipe: Recipe, *, video: Tensor | None = None, title: str = ""
) -> Image.Image:
    """Draw where the tokens of a video went. It takes no model.

    From the top: the title; the clips along the seconds; the tokens of each clip and of each unit (one frame, or the
    two that an encoder takes together) as bars whose height is the share that is kept; the frames, kept cells clear and
    dropped ones dimmed as `vtc.viz.overlays.overlay` draws them, those that were left out before the encoder pale and
    crossed out, keyframes with a diamond; and what the marks mean.

    Args:
        frames: all that the model was given, as it sees them.
        report: of a call with that video alone.
        recipe: which the call followed.
        video: what the recipe's stages looked at, see `vtc.video.qa.token_usage.token_usage`.
        title: what to call the video; cut where it is too long.

    Returns:
        An RGB image, 1360 pixels wide; with up to 64 units it is about as high or less, with more it gets higher.

    Raises:
        ValueError: see `vtc.video.qa.token_usage.token_usage`.
    """
    found = token_usage(frames, report, recipe, video)
    parts = (_header(title, frames, found), lanes(found), _sheet(frames, found), _caption(report, recipe, found))
    return stacked(parts)


def _header(title: str, frames: VideoFrames, found: TokenUsage) -> Image.Image:
    out, pen = canvas(44)
    pairs = f" in units of {found.temporal_patch_size}" if found.temporal_patch_size > 1 else ""
    cuts = _many(len(found.clips), found.clip_word)
    facts = f"{_many(len(frames), 'frame')}{pairs}, {cuts}; the video lasts {clock(frames.duration)}"
    write(pen, (WIDTH - MARGIN, 24), facts, 14, SOFT, "rm")
    room = WIDTH - 3 * MARGIN - length(pen, facts, 14)
    write(pen, (MARGIN, 24), shortened(pen, title or "video", 20, room), 20)
    return out


def _many(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"


def _sheet(frames: VideoFrames, found: TokenUsage) -> Image.Image:
    """The thumbnails, in rows."""
    behind = BEHIND * (found.temporal_patch_size > 1)
    columns, size = thumbnails(len(found.units), frames.pixels.shape[1] / frames.pixels.shape[2], behind)
    wide, high = size[0] + behind + GAP, STRIP + size[1] + behind + UNDER + GAP
    out, pen = canvas(-(-len(found.units) // columns) * high)
    for number, unit in enumerate(found.units):
        row, column = divmod(number, columns)
        left, top = MARGIN + column * wide, row * high
        clip = found.clip_of(number)
        pen.rectangle((left, top, left + wide - GAP - 1, top + STRIP - 2), fill=color_of(clip))
        image = _thumbnail(frames, found, unit, size)
        out.paste(image, (left, top + STRIP))
        _line_under(pen, (left, top + STRIP + size[1] + behind + UNDER // 2), wide - GAP, found, unit)
    return out


def thumbnails(count: int, ratio: float, behind: int) -> tuple[int, Size]:
    """How a timeline lays its thumbnails out: columns, and the (width, height) of one in pixels.

    Args:
        count: of thumbnails, at least 1.
        ratio: height of a frame over its width.
        behind: pixels by which a second frame stands out to the right and below; 0 where there is none.
    """
    columns, size = 1, (LEAST, LEAST)
    for columns in range(min(count, FEWEST), count + 1):
        share = (WIDTH - 2 * MARGIN + GAP) // columns - GAP - behind
        width = min(share, LARGEST, LARGEST / ratio)
        size = (max(int(width), LEAST), max(round(width * ratio), LEAST))
        rows = -(-count // columns)
        if rows * (size[1] + behind + STRIP + UNDER + GAP) <= ROOM or max(size) <= SMALLEST:
            break
    return columns, size


def _thumbnail(frames: VideoFrames, found: TokenUsage, unit: VideoUnit, size: Size) -> Image.Image:
    """The first frame of a unit with its marks, before the last one where it has several."""
    first, last = (
        Image.fromarray(frames.pixels[i]).resize(size, Image.Resampling.LANCZOS)
        for i in (unit.first, unit.first + unit.frames - 1)
    )
    colors = colors_of(found.item)
    draw: Callable[[Image.Image], Image.Image] = (
        (lambda image: marked(image, found.item, unit.unit, unit.time, colors)) if unit.encoded else _crossed
    )
    if found.temporal_patch_size == 1:
        return draw(first)
    out, _ = canvas(size[1] + BEHIND)
    out = out.crop((0, 0, size[0] + BEHIND, size[1] + BEHIND))
    if unit.frames > 1:
        out.paste(_faded(last), (BEHIND, BEHIND))
    front = draw(first)
    ImageDraw.Draw(out).rectangle((0, 0, size[0], size[1]), fill="white")
    out.paste(front, (0, 0))
    return out


def _faded(image: Image.Image, share: float = 0.6) -> Image.Image:
    """`image` without color, by that share white."""
    grey = np.asarray(image.convert("L"), dtype=float) * (1 - share) + 255 * share
    return Image.fromarray(grey.round().astype(np.uint8)).convert("RGB")


def _crossed(image: Image.Image) -> Image.Image:
    out = _faded(image)
    pen = ImageDraw.Draw(out)
    right, bottom = out.width - 1, out.height - 1
    for line in ((0, 0, right, bottom), (0, bottom, right, 0)):
        pen.line(line, fill=DIM, width=2)
    pen.rectangle((0, 0, right, bottom), outline=FAINT)
    return out


def _line_under(pen: ImageDraw.ImageDraw, at: tuple[int, int], room: int, found: TokenUsage, unit: VideoUnit) -> None:
    """When a unit begins, and what is kept of it."""
    left, middle = at
    x = left + 15 * (found.chooses and unit.encoded)
    if x > left:
        diamond(pen, left + 5, middle)
    time = fitting(pen, [clock(unit.start)], 12, room - (x - left))
    write(pen, (x, middle), time, 12, SOFT)
    texts = [f"{unit.after} of {unit.before}", f"{unit.after}"] if unit.encoded else ["left out"]
    text = fitting(pen, texts, 12, room - (x - left) - length(pen, time, 12) - 4)
    write(pen, (left + room, middle), text, 12, INK if unit.encoded else SOFT, "rm")


# What it means


def _caption(report: Report, recipe: Recipe, found: TokenUsage) -> Image.Image:
    out, pen = canvas(64)
    units = "units" if found.temporal_patch_size > 1 else "frames"
    encoded = f"; {found.encoded} of {len(found.units)} {units} encoded" if found.chooses else ""
    text = f"{recipe.name}, keep {recipe.keep}: {report.after} of {report.before} visual tokens{encoded}"
    write(pen, (MARGIN, 18), shortened(pen, text, 15, WIDTH - 2 * MARGIN), 15)
    merges = found.item.reduction.merges
    x = _swatch(pen, MARGIN, "kept", (225, 225, 225), REGIONS[0] if merges else KEPT)
    x = _swatch(pen, x, "merged into a kept one" if merges else "dropped", (90, 90, 90))
    if found.encoded < len(found.units):
        pen.rectangle((x, 38, x + 12, 50), fill=(230, 230, 230))
        cross(pen, x + 6, 44, 4)
        x = _words(pen, x, "left out before the encoder")
    if found.chooses:
        diamond(pen, x + 6, 44)
        x = _words(pen, x, "keyframe: encoded")
    what = "clip, with its own budget" if found.shares else "shot (this recipe shares no budget over shots)"
    _swatch(pen, x, f"a color: a {what}", color_of(0))
    return out


def _swatch(
    pen: ImageDraw.ImageDraw,
    x: float,
    text: str,
    fill: tuple[int, int, int],
    outline: tuple[int, int, int] | None = None,
) -> float:
    pen.rectangle((x, 38, x + 12, 50), fill=fill, outline=outline, width=2)
    return _words(pen, x, text)


def _words(pen: ImageDraw.ImageDraw, x: float, text: str) -> float:
    """Write what the mark at `x` means; answers where the next mark begins."""
    write(pen, (x + 20, 44), text, 13, SOFT)
    return x + 20 + length(pen, text, 13) + 24
