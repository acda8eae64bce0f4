"""The stock model's own layers over all of a prompt, where what left them by a report is masked instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vtc.adapters.decoders import decoder_of
from vtc.core.tokens import Reduction

from .capture import GenerationCapture
from .context import CheckRun, PlacedItem


@dataclass(frozen=True)
class Leaving:
    """Tokens dropped before a layer, as columns of the shortened prompt of one row.

    Attributes:
        gone: `[n]` columns that nothing attends to from this layer on.
        folds: columns `[N]` of an item, and what becomes of their states before the layer.
    """

    gone: Tensor
    folds: tuple[tuple[Tensor, Reduction], ...]


def leaving(check_run: CheckRun, run: GenerationCapture) -> dict[int, Leaving]:
    """By layer, what left before it in a run on its prompt of one row; empty without decoder stages."""
    trace = run.report.decoder if run.report is not None else None
    if trace is None:
        return {}
    columns, found = check_run.columns(0).cpu(), {}
    here = [_candidates(item, columns) for item in check_run.placed]
    for layer, kept in trace.kept.items():
        gone, folds = [], []
        for n, (item, left) in enumerate(zip(check_run.placed, kept, strict=True)):
            stays = torch.isin(here[n][0], left)
            fold = trace.folds[layer][n]
            folds += [(here[n][1], fold)] if fold is not None else []
            gone.append(here[n][1][~stays] if len(left) else _short(item.columns[item.reduction.anchor], columns))
            here[n] = here[n][0][stays], here[n][1][stays]
        found[layer] = Leaving(torch.cat(gone), tuple(folds))
    return found


def _candidates(item: PlacedItem, columns: Tensor) -> tuple[Tensor, Tensor]:
    """An item's candidate tokens at the first layer: as tokens of its layout, and their columns."""
    anchor = item.reduction.anchor
    free = anchor[~item.structural[anchor]]
    return free, _short(item.columns[free], columns)


def _short(full: Tensor, columns: Tensor) -> Tensor:
    """Return which of the shortened prompt's `columns`, ascending, columns of the full prompt are."""
    return torch.searchsorted(columns, full)


@contextmanager
def masked(model: Any, left: Mapping[int, Leaving]) -> Iterator[None]:
    """Inside the block the stock `model` sees no more of a prompt of one row than `left` says."""
    hooks, gone = [], torch.zeros(0, dtype=torch.int64)
    try:
        for i, layer in enumerate(decoder_of(model).layers if left else ()):
            now = left.get(i)
            gone = gone if now is None else torch.cat([gone, now.gone])
            enter = partial(_enter, gone, () if now is None else now.folds)
            hooks.append(layer.register_forward_pre_hook(enter, with_kwargs=True))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _enter(gone: Tensor, folds: Any, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    states = args[0] if args else kwargs["hidden_states"]
    for columns, fold in folds:
        own = fold.to(states.device)
        states = states.clone()
        states[0, columns[fold.anchor]] = own.apply(states[0, columns])
    implementation = str(layer.self_attn.config._attn_implementation)
    mask = _without(kwargs.get("attention_mask"), gone.to(states.device), states, implementation)
    changed = {**kwargs, "attention_mask": mask}
    if "flash" in implementation:  # gaps in the ids would read as packed sequences
        changed["position_ids"] = None
    if args:
        return (states, *args[1:]), changed
    return args, {**changed, "hidden_states": states}


def _without(mask: Tensor | None, gone: Tensor, states: Tensor, implementation: str) -> Tensor | None:
    """The mask of one row without some keys. Their own queries still see them: a row that sees nothing is NaN."""
    length = states.shape[1]
    hidden = torch.zeros(length, dtype=torch.bool, device=states.device)
    hidden[gone] = True
    if mask is None and not len(gone):
        return None
    if mask is None and "flash" in implementation:
        return ~hidden[None]
    if mask is None:
        mask = torch.ones(length, length, dtype=torch.bool, device=states.device).tril()[None, None]
    if mask.ndim == 2:
        return mask * (~hidden).to(mask)
    hidden = hidden & ~torch.eye(length, dtype=torch.bool, device=states.device)
    return mask & ~hidden if mask.dtype == torch.bool else mask.masked_fill(hidden, torch.finfo(mask.dtype).min)
