"""Runs `generate` once and captures the language model's inputs at prefill and its answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vtc.adapters import find
from vtc.adapters.decoders import CACHE_NAMES, decoder_of
from vtc.reduction.cache_metadata import full_mask
from vtc.reduction.report import Report

SMALL = 50_000_000
"""Parameters below which threads of a CPU cost more than they bring."""


PLACED = ("input_ids", "attention_mask", "position_ids", "visual_pos_masks")
"""Arguments by token of a language model that `DecoderInputs` holds by other names."""


@dataclass(frozen=True)
class DecoderInputs:
    """Decoder inputs of one batch row at prefill, padding removed.

    Attributes:
        embeds: `[S, D]`.
        ids: `[rows, S]` its position ids: one row, or (t, h, w), or text before these three.
        planes: each `[V, D]`, what the first layers add to the visual tokens (DeepStack).
        visual: `[S]` bool, where they are added.
        marks: each `[S]`, integers by token that the model reads besides, such as which experts a token goes to; by the
            argument's name. Empty `[0]` where it had another length than the prompt.
        per_layer: `[S, layers, D]` what the model looked up for each token beside its embedding (Gemma 4), or None.
    """

    embeds: Tensor
    ids: Tensor
    planes: tuple[Tensor, ...]
    visual: Tensor
    marks: Mapping[str, Tensor] = field(default_factory=dict)
    per_layer: Tensor | None = None

    @property
    def places(self) -> Tensor:
        """`[axes, S]` coordinates: of one axis, or of three."""
        return self.ids[-3:] if len(self.ids) == 4 else self.ids


@dataclass(frozen=True)
class GenerationCapture:
    """One call of `generate`.

    Attributes:
        tokens, logits: `[B, T]` and `[B, T, V]` fp32, of each step, on the CPU.
        decoder_inputs: of each row, of the first call of the language model.
        report: of a wrapped model.
        widths: the sequence length at the entry of each layer in the first call, padding included.
    """

    tokens: Tensor
    logits: Tensor
    decoder_inputs: tuple[DecoderInputs, ...]
    report: Report | None = None
    widths: tuple[int, ...] = ()

    def kept(self, row: int) -> list[list[int]]:
        """Return the indices of the kept tokens of each item of a row."""
        items = self.report.items if self.report is not None else ()
        return [item.reduction.anchor.tolist() for item in items if item.row == row]

    def inside(self, row: int) -> list[tuple[int, list[int]]]:
        """Return the layers at which tokens were dropped, each with the indices that remained of each item of a row."""
        trace = self.report.decoder if self.report is not None else None
        kept = trace.kept.items() if trace is not None else ()
        items = [n for n, own in enumerate(trace.rows) if own == row] if trace is not None else []
        return [(layer, found[n].tolist()) for layer, found in kept for n in items]


def generate(model: Any, inputs: Mapping[str, Any], tokens: int, **options: Any) -> GenerationCapture:
    """Generate greedily, without early stop and without placeholders, whatever the checkpoint's own settings are.

    Without a cache, stock models would take a placeholder that they wrote themselves for one of an image.
    """
    return _answer(model, inputs, tokens, options)[0]


def two_turns(
    model: Any, inputs: Mapping[str, Any], words: Tensor, tokens: int
) -> tuple[GenerationCapture, GenerationCapture]:
    """Answer a prompt of one row, then a second turn `words` `[1, W]` from its cache."""
    first, left = _answer(model, inputs, tokens, {})
    ids = torch.cat([inputs["input_ids"], first.tokens.to(words.device), words], dim=1)
    mask = full_mask(inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])), ids.shape[1])
    second = {"input_ids": ids, "attention_mask": mask, **left}
    return first, _answer(model, second, tokens, {})[0]


def _answer(
    model: Any, inputs: Mapping[str, Any], tokens: int, options: Mapping[str, Any]
) -> tuple[GenerationCapture, dict[str, Any]]:
    """Return a run, and its cache under the name of `generate`'s argument."""
    placeholders = sorted(set(find(model).placeholders.values()))
    unset = {name: None for name in ("temperature", "top_p", "top_k") if getattr(model.generation_config, name, None)}
    settings = {"do_sample": False, "num_beams": 1, "eos_token_id": None, "suppress_tokens": placeholders, **unset}
    with _first_call(model) as first_call:
        out = model.generate(
            **inputs,
            **{**settings, "max_new_tokens": tokens, **options},
            output_logits=True,
            return_dict_in_generate=True,
        )
    handle = model.__dict__.get("vtc")
    logits = torch.stack([step.float().cpu() for step in out.logits], dim=1)
    report = handle.report if handle is not None else None
    answered = out.sequences[:, -len(out.logits) :].cpu()
    run = GenerationCapture(answered, logits, tuple(first_call.decoder_inputs), report, tuple(first_call.widths))
    name = next((name for name in CACHE_NAMES if name in set(out)), None)  # to ask for a name that is gone warns
    return run, {} if name is None else {name: out[name]}


