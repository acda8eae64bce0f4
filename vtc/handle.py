"""The hooks that stand between a caller and a wrapped model, and what the caller sees of them."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from vtc.adapters import Adapter

from .prompt import Splice
from .recipes import Recipe
from .report import Report
from .request import ID_SHAPED, CachedPrompt, Request, RequestBuilder, Spliced

OVERRIDDEN = ("generate", "prepare_inputs_for_generation")

_reports: ContextVar[tuple[tuple[weakref.ref[Handle], Report], ...]] = ContextVar("vtc_reports", default=())

_in_generate: ContextVar[bool] = ContextVar("vtc_in_generate", default=False)


class Handle:
    """`model.vtc`: the recipe at work on a model, and the report on the last call.

    `generate` runs the stock method on the full prompt, so that lengths, streamers, processors and stopping criteria
    see what they always see; only what goes into the model itself is shortened, where `generate` prepares its inputs.
    A plain `forward` is shortened by a pre-hook, and its logits are given back at full length.
    """

    def __init__(self, model: nn.Module, adapter: Adapter, recipe: Recipe) -> None:
        self.model: Any = model
        self.recipe = recipe
        self._adapter = adapter
        self._builder = RequestBuilder(adapter, recipe)
        self._hooks: list[RemovableHandle] = []
        self._stock: dict[str, Any] = {}
        self._flash = False

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
        media = self._adapter.media(inputs)
        return [self.recipe.count(item.layout) + sum(item.layout.structurals) for item in media]

    def check(self) -> None:
        """Raises ValueError where the model cannot give a cue that the recipe needs. Changes nothing."""
        self._adapter.taps(self.recipe.cues)

    def attach(self) -> None:
        """Installs the hooks. Nothing stays behind if that fails."""
        try:
            self._hooks += self._adapter.listen(self.recipe.cues)
            self._hooks.append(self.model.register_forward_pre_hook(self._before_forward, with_kwargs=True))
            self._hooks.append(self.model.register_forward_hook(self._after_forward, with_kwargs=True))
            self._flash = self._uses_flash()
            if self._flash:
                layers = self.model.get_decoder().layers
                self._hooks += [x.register_forward_pre_hook(_without_positions, with_kwargs=True) for x in layers]
        except Exception:
            self.detach()
            raise
        self._stock = {name: self.model.__dict__[name] for name in OVERRIDDEN if name in self.model.__dict__}
        self.model.generate = self.generate
        self.model.prepare_inputs_for_generation = self.prepare_inputs_for_generation
        self.model.vtc = self

    def detach(self) -> None:
        """Removes every hook; the model is what it was."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        if self.model.__dict__.get("vtc") is self:
            for name in OVERRIDDEN:
                del self.model.__dict__[name]
            self.model.__dict__.update(self._stock)
            del self.model.__dict__["vtc"]

    def _uses_flash(self) -> bool:
        implementation = getattr(self.model.get_decoder().config, "_attn_implementation", None)
        return isinstance(implementation, str) and "flash" in implementation

    def _call_stock(self, name: str, *args: Any, **kwargs: Any) -> Any:
        if name in self._stock:
            return self._stock[name](*args, **kwargs)
        return getattr(type(self.model), name)(self.model, *args, **kwargs)

    def _note(self, report: Report) -> None:
        others = [pair for pair in _reports.get() if pair[0]() not in (None, self)]
        _reports.set((*others, (weakref.ref(self), report)))

    def _request(self, inputs: Mapping[str, Any]) -> Request | None:
        """The request that `inputs` make, noted in the report; None where the stock model does the right thing."""
        encoded = {k: v for k, v in (inputs.get("mm_encoder_outputs") or {}).items() if v is not None}
        if encoded:
            raise ValueError(
                f"mm_encoder_outputs={list(encoded)}: a wrapped model encodes media itself; pass the pixels"
            )
        cache = inputs.get("past_key_values")
        base = CachedPrompt.of(cache)
        media = self._adapter.media(inputs)
        if self._flash != self._uses_flash():
            raise ValueError("the attention implementation was changed after wrapping; call reduce_tokens again")
        if not media and base is None:
            self._note(Report(self.recipe.name, ()))
            return None
        if base is None and cache is not None and int(cache.get_seq_length()) > 0:
            raise ValueError(
                f"past_key_values holds {int(cache.get_seq_length())} tokens that this wrapped model did not put "
                "there; start the conversation on the wrapped model"
            )
        prefix = base.grown(cache) if base is not None else None
        request, report = self._builder.build(inputs, media, prefix, base)
        self._note(report)
        return request

    def generate(self, inputs: Tensor | None = None, generation_config: Any = None, *args: Any, **kwargs: Any) -> Any:
        """The model's own `generate`, from fewer visual tokens. Arguments and answer are the stock method's.

        Raises:
            ValueError: right padding, chunked prefill, or media that do not fit the prompt.
        """
        if inputs is not None:
            kwargs["input_ids"] = inputs
        inferred = self._inferred_mask(kwargs, generation_config)
        request = self._request(kwargs if inferred is None else {**kwargs, "attention_mask": inferred})
        if request is not None:
            self._check_generation(kwargs, generation_config)
            kwargs = {k: v for k, v in kwargs.items() if k not in self._adapter.media_arguments}
            kwargs["position_ids"] = request.positions
            kwargs["mm_encoder_outputs"] = {"vtc": request}
            # Always an explicit mask: stock `generate` would infer one from padding where there is none.
            kwargs["attention_mask"] = request.mask.to(torch.int64)
        token = _in_generate.set(True)
        try:
            return self._call_stock("generate", None, generation_config, *args, **kwargs)
        finally:
            _in_generate.reset(token)

    def _inferred_mask(self, kwargs: Mapping[str, Any], config: Any) -> Tensor | None:
        """The mask that stock `generate` infers from padding where the caller gave none; None where there is none."""
        ids = kwargs.get("input_ids")
        config = config if config is not None else self.model.generation_config
        pad = kwargs.get("pad_token_id", config.pad_token_id)
        eos = kwargs.get("eos_token_id", config.eos_token_id)
        ends = eos if isinstance(eos, (list, tuple)) else [eos]
        if kwargs.get("attention_mask") is not None or not isinstance(ids, Tensor) or pad is None or pad in ends:
            return None
        return (ids != pad).long() if bool((ids == pad).any()) else None

    def _check_generation(self, kwargs: Mapping[str, Any], config: Any) -> None:
        mask = kwargs.get("attention_mask")
        if mask is not None and bool((mask[:, -1] == 0).any()):
            rows = torch.nonzero(mask[:, -1] == 0).flatten().tolist()
            raise ValueError(
                f"attention_mask: rows {rows} end in padding, and tokens would be generated after it; set "
                "processor.tokenizer.padding_side = 'left'"
            )
        config = config if config is not None else self.model.generation_config
        chunk = kwargs.get("prefill_chunk_size", getattr(config, "prefill_chunk_size", None))
        if chunk is not None:
            raise ValueError(f"prefill_chunk_size={chunk}: a shortened prompt is not cut into chunks; leave it None")

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        next_sequence_length: int | None = None,
        past_key_values: Any = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        is_first_iteration: bool | None = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The stock method, given the shortened prompt. `generate` calls it before each step of the model."""
        outputs = kwargs.get("mm_encoder_outputs")
        request = outputs.get("vtc") if isinstance(outputs, dict) else None
        given = {"attention_mask": attention_mask, **kwargs}
        if request is not None and (is_first_iteration or past_key_values is None):
            input_ids, given = self._short_prompt(request, input_ids, given)
            held = int(past_key_values.get_seq_length()) if past_key_values is not None else 0
            if next_sequence_length is not None and held:
                next_sequence_length = input_ids.shape[1] - held
            if past_key_values is not None:
                request.cached(len(input_ids)).attach(past_key_values)
        elif request is not None:
            splice, length = request.splice.expand(len(input_ids)), input_ids.shape[1] + request.offset
            given["attention_mask"] = _short_mask(request, splice, attention_mask, length)
        if inputs_embeds is not None:
            given["inputs_embeds"] = inputs_embeds
        return self._call_stock(
            "prepare_inputs_for_generation",
            input_ids,
            next_sequence_length=next_sequence_length,
            past_key_values=past_key_values,
            is_first_iteration=is_first_iteration,
            **given,
        )

    def _short_prompt(self, request: Request, ids: Tensor, given: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """Ids and the other arguments of a step that reads the whole prompt, shortened."""
        rows = len(ids)
        splice = request.splice.expand(rows)
        own = request.suffix.expand(rows) if request.offset else splice
        given = dict(given)
        mask = _short_mask(request, splice, given["attention_mask"], ids.shape[1] + request.offset)
        given["attention_mask"] = mask
        if given.get("position_ids") is not None:
            given["position_ids"] = with_text_row(splice.take(given["position_ids"], 0), mask)
        for name in ID_SHAPED:
            if given.get(name) is not None:
                given[name] = (own if given[name].shape[1] == ids.shape[1] else splice).take(given[name], 0)
        given["mm_encoder_outputs"] = Spliced(request.media_outputs(rows))
        return own.take(ids, self._filler()), given

    def _filler(self) -> int:
        """An id for padded slots: never a placeholder."""
        pad = getattr(self.model.config.get_text_config(), "pad_token_id", None)
        taken = set(self._adapter.placeholders.values())
        return next(i for i in (pad, 0, 1, 2, 3) if isinstance(i, int) and i not in taken)

    def _before_forward(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if isinstance(kwargs.get("mm_encoder_outputs"), Spliced):
            return None
        if args:
            kwargs = {**inspect.signature(module.forward).bind_partial(*args).arguments, **kwargs}
        note = getattr(kwargs.get("past_key_values"), "vtc", None)
        if all(kwargs.get(name) is None for name in (*self._adapter.media_arguments, "mm_encoder_outputs")):
            if note is None and kwargs.get("past_key_values") is None and not torch.compiler.is_compiling():
                self._note(Report(self.recipe.name, ()))
            return None if note is None else ((), _continue(self._adapter, note, kwargs))
        if _in_generate.get():  # stock `generate` on a request that nothing is taken from
            return None
        note = CachedPrompt.of(kwargs.get("past_key_values"))
        if note is not None and kwargs.get("attention_mask") is None:
            length = note.grown(kwargs["past_key_values"]).full_length + kwargs["input_ids"].shape[1]
            kwargs = {**kwargs, "attention_mask": note.full_mask(length)}
        request = self._request(kwargs)
        return None if request is None else ((), self._shortened(request, kwargs))

    def _shortened(self, request: Request, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a plain `forward`, shortened."""
        splice, suffix = request.splice, request.suffix
        short = {k: v for k, v in kwargs.items() if k not in self._adapter.media_arguments}
        short["input_ids"] = suffix.take(kwargs["input_ids"], self._filler())
        mask = kwargs.get("attention_mask")
        # An explicit mask, even of ones: without one and without a cache, gaps in the positions would be read as
        # several packed sequences.
        dtype = torch.int64 if mask is None else mask.dtype
        short["attention_mask"] = splice.attention_mask(mask, splice.full_length, dtype)
        own = short["attention_mask"][:, -suffix.short_length :]
        done = splice.full_length - suffix.full_length
        short["position_ids"] = with_text_row(suffix.take(request.positions[..., done:], 0), own)
        if kwargs.get("labels") is not None:
            short["labels"] = suffix.take(kwargs["labels"], -100)
        for name in ID_SHAPED:
            if kwargs.get(name) is not None:
                short[name] = suffix.take(kwargs[name][:, -suffix.full_length :], 0)
        outputs = Spliced(request.media_outputs(len(short["input_ids"])))
        outputs.request, outputs.logits_to_keep = request, kwargs.get("logits_to_keep", 0)
        short["mm_encoder_outputs"] = outputs
        short["logits_to_keep"] = _inner_logits(suffix, outputs.logits_to_keep)
        return short

    def _after_forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        spliced = kwargs.get("mm_encoder_outputs")
        if not isinstance(spliced, Spliced) or spliced.request is None:
            return None
        request = spliced.request
        if isinstance(output, tuple):  # (logits, ...), or (loss, logits, ...)
            place = 0 if kwargs.get("labels") is None else 1
            return (*output[:place], _full_logits(request, spliced, output[place]), *output[place + 1 :])
        output.logits = _full_logits(request, spliced, output.logits)
        if getattr(output, "past_key_values", None) is not None:
            request.cached(len(request.delta)).attach(output.past_key_values)
        return output


