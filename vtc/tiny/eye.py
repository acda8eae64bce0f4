"""Phase one: the vision tower and projector learn to say, for every patch, what covers it.

Joint training from scratch settles on the language prior; an eye that is taught first does not. Two things make
it quick: attention that starts as a neighbourhood (as a convolution would), and truth for every patch instead of
one answer.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

from vtc.tiny.bank import Bank
from vtc.tiny.build import GRID
from vtc.tiny.labels import FIELDS, classes

POSITION_WIDTH = 32
EMPTY_WEIGHT = 0.15
DIGIT_WEIGHT = 2.0  # the slowest to learn

# Where the four heads of the first layers look at first (columns, rows).
_OFFSETS = (
    ((1, 0), (-1, 0), (0, 1), (0, -1)),
    ((1, 1), (-1, 1), (1, -1), (-1, -1)),
    ((2, 0), (-2, 0), (0, 2), (0, -2)),
)


class Heads(nn.Module):
    """Linear read-outs used in training only: what covers a patch, and what the picture as a whole holds."""

    def __init__(self, width: int, vision_width: int, scene_width: int) -> None:
        """`width` of a visual token, of a vision hidden state, and how many facts a scene has."""
        super().__init__()
        self.patch = nn.Linear(width, sum(classes(GRID)))
        self.scene = nn.Linear(vision_width, scene_width)


@torch.no_grad()
def shape_attention(model: LlavaForConditionalGeneration) -> None:
    """Give the tower sine positions and let each head of its first layers start by looking at one neighbour."""
    tower = model.model.vision_tower
    width = tower.config.hidden_size
    heads = tower.config.num_attention_heads
    frequencies = torch.linspace(math.pi / GRID, 2.5, POSITION_WIDTH // 4)
    rows, columns = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
    x, y = columns.flatten()[:, None] * frequencies, rows.flatten()[:, None] * frequencies
    where = torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], 1)

    embeddings = tower.embeddings
    embeddings.position_embedding.weight.zero_()
    embeddings.position_embedding.weight[1:, -POSITION_WIDTH:] = where
    nn.init.normal_(embeddings.patch_embedding.weight, std=0.05)
    embeddings.patch_embedding.weight[-POSITION_WIDTH:] = 0
    embeddings.class_embedding.zero_()
    embeddings.class_embedding[:-POSITION_WIDTH].normal_()

    for layer, offsets in zip(tower.encoder.layers, _OFFSETS, strict=False):
        attention = layer.self_attn
        size = width // heads
        for head, offset in enumerate(offsets):
            rows_of_head = slice(head * size, (head + 1) * size)
            for projection, turn in (
                (attention.q_proj, _shift(offset, frequencies)),
                (attention.k_proj, None),
            ):
                block = torch.zeros(size, width)
                block[:POSITION_WIDTH, -POSITION_WIDTH:] = torch.eye(POSITION_WIDTH) if turn is None else turn
                projection.weight[rows_of_head] = 1.8 * block + 0.02 * torch.randn(size, width)
        for projection in (attention.v_proj, attention.out_proj):
            nn.init.normal_(projection.weight, std=width**-0.5)


def _shift(offset: tuple[int, int], frequencies: Tensor) -> Tensor:
    """The rotation that turns the sine position of a patch into that of its neighbour at `offset`."""
    n = len(frequencies)
    out = torch.zeros(4 * n, 4 * n)
    for axis, step in enumerate(offset):
        c, s, base = (frequencies * step).cos(), (frequencies * step).sin(), axis * 2 * n
        i = torch.arange(n) + base
        out[i, i], out[i, i + n] = c, s  # sin(a + b) = sin a cos b + cos a sin b
        out[i + n, i + n], out[i + n, i] = c, -s
    return out


def encode(model: LlavaForConditionalGeneration, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """The visual tokens `[b, 144, width]` and the tower's hidden states they come from `[b, 145, vision]`.

    The last layer, which no visual token uses, is left out.
    """
    tower = model.model.vision_tower
    hidden = tower.pre_layrnorm(tower.embeddings(pixels))
    for layer in tower.encoder.layers[:-1]:
        hidden = layer(hidden, None)
    return model.model.multi_modal_projector(hidden[:, 1:]), hidden


def to_pixels(batch: np.ndarray, generator: torch.Generator | None, dtype: torch.dtype) -> Tensor:
    """uint8 `[b, h, w, 3]` as the processor would give it, `[b, 3, h, w]`; with a generator, slightly noisy."""
    pixels = torch.tensor(batch).permute(0, 3, 1, 2).to(torch.float32).div_(127.5).sub_(1)
    if generator is not None:
        gain = 1 + 0.06 * torch.randn(len(batch), 1, 1, 1, generator=generator)
        shift = 0.04 * torch.randn(len(batch), 3, 1, 1, generator=generator)
        pixels = pixels * gain + shift + 0.03 * torch.randn(pixels.shape, generator=generator)
    return pixels.to(dtype)


def eye_loss(
    model: LlavaForConditionalGeneration, heads: Heads, tokens: Tensor, hidden: Tensor, patches: Tensor, pairs: Tensor
) -> Tensor:
    """The dense loss of what `encode` saw, plus that of the class token's summary on a quarter of the batch.

    The class token is taught what a picture holds, so that its attention means something, as CLIP's does.
    """
    loss = patch_loss(heads.patch(tokens.float()), patches)
    tower = model.model.vision_tower
    few = max(1, len(hidden) // 4)
    summary = tower.post_layernorm(tower.encoder.layers[-1](hidden[:few], None)[:, 0])
    scene = F.binary_cross_entropy_with_logits(heads.scene(summary.float()), pairs[:few].float())
    return loss + 2.0 * scene


def patch_loss(logits: Tensor, patches: Tensor) -> Tensor:
    """Cross-entropy of every field, empty patches weighted `EMPTY_WEIGHT`, digits on the plate alone."""
    owned = patches[..., 0] > 0
    plate = patches[..., 0] == classes(GRID)[0] - 1
    weight = torch.where(owned, 1.0, EMPTY_WEIGHT)
    total = logits.new_zeros(())
    for field, part, truth in zip(FIELDS, logits.split(classes(GRID), -1), patches.unbind(-1), strict=True):
        w = plate.float() if field in ("tens", "ones") else weight
        loss = F.cross_entropy(part.flatten(0, 1), truth.flatten(), reduction="none")
        loss = loss * (DIGIT_WEIGHT if field in ("tens", "ones") else 1.0)
        total = total + (loss * w.flatten()).sum() / w.sum().clamp(min=1)
    return total


@torch.no_grad()
def eye_accuracy(model: LlavaForConditionalGeneration, heads: Heads, bank: Bank, batch: int = 64) -> dict[str, float]:
    """Share of right answers per field over the patches that something covers (digits: over plates)."""
    some = next(model.parameters())
    right: dict[str, list[Tensor]] = {f: [] for f in FIELDS}
    for rows in batches_in_order(len(bank), batch):
        tokens, _ = encode(model, to_pixels(bank.pixels[rows], None, some.dtype).to(some.device))
        patches = torch.tensor(bank.patches[rows]).long()
        owned = patches[..., 0] > 0
        plate = patches[..., 0] == classes(GRID)[0] - 1
        for i, part in enumerate(heads.patch(tokens.float()).split(classes(GRID), -1)):
            of = plate if FIELDS[i] in ("tens", "ones") else owned
            right[FIELDS[i]].append((part.argmax(-1).cpu() == patches[..., i])[of])
    return {f: round(float(torch.cat(r).float().mean()), 4) for f, r in right.items()}


def batches_in_order(n: int, batch: int) -> Iterator[slice]:
    """Slices that cover `range(n)`."""
    for start in range(0, n, batch):
        yield slice(start, min(n, start + batch))
