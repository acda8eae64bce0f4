"""What a model's encoder made of the media of a call, held for the next call about them, within a block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch

from vtc.adapters import Adapter, Media

from .tokens import VisualTokens


@dataclass
class Held:
    """The media of the last call, item by item, and their tokens; of one call, so that memory is bounded."""

    adapter: Adapter
    items: Sequence[tuple[Media, VisualTokens]] = ()

    def encode(self, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
        """`Adapter.encode` of those items that are not what the last call had in their place."""
        known = dict(enumerate(self.items[: len(media)]))
        again = {i: tokens for i, (held, tokens) in known.items() if is_same(held, media[i])}
        rest = [item for i, item in enumerate(media) if i not in again]
        fresh = iter(self.adapter.encode(rest, cues) if rest else ())
        tokens = [again[i] if i in again else next(fresh) for i in range(len(media))]
        self.items = list(zip(media, tokens, strict=True))
        return tokens


_held: ContextVar[Held | None] = ContextVar("vtc_held", default=None)


@contextmanager
def encoded_once(adapter: Adapter) -> Iterator[None]:
    """Within the block, calls of this thread or task on `adapter` reuse what the call before them encoded."""
    token = _held.set(Held(adapter))
    try:
        yield
    finally:
        _held.reset(token)


def encode(adapter: Adapter, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
    """`Adapter.encode`, or what is held of it. Where gradients are recorded all is encoded: they cannot be shared."""
    held = _held.get()
    if held is None or held.adapter is not adapter or torch.is_grad_enabled():
        return adapter.encode(media, cues)
    return held.encode(media, cues)


def is_same(one: Media, other: Media) -> bool:
    """Whether two items are encoded alike: equal in all that the encoder is given, bit for bit."""
    if one.modality != other.modality or one.layout.grids != other.layout.grids or set(one.inputs) != set(other.inputs):
        return False
    pairs = [(one.inputs[name], other.inputs[name]) for name in one.inputs]
    return all(a.dtype == b.dtype and a.device == b.device and torch.equal(a, b) for a, b in pairs)
