"""Token usage of a video: of each unit that the encoder takes at once, and of each clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from vtc.adapters import Media, find
from vtc.media.video_frames import VideoFrames
from vtc.recipes.composition import Recipe
from vtc.reduction.pipeline import shrunk, small_frames
from vtc.reduction.report import ItemReport, Report
from vtc.stages import FrameSelector
from vtc.video.clips.clip import Clip
from vtc.video.clips.frame_features import TOWER
from vtc.video.stages import ClipBudget, describe


@dataclass(frozen=True)
class VideoUnit:
    """One encoder unit of a video: one frame, or several.

    Attributes:
        unit, time: where the report has it: the unit, and the place along the time axis of its grid.
        first, frames: the first of its frames among the video's, and how many they are.
        start, end: seconds; the end is the start of the next one.
        before, after: candidate tokens, and those kept.
        encoded: whether it went through the encoder at all.
    """

    unit: int
    time: int
    first: int
    frames: int
    start: float
    end: float
    before: int
    after: int
    encoded: bool = True


@dataclass(frozen=True)
class TokenUsage:
    """A report on one video, in the order of time.

    Attributes:
        report, item: the report, and what it has of the video.
        units: in order.
        clips: of the units. Where frames are left out before clips are cut, a clip begins where neighbouring frames
            differ most between the last encoded one before the cut and the first behind it.
        chooses: whether the recipe leaves frames out before the encoder.
        shares: whether its budget was shared by these clips; they only show the shots where it was not.
    """

    report: Report
    item: ItemReport
    units: tuple[VideoUnit, ...]
    clips: tuple[Clip, ...]
    chooses: bool
    shares: bool

    def tokens(self, clip: Clip) -> tuple[int, int]:
        """Candidate tokens of a clip, and those kept."""
        inside = self.units[clip.start : clip.end]
        return sum(unit.before for unit in inside), sum(unit.after for unit in inside)

    @property
    def clip_word(self) -> str:
        """Name of the clips in captions: shots, where no budget is shared by them."""
        return "clip" if self.shares else "shot"

    def __str__(self) -> str:
        units = "frames" if self.temporal_patch_size == 1 else f"units of {self.temporal_patch_size} frames"
        report = self.report
        through = f"{self.encoded} of {len(self.units)} {units} encoded"
        lines = [f"{report.recipe}: {report.after} of {report.before} visual tokens; {through}"]
        for number, clip in enumerate(self.clips, start=1):
            span = f"{self.units[clip.start].start:.6g} to {self.units[clip.end - 1].end:.6g} s"
            before, after = self.tokens(clip)
            some = sum(unit.encoded for unit in self.units[clip.start : clip.end])
            lines.append(
                f"  {self.clip_word} {number}, {span}: {after} of {before} tokens, {some} of {len(clip)} encoded"
            )
        return "\n".join(lines)

    def clip_of(self, unit: int) -> int:
        """The number of the clip that a unit lies in."""
        return next(number for number, clip in enumerate(self.clips) if unit < clip.end)

    @property
    def temporal_patch_size(self) -> int:
        """How many frames the encoder takes at once."""
        return max(unit.frames for unit in self.units)

    @property
    def encoded(self) -> int:
        """Units that went through the encoder."""
        return sum(unit.encoded for unit in self.units)


def token_usage(frames: VideoFrames, report: Report, recipe: Recipe, video: Tensor | None = None) -> TokenUsage:
    """Find in a report on one video what became of each of its frames and clips.

    Args:
        frames: all that the model was given.
        report: of a call with that video alone.
        recipe: which the call followed.
        video: `[T, F, 3, h, w]` what the recipe's stages looked at, see `low_res_frames`. Without it frames and cuts
            are judged by `frames`, which a processor may have resized: a close choice among frames without tokens can
            differ then.

    Raises:
        ValueError: the report is not on one video, or on another number of frames.
    """
    item = _item(report)
    places = [(unit, time) for unit, part in enumerate(item.units) for time in range(part.grid[0])]
    temporal_patch_size = -(-len(frames) // len(places)) if video is None else video.shape[1]
    if len(places) != -(-len(frames) // temporal_patch_size) or (video is not None and len(video) != len(places)):
        given = "" if video is None else f", video {tuple(video.shape)}"
        raise ValueError(
            f"frames={len(frames)}{given}: the report is on {len(places)} units of up to "
            f"{temporal_patch_size} frames; pass the frames that the model was given"
        )
    video = _video(frames, temporal_patch_size) if video is None else video
    after = [int((item.units[unit].cells[:, 0] == time).sum()) for unit, time in places]
    encoded = _encoded(recipe, item, video, after)
    budget = recipe.allocator if isinstance(recipe.allocator, ClipBudget) else None
    # What the model's tower says is not known here: clips by it are stood in for by shots.
    shares = budget is not None and budget.features != TOWER and set(item.layout.kinds) == {"frame"}
    clips = _clips(budget or ClipBudget(), video, np.flatnonzero(encoded | (not shares)))
    units = _units(item, places, after, encoded, frames, temporal_patch_size)
    return TokenUsage(report, item, units, clips, isinstance(recipe.input, FrameSelector), shares)


def low_res_frames(model: Any, inputs: Any, recipe: Recipe) -> Tensor | None:
    """`[T, F, 3, h, w]` the small frames that the stages of `recipe` look at; None where they look at none.

    Args:
        model: the model, wrapped or not.
        inputs: its keyword arguments: a prompt about one video, or about images that are the frames of one.
        recipe: one that the model can run.
    """
    if not recipe.is_video_recipe:
        return None
    adapter = find(model)
    media = adapter.media(inputs)
    return small_frames(adapter, Media.video(media) if recipe.images_as == "frames" else media[0])


def _item(report: Report) -> ItemReport:
    if len(report.items) != 1:
        raise ValueError(
            f"report holds {len(report.items)} items, and this is about one video; where a model takes frames as "
            "images, use a recipe with images_as='frames'"
        )
    return report.items[0]


def _units(
    item: ItemReport,
    places: Sequence[tuple[int, int]],
    after: Sequence[int],
    encoded: np.ndarray,
    frames: VideoFrames,
    temporal_patch_size: int,
) -> tuple[VideoUnit, ...]:
    firsts = range(0, len(frames), temporal_patch_size)
    starts = [float(frames.seconds[first]) for first in firsts]
    ends = [*starts[1:], _end(frames)]
    return tuple(
        VideoUnit(
            *place,
            first,
            min(temporal_patch_size, len(frames) - first),
            *span,
            _before(item, place[0]),
            own,
            bool(through),
        )
        for place, first, span, own, through in zip(
            places, firsts, zip(starts, ends, strict=True), after, encoded, strict=True
        )
    )


def _before(item: ItemReport, unit: int) -> int:
    """Candidate tokens of each place along the time axis of a unit."""
    return item.units[unit].before // item.units[unit].grid[0]


def _video(frames: VideoFrames, temporal_patch_size: int) -> Tensor:
    """The frames in units; a last one that is not full repeats its last frame, as processors do."""
    missing = -len(frames) % temporal_patch_size
    pixels = [shrunk(rearrange(torch.from_numpy(frame), "h w c -> 1 1 c h w")) for frame in frames.pixels]
    video = torch.cat([*pixels, *pixels[-1:] * missing])
    return rearrange(video, "(units t) 1 c h w -> units t c h w", t=temporal_patch_size)


def _end(frames: VideoFrames) -> float:
    """When the last frame ends: it stands for as long as others do, or as the video goes on."""
    last, steps = float(frames.seconds[-1]), np.diff(frames.seconds)
    end = max(frames.duration, last)
    return min(last + float(np.median(steps)), end) if len(steps) else end


def _encoded(recipe: Recipe, item: ItemReport, video: Tensor, after: Sequence[int]) -> np.ndarray:
    """`[T]` bool, which units were encoded: all that have tokens, and for the rest those that the stage chooses."""
    stage, count = recipe.input, recipe.frames(item.layout)
    if not isinstance(stage, FrameSelector) or count == len(video):
        return np.ones(len(video), dtype=bool)
    encoded = np.array(after) > 0
    others = [unit for unit in stage.choose(video, count).tolist() if not encoded[unit]]
    encoded[others[: count - int(encoded.sum())]] = True
    return encoded


def _clips(budget: ClipBudget, video: Tensor, encoded: np.ndarray) -> tuple[Clip, ...]:
    """The clips that `budget` cuts the `encoded` units into, as clips of all units."""
    _, found = budget.seen(video[torch.from_numpy(encoded)])
    rows = describe(video)
    change = np.linalg.norm(np.diff(rows, axis=0), axis=1)
    starts = [0]
    for clip in found[1:]:
        before, behind = encoded[clip.start - 1], encoded[clip.start]
        starts.append(int(before + np.argmax(change[before:behind])) + 1)
    ends = [*starts[1:], len(video)]
    return tuple(Clip(a, b, c.reason, c.score) for a, b, c in zip(starts, ends, found, strict=True))
