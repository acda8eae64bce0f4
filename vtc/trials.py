"""A model under check: its prompts, its recipes, and what each run of one on another gave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from vtc.adapters import Adapter, find

from .recipes import Recipe
from .report import Report
from .tokens import Reduction
from .wrap import reduced

T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    """A prompt that a model is checked on.

    Attributes:
        name: how the result calls it.
        inputs: the model's keyword arguments, on its device.
        rows: of a batch, each row's inputs alone; empty for a prompt of one row.
        permuted: of a batch, the inputs whose row i is row `order[i]` of this one.
        order: see `permuted`.
    """

    name: str
    inputs: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...] = ()
    permuted: Mapping[str, Any] | None = None
    order: tuple[int, ...] = ()


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


@dataclass(frozen=True)
class Placed:
    """An item of a prompt: `columns` `[N]` of its `row`, counted without padding, and what became of them."""

    row: int
    columns: Tensor
    reduction: Reduction


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


@dataclass(frozen=True)
class Bench:
    """A stock model, and what it is checked with.

    Attributes:
        model: not wrapped; it is left so.
        cases, recipes: every one is tried with every other.
        tokens: generated in each run.
    """

    model: Any
    cases: Sequence[Case]
    recipes: Sequence[Recipe]
    tokens: int = 8
    _known: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if "vtc" in self.model.__dict__:
            raise ValueError("model is wrapped; call restore(model) first")
        if self.tokens < 1:
            raise ValueError(f"tokens={self.tokens}; generate at least 1")

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """What `make` gave the first time, by `key`."""
        if key not in self._known:
            self._known[key] = make()
        found: T = self._known[key]
        return found

    def stock(self, case: Case, **options: Any) -> Run:
        """The stock model's answer. Later calls with the same options repeat the first one's."""
        key = (case.name, *sorted(options.items()))
        return self.once(key, lambda: generate(self.model, case.inputs, self.tokens, **options))

    def stock_rows(self, case: Case) -> list[Run]:
        """The stock model's answers to the rows of a batch, each alone."""
        return self.once((case.name, "rows"), lambda: [generate(self.model, row, self.tokens) for row in case.rows])

    def trials(self) -> list[Trial]:
        """Every recipe on every case."""
        return [Trial(self, recipe, case) for recipe in self.recipes for case in self.cases]


@dataclass(frozen=True)
class Trial:
    """One recipe on one case. What several checks look at is computed once."""

    bench: Bench
    recipe: Recipe
    case: Case

    def __str__(self) -> str:
        return f"{self.recipe.name}, {self.recipe.positions}, {self.case.name}"

    @property
    def model(self) -> Any:
        """The model, not wrapped."""
        return self.bench.model

    @cached_property
    def adapter(self) -> Adapter:
        """The family's adapter."""
        return find(self.model)

    @property
    def exact(self) -> bool:
        """Whether the model runs in fp32 or better, so that rounding does not decide which tokens are kept."""
        return torch.finfo(self.model.dtype).bits >= 32

    def wrapped(
        self, inputs: Mapping[str, Any], tokens: int | None = None, *, keep: float | None = None, **options: Any
    ) -> Run:
        """The answer to `inputs` of the model wrapped for one call."""
        recipe = self.recipe if keep is None else replace(self.recipe, keep=keep)
        with reduced(self.model, recipe):
            return generate(self.model, inputs, self.bench.tokens if tokens is None else tokens, **options)

    @cached_property
    def stock(self) -> Run:
        """The stock model's answer."""
        return self.bench.stock(self.case)

    @cached_property
    def run(self) -> Run:
        """The wrapped model's answer."""
        return self.wrapped(self.case.inputs)

    @property
    def report(self) -> Report:
        """On the wrapped model's answer."""
        assert self.run.report is not None
        return self.run.report

    @cached_property
    def alone(self) -> list[Run]:
        """The wrapped model's answers to the rows of a batch, each alone."""
        return [self.wrapped(row) for row in self.case.rows]

    @cached_property
    def lines(self) -> list[Tensor]:
        """The ids of each row, without padding."""
        ids, mask = self.case.inputs["input_ids"], self.case.inputs.get("attention_mask")
        return list(ids) if mask is None else [row[own.bool()] for row, own in zip(ids, mask, strict=True)]

    @cached_property
    def placed(self) -> list[Placed]:
        """The items of the report, each with its columns: runs of its placeholders in prompt order."""
        tokens, found = self.adapter.placeholders, []
        left = {(r, t): (line == t).nonzero().flatten() for r, line in enumerate(self.lines) for t in tokens.values()}
        for item in self.report.items:
            key = (item.row, tokens[item.modality])
            size = len(item.layout)
            found.append(Placed(item.row, left[key][:size].cpu(), item.reduction.to("cpu")))
            left[key] = left[key][size:]
        return found

    def text(self, row: int) -> Tensor:
        """`[S]` bool, where a row of the full prompt holds no placeholder."""
        line = self.lines[row]
        return ~torch.isin(line, torch.tensor(list(self.adapter.placeholders.values()), device=line.device))

    def columns(self, row: int) -> Tensor:
        """The columns of a row that go on by the report: all text, and the kept visual ones. Ascending."""
        kept = [p.columns[p.reduction.anchor] for p in self.placed if p.row == row]
        return torch.cat([self.text(row).nonzero().flatten().cpu(), *kept]).sort().values.to(self.lines[row].device)
