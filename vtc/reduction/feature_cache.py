"""Cache of encoded visual tokens, by content, for further calls about the same media."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch

from vtc.adapters import Adapter, Media, find
from vtc.core.tokens import Embedded, VisualTokens
from vtc.core.validation import check_int
from vtc.recipes.composition import Recipe


@dataclass
class _Entry:
    """Tokens, the adapter that encoded them, and the number of the last call that took them."""

    tokens: VisualTokens
    encoder: Adapter
    call: int


class FeatureCache:
    """Encoded items of the last few calls, by their content and by all else that an encoding depends on.

    Weights, training mode and attention kernel of a model must not change while it is in use. Calls must come one after
    the other.

    Attributes:
        encoded, reused: how many items were encoded so far, and how many were there from an earlier call.
    """

    def __init__(self, calls: int = 1) -> None:
        """An empty cache.

        Args:
            calls: an item that none of the last so many calls came with is dropped, so that memory is bounded.

        Raises:
            TypeError, ValueError: `calls` is no int, or below 1.
        """
        check_int("calls", calls, 1, expected="an int of at least 1: how many calls' media stay in the cache")
        self.calls, self.encoded, self.reused = calls, 0, 0
        self._call = 0
        self._entries: dict[tuple[object, ...], _Entry] = {}

    @contextmanager
    def at_work(self, adapter: Adapter, recipe: Recipe) -> Iterator[None]:
        """Within the block, calls on the adapter take from the cache what is there, and what they encode goes into it.
        Any number of blocks may use one cache, one after the other."""
        token = _at_work.set((self, adapter, recipe))
        try:
            yield
        finally:
            _at_work.reset(token)

    def encode(
        self, adapter: Adapter, media: Sequence[Media], cues: Sequence[str] = (), recipe: Recipe | None = None
    ) -> list[VisualTokens]:
        """`Adapter.encode` of those items that are not in the cache.

        Args:
            adapter: of the model.
            media: the items of one call.
            cues: those that are encoded beside them.
            recipe: which the call follows; only what was encoded by an equal one is taken. None: the stock model.
        """
        self._call += 1
        origin = (adapter.model, repr(recipe), tuple(cues), *_mode(adapter))
        keys = [(*origin, digest(item)) for item in media]
        fresh = [i for i, key in enumerate(keys) if key not in self._entries]
        self.encoded, self.reused = self.encoded + len(fresh), self.reused + len(keys) - len(fresh)
        tokens = adapter.encode([media[i] for i in fresh], cues) if fresh else []
        for i, one in zip(fresh, tokens, strict=True):
            self._entries[keys[i]] = _Entry(one, adapter, self._call)
        for key in keys:
            self._entries[key].call = self._call
            adapter.pack_like(self._entries[key].encoder)
        found = [self._entries[key].tokens for key in keys]
        self._entries = {k: entry for k, entry in self._entries.items() if entry.call > self._call - self.calls}
        return found

    @torch.no_grad()
    def encoded_inputs(self, model: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """`inputs` of a stock model's `generate` with their media encoded, through transformers' own argument for that.

        Args:
            model: not wrapped.
            inputs: its keyword arguments, with pixels or without.
        """
        adapter = find(model)
        if not adapter.has_media(inputs):
            return dict(inputs)
        media = adapter.media(inputs)
        embedded: dict[str, list[Embedded]] = {}
        for item, tokens in zip(media, self.encode(adapter, media), strict=True):
            embedded.setdefault(item.modality, []).append(Embedded(tokens.features, tokens.planes))
        # Other media arguments stay: `generate` makes positions of them.
        rest = {name: value for name, value in inputs.items() if not name.startswith("pixel_values")}
        return {**rest, "mm_encoder_outputs": adapter.outputs(embedded)}


# A context variable and not an attribute of the model: only calls of this thread or task inside the block share it.
_at_work: ContextVar[tuple[FeatureCache, Adapter, Recipe] | None] = ContextVar("vtc_feature_cache", default=None)


def encode(adapter: Adapter, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
    """`Adapter.encode`, through the cache at work. Where gradients are recorded all is encoded: none can be shared."""
    cache, owner, recipe = _at_work.get() or (None, None, None)
    if cache is None or owner is not adapter or torch.is_grad_enabled():
        return adapter.encode(media, cues)
    return cache.encode(adapter, media, cues, recipe)


def digest(item: Media) -> bytes:
    """A hash of all that the encoder is given of an item: two items are encoded alike if theirs are equal."""
    made = hashlib.sha256(f"{item.modality}{item.layout.grids}".encode())
    made.update(item.layout.structural.cpu().numpy().tobytes())
    for name in sorted(item.inputs):
        value = item.inputs[name].detach()
        made.update(f"{name}{tuple(value.shape)}{value.dtype}{value.device}".encode())
        if value.numel():  # of a tensor without elements there is no view as bytes
            made.update(value.contiguous().cpu().view(torch.uint8).numpy().tobytes())
    return made.digest()


def _mode(adapter: Adapter) -> tuple[object, ...]:
    """Return what an encoding depends on beside its inputs and what `FeatureCache` asks not to change."""
    kind = adapter.model.device.type
    return (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind), adapter.model.dtype)
