"""What tests of a video's stages share: videos of tokens, and what must hold of every choice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from vtc.core.tokens import Layout, VisualTokens

FRAMES = (1, 2, 3, 4, 5, 7, 8, 16, 33)
SIDES = (1, 2, 7, 14)
SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
REFERENCE = dict(np.load(Path(__file__).parents[2] / "data" / "reference_videos.npz"))
"""What released code keeps; see `tests/data/README.md`."""


def choose(selector, tokens: VisualTokens, k: int) -> torch.Tensor:
    """What `selector` chooses of all candidates of the video at once."""
    return selector.select(tokens, torch.nonzero(~tokens.layout.structural).flatten(), k, seed=0)


def of_rows(rows, grid: tuple[int, int] | None = None, kind: str = "frame") -> VisualTokens:
    """The tokens of frames `[T, N, D]`, on a grid (square unless told)."""
    rows = torch.as_tensor(np.asarray(rows)) if not isinstance(rows, torch.Tensor) else rows
    frames, count = rows.shape[:2]
    height, width = grid or (round(count**0.5), round(count**0.5))
    layout = Layout.join([Layout.of_grid(height, width, kind=kind)] * frames)
    return VisualTokens(rows.flatten(0, 1), layout)


def random_video(frames: int, side: int, width: int = 12, seed: int = 0, still: float = 0.6) -> VisualTokens:
    """Frames whose cells mostly repeat the frame before; values that bf16 holds exactly."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(-128, 129, (frames, side * side, width), generator=generator) / 64
    stays = torch.rand(frames, side * side, generator=generator) < still
    for t in range(1, frames):
        rows[t, stays[t]] = rows[t - 1, stays[t]]
    return of_rows(rows)


def with_newlines(tokens: VisualTokens) -> VisualTokens:
    """The same with a structural token behind all frames, as some families have."""
    line = Layout(
        unit=torch.tensor([len(tokens.layout.grids) - 1]),
        cell=torch.full((1, 3), -1),
        structural=torch.ones(1, dtype=torch.bool),
        grids=(),
        kinds=(),
    )
    layout = tokens.layout
    joined = Layout(
        torch.cat([layout.unit, line.unit]),
        torch.cat([layout.cell, line.cell]),
        torch.cat([layout.structural, line.structural]),
        layout.grids,
        layout.kinds,
    )
    return VisualTokens(torch.cat([tokens.features, tokens.features[:1]]), joined)


def per_frame(tokens: VisualTokens, kept) -> list[int]:
    """How many candidates of each frame are kept."""
    kept = torch.as_tensor(kept)
    free = kept[~tokens.layout.structural[kept]]
    return torch.bincount(tokens.layout.unit[free], minlength=len(tokens.layout.grids)).tolist()


def check_kept(kept: torch.Tensor, pool: torch.Tensor, k: int) -> None:
    """Exactly `k`, ascending and unique, of the pool."""
    assert kept.dtype == torch.int64
    assert len(kept) == k
    assert bool((kept.diff() > 0).all())
    assert bool(torch.isin(kept, pool).all())
