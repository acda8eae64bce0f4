"""What stands in front of `generate` and of the method that prepares its steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .cache_metadata import cache_among
from .decoder.sparse_cache import check_room
from .drafting import drafted, is_draft, reads_prompt
from .model_inputs import shortened
from .request import Request, ShortenedOutputs
from .wrapped_model import WrappedModel

OVERRIDDEN = ("generate", "prepare_inputs_for_generation")
"""The methods that are overridden on the instance."""


class GenerateHooks:
    """Runs the stock `generate` on the full prompt, and shortens the inputs that it prepares for the model.

    So lengths, streamers, processors and stopping criteria see what they always see.
    """

    def __init__(self, wrapped: WrappedModel) -> None:
        self.wrapped = wrapped

    def attach(self) -> None:
        """Put the hooks on the instance."""
        own = self.wrapped.model.__dict__
        self.wrapped.stock = {name: own[name] for name in OVERRIDDEN if name in own}
        for name in OVERRIDDEN:
            setattr(self.wrapped.model, name, getattr(self, name))

    def detach(self) -> None:
        """Take them off. What others put over the overridden methods stays."""
        own, stock = self.wrapped.model.__dict__, self.wrapped.stock
        for name in OVERRIDDEN:
            if getattr(own.get(name), "__self__", None) is self:
                del own[name]
                own.update({name: stock[name]} if name in stock else {})

    @torch.no_grad()
    def generate(self, inputs: Tensor | None = None, generation_config: Any = None, *args: Any, **kwargs: Any) -> Any:
        """The model's own `generate`, from fewer visual tokens. Arguments and answer are the stock method's.

        `hidden_states` and `attentions`, where asked for, have the length of the shortened prompt.

        Raises:
            ValueError: right padding, chunked prefill, or media that do not fit the prompt.
        """
        with self.wrapped.gate.call(self.wrapped.model):
            current = getattr(self.wrapped.model, "vtc", None)
            if current is None or current._generate is not self:  # kept by somebody across `restore`
                return self.wrapped.model.generate(inputs, generation_config, *args, **kwargs)
            return self._generate(inputs, generation_config, *args, **kwargs)

    def _generate(self, inputs: Tensor | None, generation_config: Any, *args: Any, **kwargs: Any) -> Any:
        if inputs is not None and kwargs.get("input_ids") is not None:
            raise ValueError("inputs and input_ids were both given; pass one")
        if inputs is not None:
            kwargs["input_ids"] = inputs
        config = self.wrapped.model._prepare_generation_config(generation_config, **kwargs)[0]
        drafts = is_draft(config)
        if drafts:
            kwargs = drafted(kwargs, self.wrapped.adapter)
        # A draft's prompt may end in a padding token that was generated.
        inferred = None if drafts else self._inferred_mask(kwargs, config)
        request = self.wrapped.request(kwargs if inferred is None else {**kwargs, "attention_mask": inferred}, drafts)
        if request is not None:
            _check_generation(request, config)
            pixels = {name: kwargs[name] for name in self.wrapped.adapter.media_arguments if name in kwargs}
            request = replace(request, drafts=drafts, pixels=pixels if kwargs.get("assistant_model") else {})
            kwargs = {k: v for k, v in kwargs.items() if k not in self.wrapped.adapter.media_arguments}
            kwargs["position_ids"] = request.positions
            kwargs["mm_encoder_outputs"] = {"vtc": request}
            # Always an explicit mask: stock `generate` would infer one from padding where there is none.
            kwargs["attention_mask"] = request.mask.long()
        with self.wrapped.generation():
            return self.wrapped.call_stock("generate", None, generation_config, *args, **kwargs)

    @staticmethod
    def _inferred_mask(kwargs: Mapping[str, Any], config: Any) -> Tensor | None:
        """The mask that stock `generate` infers from padding where the caller gave none; None where there is none."""
        ids, note = kwargs.get("input_ids"), getattr(cache_among(kwargs), "vtc", None)
        pad, ends = (_ids(value) for value in (config.pad_token_id, config.eos_token_id))
        if kwargs.get("attention_mask") is not None or not isinstance(ids, Tensor) or not pad or set(pad) & set(ends):
            return None
        only_new = note is not None and ids.shape[1] <= note.mask.shape[1]
        return None if only_new or not bool((ids == pad[0]).any()) else (ids != pad[0]).long()

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        next_sequence_length: int | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        is_first_iteration: bool | None = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The stock method, given the shortened prompt. `generate` calls it before each step of the model."""
        outputs, cache = kwargs.get("mm_encoder_outputs"), cache_among(kwargs)
        request = outputs.get("vtc") if isinstance(outputs, dict) else None
        given = {"input_ids": input_ids, "attention_mask": attention_mask, **kwargs}
        if request is None and outputs:  # a request that nothing is taken from: the forward hooks leave it alone
            given["mm_encoder_outputs"] = ShortenedOutputs(outputs)
        elif request is not None and (is_first_iteration or cache is None or reads_prompt(request, cache)):
            is_first_iteration = is_first_iteration or request.drafts
            given = shortened(request, given, self.wrapped.adapter)
            held = int(cache.get_seq_length()) if cache is not None else 0
            if next_sequence_length is not None and held:
                next_sequence_length = given["input_ids"].shape[1] - held
        elif request is not None and (attention_mask is not None or request.padded):
            rows = len(input_ids)
            full = attention_mask if attention_mask is not None else self._grown_mask(request, input_ids)
            given["attention_mask"] = request.splice.expand(rows).take(full, 0)
        if request is not None and self.wrapped.recipe.decoder:  # here, since a compiled step cannot be stopped
            done = request.splice
            check_room(cache, input_ids.shape[1] + request.offset - done.full_length, done.short_length)
        # Without a cache an explicit mask must stay: else gaps in the positions read as packed sequences.
        if request is not None and attention_mask is None and not request.padded and cache is not None:
            given["attention_mask"] = None
        if inputs_embeds is not None:
            given["inputs_embeds"] = inputs_embeds
        made = self.wrapped.call_stock(
            "prepare_inputs_for_generation",
            given.pop("input_ids"),
            next_sequence_length=next_sequence_length,
            is_first_iteration=is_first_iteration,
            **given,
        )
        return made if request is None else self._with_dropped(made, given)

    def _with_dropped(self, made: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """Put back what the class's own method leaves out, and would count again from the shortened prompt."""
        ids = made["input_ids"]
        lost = [name for name in self.wrapped.dropped if given.get(name) is not None and made.get(name) is None]
        return {**made, **{name: given[name][..., -ids.shape[1] :].to(ids.device) for name in lost}}

    @staticmethod
    def _grown_mask(request: Request, ids: Tensor) -> Tensor:
        """The full mask of a conversation whose prompt holds no padding, while its answers grow."""
        return request.note(len(ids)).full_mask(ids.shape[1] + request.offset)


def _check_generation(request: Request, config: Any) -> None:
    """Refuse what would generate wrong answers."""
    padded = torch.nonzero(~request.mask[:, -1]).flatten().tolist()
    if padded:
        raise ValueError(
            f"attention_mask: rows {padded} end in padding, and tokens would be generated after it; set "
            "processor.tokenizer.padding_side = 'left'"
        )
    if config.prefill_chunk_size is not None:
        raise ValueError(
            f"prefill_chunk_size={config.prefill_chunk_size}: a shortened prompt is not cut into chunks; leave it None"
        )


def _ids(value: Any) -> list[int]:
    """Token ids given as None, a number, a list or a tensor."""
    return [] if value is None else torch.as_tensor(value).flatten().tolist()
