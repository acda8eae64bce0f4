"""The tokens that the encoder attends to early or late, drawn by chance or as outliers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.core.tokens import VisualTokens
from vtc.stages.base import Selector
from vtc.stages.ops import top_k

RULES = ("sample", "outliers")


@dataclass(frozen=True)
class ClsSampling(Selector):
    """Informative tokens by CLS attention at two layers: halfway up ("local") and where the features are ("global").

    Both are normalised to sum one over the pool; a layer that attends to nothing there counts as even.

    A reconstruction of TokenCorrCompressor (arXiv 2407.14439): its code was never released. That tokens
    are mined by CLS correlation at a local and a global layer is from the paper; how the two combine is ours.

    Attributes:
        rule: `sample`: tokens are drawn without replacement, with probability in proportion to the mean of the two
            layers; those of no attention come last. `outliers`: nothing is drawn; tokens rank by the larger of their
            two distances above a layer's median, in inter-quartile ranges.
    """

    rule: str = "sample"

    name = "cls-sampling"
    paper = "TokenCorrCompressor, 2407.14439 (reconstruction)"
    signal = "attention inside the encoder, at two layers"
    cues = ("attention", "early_attention")

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule={self.rule!r}; expected one of {', '.join(RULES)}")

    @property
    def seeded(self) -> bool:  # type: ignore[override]
        """Whether tokens are drawn."""
        return self.rule == "sample"

    def select(self, tokens: VisualTokens, pool: Tensor, k: int, *, seed: int) -> Tensor:
        """See `Selector.select`. Scores are fp64 on the CPU, so that every device chooses alike."""
        layers = [_normalised(tokens.cue(name)[pool]) for name in self.cues]
        if self.rule == "outliers":
            places = top_k(torch.maximum(*map(_outlying, layers)), k)
        else:
            places = _drawn((layers[0] + layers[1]) / 2, k, seed)
        return pool[places.to(pool.device)]


def _normalised(attention: Tensor) -> Tensor:
    """`attention` `[n]` as fp64 that sums to one; NaN, infinite and negative entries count as zero."""
    weight = torch.nan_to_num(attention.detach().cpu().double(), nan=0.0, posinf=0.0, neginf=0.0).clamp_min(0)
    total = weight.sum()
    return weight / total if total > 0 else torch.full_like(weight, 1 / len(weight))


def _drawn(weight: Tensor, k: int, seed: int) -> Tensor:
    """Places of `k` draws without replacement by `weight` `[n]`, ascending.

    Each token waits for an exponential time of its own rate, and the first `k` are taken: Efraimidis and Spirakis.
    """
    generator = torch.Generator().manual_seed(seed)
    clock = -torch.log1p(-torch.rand(len(weight), dtype=torch.float64, generator=generator))
    wait = torch.where(weight > 0, clock / weight, torch.inf)
    return torch.sort(wait, stable=True).indices[:k].sort().values


def _outlying(weight: Tensor) -> Tensor:
    """Return how far each of `weight` `[n]` lies above the median, in inter-quartile ranges.

    Where the middle half is all one value, the mean distance from the median stands for the range.
    """
    low, middle, high = torch.quantile(weight, weight.new_tensor([0.25, 0.5, 0.75]))
    distance = weight - middle
    scale = high - low if high > low else distance.abs().mean()
    return distance / scale if scale > 0 else distance
