"""Like patches folded together inside the vision tower: bipartite soft matching."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.core.validation import check_share
from vtc.encoder.merge_steps import LayerView, MergeStep
from vtc.stages.ops import unit_rows

from .base import EncoderStage
from .schedule import SHAPES, schedule

BLOCK = 2048


@dataclass(frozen=True)
class ToMe(EncoderStage):
    """Token merging (arXiv 2210.09461, section 3), with a schedule that ends on an exact count.

    In each layer, between attention and MLP: the metric is the layer's keys, their mean over heads, compared by cosine.
    The tokens are dealt to two sets in turn; each of set A has one edge to its most similar of set B; the r strongest
    edges are kept, and their A tokens folded into their B tokens, by the mean that weighs a token by the number of
    patches it stands for. Tokens before the patches (class token, registers) are dealt too, and never folded.

    Survivors stay in raster order by the patch they began as, which the paper leaves open. Equal similarities go to the
    lower place.

    Attributes:
        share: the share (0, 1] of patches that survive, or None to take the recipe's `keep`.
        shape: `constant` or `decreasing` numbers of folded tokens over the layers, see `schedule.schedule`.
        proportional: adds log(size) to the attention logits of later layers (the paper's proportional attention).
        spread: gives survivors back to all their cells at the tower's end: fewer FLOPs there, the same count behind it.
    """

    share: float | None = None
    shape: str = "constant"
    proportional: bool = True
    spread: bool = False

    name = "tome"
    paper = "ToMe, 2210.09461"
    signal = "similarity of the keys, layer by layer"
    cost = "N·N a layer"

    def __post_init__(self) -> None:
        object.__setattr__(self, "share", check_share("share", self.share, of="patches"))
        if self.shape not in SHAPES:
            raise ValueError(f"shape={self.shape!r}; expected one of {', '.join(SHAPES)}")

    @property
    def own_share(self) -> float | None:
        """See `EncoderStage.own_share`."""
        return self.share

    def schedule(self, candidates: int, target: int, layers: int) -> tuple[int, ...]:
        """See `EncoderStage.schedule`."""
        return schedule(candidates, target, layers, self.shape)

    def fold(self, view: LayerView, left: int) -> MergeStep:
        """See `EncoderStage.fold`."""
        images, tokens = view.size.shape
        target = match(view.keys, view.prefix, tokens - view.prefix - left)
        assert target.shape == (images, tokens)
        return MergeStep.of(target, view.size, view.prefix + left)


@torch.no_grad()
def match(keys: Tensor, prefix: int, merges: int) -> Tensor:
    """Bipartite soft matching.

    Args:
        keys: `[B, heads, N, dim]`, any float dtype; compared in fp32.
        prefix: tokens at the front that are never folded.
        merges: r, how many go; at most half of the others, rounded down.

    Returns:
        `[B, N]` int64, the token that each is folded into; itself where it stays.
    """
    images, _, tokens, _ = keys.shape
    places = torch.arange(tokens, device=keys.device)
    if not merges:
        return places.repeat(images, 1)
    first, second = places[(places >= prefix) & (places % 2 == 0)], places[(places >= prefix) & (places % 2 == 1)]
    metric = unit_rows(keys.float().mean(dim=1).flatten(0, 1)).unflatten(0, (images, tokens))
    score, best = _strongest(metric[:, first], metric[:, second])
    folded = score.sort(dim=1, descending=True, stable=True).indices[:, :merges]
    target = places.repeat(images, 1)
    return target.scatter(1, first[folded], second[best.gather(1, folded)])


def _strongest(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """For each row of `first` `[B, a, d]` its highest product with `second` `[B, b, d]`, and with which; lower wins."""
    scores, places = [], []
    for part in first.split(BLOCK, dim=1):
        products = part @ second.mT
        place = products.argmax(dim=2)
        places.append(place)
        scores.append(products.gather(2, place[..., None])[..., 0])
    return torch.cat(scores, dim=1), torch.cat(places, dim=1)
