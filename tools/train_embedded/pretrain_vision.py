"""Phase one: the vision tower and projector learn to say, for every patch, what covers it.

Joint training from scratch settles on the language prior; a vision tower that is trained first does not. Two things
make it quick: attention that starts as a neighbourhood (as a convolution would), and truth for every patch instead of
one answer.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.train_embedded.dataset import Dataset, SceneGroup
from tools.train_embedded.labels import FACTS, FIELDS
from tools.train_embedded.model_specs.base import ModelSpec

CLASSES = tuple(FIELDS.values())
PLATE = CLASSES[0] - 1
EMPTY_WEIGHT = 0.15
CENTER_WEIGHT = 3.0  # so that a tiny thing counts beside a large one
TEXT_FIELDS = {"symbol": 2.0, "index": 1.0}  # learnt on plates alone; symbols are the slowest


class Heads(nn.Module):
    """Linear read-outs used in training only: what covers a token and a patch, and what a look as a whole holds.

    A token that stands for several patches is asked for the text of each and for one thing (see `token_labels`): what
    is given twice must not take room twice. A token of two frames is asked about each; an image is asked about as its
    first.
    """

    def __init__(self, width: int, vision_width: int, patches: int, frames: int = 1) -> None:
        """`width` of a visual token and of the tower's states; the patches and frames that a token stands for."""
        super().__init__()
        self.sizes = [c * (patches if field in TEXT_FIELDS else 1) for field, c in FIELDS.items()]
        self.patch = nn.Linear(width, frames * sum(self.sizes))
        self.state = nn.Linear(vision_width, frames * sum(CLASSES))
        self.scene = nn.Linear(vision_width, FACTS)

    def fields(self, tokens: Tensor, frame: int = 0) -> list[Tensor]:
        """The logits of each field for tokens `[n, t, width]`: each `[n, t, patches or 1, classes]`."""
        parts = self.patch(tokens.float()).split(sum(self.sizes), -1)[frame].split(self.sizes, -1)
        return [part.unflatten(-1, (-1, c)) for part, c in zip(parts, CLASSES, strict=True)]

    def state_fields(self, states: Tensor, frame: int = 0) -> list[Tensor]:
        """The logits of each field for the tower's states of patches `[n, p, d]`: each `[n, p, 1, classes]`."""
        parts = self.state(states.float()).split(sum(CLASSES), -1)[frame].split(CLASSES, -1)
        return [part[..., None, :] for part in parts]


def token_labels(patches: Tensor) -> list[Tensor]:
    """The truth of each field for tokens of patches `[n, t, p, fields]`: texts of all `[n, t, p]`, else `[n, t, 1]`.

    The one patch that counts holds a centre, or if none does, shows something.
    """
    best = ((patches[..., 0] > 0) + 2 * patches[..., 7]).argmax(-1, keepdim=True)
    chosen = patches.gather(2, best[..., None].expand(-1, -1, -1, patches.shape[-1]))
    return [(patches if field in TEXT_FIELDS else chosen)[..., i] for i, field in enumerate(FIELDS)]


def to_pixels(batch: np.ndarray, generator: torch.Generator | None, dtype: torch.dtype) -> Tensor:
    """uint8 `[b, h, w, 3]` as the processor would give it, `[b, 3, h, w]`; with a generator, slightly noisy."""
    pixels = torch.tensor(batch).permute(0, 3, 1, 2).to(torch.float32).div_(127.5).sub_(1)
    if generator is not None:
        gain = 1 + 0.06 * torch.randn(len(batch), 1, 1, 1, generator=generator)
        shift = 0.04 * torch.randn(len(batch), pixels.shape[1], 1, 1, generator=generator)
        pixels = pixels * gain + shift + 0.03 * torch.randn(pixels.shape, generator=generator)
    return pixels.to(dtype)


