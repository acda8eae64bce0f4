"""One call of `generate` under watch: what the language model was given, and what it answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vtc.adapters import find

from .report import Report

SMALL = 50_000_000
"""Parameters below which threads of a CPU cost more than they bring."""


@dataclass(frozen=True)
class Given:
    """What the language model was given of one row at prefill, without padding.

    Attributes:
        embeds: `[S, D]`.
        ids: `[rows, S]` its position ids: one row, or (t, h, w), or text before these three.
        planes: each `[V, D]`, what the first layers add to the visual tokens (DeepStack).
        visual: `[S]` bool, where they are added.
    """

    embeds: Tensor
    ids: Tensor
    planes: tuple[Tensor, ...]
    visual: Tensor

    @property
    def places(self) -> Tensor:
        """`[axes, S]` coordinates: of one axis, or of three."""
        return self.ids[-3:] if len(self.ids) == 4 else self.ids


@dataclass(frozen=True)
class Run:
    """One call of `generate`.

    Attributes:
        tokens, logits: `[B, T]` and `[B, T, V]` fp32, of each step, on the CPU.
        given: of each row, what the language model was given first.
        report: of a wrapped model.
    """

    tokens: Tensor
    logits: Tensor
    given: tuple[Given, ...]
    report: Report | None = None

    def kept(self, row: int) -> list[list[int]]:
        """The places that were kept of each item of a row."""
        items = self.report.items if self.report is not None else ()
        return [item.reduction.anchor.tolist() for item in items if item.row == row]


def generate(model: Any, inputs: Mapping[str, Any], tokens: int, **options: Any) -> Run:
    """Greedy, never ending early and never writing a placeholder, whatever the checkpoint's own settings are.

    Without a cache, stock models would take a placeholder that they wrote themselves for one of a picture.
    """
    placeholders = sorted(set(find(model).placeholders.values()))
    unset = {name: None for name in ("temperature", "top_p", "top_k") if getattr(model.generation_config, name, None)}
    settings = {"do_sample": False, "num_beams": 1, "eos_token_id": None, "suppress_tokens": placeholders, **unset}
    with _first_call(model) as given:
        out = model.generate(
            **inputs,
            **{**settings, "max_new_tokens": tokens, **options},
            output_logits=True,
            return_dict_in_generate=True,
        )
    handle = model.__dict__.get("vtc")
    logits = torch.stack([step.float().cpu() for step in out.logits], dim=1)
    report = handle.report if handle is not None else None
    return Run(out.sequences[:, -len(out.logits) :].cpu(), logits, tuple(given), report)


@contextmanager
def few_threads(model: Any) -> Iterator[None]:
    """One thread inside the block for a small model on a CPU: several would mostly wait for each other."""
    before = torch.get_num_threads()
    small = model.device.type == "cpu" and sum(p.numel() for p in model.parameters()) < SMALL
    torch.set_num_threads(1 if small else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _first_call(model: Any) -> Iterator[list[Given]]:
    """Notes what the language model is given in its first call, row by row."""
    rows: list[Given] = []
    masks: list[Tensor] = []

    def note_mask(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        mask = kwargs.get("attention_mask")
        if not rows and isinstance(mask, Tensor) and mask.ndim == 2:
            masks[:] = [mask]

    def note(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not rows:
            rows.extend(_given(kwargs, masks[0] if masks else None))

    hooks = [
        model.register_forward_pre_hook(note_mask, with_kwargs=True),
        model.get_decoder().register_forward_pre_hook(note, with_kwargs=True),
    ]
    try:
        yield rows
    finally:
        for hook in hooks:
            hook.remove()


def _given(kwargs: Mapping[str, Any], outer: Tensor | None) -> list[Given]:
    """The rows of a call of the language model. `outer` is the mask that the model around it was given."""
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
    return [
        Given(embeds[r][own].clone(), ids[:, r][:, own], tuple(p[r].clone() for p in planes), visual[r][own])
        for r, own in enumerate(real)
    ]


def footprint(model: Any) -> dict[str, tuple[list[str], list[tuple[str, int]]]]:
    """All that hangs on a model, by module: the names of its attributes, and the number of its hooks of each kind."""
    found = {}
    for name, module in model.named_modules():
        own = vars(module)
        hooks = sorted((key, len(value)) for key, value in own.items() if "hook" in key and hasattr(value, "__len__"))
        found[name] = (sorted(own), hooks)
    return found
