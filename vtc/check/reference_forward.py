"""Reference forward: a shortened prompt computed from the stock model's own decoder inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vtc.adapters.decoders import decoder_of

from .capture import DecoderInputs
from .context import CheckRun


def shortened(check_run: CheckRun, full: DecoderInputs, columns: Tensor, ids: Tensor) -> DecoderInputs:
    """Return the full prompt at `columns`, with the embeddings merged that the recipe merges."""
    planes = [plane.new_zeros(len(full.visual), plane.shape[1]) for plane in full.planes]
    for canvas, plane in zip(planes, full.planes, strict=True):
        canvas[full.visual] = plane
    embeds = full.embeds.clone()
    for item in check_run.placed:
        own, reduction = item.columns.to(embeds.device), item.reduction.to(embeds.device)
        for rows in (embeds, *planes):
            rows[own[reduction.anchor]] = reduction.apply(rows[own])
    visual = full.visual[columns]
    kept = tuple(plane[columns][visual] for plane in planes)
    per_layer = None if full.per_layer is None else full.per_layer[columns]
    return DecoderInputs(embeds[columns], ids, kept, visual, per_layer=per_layer)


@torch.no_grad()
def prefill(check_run: CheckRun, row_inputs: DecoderInputs, columns: Tensor, tokens: Tensor | None = None) -> Tensor:
    """The stock model's logits for one row of embeddings at their positions, without a cache.

    Args:
        check_run: its prompt is the row's.
        row_inputs: the row.
        columns: which of the full prompt's it holds.
        tokens: `[T]` that come after it, none by default.

    Returns:
        `[T + 1, V]` fp32, of the row's last token and of each of `tokens`, on the CPU.
    """
    tokens = torch.empty(0, dtype=torch.int64) if tokens is None else tokens
    row = _grown(check_run, row_inputs, tokens.to(row_inputs.embeds.device))
    ids = row.ids.clone()
    if len(ids) == 4:  # the row that counts text shows no gaps
        ids[0] = torch.arange(ids.shape[1], device=ids.device)
    real = (
        check_run.case.inputs["input_ids"].shape[1] - len(check_run.lines[0]) + columns
    )  # one row is padded left, if at all
    shaped = {
        n: check_run.case.inputs[n][:, real] for n in check_run.adapter.token_arguments if n in check_run.case.inputs
    }
    shaped = {name: torch.cat([own, own.new_zeros(1, len(tokens))], dim=1) for name, own in shaped.items()}

    def add(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        stack = {"visual_pos_masks": row.visual[None], "deepstack_visual_embeds": list(row.planes)}
        return args, {**kwargs, **(stack if row.planes else {})}

    hook = decoder_of(check_run.model).register_forward_pre_hook(add, with_kwargs=True)
    try:
        out = check_run.model(
            inputs_embeds=row.embeds[None],
            attention_mask=torch.ones_like(ids[:1]),
            position_ids=ids if len(ids) == 1 else ids[:, None],
            use_cache=False,
            logits_to_keep=len(tokens) + 1,
            **({} if row.per_layer is None else {"per_layer_inputs": row.per_layer[None]}),
            **shaped,
        )
    finally:
        hook.remove()
    return out.logits[0].float().cpu()


def _grown(check_run: CheckRun, row_inputs: DecoderInputs, tokens: Tensor) -> DecoderInputs:
    """The row with text after it, which counts on from its last token."""
    embeds, per_layer = check_run.model.get_input_embeddings()(tokens), row_inputs.per_layer
    start = row_inputs.places[:, -1].max() + 1
    ids = (start + torch.arange(len(embeds), device=row_inputs.ids.device)).expand(len(row_inputs.ids), -1)
    visual = torch.cat([row_inputs.visual, row_inputs.visual.new_zeros(len(embeds))])
    if per_layer is not None:
        per_layer = torch.cat([per_layer, decoder_of(check_run.model).get_per_layer_inputs(tokens[None])[0]])
    return DecoderInputs(
        torch.cat([row_inputs.embeds, embeds]),
        torch.cat([row_inputs.ids, ids], dim=1),
        row_inputs.planes,
        visual,
        per_layer=per_layer,
    )
