"""More tokens for the tiles that the thumbnail attends to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from ...tokens import VisualTokens
from ..base import Allocator
from ..views import logit_map, overlaps, units_of
from .floors import check_floor, shared


@dataclass(frozen=True)
class Thumbnail(Allocator):
    """Each tile gets more or less than its even part by the attention that the thumbnail pays to its place.

    The rule of GlobalCom2 (arXiv 2501.05179). The CLS logits of the thumbnail's cells, centred by their
    mean, are summed over each tile: `s`. With `p = softmax((s - max s) / temperature)` over the tiles, a tile weighs
    `candidates * (1 + p - mean p)`, which is never negative since mean p is 1 / tiles, and the thumbnail weighs its
    candidates. As p sums to one, the rule moves few tokens where there are many tiles.

    The released code differs in three ways. It cuts the thumbnail's cells evenly over the tiles; here each cell counts
    by the area that it shares with the part of the picture that the tile really covers, which is less where the tile
    reaches past the picture's border. It sums raw logits, which is the same for tiles of equal area only; centred ones
    compare at any area. And it rounds each tile's count down; here counts are exact by largest remainder.

    An item with no thumbnail (a picture of one tile, a video) or no tiles is shared as `even` does. Several thumbnails
    are averaged. A logit that is NaN or infinite says nothing, like one at the mean.

    Attributes:
        temperature: of the softmax; higher is more even.
        floor: the least tokens per unit; all of a unit that has fewer.
    """

    temperature: float = 10.0
    floor: int = 0

    name = "thumbnail"
    paper = "GlobalCom2, 2501.05179"
    signal = "attention inside the encoder, on the thumbnail"
    cues = ("attention_logits",)
    thumbnail = True

    def __post_init__(self) -> None:
        value = self.temperature
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"temperature={value!r} is a {type(value).__name__}; expected a number above 0")
        if not 0 < float(value) < math.inf:
            raise ValueError(f"temperature={value} must be finite and above 0; the released code has 10")
        object.__setattr__(self, "temperature", float(value))  # any number, and still a recipe file
        check_floor(self.floor)

    def allocate(self, tokens: VisualTokens, total: int) -> Sequence[int]:
        """See `Allocator.allocate`.

        Raises:
            ValueError: `total` cannot give every unit its floor.
        """
        layout = tokens.layout
        weights = [float(own) for own in layout.candidates]
        views, tiles = units_of(layout, "thumbnail"), units_of(layout, "tile")
        if views and tiles:
            attended = torch.stack([_attended(tokens, view, tiles) for view in views]).mean(dim=0)
            shares = (attended / self.temperature).softmax(dim=0)
            for tile, gain in zip(tiles, (1 + shares - 1 / len(tiles)).tolist(), strict=True):
                # Rounded, so that tiles that are attended to alike tie, whatever the order of a sum.
                weights[tile] *= round(gain, 12)
        return shared(total, weights, layout.candidates, self.floor)


def _attended(tokens: VisualTokens, view: int, tiles: Sequence[int]) -> Tensor:
    """The centred logits of the thumbnail `view` over the part of the picture that each tile covers: `[tiles]` fp64."""
    layout = tokens.layout
    logits = logit_map(tokens, view)
    height, width = logits.shape
    top, left, bottom, right = layout.boxes[view]
    box = torch.tensor([layout.boxes[tile] for tile in tiles], dtype=torch.float64)
    down = overlaps(box[:, 0], box[:, 2], top, bottom, height)
    across = overlaps(box[:, 1], box[:, 3], left, right, width)
    return ((down @ logits) * across).sum(dim=1)