@contextmanager
def few_threads(model: Any) -> Iterator[None]:
    """Context manager: one thread for a small model on a CPU, where several would mostly wait for each other."""
    before = torch.get_num_threads()
    small = model.device.type == "cpu" and sum(p.numel() for p in model.parameters()) < SMALL
    torch.set_num_threads(1 if small else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass
class _FirstCall:
    """Decoder inputs of the first call, see `GenerationCapture`; `mask` is that of the model around the decoder."""

    decoder_inputs: list[DecoderInputs] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    mask: Tensor | None = None


@contextmanager
def _first_call(model: Any) -> Iterator[_FirstCall]:
    """Context manager: records the inputs of the language model's first call."""
    first_call, decoder = _FirstCall(), decoder_of(model)
    layers = getattr(decoder, "layers", ())

    def note_mask(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        mask = kwargs.get("attention_mask")
        if not first_call.decoder_inputs and isinstance(mask, Tensor) and mask.ndim == 2:
            first_call.mask = mask

    def note(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not first_call.decoder_inputs and kwargs.get("inputs_embeds") is not None:
            first_call.decoder_inputs.extend(_decoder_inputs(kwargs, first_call.mask))

    def note_entry(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # A decoder that encodes images itself (Chameleon) is given ids; its first layer is given embeddings.
        if not first_call.decoder_inputs:
            entering = {"inputs_embeds": args[0] if args else kwargs["hidden_states"]}
            entering |= {"position_ids": kwargs.get("position_ids"), "attention_mask": None}
            first_call.decoder_inputs.extend(_decoder_inputs(entering, first_call.mask))

    def note_width(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if len(first_call.widths) < len(layers):
            first_call.widths.append((args[0] if args else kwargs["hidden_states"]).shape[1])

    hooks = [
        model.register_forward_pre_hook(note_mask, with_kwargs=True),
        # In front of those of a wrapped model, which take away what they will add themselves.
        decoder.register_forward_pre_hook(note, with_kwargs=True, prepend=True),
        *(layer.register_forward_pre_hook(note_entry, with_kwargs=True, prepend=True) for layer in layers[:1]),
        *(layer.register_forward_pre_hook(note_width, with_kwargs=True) for layer in layers),
    ]
    try:
        yield first_call
    finally:
        for hook in hooks:
            hook.remove()


def _decoder_inputs(kwargs: Mapping[str, Any], outer: Tensor | None) -> list[DecoderInputs]:
    """Return the rows of one decoder call. `outer` is the attention mask of the model around the decoder."""
    embeds, ids, own = kwargs["inputs_embeds"], kwargs.get("position_ids"), kwargs.get("attention_mask")
    size, length = embeds.shape[:2]
    mask = own if isinstance(own, Tensor) and own.ndim == 2 else outer  # some models make a 4-D mask or several
    real = torch.ones(size, length).bool() if mask is None else mask[:, -length:].bool()
    real = real.to(embeds.device)
    ids = torch.arange(length, device=embeds.device) if ids is None else ids
    ids = ids.expand(*ids.shape[:-2], size, length)
    ids = ids[None] if ids.ndim == 2 else ids
    visual = kwargs.get("visual_pos_masks")
    visual = torch.zeros_like(real) if visual is None else visual.bool()
    counts = visual.sum(dim=1).tolist()
    planes = [plane.split(counts) for plane in kwargs.get("deepstack_visual_embeds") or ()]
    marks = {
        name: value if value.shape[1] == length else value.new_empty(size, 0)
        for name, value in kwargs.items()
        if name not in PLACED and _is_marks(value, size)
    }
    per_layer = kwargs.get("per_layer_inputs")
    return [
        DecoderInputs(
            embeds[r][own].clone(),
            ids[:, r][:, own],
            tuple(p[r].clone() for p in planes),
            visual[r][own],
            {name: value[r][own] if value.shape[1] else value[r] for name, value in marks.items()},
            None if per_layer is None else per_layer[r][own],
        )
        for r, own in enumerate(real)
    ]


def _is_marks(value: Any, rows: int) -> bool:
    """Return whether an argument of the language model is integers `[rows, length]`."""
    return isinstance(value, Tensor) and value.ndim == 2 and len(value) == rows and not value.is_floating_point()


def footprint(model: Any) -> dict[str, tuple[list[str], list[tuple[str, int]]]]:
    """Return, by module, attribute names and number of hooks of each kind; undo must bring back what it was."""
    found = {}
    for name, module in model.named_modules():
        own = vars(module)
        hooks = sorted((key, len(value)) for key, value in own.items() if "hook" in key and hasattr(value, "__len__"))
        found[name] = (sorted(own), hooks)
    return found