def with_text_row(positions: Tensor, mask: Tensor | None) -> Tensor:
    """Makes the first row of `[4, B, S]` positions count the short prompt's tokens, so that it shows no gaps."""
    if positions.ndim != 3 or len(positions) != 4:
        return positions
    text = positions.new_ones(positions.shape[1:]) if mask is None else mask[:, -positions.shape[-1] :].to(positions)
    return torch.cat([(text.cumsum(-1) - 1).clamp_min(0)[None], positions[1:]])


def _inner_logits(suffix: Splice, wanted: int | Tensor) -> int:
    """How many last logits of the short prompt hold all that the caller wants of the full one; 0 for all."""
    if isinstance(wanted, Tensor) or wanted == 0:
        return 0
    return int(suffix.short_length - suffix.nearest[:, -wanted:].min())


def _full_logits(request: Request, spliced: Spliced, logits: Tensor) -> Tensor:
    """Logits at the length that the caller's prompt has: a dropped token repeats those of the kept one before it."""
    nearest = request.suffix.nearest.to(logits.device)
    wanted = spliced.logits_to_keep
    nearest = nearest[:, wanted] if isinstance(wanted, Tensor) else nearest[:, -wanted:] if wanted else nearest
    place = nearest - (request.suffix.short_length - logits.shape[1])
    return logits[torch.arange(len(logits), device=logits.device)[:, None], place]


