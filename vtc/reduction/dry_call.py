"""Dry call of a class's own `prepare_inputs_for_generation` on the arguments of a wrapped call.

Some classes throw positions away, to count them again from the length of what they see (EXAONE 4.5, HyperCLOVA X): of a
shortened prompt that is another count. Whether a class does is found out once, when it is wrapped, from a few ids.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from vtc.adapters import Adapter

from .request import ShortenedOutputs

LENGTH, START = 5, 7


def dropped_arguments(adapter: Adapter) -> tuple[str, ...]:
    """The arguments that the model's class leaves out of a step, so that they have to be put back.

    Raises:
        ValueError: the class makes others of them, or fails on a plain prompt.
    """
    model = adapter.model
    if model.device.type == "meta":
        return ()
    given = _arguments(adapter)
    own = {name: value.clone() if isinstance(value, Tensor) else value for name, value in given.items()}
    try:
        made = type(model).prepare_inputs_for_generation(
            model, next_sequence_length=None, is_first_iteration=True, use_cache=False, **own
        )
    except Exception as error:  # a class's own code may raise anything
        raise ValueError(
            f"{type(model).__name__}.prepare_inputs_for_generation fails on a plain prompt with position_ids and "
            f"mm_encoder_outputs ({type(error).__name__}: {error}), and a shortened prompt would go through it; the "
            "class cannot be wrapped"
        ) from error
    remade = [name for name, value in given.items() if made.get(name) is not None and not _same(made[name], value)]
    remade += [name for name in ("input_ids", "mm_encoder_outputs") if made.get(name) is None]
    if remade:
        raise ValueError(
            f"{type(model).__name__}.prepare_inputs_for_generation makes others of {', '.join(remade)} than it is "
            "given, and a shortened prompt would reach the model changed; the class cannot be wrapped"
        )
    return tuple(name for name in given if made.get(name) is None and name != "attention_mask")


def _arguments(adapter: Adapter) -> dict[str, Any]:
    """A prompt of a few words, at positions that nobody would count by himself."""
    model = adapter.model
    ids = torch.full((1, LENGTH), adapter.filler, device=model.device)
    mask = torch.ones_like(ids)
    taken = inspect.signature(model.forward).parameters
    types = {name: torch.zeros_like(ids) for name in adapter.token_arguments if name in taken and name != "labels"}
    positions = adapter.text_positions(torch.tensor([START], device=model.device), mask)
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": positions,
        "mm_encoder_outputs": ShortenedOutputs({}),
        **types,
    }


def _same(made: Any, given: Any) -> bool:
    """Whether a value came through, perhaps with rows in front of it (a row of text positions), or counted from 1."""
    if not isinstance(given, Tensor):
        return made is given
    if not isinstance(made, Tensor) or made.shape[-1] != given.shape[-1]:
        return False
    rows = made.reshape(-1, LENGTH)[-given.numel() // LENGTH :]
    # One shift for all is no loss: attention sees distances alone.
    return bool((rows.to(given) - given.reshape(-1, LENGTH)).unique().numel() == 1)
