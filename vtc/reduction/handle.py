"""The hooks that stand between a caller and a wrapped model, and what the caller sees of them."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from vtc.adapters import Adapter
from vtc.encoder import install
from vtc.recipes.composition import Recipe

from .cache_metadata import ReducedPromptInfo, cache_among
from .call_gate import CallGate
from .compatibility import check_recipe, uses_flash, without_positions
from .decoder.engine import Engine, check_attention
from .decoder.prefill_state import STEP
from .decoder.sparse_cache import check_room, is_shortened
from .drafting import (
    drafted,
    encoded_media,
    is_draft,
    reads_prompt,
)
from .dry_call import dropped_arguments
from .feature_cache import CachedFeatures
from .guarded_cache import LedCaches, unlead
from .model_inputs import (
    continued,
    full_logits,
    inner_logits,
    shortened,
)
from .pipeline import encoder_cues
from .report import Report
from .request import Request, RequestBuilder, ShortenedOutputs

OVERRIDDEN = ("generate", "prepare_inputs_for_generation")

_reports: ContextVar[tuple[tuple[weakref.ref[Handle], Report], ...]] = ContextVar("vtc_reports", default=())
_generating: ContextVar[tuple[Handle, ...]] = ContextVar("vtc_generating", default=())


class Handle:
    """`model.vtc`: the recipe at work on a model, and the report on the last call.

    `generate` runs the stock method on the full prompt, so that lengths, streamers, processors and stopping criteria
    see what they always see; only what goes into the model itself is shortened, where `generate` prepares its inputs.
    A plain `forward` is shortened by a pre-hook, and its logits are given back at full length.
    """

    def __init__(self, model: nn.Module, adapter: Adapter, recipe: Recipe) -> None:
        self.model: Any = model
        self._adapter = adapter
        self._builder = RequestBuilder(adapter, recipe)
        self._hooks: list[RemovableHandle | Engine] = []
        self._stock: dict[str, Any] = {}
        self._flash = False
        self._gate = CallGate()
        self._dropped: tuple[str, ...] = ()
        self._led = LedCaches()

    @property
    def recipe(self) -> Recipe:
        """The recipe at work. To change it, call `reduce_tokens` again."""
        return self._builder.recipe

    @property
    def report(self) -> Report:
        """The report on the last call on this model that this thread or task made.

        Raises:
            LookupError: there was none. Reports do not pass from one thread to another: read it where the call ran.
        """
        for reference, report in _reports.get():
            if reference() is self:
                return report
        raise LookupError(
            "no call on this model was made in this thread or task yet; read model.vtc.report where the call ran"
        )

    def count(self, **inputs: Any) -> list[int]:
        """Visual tokens that go on for each item of `inputs`, structural ones among them, before any encoder runs."""
        if self.recipe.images_as == "frames":
            media = self._builder.media(inputs, None)
        else:
            media = self._adapter.media(inputs) if self._adapter.has_media(inputs) else []
        return [self.recipe.count(item.layout) + sum(item.layout.structurals) for item in media]

    def encode_once(self, held: CachedFeatures | None = None) -> AbstractContextManager[None]:
        """For a block of calls: what one encoded, the next does not encode again where it comes with the same media.

        For many questions about one video by a recipe that reads the question, so that nothing behind the encoder can
        be shared. Calls of this thread or task, and of those it starts; none that records gradients, and none where
        the recipe drops nothing, since then the stock model runs. Weights must not change within the block.

        Args:
            held: of `hold`, to go on with what an earlier block has encoded.
        """
        return (held or self.hold()).at_work()

    def hold(self) -> CachedFeatures:
        """Room for the encoding of one call, for any number of blocks of `encode_once`."""
        return CachedFeatures(self._adapter)

    def changing(self) -> AbstractContextManager[None]:
        """For the block that detaches the handle: waits for calls under way in other threads, and holds new ones.

        Raises:
            RuntimeError: a call of this thread is under way.
        """
        return self._gate.change(self.model)

    def check(self) -> None:
        """Raises ValueError where the model cannot give what the recipe needs. Changes nothing of the model."""
        check_recipe(self._adapter, self.recipe)
        self._dropped = dropped_arguments(self._adapter)
        self._builder.counts_padding = "position_ids" in self._dropped

    def attach(self) -> None:
        """Installs the hooks. Nothing stays behind if that fails."""
        try:
            self._hooks += self._adapter.listen(encoder_cues(self.recipe))
            if self.recipe.encoder is not None:
                stage = self.recipe.encoder
                self._hooks += install(self._adapter.blocks(stage.label, spread=stage.spread))
            self._hooks.append(self.model.register_forward_pre_hook(self._before_forward, with_kwargs=True))
            self._hooks.append(
                self.model.register_forward_hook(self._after_forward, with_kwargs=True, always_call=True)
            )
            self._flash = uses_flash(self._adapter.decoder)
            if self._flash:
                layers = self._adapter.decoder.layers
                self._hooks += [x.register_forward_pre_hook(without_positions, with_kwargs=True) for x in layers]
            if self.recipe.decoder:
                engine = Engine(self._adapter.decoder, self.recipe.decoder)
                self._hooks.append(engine)
                engine.attach()
        except Exception:
            self.detach()
            raise
        self._stock = {name: self.model.__dict__[name] for name in OVERRIDDEN if name in self.model.__dict__}
        self.model.generate = self.generate
        self.model.prepare_inputs_for_generation = self.prepare_inputs_for_generation
        self.model.vtc = self

    def detach(self) -> None:
        """Removes every hook; the model is what it was. What others put over the overridden methods stays."""
        self._led.close()
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        own = self.model.__dict__
        if own.get("vtc") is self:
            for name in OVERRIDDEN:
                if getattr(own.get(name), "__self__", None) is self:
                    del own[name]
                    own.update({name: self._stock[name]} if name in self._stock else {})
            del own["vtc"]

    def _call_stock(self, name: str, *args: Any, **kwargs: Any) -> Any:
        if name in self._stock:
            return self._stock[name](*args, **kwargs)
        return getattr(type(self.model), name)(self.model, *args, **kwargs)

    def _note(self, report: Report) -> None:
        if self._generates():
            return  # a call inside of a call, such as one that guides it: the outer one is reported
        others = [pair for pair in _reports.get() if pair[0]() not in (None, self)]
        _reports.set((*others, (weakref.ref(self), report)))

    def _request(self, inputs: Mapping[str, Any], drafts: bool = False) -> Request | None:
        """The request that `inputs` make, noted in the report; None where nothing is dropped."""
        encoded = {k: v for k, v in (inputs.get("mm_encoder_outputs") or {}).items() if v is not None}
        if encoded and not drafts:
            raise ValueError(
                f"mm_encoder_outputs={list(encoded)}: a wrapped model encodes media itself; pass the pixels instead"
            )
        videos = "pixel_values_videos"
        if inputs.get(videos) is not None and videos not in self._adapter.media_arguments:
            # Many a stock `forward` passes by what it does not know.
            raise ValueError(f"{videos}: {type(self.model).__name__} takes no videos; pass frames as images")
        if self._flash != uses_flash(self._adapter.decoder):
            raise ValueError("the attention implementation was changed after wrapping; call reduce_tokens again")
        if self.recipe.decoder:
            check_attention(self._adapter.decoder)
        cache, ids = cache_among(inputs), inputs.get("input_ids")
        self._check_layers(cache)
        base = ReducedPromptInfo.of(cache)
        if base is not None and isinstance(ids, Tensor):
            base = base.expand(len(ids), ids.device)
        prefix = base.grown(cache) if base is not None else None
        media = encoded_media(encoded, self._adapter, self.recipe) if encoded else self._builder.media(inputs, prefix)
        if not media and base is None:
            self._check_text(ids, cache)
            self._note(Report(self.recipe.name, ()))
            return None
        if base is None and cache is not None and int(cache.get_seq_length()) > 0:
            raise ValueError(
                f"the cache holds {int(cache.get_seq_length())} tokens of turns in which this recipe dropped "
                "nothing, or of another model, and what they stand for is not known; give the whole conversation "
                "without the cache"
            )
        request, report = self._builder.build(inputs, media, prefix, base, always=drafts)
        self._note(report)
        return request

    def _check_layers(self, cache: Any) -> None:
        """Refuses a cache that tokens left inside the decoder, where nothing here would make masks fit its layers."""
        if not self.recipe.decoder and any(is_shortened(layer) for layer in getattr(cache, "layers", ())):
            raise ValueError(
                "the cache holds a prompt that visual tokens left inside the language model; go on with a "
                "recipe that has decoder stages, or start anew"
            )

    def _check_text(self, ids: Any, cache: Any) -> None:
        """Refuses placeholders that no media came with."""
        if not isinstance(ids, Tensor) or (cache is not None and int(cache.get_seq_length()) > 0):
            return
        for modality, token in self._adapter.placeholders.items():
            count = int((ids == token).sum())
            if count:
                raise ValueError(
                    f"input_ids hold {count} placeholders of id {token}, but no {modality} was passed; pass all that "
                    "the processor returned"
                )

    @torch.no_grad()
    def generate(self, inputs: Tensor | None = None, generation_config: Any = None, *args: Any, **kwargs: Any) -> Any:
        """The model's own `generate`, from fewer visual tokens. Arguments and answer are the stock method's.

        `hidden_states` and `attentions`, where asked for, have the length of the shortened prompt.

        Raises:
            ValueError: right padding, chunked prefill, or media that do not fit the prompt.
        """
        with self._gate.call(self.model):
            if self.model.__dict__.get("vtc") is not self:  # kept by somebody across `restore`
                return self.model.generate(inputs, generation_config, *args, **kwargs)
            return self._generate(inputs, generation_config, *args, **kwargs)

    def _generate(self, inputs: Tensor | None, generation_config: Any, *args: Any, **kwargs: Any) -> Any:
        if inputs is not None and kwargs.get("input_ids") is not None:
            raise ValueError("inputs and input_ids were both given; pass one")
        if inputs is not None:
            kwargs["input_ids"] = inputs
        config = self.model._prepare_generation_config(generation_config, **kwargs)[0]
        drafts = is_draft(config)
        if drafts:
            kwargs = drafted(kwargs, self._adapter)
        # A draft's prompt may end in a padding token that was generated.
        inferred = None if drafts else self._inferred_mask(kwargs, config)
        request = self._request(kwargs if inferred is None else {**kwargs, "attention_mask": inferred}, drafts)
        if request is not None:
            _check_generation(request, config)
            pixels = {name: kwargs[name] for name in self._adapter.media_arguments if name in kwargs}
            request = replace(request, drafts=drafts, pixels=pixels if kwargs.get("assistant_model") else {})
            kwargs = {k: v for k, v in kwargs.items() if k not in self._adapter.media_arguments}
            kwargs["position_ids"] = request.positions
            kwargs["mm_encoder_outputs"] = {"vtc": request}
            # Always an explicit mask: stock `generate` would infer one from padding where there is none.
            kwargs["attention_mask"] = request.mask.long()
        token = _generating.set((*_generating.get(), self))
        try:
            return self._call_stock("generate", None, generation_config, *args, **kwargs)
        finally:
            _generating.reset(token)

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
            given = shortened(request, given, self._adapter)
            held = int(cache.get_seq_length()) if cache is not None else 0
            if next_sequence_length is not None and held:
                next_sequence_length = given["input_ids"].shape[1] - held
        elif request is not None and (attention_mask is not None or request.padded):
            rows = len(input_ids)
            full = attention_mask if attention_mask is not None else self._grown_mask(request, input_ids)
            given["attention_mask"] = request.splice.expand(rows).take(full, 0)
        if request is not None and self.recipe.decoder:  # here, since a compiled step cannot be stopped
            done = request.splice
            check_room(cache, input_ids.shape[1] + request.offset - done.full_length, done.short_length)
        # Without a cache an explicit mask must stay: else gaps in the positions read as packed sequences.
        if request is not None and attention_mask is None and not request.padded and cache is not None:
            given["attention_mask"] = None
        if inputs_embeds is not None:
            given["inputs_embeds"] = inputs_embeds
        made = self._call_stock(
            "prepare_inputs_for_generation",
            given.pop("input_ids"),
            next_sequence_length=next_sequence_length,
            is_first_iteration=is_first_iteration,
            **given,
        )
        return made if request is None else self._with_dropped(made, given)

    def _with_dropped(self, made: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """Puts back what the class's own method leaves out, and would count anew from the shortened prompt."""
        ids = made["input_ids"]
        lost = [name for name in self._dropped if given.get(name) is not None and made.get(name) is None]
        return {**made, **{name: given[name][..., -ids.shape[1] :].to(ids.device) for name in lost}}

    @staticmethod
    def _grown_mask(request: Request, ids: Tensor) -> Tensor:
        """The full mask of a conversation whose prompt holds no padding, while its answers grow."""
        return request.note(len(ids)).full_mask(ids.shape[1] + request.offset)

    def _before_forward(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if args:
            kwargs = {**inspect.signature(module.forward).bind_partial(*args).arguments, **kwargs}
        if isinstance(kwargs.get("mm_encoder_outputs"), ShortenedOutputs):
            self._led.open(cache_among(kwargs))
            self._stepping(kwargs)
            return None
        # A step of `generate` is part of a call that is counted; a compiled one takes no locks.
        if torch.compiler.is_compiling() or self._generates():
            self._led.open(cache_among(kwargs))
            return self._forward_arguments(kwargs)
        with self._gate.call(self.model):
            current = self.model.__dict__.get("vtc")
            if current is not self:  # wrapped anew, or restored, while this call waited
                return current._before_forward(module, (), kwargs) if isinstance(current, Handle) else None
            self._led.open(cache_among(kwargs))
            made = self._forward_arguments(kwargs)
            if made is not None:
                self._gate.begin()
        return made

    def _forward_arguments(self, kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """The arguments of a plain `forward`, shortened or made to fit a shortened cache; None where they stay."""
        outputs, cache = kwargs.get("mm_encoder_outputs"), cache_among(kwargs)
        if not self._adapter.has_media(kwargs) and not outputs:
            note = getattr(cache, "vtc", None)
            if note is not None and not torch.compiler.is_compiling():
                self._check_layers(cache)
            if note is None and cache is None and outputs is None and not torch.compiler.is_compiling():
                self._request(kwargs)
            return None if note is None else ((), continued(self._adapter, note, kwargs))
        if not outputs:  # else refused for these
            self._adapter.check_positions(kwargs)
        note = ReducedPromptInfo.of(cache)
        if note is not None and kwargs.get("attention_mask") is None and isinstance(kwargs.get("input_ids"), Tensor):
            length = note.mask.shape[1] + note.tail(cache) + kwargs["input_ids"].shape[1]
            full = note.expand(len(kwargs["input_ids"]), kwargs["input_ids"].device).full_mask(length)
            kwargs = {**kwargs, "attention_mask": full}
        request = self._request(kwargs)
        if request is None:
            return None
        short = self._shortened(request, kwargs)
        self._stepping(short)
        return (), short

    def _generates(self) -> bool:
        """Whether this thread or task is inside of `generate` on this model."""
        return any(handle is self for handle in _generating.get())

    def _stepping(self, kwargs: dict[str, Any]) -> None:
        """Gives the decoder stages, if there are any, what they must know of a call that reads a prompt."""
        request = kwargs["mm_encoder_outputs"].request
        if self.recipe.decoder and request is not None:
            kwargs[STEP] = request.step(*kwargs["input_ids"].shape)
            if kwargs.get("labels") is not None:
                kwargs[STEP].ends_before(kwargs["labels"])

    def _shortened(self, request: Request, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a plain `forward`, shortened."""
        given = {k: v for k, v in kwargs.items() if k not in self._adapter.media_arguments}
        short = shortened(request, {**given, "position_ids": request.positions}, self._adapter)
        wanted = kwargs.get("logits_to_keep", 0)
        if isinstance(wanted, slice):
            wanted = torch.arange(request.suffix.full_length)[wanted]
        short["mm_encoder_outputs"].logits_to_keep = wanted
        short["logits_to_keep"] = inner_logits(request.suffix, wanted)
        return short

    def _after_forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        cache = cache_among(kwargs)
        unlead(cache)
        if not torch.compiler.is_compiling() and not self._generates():
            self._gate.end()
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
            unlead(cache)
        if wanted is None:
            return None
        if isinstance(output, tuple):  # (logits, ...), or (loss, logits, ...)
            place = 0 if kwargs.get("labels") is None else 1
            return (*output[:place], full_logits(request, wanted, output[place]), *output[place + 1 :])
        output.logits = full_logits(request, wanted, output.logits)
        return output


def _check_generation(request: Request, config: Any) -> None:
    """Refuses what would generate wrong answers."""
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
