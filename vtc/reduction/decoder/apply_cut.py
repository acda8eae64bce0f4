"""Applies one cut: the stage chooses for each item, then the remaining columns move together."""

from __future__ import annotations

import torch
from torch import Tensor

from vtc.core.tokens import Reduction
from vtc.stages.decoder import Attention, Cut, DecoderStage, DecoderTokens

from .attention_capture import CapturedQK
from .prefill_state import ItemColumns, PrefillState, gathered
from .report import CutResult


def cut_before(step: PrefillState, states: Tensor, stage: DecoderStage, cut: Cut) -> Tensor:
    """Drop tokens before layer `cut.layer`; return the states of those that remain.

    Raises:
        ValueError: a stage broke its contract.
    """
    remaining, valid = step.columns(states.device), step.valid
    place = _places(step, remaining)
    alive = torch.zeros(step.rows, step.length, dtype=torch.bool, device=remaining.device)
    alive.scatter_(1, remaining, True if valid is None else valid)
    exact = torch.autocast(states.device.type, enabled=False)
    folds: dict[int, Reduction] = {}
    gone = False
    for number, item in enumerate(step.items):
        with torch.no_grad(), exact:
            chosen = _asked(step, number, states, stage, cut, place)
        if chosen is None:
            continue
        gone = True
        old = item.columns[step.item_remaining[number]].to(remaining.device)
        if isinstance(chosen, Reduction):
            slots = place[item.row, old]
            folded = chosen.apply(states[item.row, slots])
            states = states.clone()
            states[item.row, slots[chosen.anchor]] = folded
            folds[number] = chosen.to("cpu")
            chosen = chosen.anchor
        step.item_remaining[number] = step.item_remaining[number][chosen.cpu()]
        alive[item.row, old] = False
        alive[item.row, old[chosen]] = True
        if not len(chosen):
            alive[item.row, item.structural.to(remaining.device)] = False
    stays = zip(step.items, step.item_remaining, strict=True)
    step.kept[cut.layer] = tuple(
        CutResult(item.index[item_remaining], folds.get(n)) for n, (item, item_remaining) in enumerate(stays)
    )
    return _moved(step, states, remaining, alive) if gone else states


def _moved(step: PrefillState, states: Tensor, remaining: Tensor, alive: Tensor) -> Tensor:
    """Record in `step` which columns remain, padding not among them, and return their states."""
    alive = alive & step.real[:, step.offset :].to(alive.device)
    stays = alive.gather(1, remaining) if step.valid is None else alive.gather(1, remaining) & step.valid
    width = int(stays.sum(dim=1).max())
    place = torch.arange(remaining.shape[1], device=remaining.device).expand_as(remaining)
    # Rows drop different numbers of tokens: the sort moves what remains to the right, and fills up on the left with
    # dropped columns, which `valid` hides. So the last token stays last in every row, as left padding does.
    order = torch.where(stays, place + remaining.shape[1], place).argsort(dim=1)[:, remaining.shape[1] - width :]
    valid = stays.gather(1, order)
    step.remaining, step.valid = remaining.gather(1, order), None if bool(valid.all()) else valid
    step.masks.clear()  # they go by the identity of the columns that were left until now
    return gathered(states, order)


def _places(step: PrefillState, remaining: Tensor) -> Tensor:
    """Return `[B, q]`, the place of each column among those that remain; -1 for the others."""
    place = torch.full((step.rows, step.length), -1, dtype=torch.int64, device=remaining.device)
    order = torch.arange(remaining.shape[1], device=remaining.device).expand_as(remaining)
    if step.valid is None:
        return place.scatter(1, remaining, order)
    return place.scatter_reduce(1, remaining, torch.where(step.valid, order, -1), "amax")


def _asked(
    step: PrefillState, number: int, states: Tensor, stage: DecoderStage, cut: Cut, place: Tensor
) -> Tensor | Reduction | None:
    """Return what the stage keeps of one item; None where nothing is dropped."""
    item, item_remaining = step.items[number], step.item_remaining[number]
    count, total = cut.count(len(item.columns)), len(item_remaining)
    if not total or (count >= total and not stage.adaptive):
        return None
    if count == 0 and not stage.adaptive:
        return item_remaining.new_zeros(0).to(states.device)
    chosen = stage.keep(_tokens(step, item, item_remaining, states, stage, cut, place), min(count, total), cut)
    anchor = chosen.anchor if isinstance(chosen, Reduction) else chosen
    sound = bool((anchor[1:] > anchor[:-1]).all()) and bool(((anchor >= 0) & (anchor < total)).all())
    if not sound or (len(anchor) != count and not stage.adaptive):
        raise ValueError(
            f"stage {stage.label!r} kept {len(anchor)} tokens ({len(anchor.unique())} different) where {count} of "
            f"{total} were due; a decoder stage must return exactly `count` ascending places"
        )
    return None if len(anchor) == total and not isinstance(chosen, Reduction) else chosen


