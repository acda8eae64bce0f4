"""Salient tokens of every frame, and the rest of each segment folded into a few of its frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vtc.core.allocation import allocate
from vtc.core.tokens import Reduction, VisualTokens
from vtc.core.validation import check_int, check_number
from vtc.stages import Merger
from vtc.stages.ops import nearest_rows, top_k, unit_rows
from vtc.video.clips.clip import Clip
from vtc.video.clips.segmenters import Neighbour, segment

from .base import VideoSelector, is_video
from .density_peaks import density_peaks


@dataclass(frozen=True)
class _Rule:
    """Parameters shared by the selector and the merger.

    Attributes:
        context: the share of a frame's tokens that stand for the rest, 0 to 1.
        clips: segments at least, as far as frames differ at all.
        threshold: the cosine of neighbouring frames' means below which a segment begins: .9 for LLaVA and .84 for
            Qwen in the released code.
        stride: frames from one anchor frame to the next.
    """

    context: float = 0.4
    clips: int = 8
    threshold: float = 0.9
    stride: int = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "context", check_number("context", self.context, 0, 1))
        Neighbour.dyseg(self.clips, self.threshold)
        object.__setattr__(self, "stride", check_int("stride", self.stride, 1))


@dataclass(frozen=True)
class FastVID(_Rule, VideoSelector):
    """FastVID (arXiv 2503.11187): segments, and in each the salient tokens and centres for the context.

    Segments are DySeg's on the frames' mean features. Each frame's part of the budget is equal; all but `context` of it
    are its most attended tokens. The context parts of a segment's frames are pooled and shared over its anchor
    frames, every fourth from the last one backwards, whose centres are density peaks among the tokens that are not
    salient. `FastVIDMean` folds the rest into them.

    Counts are exact: what an anchor frame has no tokens for goes to the others, and then to salient tokens; the
    released code loses remainders, and stops with an error where a video has fewer frames than `clips`. Its variant
    for Qwen first leaves out frames that nearly repeat one; that is what a `Keyframes` stage is for. The budget is
    meant for all tokens of the video at once (`Whole`).
    """

    name = "fastvid"
    paper = "FastVID, 2503.11187"
    signal = "attention inside the encoder, and density"
    cost = "n·n a frame"
    cues = ("attention",)

    def choose(self, tokens: VisualTokens, pool: Tensor, k: int, *, seed: int) -> Tensor:
        """See `VideoSelector.choose`."""
        salient, centres = parts(self, tokens, pool, k)
        return torch.cat([salient, *centres]).sort().values


@dataclass(frozen=True)
class FastVIDMean(_Rule, Merger):
    """Merge dropped tokens of a segment into the most similar centre.

    A centre weighs .6 against the mean of all that joins it, or 1 of n + 1 where that is more. The released code lets a
    token join one centre of every anchor frame; here it joins one, so that it is counted once. Parameters are
    those of the selector. Of an item that is no video nothing is folded.
    """

    name = "fastvid"
    paper = "FastVID, 2503.11187"
    signal = "similarity of the features"
    cost = "N·K"
    cues = ("attention",)
    videos = True

    def merge(self, tokens: VisualTokens, anchor: Tensor) -> Reduction:
        """See `Merger.merge`.

        Raises:
            ValueError: the anchors are not those of `FastVID` with the same parameters.
        """
        reduction = Reduction.pruning(anchor, len(tokens))
        if not is_video(tokens.layout):
            return reduction
        free = ~tokens.layout.structural.to(anchor.device)
        pool = torch.nonzero(free).flatten()
        kept = anchor[free[anchor]]
        salient, centres = parts(self, tokens, pool, len(kept))
        if not torch.equal(torch.cat([salient, *centres]).sort().values, kept):
            raise ValueError(
                "anchor holds other tokens than the selector 'fastvid' keeps with the parameters "
                f"{self.parameters()}; use it with that selector and the same parameters, or 'mean' with others"
            )
        rows, unit = unit_rows(tokens.features), tokens.layout.unit.to(anchor.device)
        place = reduction.assign.clone()
        for clip, own in zip(segments(self, tokens), centres, strict=True):
            inside = (unit >= clip.start) & (unit < clip.end) & free & (place < 0)
            loose = torch.nonzero(inside).flatten()
            if len(own) and len(loose):
                joined = nearest_rows(rows[loose], rows[own])
                reduction.assign[loose] = place[own[joined]]
                members = torch.bincount(joined, minlength=len(own)).float()
                weight = torch.maximum(torch.full_like(members, 0.6), 1 / (members + 1))
                reduction.weight[own] = weight
                reduction.weight[loose] = ((1 - weight) / members.clamp_min(1))[joined]
        # A centre that nothing joins is itself, whatever it weighs.
        return reduction


def segments(rule: _Rule, tokens: VisualTokens) -> tuple[Clip, ...]:
    """DySeg on the mean features of the frames."""
    layout = tokens.layout
    free = ~layout.structural
    rows = torch.nan_to_num(tokens.features.detach().float(), nan=0.0, posinf=0.0, neginf=0.0).cpu()
    means = rows.new_zeros(len(layout.grids), rows.shape[1]).index_add(0, layout.unit[free], rows[free])
    times = np.arange(len(means), dtype=float)
    return segment(means.numpy(), times, Neighbour.dyseg(rule.clips, rule.threshold))


def parts(rule: _Rule, tokens: VisualTokens, pool: Tensor, k: int) -> tuple[Tensor, list[Tensor]]:
    """The `k` tokens of `pool` that stay: the salient ones, and the centres of each segment, all ascending."""
    unit = tokens.layout.unit.to(pool.device)[pool]
    own = torch.bincount(unit, minlength=len(tokens.layout.grids)).tolist()
    budget = allocate([float(size) for size in own], k, max_per=own)
    attention = tokens.cue("attention")[pool]
    salient, centres = [], []
    for clip in segments(rule, tokens):
        frames = range(clip.start, clip.end)
        anchors = list(range(clip.end - 1, clip.start - 1, -rule.stride))
        least = [budget[t] - int(rule.context * budget[t]) for t in frames]
        room = [own[t] - least[t - clip.start] for t in anchors]
        wanted = sum(budget[t] for t in frames) - sum(least)
        context = dict(zip(anchors, allocate([1.0] * len(anchors), min(wanted, sum(room)), max_per=room), strict=True))
        taken = _salient(least, context, frames, own, wanted - sum(context.values()))
        found = []
        for t, count in zip(frames, taken, strict=True):
            places = torch.nonzero(unit == t).flatten()
            top = top_k(attention[places], count)
            salient.append(pool[places[top]])
            if context.get(t, 0):
                rest = torch.ones(len(places), dtype=torch.bool, device=pool.device)
                rest[top] = False
                left = places[rest]
                found.append(pool[left[density_peaks(tokens.features[pool[left]], context[t])]])
        centres.append(torch.cat(found).sort().values if found else pool[:0])
    return torch.cat(salient).sort().values, centres


def _salient(
    least: Sequence[int], context: dict[int, int], frames: Sequence[int], own: Sequence[int], spare: int
) -> list[int]:
    """How many salient tokens each frame keeps: `least`, and what of `spare` it has room for beside its centres."""
    room = [own[t] - context.get(t, 0) - count for t, count in zip(frames, least, strict=True)]
    more = allocate([1.0] * len(room), spare, max_per=room)
    return [count + extra for count, extra in zip(least, more, strict=True)]
