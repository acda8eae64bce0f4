"""Groups of four frames: the first dense, of the others what changed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.core.allocation import allocate
from vtc.core.budget import Keep
from vtc.core.tokens import Layout, VisualTokens
from vtc.core.validation import check_number
from vtc.stages.ops import unit_rows
from vtc.stages.select.maxmin import maxmin

from .base import VideoSelector, is_video
from .ranking import frames_of, rank_inside

GROUP = 4
DIGITS = 6


@dataclass(frozen=True)
class DyCoke(VideoSelector):
    """The temporal stage of DyCoke (arXiv 2411.15024), at any exact count.

    Of every four frames the first is the reference of the third, and the frame before of the second and the fourth; a
    frame that has a reference keeps the cells least similar to it. There a first frame stays whole and the others keep
    `1 - similar` of their tokens, which is 48 % of all by default and never less than a quarter. Here those are the
    densities by which the frames share any budget: at 48 % the counts are the paper's, above it the first frames are
    full, and below it they are thinned too, to the tokens that leave no other far away (as `kcenter` does). Each frame
    keeps one where the budget has one for each. It is meant for all tokens of the video at once (`Whole`); in a smaller
    pool groups start at its first frame.

    The released code further fails on four frames and fewer, loses the last of an odd number, leaves the third frame of
    the last group whole, and hands tokens over in the order of their similarity. `released` is for comparison with it:
    its counts, with all but that order.

    Attributes:
        similar: the share of a frame's tokens that its reference stands for, 0 to 1.
        released: the counts of the released code, whatever `keep` says below 1; more than four frames.
    """

    similar: float = 0.7
    released: bool = False

    name = "dycoke"
    paper = "DyCoke, 2411.15024"
    signal = "change of a cell within groups of four frames"
    cost = "N"

    def __post_init__(self) -> None:
        object.__setattr__(self, "similar", check_number("similar", self.similar, 0, 1))

    def count(self, layout: Layout, keep: Keep) -> int | None:
        """See `Selector.count`: that of the released code, with `released`.

        Raises:
            ValueError: `released`, and four frames or fewer, or a `keep` that is a ceiling.
        """
        if not self.released or not is_video(layout):
            return None
        if isinstance(keep, int):
            raise ValueError(
                f"keep={keep} is a ceiling, and released=True keeps what the released code does, whatever is asked; "
                "give a share, or use released=False"
            )
        if keep == 1.0:
            return None
        return sum(self._released(layout.candidates))

    def choose(self, tokens: VisualTokens, pool: Tensor, k: int, *, seed: int) -> Tensor:
        """See `VideoSelector.choose`."""
        frame, own = frames_of(tokens, pool)
        counts = self._released(own) if self.released else self._shared(own, k)
        rows = unit_rows(tokens.features)
        new = -_similarity(tokens, rows, pool, frame)
        kept = rank_inside(new, frame) < torch.tensor(counts, device=frame.device)[frame]
        for t in range(0, len(own), GROUP):
            if 0 < counts[t] < own[t]:
                places = torch.nonzero(frame == t).flatten()
                kept[places] = False
                kept[places[maxmin(rows[pool[places]], counts[t])]] = True
        return pool[kept]

    def _shared(self, own: list[int], k: int) -> list[int]:
        weights = [size * (1.0 if t % GROUP == 0 else 1 - self.similar) for t, size in enumerate(own)]
        return allocate(weights, k, min_per=int(k >= len(own)), max_per=own)

    def _released(self, own: tuple[int, ...] | list[int]) -> list[int]:
        frames = len(own)
        if frames <= GROUP:
            raise ValueError(
                f"released=True: the released code fails on {frames} frames and needs more than {GROUP}; "
                "use released=False, which takes any number"
            )
        whole = [t % GROUP == 0 or (t % 2 == 0 and t + 2 >= frames) for t in range(frames)]
        counts = [n if all_of else int((1 - self.similar) * n) for n, all_of in zip(own, whole, strict=True)]
        return [*counts[:-1], 0] if frames % 2 else counts


def _similarity(tokens: VisualTokens, rows: Tensor, pool: Tensor, frame: Tensor) -> Tensor:
    """`[M]` cosine of each pool token to its cell in its frame's reference; lowest where there is none."""
    cell = tokens.layout.cell.to(pool.device)[pool]
    size = cell.amax(dim=0) + 1
    spot = (cell[:, 0] * size[1] + cell[:, 1]) * size[2] + cell[:, 2]
    at = pool.new_full((int(frame.max()) + 1, int(size.prod())), -1)
    at[frame, spot] = pool
    reference = at[(frame - 1 - (frame % GROUP == 2).long()).clamp_min(0), spot]
    like = (rows[pool] * rows[reference.clamp_min(0)]).sum(dim=1).float().round(decimals=DIGITS)
    return like.masked_fill(reference < 0, -torch.inf)
