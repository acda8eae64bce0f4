"""Check context: a model, its prompts and recipes, and the cached runs of each recipe on each prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from vtc.adapters import Adapter, find
from vtc.core.tokens import Reduction
from vtc.recipes.composition import Recipe
from vtc.reduction.api import reduced
from vtc.reduction.report import Report

from .capture import GenerationCapture, generate

T = TypeVar("T")


@dataclass(frozen=True)
class CheckPrompt:
    """A prompt that a model is checked on.

    Attributes:
        name: shown in results.
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
class PlacedItem:
    """An item of a prompt: `columns` `[N]` of its `row`, counted without padding, and their reduction.

    `structural` `[N]` bool says which of them are no candidates.
    """

    row: int
    columns: Tensor
    reduction: Reduction
    structural: Tensor


@dataclass(frozen=True)
class CheckContext:
    """A stock model with the prompts and recipes that it is checked with.

    Attributes:
        model: not wrapped; it is left so.
        cases, recipes: every one is tried with every other.
        tokens: generated in each run.
    """

    model: Any
    cases: Sequence[CheckPrompt]
    recipes: Sequence[Recipe]
    tokens: int = 8
    _known: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if "vtc" in self.model.__dict__:
            raise ValueError("model is wrapped; call restore(model) first")
        if self.tokens < 1:
            raise ValueError(f"tokens={self.tokens}; generate at least 1")

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """Return the cached result of `make` under `key`."""
        if key not in self._known:
            self._known[key] = make()
        found: T = self._known[key]
        return found

    def stock(self, case: CheckPrompt, **options: Any) -> GenerationCapture:
        """The stock model's answer. Later calls with the same options repeat the first one's."""
        key = (case.name, *sorted(options.items()))
        return self.once(key, lambda: generate(self.model, case.inputs, self.tokens, **options))

    def stock_rows(self, case: CheckPrompt) -> list[GenerationCapture]:
        """The stock model's answers to the rows of a batch, each alone."""
        return self.once((case.name, "rows"), lambda: [generate(self.model, row, self.tokens) for row in case.rows])

    def runs(self) -> list[CheckRun]:
        """Every recipe on every case."""
        return [CheckRun(self, recipe, case) for recipe in self.recipes for case in self.cases]


@dataclass(frozen=True)
class CheckRun:
    """One recipe on one case. Results that several checks need are computed once."""

    context: CheckContext
    recipe: Recipe
    case: CheckPrompt

    def __str__(self) -> str:
        return f"{self.recipe.name}, {self.recipe.positions}, {self.case.name}"

    @property
    def model(self) -> Any:
        """The model, not wrapped."""
        return self.context.model

    @cached_property
    def adapter(self) -> Adapter:
        """The family's adapter."""
        return find(self.model)

    @property
    def exact(self) -> bool:
        """Whether the model runs in fp32 or better, so that rounding does not decide which tokens are kept."""
        return torch.finfo(self.model.dtype).bits >= 32

    def wrapped(self, inputs: Mapping[str, Any], tokens: int | None = None, **options: Any) -> GenerationCapture:
        """The answer to `inputs` of the model wrapped for one call."""
        with reduced(self.model, self.recipe):
            return generate(self.model, inputs, self.context.tokens if tokens is None else tokens, **options)

    @cached_property
    def stock(self) -> GenerationCapture:
        """The stock model's answer."""
        return self.context.stock(self.case)

    @cached_property
    def run(self) -> GenerationCapture:
        """The wrapped model's answer."""
        return self.wrapped(self.case.inputs)

    @property
    def report(self) -> Report:
        """On the wrapped model's answer."""
        assert self.run.report is not None
        return self.run.report

    @cached_property
    def alone(self) -> list[GenerationCapture]:
        """The wrapped model's answers to the rows of a batch, each alone."""
        return [self.wrapped(row) for row in self.case.rows]

    @cached_property
    def lines(self) -> list[Tensor]:
        """The ids of each row, without padding."""
        ids, mask = self.case.inputs["input_ids"], self.case.inputs.get("attention_mask")
        return list(ids) if mask is None else [row[own.bool()] for row, own in zip(ids, mask, strict=True)]

    @cached_property
    def placed(self) -> list[PlacedItem]:
        """The items of the report, each with its columns: runs of its placeholders in prompt order."""
        tokens, found = self.adapter.placeholders, []
        left = {(r, t): (line == t).nonzero().flatten() for r, line in enumerate(self.lines) for t in tokens.values()}
        for item in self.report.items:
            key = (item.row, tokens[item.modality])
            size = len(item.layout)
            fixed = item.layout.structural.cpu()
            found.append(PlacedItem(item.row, left[key][:size].cpu(), item.reduction.to("cpu"), fixed))
            left[key] = left[key][size:]
        return found

    def text(self, row: int) -> Tensor:
        """`[S]` bool, where a row of the full prompt holds no placeholder."""
        line = self.lines[row]
        return ~torch.isin(line, torch.tensor(list(self.adapter.placeholders.values()), device=line.device))

    def columns(self, row: int) -> Tensor:
        """Return the columns of a row that are kept by the report: all text, and the kept visual ones, ascending."""
        kept = [p.columns[p.reduction.anchor] for p in self.placed if p.row == row]
        return torch.cat([self.text(row).nonzero().flatten().cpu(), *kept]).sort().values.to(self.lines[row].device)
