"""What stands before and behind a plain `forward`, and before and behind each step of `generate`."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .cache_metadata import ReducedPromptInfo, cache_among
from .decoder.prefill_state import STEP
from .guarded_cache import release
from .model_inputs import continued, full_logits, inner_logits, shortened
from .request import Request, ShortenedOutputs
from .wrapped_model import WrappedModel


class ForwardHooks:
    """Shortens a plain `forward` by a pre-hook, and gives its logits back at full length."""

    def __init__(self, wrapped: WrappedModel) -> None:
        self.wrapped = wrapped

    def attach(self) -> list[RemovableHandle]:
        """Register the hooks."""
        model = self.wrapped.model
        return [
            model.register_forward_pre_hook(self.before, with_kwargs=True),
            model.register_forward_hook(self.after, with_kwargs=True, always_call=True),
        ]

    def before(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """The pre-hook: shortens the arguments of a plain `forward`, and lets a step of `generate` read its cache."""
        if args:
            kwargs = {**inspect.signature(module.forward).bind_partial(*args).arguments, **kwargs}
        if isinstance(kwargs.get("mm_encoder_outputs"), ShortenedOutputs):
            self.wrapped.claimed.open(cache_among(kwargs))
            self._stepping(kwargs)
            return None
        # A step of `generate` is part of a call that is counted; a compiled one takes no locks.
        if torch.compiler.is_compiling() or self.wrapped.generates():
            self.wrapped.claimed.open(cache_among(kwargs))
            return self._forward_arguments(kwargs)
        with self.wrapped.gate.call(self.wrapped.model):
            current = getattr(self.wrapped.model, "vtc", None)
            if current is None or current._forward is not self:  # wrapped again, or restored, while this call waited
                return None if current is None else current._forward.before(module, (), kwargs)
            self.wrapped.claimed.open(cache_among(kwargs))
            made = self._forward_arguments(kwargs)
            if made is not None:
                self.wrapped.gate.begin()
        return made

    def _forward_arguments(self, kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """The arguments of a plain `forward`, shortened or made to fit a shortened cache; None where they stay."""
        outputs, cache = kwargs.get("mm_encoder_outputs"), cache_among(kwargs)
        if not self.wrapped.adapter.has_media(kwargs) and not outputs:
            note = getattr(cache, "vtc", None)
            if note is not None and not torch.compiler.is_compiling():
                self.wrapped.check_layers(cache)
            if note is None and cache is None and outputs is None and not torch.compiler.is_compiling():
                self.wrapped.request(kwargs)
            return None if note is None else ((), continued(self.wrapped.adapter, note, kwargs))
        if not outputs:  # else refused for these
            self.wrapped.adapter.check_positions(kwargs)
        note = ReducedPromptInfo.of(cache)
        if note is not None and kwargs.get("attention_mask") is None and isinstance(kwargs.get("input_ids"), Tensor):
            length = note.mask.shape[1] + note.tail(cache) + kwargs["input_ids"].shape[1]
            full = note.expand(len(kwargs["input_ids"]), kwargs["input_ids"].device).full_mask(length)
            kwargs = {**kwargs, "attention_mask": full}
        request = self.wrapped.request(kwargs)
        if request is None:
            return None
        short = self._shortened(request, kwargs)
        self._stepping(short)
        return (), short

    def _stepping(self, kwargs: dict[str, Any]) -> None:
        """Give the decoder stages, if there are any, what they must know of a call that reads a prompt."""
        request = kwargs["mm_encoder_outputs"].request
        if self.wrapped.recipe.decoder and request is not None:
            kwargs[STEP] = request.step(*kwargs["input_ids"].shape)
            if kwargs.get("labels") is not None:
                kwargs[STEP].ends_before(kwargs["labels"])

    def _shortened(self, request: Request, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a plain `forward`, shortened."""
        given = {k: v for k, v in kwargs.items() if k not in self.wrapped.adapter.media_arguments}
        short = shortened(request, {**given, "position_ids": request.positions}, self.wrapped.adapter)
        wanted = kwargs.get("logits_to_keep", 0)
        if isinstance(wanted, slice):
            wanted = torch.arange(request.suffix.full_length)[wanted]
        short["mm_encoder_outputs"].logits_to_keep = wanted
        short["logits_to_keep"] = inner_logits(request.suffix, wanted)
        return short

    def after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """The hook: marks the cache, and gives logits back at full length."""
        cache = cache_among(kwargs)
        release(cache)
        if not torch.compiler.is_compiling() and not self.wrapped.generates():
            self.wrapped.gate.end()
        spliced = kwargs.get("mm_encoder_outputs")
        if (
            output is None or not isinstance(spliced, ShortenedOutputs) or spliced.request is None
        ):  # None: `forward` failed
            return None
        request, wanted = spliced.request, spliced.logits_to_keep
        if STEP in kwargs and request.trace is not None:
            request.trace.note(kwargs[STEP].kept)
        parts = output if isinstance(output, tuple) else tuple(output.values())
        cache = next((part for part in parts if hasattr(part, "get_seq_length")), cache)
        if cache is not None:  # only now that the model has filled it
            request.note(len(kwargs["input_ids"])).attach(cache)
            release(cache)
        if wanted is None:
            return None
        if isinstance(output, tuple):  # (logits, ...), or (loss, logits, ...)
            place = 0 if kwargs.get("labels") is None else 1
            return (*output[:place], full_logits(request, wanted, output[place]), *output[place + 1 :])
        output.logits = full_logits(request, wanted, output.logits)
        return output
