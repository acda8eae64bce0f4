"""Blocks of a vision tower, by the modules that the hooks need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from .merge_schedule import MergeSchedule

BIASED = ("eager", "sdpa")
"""Attention implementations of transformers that take an additive mask."""


@dataclass(frozen=True)
class Block:
    """One block of the pre-norm kind: `x = x + attention(norm(x))`, then `x = x + mlp(norm(x))`.

    Attributes:
        layer: the whole block.
        attention: takes hidden states `[B, N, D]` first, and an additive mask as the argument `mask`.
        queries, keys: what gives those of the attention, `[B, N, heads * dim]` or `[B, heads, N, dim]`.
        norm, mlp: the second half; the norm is called with `x`.
        mask: the name of that argument.
        heads: of the attention.
        scale: of its products.
    """

    layer: nn.Module
    attention: nn.Module
    queries: nn.Module
    keys: nn.Module
    norm: nn.Module
    mlp: nn.Module
    mask: str
    heads: int
    scale: float

    def by_head(self, rows: Tensor) -> Tensor:
        """Return the output of `queries` or `keys` as `[B, heads, N, dim]`."""
        return rows if rows.ndim == 4 else rearrange(rows, "b n (h dim) -> b h n dim", h=self.heads)


@dataclass(frozen=True)
class Blocks:
    """The blocks of one tower, up to the one whose output is the feature.

    Attributes:
        blocks: in order.
        prefix: tokens before the patches, never folded.
        has_cls: whether the first of them is a class token.
        tower: the module whose config names the attention implementation, if it has one.
    """

    blocks: tuple[Block, ...]
    prefix: int
    has_cls: bool
    tower: nn.Module

    def check(self, stage: MergeSchedule) -> None:
        """Refuse what would go wrong in this tower as it is now.

        Raises:
            ValueError: an attention kernel without bias, a missing class token, rates of another depth, or gradient
                checkpointing.
        """
        stage.check_layers(len(self.blocks))
        name = type(self.tower).__name__
        if stage.needs_cls and not self.has_cls:
            raise ValueError(f"stage {stage.label!r} looks at a class token, and {name} has none; use 'encoder/tome'")
        kernel = getattr(getattr(self.tower, "config", None), "_attn_implementation", None)
        if stage.proportional and isinstance(kernel, str) and kernel not in BIASED:
            raise ValueError(
                f"attn_implementation={kernel!r} of {name} takes no bias, which proportional attention of stage "
                f"{stage.label!r} needs; load the tower with 'sdpa', or pass proportional=False to the stage"
            )
        if torch.is_grad_enabled() and self._checkpoints():
            raise ValueError(
                f"gradient checkpointing of {name} runs its blocks a second time, when stage {stage.label!r} is over; "
                "switch it off for the vision tower, or freeze the tower and put it in eval mode"
            )

    def _checkpoints(self) -> bool:
        owners: list[Any] = [self.tower, *(block.layer for block in self.blocks)]
        flags = ("gradient_checkpointing", "grad_checkpointing")
        return any(m.training and getattr(m, flag, False) is True for m in owners for flag in flags)
