"""Helpers of video stages: whether an item is a video, its frames, the token at a place one frame before."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from vtc.core.budget import Keep
from vtc.core.tokens import FRAMES, Layout, VisualTokens
from vtc.stages import KCenter, Selector
from vtc.video.clips.frame_features import (
    COLOR_LAYOUT,
    TOWER,
    FrameFeatures,
    features,
)


def is_video(layout: Layout) -> bool:
    """Return whether the item is a video: all of its units are frames."""
    return set(layout.kinds) == {"frame"}


def shades(frames: Tensor) -> NDArray[np.uint8]:
    """`[T * F, H, W, 3]` the frames of `frames` `[T, F, 3, H, W]`, uint8 RGB.

    Values of any range: the lowest of the video becomes black and the highest white, so that it does not matter how a
    processor normalises pixels.
    """
    pixels = torch.nan_to_num(frames.detach().flatten(0, 1).float(), nan=0.0, posinf=0.0, neginf=0.0).cpu()
    low, high = pixels.min(), pixels.max()
    scaled = ((pixels - low) / (high - low).clamp_min(1e-9) * 255).round().to(torch.uint8)
    return np.asarray(rearrange(scaled, "t c h w -> t h w c").contiguous().numpy())


def describe(frames: Tensor, name: str = COLOR_LAYOUT) -> NDArray[np.float32]:
    """`[T, D]` what the features called `name` say of `frames` `[T, F, 3, H, W]`, F frames side by side.

    Raises:
        ValueError: `tower`, which needs the model.
    """
    rule = features(name)
    return of_units(rule, rule.describe(shades(frames)), len(frames))


def described(tokens: VisualTokens, name: str) -> NDArray[np.float32]:
    """`[T, D]` what the features called `name` say of a video's frames: `tower` by tokens, the others by pixels."""
    return frame_means(tokens) if name == TOWER else describe(tokens.cue(FRAMES), name)


def of_units(rule: FrameFeatures, rows: NDArray[np.floating[Any]], units: int) -> NDArray[np.float32]:
    """`[units, D]` the features of units from those of their frames; centred where `rule` asks for it."""
    found = np.asarray(rows, np.float32).reshape(units, -1)
    return found - found.mean(axis=0) if rule.centred else found


def frame_means(tokens: VisualTokens) -> NDArray[np.float32]:
    """`[T, D]` the mean token of each frame of a video, less that of all: what the model's own tower says of it."""
    layout = tokens.layout
    free = (~layout.structural).to(tokens.features.device)
    rows = torch.nan_to_num(tokens.features.detach().float(), nan=0.0, posinf=0.0, neginf=0.0)[free]
    unit = layout.unit.to(rows.device)[free]
    sums = rows.new_zeros(len(layout.grids), rows.shape[1]).index_add(0, unit, rows)
    counts = torch.bincount(unit, minlength=len(layout.grids)).clamp_min(1)
    means = sums / counts[:, None]
    return np.asarray((means - means.mean(dim=0)).cpu().numpy(), np.float32)


def before(layout: Layout) -> Tensor:
    """`[N]` int64, the token at the same cell of the frame before; -1 where there is none.

    That is so in the first frame, for structural tokens, and where an encoder stage left that cell out.
    """
    candidate = torch.nonzero(~layout.structural).flatten()
    size = torch.tensor(layout.grids).amax(dim=0)
    t, y, x = layout.cell[candidate].T
    # A unit of several times (a clip) is as many frames.
    frame = layout.unit[candidate] * size[0] + t
    spot = y * size[2] + x
    at = torch.full((len(layout.grids) * int(size[0]), int(size[1] * size[2])), -1, dtype=torch.int64)
    at[frame, spot] = candidate
    found = torch.full((len(layout),), -1, dtype=torch.int64)
    found[candidate] = torch.where(frame > 0, at[(frame - 1).clamp_min(0), spot], -1)
    return found


def engine_count(layout: Layout, keep: Keep) -> int:
    """The candidates that vLLM leaves of a video: `int(total * (1 - q))`, with the rounding of q = 1 - keep."""
    total = sum(layout.candidates)
    # 1 - 0.1 as users write it is 0.9, and 1 - 0.9 a little less than 0.1: of 1,000 tokens 99 stay.
    return min(keep, total) if isinstance(keep, int) else int(total * (1 - round(1 - keep, 12)))


class VideoSelector(Selector):
    """A selector that compares the frames of a video; of what is no video it chooses as `kcenter` does.

    A subclass defines `choose`.
    """

    videos = True

    def select(self, tokens: VisualTokens, pool: Tensor, k: int, *, seed: int) -> Tensor:
        """See `Selector.select`."""
        if not is_video(tokens.layout):
            return KCenter().select(tokens, pool, k, seed=seed)
        return self.choose(tokens, pool, k, seed=seed)

    def choose(self, tokens: VisualTokens, pool: Tensor, k: int, *, seed: int) -> Tensor:
        """See `Selector.select`; `tokens` are those of a video."""
        raise NotImplementedError
