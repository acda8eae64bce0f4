"""Batched merge steps inside a vision tower, and their composition."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.core.tokens import Reduction


@dataclass(frozen=True)
class MergeStep:
    """One step: N tokens of each of B images become K.

    Attributes:
        into: `[B, N]` int64, the output each token is folded into, or -1 for a dropped one.
        anchor: `[B, K]` int64, ascending: the token that each output began as.
        weight: `[B, N]` fp32, above 0: the weight of each token in its output.
    """

    into: Tensor
    anchor: Tensor
    weight: Tensor

    @classmethod
    def of(cls, target: Tensor, weight: Tensor, count: int) -> MergeStep:
        """The fold that `target` describes.

        Args:
            target: `[B, N]` int64, the token that each is folded into: itself where it stays, -1 where it is dropped.
            weight: `[B, N]`.
            count: K, how many stay in every row.
        """
        places = torch.arange(target.shape[1], device=target.device)
        stays = target == places
        # A stable sort puts those that stay first, in order, without asking the device how many they are.
        anchor = (~stays).int().sort(dim=1, stable=True).indices[:, :count]
        number = stays.long().cumsum(dim=1) - 1
        into = number.gather(1, target.clamp_min(0)).masked_fill(target < 0, -1)
        return cls(into, anchor, weight)

    def merged(self, rows: Tensor) -> Tensor:
        """`rows` `[B, N, D]` as `[B, K, D]`, the weighted means, taken in fp32 or fp64; gradients flow."""
        into, share = self.into.clamp_min(0), self.weight.masked_fill(self.into < 0, 0)
        total = self.summed(share)
        # A token that is its output's only one has a share of exactly 1, and stays as it is, bit for bit.
        wide = rows if rows.dtype == torch.float64 else rows.float()
        parts = wide * (share / total.gather(1, into))[..., None]
        return _summed(into, parts, self.anchor.shape[1]).to(rows.dtype)

    def summed(self, values: Tensor) -> Tensor:
        """`values` `[B, N]`, summed by output: `[B, K]`. Those of dropped tokens are left out."""
        kept = values.masked_fill(self.into < 0, 0)
        return _summed(self.into.clamp_min(0), kept[..., None], self.anchor.shape[1])[..., 0]

    def spread(self, rows: Tensor) -> Tensor:
        """`rows` `[B, K, D]` given back to all tokens: `[B, N, D]`. What dropped tokens get means nothing."""
        return take(rows, self.into.clamp_min(0))


def take(rows: Tensor, index: Tensor) -> Tensor:
    """The rows `index` `[B, K]` of each of `rows` `[B, N, D]`: `[B, K, D]`."""
    return rows.gather(1, index[..., None].expand(-1, -1, rows.shape[2]))


def _summed(into: Tensor, rows: Tensor, count: int) -> Tensor:
    index = into[..., None].expand_as(rows)
    return rows.new_zeros(len(rows), count, rows.shape[2]).scatter_add(1, index, rows)


@dataclass(frozen=True)
class MergeHistory:
    """All steps in sum: what each of K survivors of each of B images is made of.

    Attributes:
        assign: `[B, N]` int64, the survivor that each token of the first layer is folded into, or -1.
        anchor: `[B, K]` int64, ascending: the token that each survivor began as.
        size: `[B, K]` fp32, how many tokens each survivor stands for.
    """

    assign: Tensor
    anchor: Tensor
    size: Tensor

    @classmethod
    def start(cls, images: int, tokens: int, device: torch.device) -> MergeHistory:
        """Before the first step: every token stands for itself."""
        places = torch.arange(tokens, device=device).expand(images, -1)
        return cls(places, places, torch.ones(images, tokens, device=device))

    def then(self, fold: MergeStep) -> MergeHistory:
        """After one more step."""
        assign = fold.into.gather(1, self.assign.clamp_min(0)).masked_fill(self.assign < 0, -1)
        return MergeHistory(assign, self.anchor.gather(1, fold.anchor), fold.summed(self.size))

    def without(self, prefix: int) -> MergeHistory:
        """The same without the first `prefix` tokens, which stand apart and are never folded."""
        if not prefix:
            return self
        assign = self.assign[:, prefix:]
        return MergeHistory(
            torch.where(assign < 0, assign, assign - prefix), self.anchor[:, prefix:] - prefix, self.size[:, prefix:]
        )

    def reductions(self) -> list[Reduction]:
        """One for each image, on the CPU; every token has weight 1 in its survivor."""
        pairs = zip(self.anchor.cpu(), self.assign.cpu(), strict=True)
        return [Reduction(anchor, assign, torch.ones(len(assign))) for anchor, assign in pairs]


@dataclass(frozen=True)
class LayerView:
    """Inputs of a stage in one layer, between its attention and its MLP.

    Attributes:
        hidden: `[B, N, D]` what the MLP's norm is about to be given.
        keys, queries: `[B, heads, N, dim]` those of the layer's attention.
        size: `[B, N]` fp32, how many patches each token stands for.
        scale: of the products of queries and keys.
        prefix: how many tokens stand before the patches (class token, registers) and are never candidates.
        has_cls: whether the first of them is a class token.
        layer: the number of the layer, from 0.
        patches: how many candidates the first layer had.
    """

    hidden: Tensor
    keys: Tensor
    queries: Tensor
    size: Tensor
    scale: float
    prefix: int
    has_cls: bool
    layer: int
    patches: int
