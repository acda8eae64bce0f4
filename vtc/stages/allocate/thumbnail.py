"""More tokens for the tiles that the thumbnail attends to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.core.tokens import VisualTokens
from vtc.core.validation import check_number
from vtc.stages.base import Allocator
from vtc.stages.thumbnail_maps import (
    ATTENTION,
    attended_map,
    check_attend,
    overlaps,
    units_of,
)

from .minimums import check_floor, shared


@dataclass(frozen=True)
class Thumbnail(Allocator):
    """Each tile gets more or less than its even part by the attention that the thumbnail pays to its place.

    The rule of GlobalCom2 (arXiv 2501.05179): each tile has a score `s` by the attention that the thumbnail's CLS
    token pays to its place. With `p = softmax((s - max s) / temperature)` over the tiles, a tile weighs
    `candidates * (1 + p - mean p)`, which is never negative since mean p is 1 / tiles, and the thumbnail weighs its
    candidates. As p sums to one, the rule moves few tokens where there are many tiles.

    With `attend="softmax"` the score is the mean attention over the tile's place, in multiples of that over the whole
    thumbnail, less one: a temperature then means the same for thumbnails and tiles of any size. With `"logits"` it is
    the sum of the centred logits over that place, as in the released code, which moves more the more cells there are.

    The released code differs in three further ways. It cuts the thumbnail's cells evenly over the tiles; here each cell
    counts by the area that it shares with the part of the image that the tile really covers, which is less where the
    tile reaches past the image's border. It sums raw logits, which is the same for tiles of equal area only; centred
    ones compare at any area. And it rounds each tile's count down; here counts are exact by largest remainder.

    An item with no thumbnail (an image of one tile, a video) or no tiles is shared as `even` does. Several thumbnails
    are averaged. A value that is NaN or infinite says nothing, like one at the mean.

    Attributes:
        temperature: of the softmax; higher is more even. The released code has 10, on logits.
        floor: the least tokens per unit; all of a unit that has fewer. It gives way where the item keeps fewer in all.
        attend: `softmax`, the attention itself, or `logits`, the products before the softmax.
    """

    temperature: float = 1.0
    floor: int = 0
    attend: str = "softmax"

    name = "thumbnail"
    paper = "GlobalCom2, 2501.05179"
    signal = "attention inside the encoder, on the thumbnail"
    thumbnail = True

    @property
    def cues(self) -> tuple[str, ...]:  # type: ignore[override]
        """See `Stage.cues`."""
        return (ATTENTION[self.attend],)

    def __post_init__(self) -> None:
        check_attend(self.attend)
        expected = "a number above 0; the released code has 10, on logits"
        temperature = check_number("temperature", self.temperature, 0, ends="()", expected=expected)
        object.__setattr__(self, "temperature", temperature)  # any number, and still a recipe file
        object.__setattr__(self, "floor", check_floor(self.floor))

    @property
    def unit_floor(self) -> int:
        """See `Allocator.unit_floor`."""
        return self.floor

    def allocate(self, tokens: VisualTokens, total: int) -> Sequence[int]:
        """See `Allocator.allocate`."""
        layout = tokens.layout
        weights = [float(own) for own in layout.candidates]
        views, tiles = units_of(layout, "thumbnail"), units_of(layout, "tile")
        if views and tiles:
            attended = torch.stack([_attended(tokens, view, tiles, self.attend) for view in views]).mean(dim=0)
            shares = (attended / self.temperature).softmax(dim=0)
            for tile, gain in zip(tiles, (1 + shares - 1 / len(tiles)).tolist(), strict=True):
                # Rounded, so that tiles that are attended to alike tie, whatever the order of a sum.
                weights[tile] *= round(gain, 12)
        return shared(total, weights, layout.candidates, self.floor)


def _attended(tokens: VisualTokens, view: int, tiles: Sequence[int], attend: str) -> Tensor:
    """Return how much the thumbnail `view` attends to the part of the image that each tile covers: `[tiles]` fp64."""
    layout = tokens.layout
    values = attended_map(tokens, view, attend)
    height, width = values.shape
    top, left, bottom, right = layout.boxes[view]
    box = torch.tensor([layout.boxes[tile] for tile in tiles], dtype=torch.float64)
    down = overlaps(box[:, 0], box[:, 2], top, bottom, height)
    across = overlaps(box[:, 1], box[:, 3], left, right, width)
    sums = ((down @ values) * across).sum(dim=1)
    if attend == "logits":
        return sums
    return sums / (down.sum(dim=1) * across.sum(dim=1)).clamp_min(torch.finfo(torch.float64).tiny)
