"""The arguments of a step of the model, shortened, and its answer given back at the caller's length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vtc.adapters import Adapter

from .cache_metadata import ReducedPromptInfo, cache_among, full_mask
from .prompt import PromptMap
from .recurrent_states import check_ends, check_padding
from .request import Request, ShortenedOutputs


def shortened(request: Request, given: Mapping[str, Any], adapter: Adapter) -> dict[str, Any]:
    """The arguments of a step that reads the prompt, shortened.

    Args:
        request: what is dropped.
        given: `input_ids`, of all columns or only of those that the cache does not hold, perhaps with generated ones
            behind them; `attention_mask` and `position_ids` of all columns, and whatever else.
        adapter: of the model.
    """
    ids = given["input_ids"]
    rows = len(ids)
    whole = request.splice.expand(rows)
    own = request.suffix.expand(rows) if request.offset else whole
    short = dict(given)
    short["input_ids"] = own.take(ids, adapter.filler)
    mask = given.get("attention_mask")
    if mask is None:
        real = request.mask.repeat_interleave(rows // len(request.mask), dim=0)
        mask = full_mask(real, ids.shape[1] + request.offset)
    short["attention_mask"] = whole.take(mask, 0)
    if given.get("position_ids") is not None:
        positions = whole.take(given["position_ids"], 0)[..., -short["input_ids"].shape[1] :]
        short["position_ids"] = with_text_row(positions, short["attention_mask"])
    for name, fill in adapter.token_arguments.items():
        if given.get(name) is not None:
            # Stock classes read types from NumPy too.
            values = _grown(torch.as_tensor(given[name], device=ids.device), request, ids.shape[1], fill)
            values = (own if values.shape[1] == ids.shape[1] else whole).take(values, fill)
            lacking = short["attention_mask"].shape[1] - values.shape[1]
            if adapter.types_of_all and lacking and name != "labels":
                values = torch.cat([values.new_full((rows, lacking), fill), values], dim=1)
            short[name] = values
    short["mm_encoder_outputs"] = ShortenedOutputs(adapter.outputs(request.embedded_for(rows)), request)
    return short


def _grown(values: Tensor, request: Request, length: int, fill: int) -> Tensor:
    """`values` of a prompt, and `fill` for the text generated since, which `generate` adds to some arguments only."""
    new = length + request.offset - request.splice.full_length
    lacks = new > 0 and values.shape[1] in (request.splice.full_length, request.suffix.full_length)
    return torch.cat([values, values.new_full((len(values), new), fill)], dim=1) if lacks else values


def continued(adapter: Adapter, note: ReducedPromptInfo, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a step without media that goes on from a cache of reduced ones, made to fit it.

    Raises:
        ValueError: a mask of another length than the conversation or the cache has, or padding that a state would read.
    """
    out = _placed(adapter, note, kwargs)
    return {**out, **_typed(adapter, note, kwargs)} if adapter.types_of_all else out


def _typed(adapter: Adapter, note: ReducedPromptInfo, given: Mapping[str, Any]) -> dict[str, Tensor]:
    """Token types of the unreduced conversation, shortened as the cache is, where the model reads them by column."""
    cache, found = cache_among(given), {}
    for name, fill in adapter.token_arguments.items():
        if name == "labels" or given.get(name) is None:
            continue
        values = torch.as_tensor(given[name])
        whole = note.expand(len(values), values.device).grown(cache)
        if values.shape[1] >= whole.full_length:
            found[name] = whole.take(values, fill)
    return found


def _placed(adapter: Adapter, note: ReducedPromptInfo, kwargs: dict[str, Any]) -> dict[str, Any]:
    """`continued` for mask and positions. Inside `generate` both fit already: positions are given, and the mask has
    the length of the cache."""
    mask, positions = kwargs.get("attention_mask"), kwargs.get("position_ids")
    cache = cache_among(kwargs)
    tokens = kwargs.get("input_ids") if kwargs.get("input_ids") is not None else kwargs.get("inputs_embeds")
    prepared = mask is not None and not (isinstance(mask, Tensor) and mask.ndim == 2)
    if tokens is None or (positions is not None and (prepared or (mask is None and not note.padded))):
        return kwargs
    held, (rows, new) = int(cache.get_seq_length()), tokens.shape[:2]
    if positions is not None and mask is not None and mask.shape[1] == held + new:
        return kwargs
    note = note.expand(rows, tokens.device)
    before = note.mask.shape[1] + held - note.splice.short_length
    full = _full_length(mask if not prepared else None, note, before + new, held + new)
    if not torch.compiler.is_compiling():
        check_ends(adapter, note)
        if new > 1:  # a lone token that is masked ends its row
            check_padding(adapter, full[:, before:])
    out = dict(kwargs)
    if positions is None:
        start = full[:, :before].long().sum(dim=1) + note.delta
        out["position_ids"] = adapter.text_positions(start, full[:, before:])
    if not prepared and (mask is not None or note.padded):
        out["attention_mask"] = note.grown(cache).take(full, 0)
    return out


def _full_length(mask: Tensor | None, note: ReducedPromptInfo, full: int, short: int) -> Tensor:
    """The mask of the unreduced conversation, from one of its length, one of the cache's length, or none."""
    if mask is None:
        return note.full_mask(full)
    if mask.shape[1] == full:
        return mask
    if mask.shape[1] != short:
        raise ValueError(
            f"attention_mask has {mask.shape[1]} columns; expected {full}, the whole conversation, or {short}, what "
            "the cache holds and the new tokens"
        )
    return torch.cat([note.mask.to(mask), mask[:, note.splice.short_length :]], dim=1)


def with_text_row(positions: Tensor, mask: Tensor) -> Tensor:
    """Make the first row of `[4, B, S]` positions count the short prompt's tokens, so that it shows no gaps."""
    if positions.ndim != 3 or len(positions) != 4:
        return positions
    text = mask[:, -positions.shape[-1] :].to(positions)
    return torch.cat([(text.cumsum(-1) - 1).clamp_min(0)[None], positions[1:]])


def inner_logits(suffix: PromptMap, wanted: int | Tensor) -> int:
    """Return how many last logits of the short prompt hold all that the caller wants of the full one; 0 for all."""
    if isinstance(wanted, Tensor) or wanted == 0:
        return 0
    return int(suffix.short_length - suffix.nearest[:, -wanted:].min())


def full_logits(request: Request, wanted: int | Tensor, logits: Tensor) -> Tensor:
    """Logits at the length that the caller's prompt has: a dropped token repeats those of the kept one before it."""
    nearest = request.suffix.nearest.to(logits.device)
    if isinstance(wanted, Tensor):
        nearest = nearest[:, wanted.to(logits.device)]
    elif wanted:
        nearest = nearest[:, -wanted:]
    place = nearest - (request.suffix.short_length - logits.shape[1])
    return logits[torch.arange(len(logits), device=logits.device)[:, None], place]
