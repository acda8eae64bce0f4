"""A prompt shortened by hand, from what the stock model itself gives its language model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vtc.adapters.decoders import decoder_of

from .capture import DecoderInputs
from .context import CheckRun


def shortened(trial: CheckRun, full: DecoderInputs, columns: Tensor, ids: Tensor) -> DecoderInputs:
    """The full prompt at `columns`; embeddings that the recipe merges are merged."""
    planes = [plane.new_zeros(len(full.visual), plane.shape[1]) for plane in full.planes]
    for canvas, plane in zip(planes, full.planes, strict=True):
        canvas[full.visual] = plane
    embeds = full.embeds.clone()
    for item in trial.placed:
        own, reduction = item.columns.to(embeds.device), item.reduction.to(embeds.device)
        for rows in (embeds, *planes):
            rows[own[reduction.anchor]] = reduction.apply(rows[own])
    visual = full.visual[columns]
    return DecoderInputs(embeds[columns], ids, tuple(plane[columns][visual] for plane in planes), visual)


@torch.no_grad()
def prefill(trial: CheckRun, given: DecoderInputs, columns: Tensor, tokens: Tensor | None = None) -> Tensor:
    """The stock model's logits for one row of embeddings at their positions, without a cache.

    Args:
        trial: its prompt is the row's.
        given: the row.
        columns: which of the full prompt's it holds.
        tokens: `[T]` that come after it, none by default.

    Returns:
        `[T + 1, V]` fp32, of the row's last token and of each of `tokens`, on the CPU.
    """
    tokens = torch.empty(0, dtype=torch.int64) if tokens is None else tokens
    row = _grown(given, trial.model.get_input_embeddings()(tokens.to(given.embeds.device)))
    ids = row.ids.clone()
    if len(ids) == 4:  # the row that counts text shows no gaps
        ids[0] = torch.arange(ids.shape[1], device=ids.device)
    real = trial.case.inputs["input_ids"].shape[1] - len(trial.lines[0]) + columns  # one row is padded left, if at all
    shaped = {n: trial.case.inputs[n][:, real] for n in trial.adapter.token_arguments if n in trial.case.inputs}
    shaped = {name: torch.cat([own, own.new_zeros(1, len(tokens))], dim=1) for name, own in shaped.items()}

    def add(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        stack = {"visual_pos_masks": row.visual[None], "deepstack_visual_embeds": list(row.planes)}
        return args, {**kwargs, **(stack if row.planes else {})}

    hook = decoder_of(trial.model).register_forward_pre_hook(add, with_kwargs=True)
    try:
        out = trial.model(
            inputs_embeds=row.embeds[None],
            attention_mask=torch.ones_like(ids[:1]),
            position_ids=ids if len(ids) == 1 else ids[:, None],
            use_cache=False,
            logits_to_keep=len(tokens) + 1,
            **shaped,
        )
    finally:
        hook.remove()
    return out.logits[0].float().cpu()


def _grown(given: DecoderInputs, embeds: Tensor) -> DecoderInputs:
    """The row with text after it, which counts on from its last token."""
    start = given.places[:, -1].max() + 1
    ids = (start + torch.arange(len(embeds), device=given.ids.device)).expand(len(given.ids), -1)
    visual = torch.cat([given.visual, given.visual.new_zeros(len(embeds))])
    return DecoderInputs(torch.cat([given.embeds, embeds]), torch.cat([given.ids, ids], dim=1), given.planes, visual)
