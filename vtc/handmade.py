"""A prompt shortened by hand, from what the stock model itself gives its language model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .request import ID_SHAPED
from .runs import Given
from .trials import Trial


def shortened(trial: Trial, full: Given, columns: Tensor, ids: Tensor) -> Given:
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
    return Given(embeds[columns], ids, tuple(plane[columns][visual] for plane in planes), visual)


@torch.no_grad()
def prefill(trial: Trial, given: Given, columns: Tensor) -> Tensor:
    """`[1, V]` fp32, the stock model's last logits for one row of embeddings at their positions, without a cache."""
    ids = given.ids.clone()
    if len(ids) == 4:  # the row that counts text shows no gaps
        ids[0] = torch.arange(ids.shape[1], device=ids.device)
    real = trial.case.inputs["input_ids"].shape[1] - len(trial.lines[0]) + columns  # one row is padded left, if at all
    shaped = {name: trial.case.inputs[name][:, real] for name in ID_SHAPED if name in trial.case.inputs}

    def add(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        stack = {"visual_pos_masks": given.visual[None], "deepstack_visual_embeds": list(given.planes)}
        return args, {**kwargs, **(stack if given.planes else {})}

    hook = trial.model.get_decoder().register_forward_pre_hook(add, with_kwargs=True)
    try:
        out = trial.model(
            inputs_embeds=given.embeds[None],
            attention_mask=torch.ones_like(ids[:1]),
            position_ids=ids if len(ids) == 1 else ids[:, None],
            use_cache=False,
            logits_to_keep=1,
            **shaped,
        )
    finally:
        hook.remove()
    return out.logits[:, -1].float().cpu()
