"""Phase one: the vision tower and projector learn to say, for every patch, what covers it.

Joint training from scratch settles on the language prior; an eye that is taught first does not. Two things make
it quick: attention that starts as a neighbourhood (as a convolution would), and truth for every patch instead of
one answer.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtc.tiny.bank import Bank, Group
from vtc.tiny.labels import FACTS, FIELDS
from vtc.tiny.students.base import Student

CLASSES = tuple(FIELDS.values())
PLATE = CLASSES[0] - 1
EMPTY_WEIGHT = 0.15
CENTER_WEIGHT = 3.0  # so that a tiny thing counts beside a large one
TEXT_FIELDS = {"symbol": 2.0, "index": 1.0}  # learnt on plates alone; symbols are the slowest


class Heads(nn.Module):
    """Linear read-outs used in training only: what covers each patch of a token, and what a look as a whole holds."""

    def __init__(self, width: int, vision_width: int, patches: int) -> None:
        """`width` of a visual token, of the tower's hidden state, and how many patches a token stands for."""
        super().__init__()
        self.patches = patches
        self.patch = nn.Linear(width, patches * sum(CLASSES))
        self.state = nn.Linear(vision_width, sum(CLASSES))
        self.scene = nn.Linear(vision_width, FACTS)

    def fields(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """The logits of each field for tokens `[n, t, width]`: each `[n, t, patches, classes]`."""
        return self.patch(tokens.float()).unflatten(-1, (self.patches, -1)).split(CLASSES, -1)  # type: ignore[no-any-return]

    def state_fields(self, states: Tensor) -> tuple[Tensor, ...]:
        """The logits of each field for the tower's states of patches `[n, p, d]`: each `[n, p, classes]`."""
        return self.state(states.float()).split(CLASSES, -1)  # type: ignore[no-any-return]


def to_pixels(batch: np.ndarray, generator: torch.Generator | None, dtype: torch.dtype) -> Tensor:
    """uint8 `[b, h, w, 3]` as the processor would give it, `[b, 3, h, w]`; with a generator, slightly noisy."""
    pixels = torch.tensor(batch).permute(0, 3, 1, 2).to(torch.float32).div_(127.5).sub_(1)
    if generator is not None:
        gain = 1 + 0.06 * torch.randn(len(batch), 1, 1, 1, generator=generator)
        shift = 0.04 * torch.randn(len(batch), 3, 1, 1, generator=generator)
        pixels = pixels * gain + shift + 0.03 * torch.randn(pixels.shape, generator=generator)
    return pixels.to(dtype)


def eye_loss(
    student: Student,
    model: Any,
    heads: Heads,
    encoded: tuple[Tensor, Tensor],
    truth: tuple[Tensor, Tensor],
    size: tuple[int, int],
) -> Tensor:
    """The dense loss of what `student.encode` saw, plus that of the class token's summary on a quarter of the batch.

    `truth` is patches `[n, p, fields]` and facts `[n, facts]` of looks of `size` pixels. The class token is taught what
    a look holds, so that its attention means something, as CLIP's does.
    """
    (tokens, hidden), (patches, facts) = encoded, truth
    loss = patch_loss(heads.fields(tokens), student.by_token(patches, size))
    states = student.patch_states(hidden)
    if states is not None:
        loss = loss + patch_loss(heads.state_fields(states), patches)
    few = max(1, len(hidden) // 4)
    summary = student.summary(model, hidden[:few])
    if summary is None:
        return loss
    return loss + 2.0 * F.binary_cross_entropy_with_logits(heads.scene(summary.float()), facts[:few].float())


def patch_loss(logits: tuple[Tensor, ...], patches: Tensor) -> Tensor:
    """Cross-entropy of every field, empty patches weighted `EMPTY_WEIGHT`, texts on plates alone."""
    owned, plate = patches[..., 0] > 0, patches[..., 0] == PLATE
    weight = torch.where(owned, 1.0, EMPTY_WEIGHT) + (CENTER_WEIGHT - 1) * patches[..., 7]
    total = logits[0].new_zeros(())
    for field, part, truth in zip(FIELDS, logits, patches.unbind(-1), strict=True):
        w = plate.float() * TEXT_FIELDS[field] if field in TEXT_FIELDS else weight
        loss = F.cross_entropy(part.flatten(0, -2), truth.flatten(), reduction="none")
        total = total + (loss * w.flatten()).sum() / (w > 0).sum().clamp(min=1)
    return total


def some_looks(group: Group, rows: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels, patches and facts of one look of each row: the last (whole or thumbnail) two in five times."""
    last = rng.random(len(rows)) < 0.4
    looks = np.where(last, group.looks - 1, rng.integers(0, group.looks, len(rows)))
    return group.pixels[rows, looks], group.patches[rows, looks], group.facts[rows, looks]


@torch.no_grad()
def eye_accuracy(student: Student, model: Any, heads: Heads, bank: Bank, batch: int = 64) -> dict[str, float]:
    """Share of right answers per field where something covers a patch; tiny: shapes at lone things' centres."""
    some = next(model.parameters())
    right: dict[str, list[Tensor]] = {f: [] for f in (*FIELDS, "tiny")}
    for group in bank:
        for rows in batches_in_order(len(group), batch):
            pixels = np.concatenate(group.pixels[rows])
            tokens, _ = student.encode(model, to_pixels(pixels, None, some.dtype).to(some.device))
            patches = torch.from_numpy(np.concatenate(group.patches[rows])).long()
            truth = student.by_token(patches, group.size)
            owned, letter = truth[..., 0] > 0, truth[..., 3] > 0
            for i, (field, part) in enumerate(zip(FIELDS, heads.fields(tokens), strict=True)):
                hit = part.argmax(-1).cpu() == truth[..., i]
                right[field].append(hit[letter if field in TEXT_FIELDS else owned])
                if field == "shape":
                    lone = torch.from_numpy(np.repeat(group.things[rows] == 1, group.looks))[:, None, None]
                    right["tiny"].append(hit[lone & (truth[..., 7] > 0) & (truth[..., 0] != PLATE)])
    return {f: round(float(torch.cat(r).float().mean()), 4) for f, r in right.items()}


def batches_in_order(n: int, batch: int) -> Iterator[slice]:
    """Slices that cover `range(n)`."""
    for start in range(0, n, batch):
        yield slice(start, min(n, start + batch))
