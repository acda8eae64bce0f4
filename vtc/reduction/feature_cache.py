"""Cache of encoder outputs, for further calls about the same media within a block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

import torch

from vtc.adapters import Adapter, Media
from vtc.core.tokens import VisualTokens


class CachedFeatures:
    """The media of the last call, item by item, and their tokens; of one call, so that memory is bounded.

    Attributes:
        adapter: of the model whose calls it serves.
    """

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self._items: list[tuple[Media, VisualTokens]] = []
        self._mode: tuple[object, ...] = ()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Within the block, calls on the adapter reuse what is held, and what they encode is held. Any number of
        blocks may use one hold, one after the other."""
        token = _cached_features.set(self)
        try:
            yield
        finally:
            _cached_features.reset(token)

    def encode(self, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
        """`Adapter.encode` of those items that are not what the last call had in their place."""
        mode = _mode(self.adapter)
        before = self._items[: len(media)] if mode == self._mode else []
        again = {i: tokens for i, (held, tokens) in enumerate(before) if is_same(held, media[i])}
        rest = [item for i, item in enumerate(media) if i not in again]
        fresh = iter(self.adapter.encode(rest, cues) if rest else ())
        tokens = [again[i] if i in again else next(fresh) for i in range(len(media))]
        # Copies: what the caller writes into its own tensors is another image.
        pixels = [before[i][0] if i in again else _copied(item) for i, item in enumerate(media)]
        self._items, self._mode = list(zip(pixels, tokens, strict=True)), mode
        return tokens


# A context variable and not an attribute of the model: only calls of this thread or task inside the block share it.
_cached_features: ContextVar[CachedFeatures | None] = ContextVar("vtc_held", default=None)


def encode(adapter: Adapter, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
    """`Adapter.encode`, or what is held of it. Where gradients are recorded all is encoded: they cannot be shared."""
    held = _cached_features.get()
    if held is None or held.adapter is not adapter or torch.is_grad_enabled():
        return adapter.encode(media, cues)
    return held.encode(media, cues)


def is_same(one: Media, other: Media) -> bool:
    """Return whether two items are encoded alike: equal in all that the encoder is given, bit for bit."""
    if one.modality != other.modality or one.layout.grids != other.layout.grids or set(one.inputs) != set(other.inputs):
        return False
    pairs = [(one.inputs[name], other.inputs[name]) for name in one.inputs]
    return all(a.dtype == b.dtype and a.device == b.device and torch.equal(a, b) for a, b in pairs)


def _copied(item: Media) -> Media:
    return replace(item, inputs={name: value.clone() for name, value in item.inputs.items()})


def _mode(adapter: Adapter) -> tuple[object, ...]:
    """Return everything that an encoding depends on beside its inputs."""
    kind = adapter.model.device.type
    return (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind), adapter.model.dtype)
