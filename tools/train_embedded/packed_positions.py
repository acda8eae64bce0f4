"""Positions of packed sequences (see `pack`)."""

import math

import torch
from torch import Tensor


def in_a_row(steps: Tensor, blocks: tuple[int, int]) -> Tensor:
    """Ascending positions int64 `[b, s]` from the distances `steps` `[b, s]` of each token to the one before.

    The last tokens are `blocks` = (n, t), n blocks of t tokens; each goes on from what stands before all of them.
    """
    head = steps.shape[1] - math.prod(blocks)
    before = steps[:, :head].cumsum(1) - steps[:, :1]
    after = steps[:, head:].reshape(len(steps), *blocks).cumsum(2) + before[:, -1, None, None]
    return torch.cat([before, after.flatten(1)], 1).long()
