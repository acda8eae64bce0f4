"""A wrapped model: what its hooks share between them, and the request that a call makes."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor, nn

from vtc.adapters import Adapter, Media
from vtc.recipes.composition import Recipe

from .cache_metadata import ReducedPromptInfo, cache_among
from .call_gate import CallGate
from .columns import read_columns
from .compatibility import check_recipe, uses_flash
from .decoder.engine import check_attention
from .decoder.sparse_cache import is_shortened
from .drafting import encoded_media
from .dry_call import dropped_arguments
from .guarded_cache import ClaimedCaches
from .recurrent_states import check_padding, check_read
from .report import Report
from .request import Request, RequestBuilder

# Context variables, so that two threads or tasks that call one model do not meet. Keyed by the wrapped model itself:
# one that was wrapped again has no call to report yet.
_reports: ContextVar[tuple[tuple[weakref.ref[WrappedModel], Report], ...]] = ContextVar("vtc_reports", default=())
_generating: ContextVar[tuple[WrappedModel, ...]] = ContextVar("vtc_generating", default=())


class WrappedModel:
    """A model with an adapter and a recipe.

    Attributes:
        model: the stock model.
        adapter: of its family.
        builder: makes requests from calls.
        stock: methods that stood on the instance itself before it was wrapped.
        gate: keeps the wrapping from changing under a call.
        claimed: caches that running calls read.
        dropped: arguments of the prompt's length that the class's own method leaves out.
        flash: whether the decoder ran flash attention when it was wrapped.
    """

    def __init__(self, model: nn.Module, adapter: Adapter, recipe: Recipe) -> None:
        self.model: Any = model
        self.adapter = adapter
        self.builder = RequestBuilder(adapter, recipe)
        self.stock: dict[str, Any] = {}
        self.gate = CallGate()
        self.claimed = ClaimedCaches()
        self.dropped: tuple[str, ...] = ()
        self.flash = False
        self._last: Report | None = None

    @property
    def recipe(self) -> Recipe:
        """The recipe at work."""
        return self.builder.recipe

    def check(self) -> None:
        """Raise ValueError where the model cannot give what the recipe needs. Changes nothing of the model."""
        check_recipe(self.adapter, self.recipe)
        self.dropped = dropped_arguments(self.adapter)
        self.builder.counts_padding = "position_ids" in self.dropped

    def call_stock(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call the method that a hook stands in front of."""
        if name in self.stock:
            return self.stock[name](*args, **kwargs)
        return getattr(type(self.model), name)(self.model, *args, **kwargs)

    @contextmanager
    def generation(self) -> Iterator[None]:
        """The block of a call of `generate`: the calls of `forward` inside are its steps."""
        token = _generating.set((*_generating.get(), self))
        try:
            yield
        finally:
            _generating.reset(token)

    def generates(self) -> bool:
        """Whether this thread or task is inside of `generate` on this model."""
        return any(wrapped is self for wrapped in _generating.get())

    @property
    def report(self) -> Report | None:
        """The report on the last call of this thread or task; of any other, where this one made none.

        The usual way to stream is a thread that calls `generate` and a caller that reads what it streams.
        """
        return next((report for reference, report in _reports.get() if reference() is self), self._last)

    def note(self, report: Report) -> None:
        """Make `report` that of the last call of this thread or task."""
        if self.generates():
            return  # a call inside of a call, such as one that guides it: the outer one is reported
        others = [pair for pair in _reports.get() if pair[0]() not in (None, self)]
        _reports.set((*others, (weakref.ref(self), report)))
        self._last = report

    def request(self, inputs: Mapping[str, Any], drafts: bool = False) -> Request | None:
        """The request that `inputs` make, noted in the report; None where nothing is dropped."""
        encoded = {k: v for k, v in (inputs.get("mm_encoder_outputs") or {}).items() if v is not None}
        if encoded and not drafts:
            raise ValueError(
                f"mm_encoder_outputs={list(encoded)}: a wrapped model encodes media itself; pass the pixels instead"
            )
        videos = "pixel_values_videos"
        if inputs.get(videos) is not None and videos not in self.adapter.media_arguments:
            # Many a stock `forward` passes by what it does not know.
            raise ValueError(f"{videos}: {type(self.model).__name__} takes no videos; pass frames as images")
        if self.flash != uses_flash(self.adapter.decoder):
            raise ValueError("the attention implementation was changed after wrapping; call reduce_tokens again")
        if self.recipe.decoder:
            check_attention(self.adapter.decoder)
        cache, ids = cache_among(inputs), inputs.get("input_ids")
        self.check_layers(cache)
        base = ReducedPromptInfo.of(cache)
        if base is not None and isinstance(ids, Tensor):
            base = base.expand(len(ids), ids.device)
        prefix = base.grown(cache) if base is not None else None
        has_media = self.adapter.has_media(inputs)
        reads = bool(encoded) or has_media or base is not None
        columns = read_columns(self.adapter, inputs, prefix) if reads else None
        if base is not None and columns is not None:
            check_read(self.adapter, base, columns)
        media: list[Media] = []
        if encoded:
            media = encoded_media(encoded, self.adapter, self.recipe)
        elif has_media and columns is not None:
            media = self.builder.media(inputs, columns)
        if columns is None or (not media and base is None):
            self._check_text(ids, cache)
            self.note(Report(self.recipe.name, ()))
            return None
        if base is None and cache is not None and int(cache.get_seq_length()) > 0:
            raise ValueError(
                f"the cache holds {int(cache.get_seq_length())} tokens of turns in which this recipe dropped "
                "nothing, or of another model, and what they stand for is not known; give the whole conversation "
                "without the cache"
            )
        request, report = self.builder.build(inputs, columns, media, prefix, base, always=drafts)
        if request is not None and request.prefix is not None:
            check_padding(self.adapter, request.suffix.mask)
        self.note(report)
        return request

    def check_layers(self, cache: Any) -> None:
        """Refuse a cache that tokens left inside the decoder, where nothing here would make masks fit its layers."""
        if not self.recipe.decoder and any(is_shortened(layer) for layer in getattr(cache, "layers", ())):
            raise ValueError(
                "the cache holds a prompt that visual tokens left inside the language model; go on with a "
                "recipe that has decoder stages, or start again"
            )

    def _check_text(self, ids: Any, cache: Any) -> None:
        """Refuse placeholders that no media came with."""
        if not isinstance(ids, Tensor) or (cache is not None and int(cache.get_seq_length()) > 0):
            return
        for modality, token in self.adapter.placeholders.items():
            count = int((ids == token).sum())
            if count:
                raise ValueError(
                    f"input_ids hold {count} placeholders of id {token}, but no {modality} was passed; pass all that "
                    "the processor returned"
                )
