"""A start for vision towers: sine positions, and heads that look at one neighbour each, as a convolution would."""

import math

import torch
from torch import Tensor, nn

POSITION_WIDTH = 32

# Where the four heads of the first layers look at first (columns, rows).
_OFFSETS = (
    ((1, 0), (-1, 0), (0, 1), (0, -1)),
    ((1, 1), (-1, 1), (1, -1), (-1, -1)),
    ((2, 0), (-2, 0), (0, 2), (0, -2)),
)


def frequencies(grid: int) -> Tensor:
    """The frequencies of the sine positions on a `grid` x `grid` image."""
    return torch.linspace(math.pi / grid, 2.5, POSITION_WIDTH // 4)


def sine_positions(grid: int) -> Tensor:
    """`[grid * grid, 32]`: sines and cosines of column and row."""
    at = frequencies(grid)
    rows, columns = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    x, y = columns.flatten()[:, None] * at, rows.flatten()[:, None] * at
    return torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], 1)


@torch.no_grad()
def look_around(attentions: list[tuple[nn.Linear, nn.Linear, nn.Linear, nn.Linear]], heads: int, grid: int) -> None:
    """Let each head of the first layers start at one neighbour; `attentions` are (query, key, value, output)."""
    at = frequencies(grid)
    for (query, key, value, output), offsets in zip(attentions, _OFFSETS, strict=False):
        width = query.in_features
        size = width // heads
        for head, offset in enumerate(offsets):
            rows = slice(head * size, (head + 1) * size)
            for projection, turn in ((query, _shift(offset, at)), (key, torch.eye(POSITION_WIDTH))):
                block = torch.zeros(size, width)
                block[:POSITION_WIDTH, -POSITION_WIDTH:] = turn
                projection.weight[rows] = 1.8 * block + 0.02 * torch.randn(size, width)
        for projection in (value, output):
            nn.init.normal_(projection.weight, std=width**-0.5)


def _shift(offset: tuple[int, int], at: Tensor) -> Tensor:
    """The rotation that turns the sine position of a patch into that of its neighbour at `offset`."""
    n = len(at)
    out = torch.zeros(4 * n, 4 * n)
    for axis, step in enumerate(offset):
        c, s, base = (at * step).cos(), (at * step).sin(), axis * 2 * n
        i = torch.arange(n) + base
        out[i, i], out[i, i + n] = c, s  # sin(a + b) = sin a cos b + cos a sin b
        out[i + n, i + n], out[i + n, i] = c, -s
    return out
