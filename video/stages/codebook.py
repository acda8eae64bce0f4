"""A codebook of the whole video: a few means stand for all tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.core.tokens import Reduction, VisualTokens
from vtc.core.validation import check_int, check_number
from vtc.stages import Mean, Merger
from vtc.stages.ops import nearest_rows, unit_rows
from vtc.stages.select.maxmin import maxmin

from .base import VideoSelector, is_video

DIGITS = 5
ROUNDS = 10
"""Rounds of K-means at most; it stops where nothing moves."""


@dataclass(frozen=True)
class Codebook(VideoSelector):
    """The token nearest to each mean of K-means over all tokens of the video; with `CodebookMean` the means themselves.

    VQToken (arXiv 2503.16980) without its training: there a trained cross-attention adds the motion of each code to
    it, here codes take the place of their nearest cell. K-means is on unit rows by cosine, from max-min seeds, so
    that it is the same in every run; a code that nothing is nearest to takes the token that is least like its own. The
    budget is meant for all tokens of the video at once (`Whole`).
    """

    name = "codebook"
    paper = "VQToken, 2503.16980"
    signal = "clusters of the features"
    cost = "10·N·K"

    def choose(self, tokens: VisualTokens, pool: Tensor, k: int, *, seed: int) -> Tensor:
        """See `VideoSelector.choose`."""
        rows = unit_rows(tokens.features[pool])
        code, means = codes(rows, maxmin(rows, k))
        return pool[nearest_members(rows, code, means).sort().values]


@dataclass(frozen=True)
class AdaptiveCodebook(Codebook):
    """As many codes as the video asks for: so that no token is unlike all seeds, `keep` being the ceiling.

    Seeds are picked by max-min distance until every token has a cosine of at least `reach` to one of them. The released
    criterion, called a silhouette, is none and runs K-means again for each number of codes; here there is one pass over
    the seeds, and one K-means.

    Attributes:
        reach: the least cosine of a token to its nearest seed, in [-1, 1].
        least: codes at least, where `keep` allows as many; 12 there.
    """

    reach: float = 0.5
    least: int = 12

    name = "adaptive-codebook"
    adaptive = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "reach", check_number("reach", self.reach, -1, 1))
        least = check_int("least", self.least, 1, expected="how many codes there are at least, an int of at least 1")
        object.__setattr__(self, "least", least)

    def choose(self, tokens: VisualTokens, pool: Tensor, k: int, *, seed: int) -> Tensor:
        """See `VideoSelector.choose`."""
        rows = unit_rows(tokens.features[pool])
        seeds = self._seeds(rows, k)
        code, means = codes(rows, seeds)
        return pool[nearest_members(rows, code, means).sort().values]

    def _seeds(self, rows: Tensor, most: int) -> Tensor:
        """Max-min picks from the token least like the mean, until all are in reach or there are `most`."""
        near = torch.full((len(rows),), -torch.inf, device=rows.device)
        picked = [(rows @ rows.mean(dim=0)).argmin()]
        for _ in range(most - 1):
            near = torch.maximum(near, rows @ rows[picked[-1]])
            near[picked[-1]] = torch.inf
            # One look at the host per code, of which there are few: where it ends depends on what is seen.
            if len(picked) >= self.least and bool(near.min() >= self.reach):
                break
            picked.append(near.argmin())
        return torch.stack(picked).sort().values


@dataclass(frozen=True)
class CodebookMean(Merger):
    """Every token joins the kept one that it resembles most, in whatever frame that stands: outputs are the means.

    Anchors of `Codebook` are the tokens nearest to the means of its clusters: this is one more round of K-means. Of an
    item that is no video tokens join inside their unit, as `mean` does.
    """

    name = "codebook"
    paper = "VQToken, 2503.16980"
    signal = "similarity of the features"
    cost = "N·K"
    videos = True

    def merge(self, tokens: VisualTokens, anchor: Tensor) -> Reduction:
        """See `Merger.merge`."""
        if not is_video(tokens.layout):
            return Mean().merge(tokens, anchor)
        reduction = Reduction.pruning(anchor, len(tokens))
        free = ~tokens.layout.structural.to(anchor.device)
        places = torch.nonzero(free[anchor]).flatten()
        pool = torch.nonzero(free).flatten()
        if not len(places):
            return reduction
        rows = unit_rows(tokens.features)
        code = nearest_rows(rows[pool], rows[anchor[places]])
        reduction.assign[pool] = places[code]
        # Equal rows are nearest to the first of them; each anchor stays with itself.
        reduction.assign[anchor] = torch.arange(len(anchor), device=anchor.device)
        return reduction


def codes(rows: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
    """K-means by cosine of unit `rows` `[N, D]` from the rows `seeds` `[K]`.

    Returns:
        `[N]` the code of each row, none of them empty, and `[K, D]` the unit means.
    """
    means, code = rows[seeds], rows.new_full((len(rows),), -1, dtype=torch.int64)
    for _ in range(ROUNDS):
        found = _filled(rows, nearest_rows(rows, means), means)
        if torch.equal(found, code):
            break
        code = found
        means = unit_rows(means.new_zeros(means.shape).index_add(0, code, rows))
    return code, means


def _filled(rows: Tensor, code: Tensor, means: Tensor) -> Tensor:
    """`code`, empty ones given the rows that are least like their own mean, none of them the last of its code."""
    count = torch.bincount(code, minlength=len(means)).tolist()
    empty = [k for k, size in enumerate(count) if not size]
    if not empty:
        return code
    code, own = code.clone(), code.tolist()
    worst = iter(torch.sort((rows * means[code]).sum(dim=1), stable=True).indices.tolist())
    for k in empty:
        row = next(row for row in worst if count[own[row]] > 1)
        count[own[row]] -= 1
        code[row] = k
    return code


def nearest_members(rows: Tensor, code: Tensor, means: Tensor) -> Tensor:
    """`[K]` the row of each code that is nearest to its mean; the lower of equal ones, as the two of a pair are."""
    like = (rows * means[code]).sum(dim=1).round(decimals=DIGITS)
    order = torch.sort(like, descending=True, stable=True).indices
    order = order[torch.sort(code[order], stable=True).indices]
    return order[torch.searchsorted(code[order], torch.arange(len(means), device=rows.device))]
