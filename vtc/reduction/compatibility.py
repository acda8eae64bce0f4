"""Whether a model can give what a recipe needs."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from vtc.adapters import Adapter
from vtc.core.tokens import FRAMES
from vtc.recipes.composition import Recipe
from vtc.stages import FrameSelector, Resizer, Stage

from .decoder.engine import check_decoder, planned_cuts
from .decoder.rope_check import check_rotation
from .pipeline import encoder_cues


def check_recipe(adapter: Adapter, recipe: Recipe) -> None:
    """Raise ValueError where the model of `adapter` cannot give what `recipe` needs."""
    for stage in recipe.stages:
        _check_stage(adapter, recipe, stage)
    if uses_flash(adapter.decoder):
        _check_positions(adapter.decoder)
    adapter.input_recorders(encoder_cues(recipe))
    if recipe.encoder is not None:
        adapter.blocks(recipe.encoder.label, spread=recipe.encoder.spread).check(recipe.encoder)
    if isinstance(recipe.input, Resizer) and not adapter.resizable:
        raise ValueError(
            f"stage {recipe.input.label!r} cannot change the size at which {type(adapter.model).__name__} encodes: "
            "pass smaller images to its processor, or use a selector such as 'stride'"
        )
    if recipe.decoder:
        check_decoder(adapter.decoder, recipe.decoder)
        check_rotation(adapter.decoder, planned_cuts(recipe.decoder, len(adapter.decoder.layers)))


def _check_stage(adapter: Adapter, recipe: Recipe, stage: Stage) -> None:
    name = type(adapter.model).__name__
    if stage.refusal is not None:
        raise ValueError(stage.refusal)
    if stage.thumbnail and not adapter.thumbnails:
        raise ValueError(
            f"stage {stage.label!r} is guided by a thumbnail, and {name} has none; use 'even' as the allocator"
        )
    of_videos = isinstance(stage, FrameSelector) or FRAMES in stage.cues
    if of_videos and not adapter.videos and recipe.images_as != "frames":
        raise ValueError(
            f"stage {stage.label!r} is about the frames of a video, and {name} is not known to take videos whose "
            "frames are encoded apart; pass frames as images and images_as='frames', or use a recipe such as 'kcenter'"
        )


def uses_flash(decoder: Any) -> bool:
    """Return whether a decoder runs flash attention, which reads gaps in position ids as packed sequences."""
    implementation = getattr(decoder.config, "_attn_implementation", None)
    return isinstance(implementation, str) and "flash" in implementation


def without_positions(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """A hook for layers under flash attention: they need only the rotary angles, and ids with gaps mislead it."""
    return (args, {**kwargs, "position_ids": None}) if kwargs.get("position_ids") is not None else None


def _check_positions(decoder: Any) -> None:
    """Refuse flash attention for layers that `without_positions` would take something from that they need."""
    for layer in decoder.layers:
        if not hasattr(layer, "self_attn"):
            continue
        attention = type(layer.self_attn)
        ids = inspect.signature(attention.forward).parameters.get("position_ids")
        if ids is not None and ids.default is inspect.Parameter.empty:
            raise ValueError(
                f"attn_implementation={decoder.config._attn_implementation!r}: {attention.__name__} needs position "
                "ids, whose gaps flash attention reads as packed sequences; load the model with 'sdpa' or 'eager'"
            )
