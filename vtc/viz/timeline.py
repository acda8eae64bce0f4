"""A video's tokens as one image: its clips and budgets along the seconds, and its frames with what was kept."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image, ImageDraw
from torch import Tensor

from vtc.media.video_frames import VideoFrames
from vtc.recipes.composition import Recipe
from vtc.reduction.report import Report
from vtc.video.qa.token_usage import TokenUsage, VideoUnit, token_usage

from .cell_marks import colors_of, marked, marks_of
from .colors import INK, PAPER, SOFT
from .drawing import (
    MARGIN,
    WIDTH,
    canvas,
    clock,
    color_of,
    crossed,
    diamond,
    faded,
    fitting,
    length,
    shortened,
    write,
)
from .legend import KEYFRAME, SKIPPED, Mark, captioned
from .regions import ClickableImage, TimeRegion, stacked
from .thumbnail_grid import Size, ThumbnailGrid
from .timeline_tracks import lanes

GAP, STRIP, UNDER, BEHIND = 10, 6, 20, 6
"""Pixels between thumbnails, of the strip in a clip's colour, of the line under it, by which a second frame stands out.
"""


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
    return clickable_timeline(frames, report, recipe, video=video, title=title).image


def clickable_timeline(
    frames: VideoFrames, report: Report, recipe: Recipe, *, video: Tensor | None = None, title: str = ""
) -> ClickableImage:
    """Draw what `timeline` draws, and say where a click on it leads; arguments and errors are those of `timeline`.

    Returns:
        The image and its regions, for `vtc.viz.regions.second_at`: along the lanes the time at that place, on the lane
        of clips the beginning of the clip, over a thumbnail the beginning of its unit.
    """
    found = token_usage(frames, report, recipe, video)
    image, regions = stacked([_header(title, frames, found), lanes(found), _sheet(frames, found)])
    return ClickableImage(captioned(image, _caption(report, recipe, found), _marks(found), MARGIN), regions)


def _header(title: str, frames: VideoFrames, found: TokenUsage) -> ClickableImage:
    out, pen = canvas(44)
    pairs = f" in units of {found.temporal_patch_size}" if found.temporal_patch_size > 1 else ""
    cuts = _many(len(found.clips), found.clip_word)
    facts = f"{_many(len(frames), 'frame')}{pairs}, {cuts}; the video lasts {clock(frames.duration)}"
    write(pen, (WIDTH - MARGIN, 24), facts, 14, SOFT, "rm")
    room = WIDTH - 3 * MARGIN - length(facts, 14)
    write(pen, (MARGIN, 24), shortened(title or "video", 20, room), 20)
    return ClickableImage(out)


def _many(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"


def _sheet(frames: VideoFrames, found: TokenUsage) -> ClickableImage:
    """The thumbnails, in rows."""
    behind = BEHIND * (found.temporal_patch_size > 1)
    grid = ThumbnailGrid(
        room=(WIDTH - 2 * MARGIN - behind, 860),
        gap=(GAP + behind, STRIP + behind + UNDER + GAP),
        largest=324,
        smallest=96,
        least=24,
    )
    columns, size = grid.fit(len(found.units), frames.pixels.shape[1] / frames.pixels.shape[2])
    wide, high = size[0] + grid.gap[0], size[1] + grid.gap[1]
    out, pen = canvas(-(-len(found.units) // columns) * high)
    regions = []
    for number, unit in enumerate(found.units):
        row, column = divmod(number, columns)
        left, top = MARGIN + column * wide, row * high
        clip = found.clip_of(number)
        pen.rectangle((left, top, left + wide - GAP - 1, top + STRIP - 2), fill=color_of(clip))
        out.paste(_thumbnail(frames, found, unit, size), (left, top + STRIP))
        _line_under(pen, (left, top + STRIP + size[1] + behind + UNDER // 2), wide - GAP, found, unit)
        regions.append(TimeRegion(left, top, left + wide, top + high, unit.start, unit.start))
    return ClickableImage(out, tuple(regions))


def _thumbnail(frames: VideoFrames, found: TokenUsage, unit: VideoUnit, size: Size) -> Image.Image:
    """The first frame of a unit with its marks, before the last one where it has several."""
    first, last = (
        Image.fromarray(frames.pixels[i]).resize(size, Image.Resampling.LANCZOS)
        for i in (unit.first, unit.first + unit.frames - 1)
    )
    colors = colors_of(found.item)
    draw: Callable[[Image.Image], Image.Image] = (
        (lambda image: marked(image, found.item, unit.unit, unit.time, colors)) if unit.encoded else crossed
    )
    if found.temporal_patch_size == 1:
        return draw(first)
    out, _ = canvas(size[1] + BEHIND)
    out = out.crop((0, 0, size[0] + BEHIND, size[1] + BEHIND))
    if unit.frames > 1:
        out.paste(faded(last), (BEHIND, BEHIND))
    front = draw(first)
    ImageDraw.Draw(out).rectangle((0, 0, size[0], size[1]), fill=PAPER)
    out.paste(front, (0, 0))
    return out


def _line_under(pen: ImageDraw.ImageDraw, at: tuple[int, int], room: int, found: TokenUsage, unit: VideoUnit) -> None:
    """When a unit begins, and what is kept of it."""
    left, middle = at
    x = left + 15 * (found.chooses and unit.encoded)
    if x > left:
        diamond(pen, left + 5, middle)
    time = fitting([clock(unit.start)], 12, room - (x - left))
    write(pen, (x, middle), time, 12, SOFT)
    texts = [f"{unit.after} of {unit.before}", f"{unit.after}"] if unit.encoded else ["left out"]
    text = fitting(texts, 12, room - (x - left) - length(time, 12) - 4)
    write(pen, (left + room, middle), text, 12, INK if unit.encoded else SOFT, "rm")


def _caption(report: Report, recipe: Recipe, found: TokenUsage) -> str:
    units = "units" if found.temporal_patch_size > 1 else "frames"
    encoded = f"; {found.encoded} of {len(found.units)} {units} encoded" if found.chooses else ""
    return f"{recipe.name}, keep {recipe.keep}: {report.after} of {report.before} visual tokens{encoded}"


def _marks(found: TokenUsage) -> tuple[Mark, ...]:
    left_out = (SKIPPED,) if found.encoded < len(found.units) else ()
    keyframe = (KEYFRAME,) if found.chooses else ()
    what = "clip, with its own budget" if found.shares else "shot (this recipe shares no budget over shots)"
    return (*marks_of(found.item), *left_out, *keyframe, Mark(f"a colour: a {what}", color_of(0)))
