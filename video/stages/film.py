"""What stages of a video ask of it: whether an item is one, what its frames show, what stood at a place before."""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from vtc.budget import Keep
from vtc.stages import KCenter, Selector
from vtc.tokens import Layout, VisualTokens

from ..features import ColorLayout


def is_film(layout: Layout) -> bool:
    """Whether the item is a video: all of its units are frames."""
    return set(layout.kinds) == {"frame"}


def describe(frames: Tensor) -> NDArray[np.float32]:
    """`[T, D]` what `ColorLayout` says of `frames` `[T, F, 3, H, W]`, F frames side by side.

    Values of any range: the lowest of the video becomes black and the highest white, so that it does not matter how a
    processor normalises pixels.
    """
    pixels = torch.nan_to_num(frames.detach().flatten(0, 1).float(), nan=0.0, posinf=0.0, neginf=0.0).cpu()
    low, high = pixels.min(), pixels.max()
    shades = ((pixels - low) / (high - low).clamp_min(1e-9) * 255).round().to(torch.uint8)
    return ColorLayout().describe(rearrange(shades, "t c h w -> t h w c").contiguous().numpy()).reshape(len(frames), -1)


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


class FilmSelector(Selector):
    """A selector that compares the frames of a video; of what is no video it chooses as `kcenter` does.

    A subclass defines `choose`.
    """

    films = True

    def select(self, tokens: VisualTokens, pool: Tensor, k: int, *, seed: int) -> Tensor:
        """See `Selector.select`."""
        if not is_film(tokens.layout):
            return KCenter().select(tokens, pool, k, seed=seed)
        return self.choose(tokens, pool, k, seed=seed)

    def choose(self, tokens: VisualTokens, pool: Tensor, k: int, *, seed: int) -> Tensor:
        """See `Selector.select`; `tokens` are those of a video."""
        raise NotImplementedError