def vision_loss(
    model_spec: ModelSpec,
    model: Any,
    heads: Heads,
    encoded: tuple[Tensor, Tensor],
    truth: tuple[Tensor, Tensor],
    size: tuple[int, int],
) -> Tensor:
    """The dense loss of what `model_spec.encode` saw, plus that of the class token's summary on a quarter of the batch.

    `truth` is patches `[n, p, fields]` (in videos the fields of two frames side by side) and facts `[n, facts]` of
    looks of `size` pixels. The class token is trained to name what a look
    holds, so that its attention means something, as CLIP's does.
    """
    (tokens, hidden), (patches, facts) = encoded, truth
    states, loss = model_spec.patch_states(hidden), tokens.new_zeros(()).float()
    frames = patches.split(len(FIELDS), -1)
    for frame, shown in enumerate(frames):
        loss = loss + patch_loss(heads.fields(tokens, frame), token_labels(model_spec.by_token(shown, size))) / len(
            frames
        )
        if states is not None:
            loss = loss + patch_loss(heads.state_fields(states, frame), token_labels(shown[:, :, None])) / len(frames)
    few = max(1, len(hidden) // 4)
    summary = model_spec.summary(model, hidden[:few])
    if summary is None:
        return loss
    return loss + 2.0 * F.binary_cross_entropy_with_logits(heads.scene(summary.float()), facts[:few].float())


def patch_loss(logits: list[Tensor], truth: list[Tensor]) -> Tensor:
    """Cross-entropy of every field (`token_labels`), empty patches weighted `EMPTY_WEIGHT`, texts on plates alone."""
    weight = torch.where(truth[0] > 0, 1.0, EMPTY_WEIGHT) + (CENTER_WEIGHT - 1) * truth[7]
    on_plate = (truth[0] == PLATE).float()
    total = logits[0].new_zeros(())
    for field, part, wanted in zip(FIELDS, logits, truth, strict=True):
        w = (on_plate * TEXT_FIELDS[field]).expand(wanted.shape) if field in TEXT_FIELDS else weight
        loss = F.cross_entropy(part.flatten(0, -2), wanted.flatten(), reduction="none")
        total = total + (loss * w.flatten()).sum() / (w > 0).sum().clamp(min=1)
    return total


def some_looks(
    group: SceneGroup, rows: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels, patches and facts of one look of each row: the last (whole or thumbnail) two in five times."""
    last = rng.random(len(rows)) < 0.4
    looks = np.where(last, group.looks - 1, rng.integers(0, group.looks, len(rows)))
    return group.pixels[rows, looks], group.patches[rows, looks], group.facts[rows, looks]


@torch.no_grad()
def vision_accuracy(
    model_spec: ModelSpec, model: Any, heads: Heads, dataset: Dataset, batch: int = 64
) -> dict[str, float]:
    """Share of right answers on images by field, where something is; lone: shapes of things without another."""
    some = next(model.parameters())
    right: dict[str, list[Tensor]] = {f: [] for f in (*FIELDS, "lone")}
    for group in (g for g in dataset if g.channels == 3):
        for rows in batches_in_order(len(group), batch):
            pixels = np.concatenate(group.pixels[rows])
            tokens, _ = model_spec.encode(model, to_pixels(pixels, None, some.dtype).to(some.device))
            patches = torch.from_numpy(np.concatenate(group.patches[rows])).long()
            truth = token_labels(model_spec.by_token(patches, group.size))
            letter, lone = (
                truth[3] > 0,
                torch.from_numpy(np.repeat(group.things[rows] == 1, group.looks))[:, None, None],
            )
            hits = [part.argmax(-1).cpu() == wanted for part, wanted in zip(heads.fields(tokens), truth, strict=True)]
            for field, hit in zip(FIELDS, hits, strict=True):
                right[field].append(hit[letter if field in TEXT_FIELDS else truth[0] > 0])
            right["lone"].append(hits[0][lone & (truth[7] > 0) & (truth[0] != PLATE)])
    return {f: round(float(torch.cat(r).float().mean()), 4) for f, r in right.items()}


def batches_in_order(n: int, batch: int) -> Iterator[slice]:
    """Slices that cover `range(n)`."""
    for start in range(0, n, batch):
        yield slice(start, min(n, start + batch))
