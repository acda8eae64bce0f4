"""What a visual token first learns to be: the sum of the input embeddings of the words for what its patch shows.

A language model that reads such tokens finds words it knows; what is left to learn is to look them up.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tools.train_embedded.labels import FIELDS, STRIPS
from vtc.embedded.spec import COLORS, PLACES, SHAPES, SYMBOLS

SCALE = 0.5  # three to five embeddings of one length make a sum of about twice that length
FINE = 0.5  # length of the coordinates, in embeddings
_NAMES = list(FIELDS)


class Targets:
    """Targets of patches in the embedding space of a language model."""

    def __init__(self, tokenizer: Any, embeddings: Tensor) -> None:
        """`embeddings` `[vocabulary, width]` are the language model's input embeddings."""
        self._tokenizer, self._embeddings = tokenizer, embeddings.detach().float().cpu()
        self._known: dict[str, Tensor] = {}
        width = embeddings.shape[1]
        generator = torch.Generator().manual_seed(0)
        directions = torch.linalg.qr(torch.randn(width, 9, generator=generator)).Q.T
        self._directions = directions * FINE * float(self._embeddings.norm(dim=1).mean())
        none = torch.zeros(width)
        self._tables = {
            "shape": torch.stack([self.word("nothing") / 2, *map(self.word, (*SHAPES, "plate"))]),
            "color": torch.stack([none, *map(self.word, COLORS)]),
            "striped": torch.stack([none, self.word("striped")]),
            "symbol": torch.stack([none, *map(self.word, SYMBOLS)]),
            "index": torch.stack([none, *map(self.word, ("first", "second", "third"))]),
        }
        self._places = torch.stack([self.word(place) for row in PLACES for place in row])

    def word(self, text: str) -> Tensor:
        """The mean embedding of `text` as a word inside a sentence and as the first one (a model answers with that)."""
        if text not in self._known:
            both = [self._tokenizer(form, add_special_tokens=False).input_ids for form in (" " + text, text)]
            self._known[text] = torch.stack([self._embeddings[ids].mean(0) for ids in both]).mean(0)
        return self._known[text]

    def of_patches(self, patches: np.ndarray) -> Tensor:
        """Targets `[n, 256, width]` of `labels.patch_labels` `[n, 256, fields]`."""
        labels = torch.from_numpy(patches).long()
        total = sum(table[labels[..., _NAMES.index(field)]] for field, table in self._tables.items())
        x, y = (labels[..., _NAMES.index(axis)].clamp(1, STRIPS) - 1 for axis in ("x", "y"))
        center = labels[..., _NAMES.index("center")].float()
        ninth = y * 3 // STRIPS * 3 + x * 3 // STRIPS
        at = [(axis.float() + 0.5) / STRIPS for axis in (x, y)]
        return SCALE * (total + self._places[ninth] + self._coordinates(*at, center))

    def of_shape(self, covered: np.ndarray, shape: str, color: str, at: tuple[float, float]) -> Tensor:
        """Targets `[256, width]` of an image of easy-VQA: one shape on the patches `covered`, centred at `at`."""
        own_row, own_column = np.divmod(np.arange(len(covered)), 16)
        x = torch.from_numpy(np.where(covered, at[0], (own_column + 0.5) / 16)).float()
        y = torch.from_numpy(np.where(covered, at[1], (own_row + 0.5) / 16)).float()
        center = np.arange(len(covered)) == int(at[1] * 16) * 16 + int(at[0] * 16)
        shown = torch.from_numpy(covered | center)[:, None]
        words = torch.where(shown, self.word(shape) + self.word(color), self._tables["shape"][0])
        ninth = (y * 3).long() * 3 + (x * 3).long()
        fine = self._coordinates(x, y, torch.from_numpy(center).float())
        return SCALE * (words + self._places[ninth] + fine)

    def _coordinates(self, x: Tensor, y: Tensor, center: Tensor) -> Tensor:
        """Sines and cosines of both coordinates, and whether the patch is a centre, along directions of their own."""
        parts = [f(a * k) for a in (x, y) for k in (np.pi, 3 * np.pi) for f in (torch.sin, torch.cos)]
        return torch.stack([*parts, 2 * center], -1) @ self._directions
