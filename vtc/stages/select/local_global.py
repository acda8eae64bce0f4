"""The tokens that their own tile attends to, and the thumbnail too."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.core.tokens import VisualTokens
from vtc.stages.base import Selector
from vtc.stages.ops import centred, top_k
from vtc.stages.thumbnail_maps import (
    ATTENTION,
    attended_map,
    check_attend,
    sampled,
    units_of,
)


@dataclass(frozen=True)
class LocalGlobal(Selector):
    """Top `k` of a tile by its own CLS attention plus that of the thumbnail at the same place in the image.

    The rule of GlobalCom2 (arXiv 2501.05179): the thumbnail's attention is sampled at the middle of each token, between
    the middles of its cells; both sides are scaled to length one over the tile and added. Thumbnails themselves, items
    with none and other units go by their own attention alone. In a pool of several units each is scaled on its own.

    The released code takes the products before the softmax, mean over heads, which is `attend="logits"`. A head's
    logits are defined up to a constant and say little of how much is attended to: on the embedded tiled model that
    keeps fewer answers than a random choice does. It also scales them raw, so that their mean, which means nothing,
    decides how much each side counts; here both are centred first.

    Attributes:
        attend: `softmax`, the attention itself, or `logits`.
    """

    attend: str = "softmax"

    name = "local-global"
    paper = "GlobalCom2, 2501.05179"
    signal = "attention inside the encoder, of tile and thumbnail"

    def __post_init__(self) -> None:
        check_attend(self.attend)

    @property
    def cues(self) -> tuple[str, ...]:  # type: ignore[override]
        """See `Stage.cues`."""
        return (ATTENTION[self.attend],)

    def select(self, tokens: VisualTokens, pool: Tensor, k: int, *, seed: int) -> Tensor:
        """See `Selector.select`. Scores are fp64 on the CPU; a token of no finite attention comes last."""
        place = pool.cpu()
        unit = tokens.layout.unit[place]
        scores = torch.zeros(len(place), dtype=torch.float64)
        for u in unit.unique().tolist():
            scores[unit == u] = self._scores(tokens, place[unit == u], u)
        # Of a tile of two tokens both sides have length one and can cancel out: rounding must not decide then.
        return pool[top_k(scores.round(decimals=6), k).to(pool.device)]

    def _scores(self, tokens: VisualTokens, place: Tensor, unit: int) -> Tensor:
        """The scores of tokens `place` `[n]` of one unit: `[n]` fp64."""
        layout = tokens.layout
        own = _scaled(tokens.cue(ATTENTION[self.attend]).cpu()[place])
        views = units_of(layout, "thumbnail")
        if layout.kinds[unit] != "tile" or not views:
            return own
        centres = layout.centres[place]
        maps = [attended_map(tokens, view, self.attend) for view in views]
        seen = [sampled(one, _within(centres, layout.boxes[view])) for view, one in zip(views, maps, strict=True)]
        return own + _scaled(torch.stack(seen).mean(dim=0))


def _within(centres: Tensor, box: tuple[float, float, float, float]) -> Tensor:
    """`centres` `[n, 2]`, places in the image, as places in `box`."""
    low, high = torch.tensor(box, dtype=torch.float64).view(2, 2)
    return (centres - low) / (high - low)


def _scaled(values: Tensor) -> Tensor:
    """`values` `[n]` centred and of length one, or zeros where all are equal; NaN stays NaN."""
    away = centred(values)
    length = away.nan_to_num(nan=0.0).norm()
    return away / length if length > 0 else away