def _tokens(
    step: PrefillState,
    item: ItemColumns,
    item_remaining: Tensor,
    states: Tensor,
    stage: DecoderStage,
    cut: Cut,
    place: Tensor,
) -> DecoderTokens:
    columns = item.columns[item_remaining].to(states.device)
    behind = _text(step, item, states.device)
    words = _without_system_prompt(step, item.row, behind)
    behind = behind[behind > int(item.columns[-1])]
    reads, row = stage.reads, item.row
    tokens = DecoderTokens(states[row, place[row, columns]], item.layout, item.index[item_remaining], len(item.columns))
    if reads is None:
        return tokens
    layer = cut.layer - (reads.source == "previous")
    captured: CapturedQK = step.captured[layer]
    last = _last(step, row, place)
    if not len(behind):
        behind = last
    rows = {"last": last, "text": behind}.get(reads.rows)
    count = len(behind)
    if rows is None:
        rows = torch.cat([behind, columns])
    attention = _attention(step, captured, row, rows, columns, words, place, count, _angles(step, layer, captured, row))
    entered = step.entered[row] if step.entered is not None else None
    return DecoderTokens(
        tokens.states,
        item.layout,
        tokens.index,
        tokens.first,
        None if entered is None else entered[item.columns.to(entered.device)],
        None if entered is None else entered[behind],
        attention,
    )


def _last(step: PrefillState, row: int, place: Tensor) -> Tensor:
    """Return `[1]`, the column of the prompt's last remaining token: image tokens at its end may be gone."""
    remaining = place[row, : int(step.last[row]) + 1] >= 0
    return torch.nonzero(remaining).amax(dim=0)


def _text(step: PrefillState, item: ItemColumns, device: torch.device) -> Tensor:
    """Return the columns of the row's text in the prompt, without padding and generated tokens."""
    text = step.real[item.row, step.offset :].clone()
    text[int(step.last[item.row]) + 1 :] = False
    for other in step.items:
        if other.row == item.row:
            text[other.columns.to(text.device)] = False
            text[other.structural.to(text.device)] = False
    return torch.nonzero(text).flatten().to(device)


def _without_system_prompt(step: PrefillState, row: int, text: Tensor) -> Tensor:
    """Return `text` without the system prompt, which opens a conversation before its first image."""
    if step.offset:
        return text
    return text[text > min(int(item.columns[0]) for item in step.items if item.row == row)]


def _angles(step: PrefillState, layer: int, captured: CapturedQK, row: int) -> tuple[Tensor, Tensor]:
    """Return (cos, sin) `[q, d]` of a layer in a row; a layer without rotary positions turns by nothing."""
    angles = step.angles[layer]
    if angles is None:
        still = captured.key.new_ones(step.length, captured.key.shape[-1])
        return still, torch.zeros_like(still)
    cos, sin = (angle[min(row, len(angle) - 1)] for angle in angles)
    return cos, sin


def _attention(
    step: PrefillState,
    captured: CapturedQK,
    row: int,
    rows: Tensor,
    own: Tensor,
    text: Tensor,
    place: Tensor,
    words: int,
    angles: tuple[Tensor, Tensor],
) -> Attention:
    position = captured.slots.position[row].to(rows.device)
    real = step.real[row].to(rows.device)
    exists = (position < len(real)) & real[position.clamp(max=len(real) - 1)]
    if captured.slots.valid is not None:
        exists &= captured.slots.valid[row].to(rows.device)
    visible = exists & (position <= rows[:, None] + step.offset)
    if captured.mask is not None and captured.mask.ndim == 4:  # which may let a query see what comes behind it
        mask = captured.mask[min(row, len(captured.mask) - 1), 0, :, : len(position)].to(rows.device)[place[row, rows]]
        visible = exists & (mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2)
    cos, sin = (angle.to(rows.device) for angle in angles)
    return Attention(
        query=captured.query[row][:, place[row, rows]],
        key=captured.key[row],
        visible=visible,
        words=words,
        own=captured.start + place[row, own],
        text=captured.start + place[row, text],
        query_angles=(cos[rows], sin[rows]),
        own_angles=(cos[own], sin[own]),
        scaling=captured.scaling,
    )