def _continue(adapter: Adapter, note: CachedPrompt, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a `forward` that goes on from a cache of reduced media: mask and positions as the cache has them.

    Inside `generate` both are in place already: positions are given, and the mask has the cache's own length.
    """
    mask, ids, positions = (kwargs.get(name) for name in ("attention_mask", "input_ids", "position_ids"))
    if ids is None or (mask is None and positions is not None) or (isinstance(mask, Tensor) and mask.ndim != 2):
        return kwargs
    splice = note.grown(kwargs["past_key_values"])
    length = splice.full_length + ids.shape[1]
    if mask is None:
        mask = note.full_mask(length)
    if not isinstance(mask, Tensor) or mask.shape[1] != length:
        return kwargs
    if positions is None:
        start = mask[:, : splice.full_length].long().sum(dim=1) + note.delta.to(mask.device)
        positions = adapter.text_positions(start, mask[:, splice.full_length :])
    return {**kwargs, "attention_mask": splice.attention_mask(mask, length, mask.dtype), "position_ids": positions}


def _short_mask(request: Request, splice: Splice, mask: Tensor | None, length: int) -> Tensor | None:
    """The short mask, or None where stock `generate` dropped an all-ones mask and the short one is so too."""
    if mask is None and not request.padded:
        return None
    return splice.attention_mask(mask, length, torch.int64 if mask is None else mask.dtype)


def _without_positions(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Flash attention reads gaps in position ids as packed sequences; layers need only the rotary angles."""
    return (args, {**kwargs, "position_ids": None}) if kwargs.get("position_ids") is not None else None
