"""What the small models and prompts of all families share.

Default initialisation (std .02) makes attention uniform and hides mistakes, so weights are drawn at 1 / sqrt(fan in).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

PAD, BOS, EOS, IMAGE, VIDEO, START, END, VOCAB = 0, 1, 2, 90, 93, 91, 92, 100
TEXT = dict(
    vocab_size=VOCAB,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=2048,
    pad_token_id=PAD,
    bos_token_id=BOS,
    eos_token_id=EOS,
)
VISION = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2)


def spread(model: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if value.ndim >= 2:
                value.copy_(noise / value[0].numel() ** 0.5)
            else:
                value.copy_(0.1 * noise + (1.0 if "norm" in name and name.endswith("weight") else 0.0))
    return model.eval()


def centred(model: nn.Module, norm: str) -> nn.Module:
    """Takes 1 from the weights of norms of class `norm`, which adds it: else each layer doubles what it is given."""
    with torch.no_grad():
        for module in model.modules():
            if type(module).__name__ == norm:
                module.weight -= 1
    return model


def text(length: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, 89, (length,), generator=generator).tolist()


def padded(rows: Sequence[Sequence[int]], side: str = "left") -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), PAD)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        place = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        ids[i, place] = torch.tensor(row)
        mask[i, place] = 1
    return ids, mask


Row = Sequence[Any]
"""A prompt: an int is that many text tokens; (seed, height, width) an image; (seed, frames, height, width) a video."""


def placeholders(model: nn.Module) -> list[int]:
    """The ids that stand for visual tokens in prompts for `model`."""
    return [getattr(model.config, name) for name in ("image_token_id", "video_token_id") if hasattr(model.config, name)]


def visual(ids: Tensor, model: nn.Module) -> Tensor:
    """Where `ids` hold placeholders."""
    return torch.isin(ids, torch.tensor(placeholders(model)))


@dataclass(frozen=True)
class Family:
    """A family in the shared checks: how to build a small model of it, and prompts.

    Attributes:
        name: also that of its encoder, see `encoders.ENCODERS`.
        build: a model with spread weights.
        inputs: what a processor would give for some rows.
        has_cls: whether its vision tower has a class token.
        thumbnails: whether its images come as tiles beside a thumbnail.
        resizes: whether an input stage can be used.
        cues: whether its vision tower gives cues at all.
        folds: what an encoder stage may leave of its tower's tokens: `fewer`, or as many if it must `spread` them;
            empty where it is refused.
        videos: whether its items are videos of which frames can be left out.
        axes: of its position ids.
        layers: `full`, or what some of its decoder's layers have instead of keys for all tokens: `sliding` windows, or
            a `linear` state, which cannot be cropped, masked later or repeated.
        follows: whether another family has the same adapter or its base, and stands for it in every recipe.
        pairs: what rotary positions turn against each other: `halves`, or `neighbours`, which no stage can undo.
    """

    name: str
    build: Callable[..., nn.Module]
    inputs: Callable[..., dict[str, Tensor]]
    has_cls: bool = False
    thumbnails: bool = False
    resizes: bool = False
    cues: bool = True
    folds: str = ""
    videos: bool = False
    axes: int = 1
    layers: str = "full"
    pairs: str = "halves"
    follows: bool = False

    def able(self, recipe: str) -> str:
        """The recipe, or one that needs no cues where the family gives none."""
        return recipe if self.cues else recipe.replace("cls", "kcenter")
