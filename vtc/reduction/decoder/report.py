"""Report of decoder stages: visual tokens that enter each layer, and their cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vtc.core.flops import DecoderCost
from vtc.core.tokens import Reduction

from .sparse_cache import filled


@dataclass(frozen=True)
class CutResult:
    """Result of one cut for an item, on the CPU.

    Attributes:
        index: the candidates that enter the layer, as tokens of the item's layout.
        fold: what became of those that entered the layer before, where some were folded together.
    """

    index: Tensor
    fold: Reduction | None = None


@dataclass
class Trace:
    """Tokens per layer over one prompt. All is arithmetic on executed counts; nothing is timed.

    In a later turn of a conversation the prompt is what the cache does not hold yet.

    Attributes:
        cost: of the decoder.
        depth: its layers.
        prompt: real tokens of each row that enter the first layer.
        rows: the row of each item.
        sizes: the candidate tokens of each item that enter the first layer.
        structural: the structural tokens of each item; they leave with the last candidate.
        earlier: real tokens of each row that entered the first layer before this prompt; empty without a cache.
        past: by layer, how many of these are in the cache, for each row; empty without a cache.
        kept: by layer with a cut, the candidates of each item that enter it, as tokens of its layout; empty until the
            prompt was read.
        folds: by layer with a cut, for each item, what became of the candidates that had entered the layer before;
            None where they only stayed or left.
    """

    cost: DecoderCost
    depth: int
    prompt: tuple[int, ...]
    rows: tuple[int, ...]
    sizes: tuple[int, ...]
    structural: tuple[int, ...]
    earlier: tuple[int, ...] = ()
    past: tuple[tuple[int, ...], ...] = ()
    kept: dict[int, tuple[Tensor, ...]] = field(default_factory=dict)
    folds: dict[int, tuple[Reduction | None, ...]] = field(default_factory=dict)

    def note(self, stayed: Mapping[int, tuple[CutResult, ...]]) -> None:
        """Take what the first run over the prompt kept; an item that beams repeat counts once."""
        if not self.kept:
            once = {layer: found[:: len(found) // len(self.sizes)] for layer, found in stayed.items()}
            self.kept = {layer: tuple(one.index for one in found) for layer, found in once.items()}
            self.folds = {layer: tuple(one.fold for one in found) for layer, found in once.items()}

    @property
    def layers(self) -> tuple[int, ...]:
        """Visual tokens of all items that each layer is given."""
        return tuple(map(sum, self._by_layer()))

    @property
    def mean(self) -> float:
        """Mean visual tokens per layer, all items together: the field's common measure."""
        return sum(self.layers) / self.depth

    @property
    def mean_by_row(self) -> tuple[float, ...]:
        """`mean` for each row of the batch."""
        found = [0.0] * len(self.prompt)
        for counts in self._by_layer():
            for row, count in zip(self.rows, counts, strict=True):
                found[row] += count / self.depth
        return tuple(found)

    @property
    def share(self) -> float:
        """`mean` as a share of the tokens that entered the first layer."""
        return self.mean / sum(self._entering)

    @property
    def prefill_flops(self) -> int:
        """FLOPs of the decoder layers over the prompt, by the executed schedule."""
        linear, pairs = (f / self.depth for f in (self.cost.linear_flops, self.cost.attention_flops))
        return round(sum(linear * n + pairs * n * (n + p) for n, p in zip(self._lengths(), self._past, strict=True)))

    @property
    def kv_bytes(self) -> tuple[int, ...]:
        """Bytes of keys and values that each layer's cache holds once the prompt was read, all rows together."""
        each = self.cost.kv_bytes // self.depth
        rows = len(self.prompt)
        totals = [n + p for n, p in zip(self._lengths(), self._past, strict=True)]
        return tuple(each * sum(totals[i * rows : (i + 1) * rows]) for i in range(self.depth))

    @property
    def kv_bytes_saved(self) -> int:
        """Bytes of keys and values that are not cached, beside those of a conversation in which nothing leaves."""
        whole = sum(self.earlier) + sum(self.prompt)
        return whole * (self.cost.kv_bytes // self.depth) * self.depth - sum(self.kv_bytes)

    def _by_layer(self) -> list[tuple[int, ...]]:
        found, now = [], self._entering
        for layer in range(self.depth):
            if layer in self.kept:
                now = tuple(self._held(i, len(item_remaining)) for i, item_remaining in enumerate(self.kept[layer]))
            found.append(now)
        return found

    @property
    def _entering(self) -> tuple[int, ...]:
        """Visual tokens of each item at the first layer."""
        return tuple(self._held(i, size) for i, size in enumerate(self.sizes))

    def _held(self, item: int, candidates: int) -> int:
        return candidates + self.structural[item] if candidates else 0

    @property
    def _past(self) -> list[int]:
        """Real tokens of each row in the cache before the prompt, layer by layer."""
        return [n for rows in self.past for n in rows] if self.past else [0] * (self.depth * len(self.prompt))

    def _lengths(self) -> list[int]:
        """Real tokens of each row at each layer, layer by layer."""
        lengths = []
        for counts in self._by_layer():
            gone = [0] * len(self.prompt)
            for row, size, count in zip(self.rows, self._entering, counts, strict=True):
                gone[row] += size - count
            lengths += [n - g for n, g in zip(self.prompt, gone, strict=True)]
        return lengths

    def __str__(self) -> str:
        if not self.kept:
            return "decoder: the prompt was not read yet"
        steps = ", ".join(f"{self.layers[layer]} from layer {layer}" for layer in self.kept)
        return (
            f"decoder: {sum(self._entering)} visual tokens, {steps}; {self.mean:.1f} per layer ({self.share:.0%}), "
            "which shortens reading the prompt; a decoding step at batch 1 hardly gets faster"
        )


def held(cache: Any, depth: int, real: Tensor) -> tuple[tuple[int, ...], ...]:
    """By layer, how many real tokens of each row a cache holds.

    Args:
        cache: of the `depth` layers of a decoder.
        depth: how many layers.
        real: `[B, P]` bool, which of the positions that entered the first layer are no padding.
    """
    counts = torch.stack([_held(layer, real) for layer in cache.layers[:depth]])
    return tuple(tuple(rows) for rows in counts.tolist())


def _held(layer: Any, real: Tensor) -> Tensor:
    slots = getattr(layer, "slots", None)
    if slots is None:
        return real.sum(dim=1)
    slots = slots.grown(filled(layer))
    remaining = real.gather(1, slots.position.to(real.device))
    return (remaining if slots.valid is None else remaining & slots.valid.to(real.device)).sum(dim=1)
