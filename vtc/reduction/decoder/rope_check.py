"""Whether the rotary positions of a model's attention are of the kind that can be undone."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from .engine import PlannedCut


def check_rotation(decoder: Any, planned_cuts: Mapping[int, PlannedCut]) -> None:
    """Refuse stages that undo rotations where attention turns other pairs than the halves of its first entries.

    Raises:
        ValueError: pairs of neighbours (GLM, Ernie), a part behind others (latent attention), or an unknown make.
    """
    for layer, entry in planned_cuts.items():
        reads = entry.stage.reads
        if reads is None or not reads.unrotated:
            continue
        attention = decoder.layers[layer - (reads.source == "previous")].self_attn
        if hasattr(attention, "qk_rope_head_dim") or not _turns_halves(attention):
            raise ValueError(
                f"stage {entry.stage.name!r} undoes rotary positions, and {type(attention).__name__} is not known to "
                "turn the two halves of its entries against each other; use 'fastv' or 'pyramiddrop'"
            )


def _turns_halves(attention: Any) -> bool:
    """By the function `rotate_half*` behind the one that the attention's `forward` applies, tried on a few numbers."""
    forward = inspect.unwrap(type(attention).forward)
    found = [turn for apply in _called(forward, "apply_") for turn in _called(apply, "rotate_half")]
    probe = torch.arange(1.0, 9.0)
    halves = torch.cat([-probe[4:], probe[:4]])
    return bool(found) and all(torch.equal(turn(probe), halves) for turn in found)


def _called(function: Any, prefix: str) -> list[Any]:
    """The functions of its module that `function` names and that are called `prefix...`."""
    function = inspect.unwrap(function)
    code, known = getattr(function, "__code__", None), getattr(function, "__globals__", {})
    names = code.co_names if code is not None else ()
    return [known[name] for name in names if name.startswith(prefix) and name in known]
