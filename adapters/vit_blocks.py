"""The blocks of vision towers, as encoder stages need them: CLIP, SigLIP and InternVL, and timm's plain ViT."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from vtc.encoder import Block, Blocks

KNOWN = "CLIP, SigLIP, InternVL and timm's VisionTransformer"


def blocks_of(tower: Any, depth: Callable[[int], int] = lambda layers: layers) -> Blocks:
    """The blocks of `tower`, a transformers vision model or a `TimmWrapperModel`.

    Args:
        tower: the vision model.
        depth: from its number of layers to how many of them make the feature; by default all.

    Raises:
        ValueError: a tower of another kind, whose tokens cannot be folded.
    """
    kind = getattr(getattr(tower, "config", None), "model_type", None)
    if kind in ("clip_vision_model", "siglip_vision_model"):
        found, prefix = [_clip(layer) for layer in _layers(tower)], int(kind == "clip_vision_model")
    elif kind == "internvl_vision":
        found, prefix = [_internvl(layer) for layer in _layers(tower)], 1
    elif kind == "timm_wrapper":
        return _timm(tower, depth)
    else:
        raise ValueError(
            f"vision tower {type(tower).__name__} ({kind}): tokens can be folded inside of {KNOWN}; use a selector "
            "such as 'kcenter'"
        )
    return Blocks(tuple(found[: depth(len(found))]), prefix, bool(prefix), tower)


def _layers(tower: nn.Module) -> Any:
    return next(m for name, m in tower.named_modules() if name.endswith(("encoder.layers", "encoder.layer")))


def _clip(layer: Any) -> Block:
    own = layer.self_attn
    return Block(
        layer=layer,
        attention=own,
        queries=own.q_proj,
        keys=own.k_proj,
        norm=layer.layer_norm2,
        mlp=layer.mlp,
        mask="attention_mask",
        heads=int(own.num_heads),
        scale=float(own.scale),
    )


def _internvl(layer: Any) -> Block:
    own = layer.attention
    return Block(
        layer=layer,
        attention=own,
        queries=own.q_norm,
        keys=own.k_norm,
        norm=layer.layernorm_after,
        mlp=layer.mlp,
        mask="attention_mask",
        heads=int(own.num_heads),
        scale=float(own.scale),
    )


def _timm(tower: Any, depth: Callable[[int], int]) -> Blocks:
    from timm.layers.attention import Attention
    from timm.models.vision_transformer import Block as Plain
    from timm.models.vision_transformer import VisionTransformer

    model = getattr(tower, "timm_model", None)
    layers: list[Any] = list(getattr(model, "blocks", ()))
    if not isinstance(model, VisionTransformer) or any(
        type(layer) is not Plain or type(layer.attn) is not Attention for layer in layers
    ):
        inner = type(model).__name__
        blocks = ", ".join(sorted({type(layer).__name__ for layer in layers})) or "none"
        raise ValueError(
            f"vision tower {inner} of timm, with blocks of kind {blocks}: tokens can be folded inside a "
            "VisionTransformer of plain blocks only; use a selector such as 'kcenter'"
        )
    found = [_plain(layer) for layer in layers[: depth(len(layers))]]
    return Blocks(tuple(found), int(model.num_prefix_tokens), model.cls_token is not None, model)


def _plain(layer: Any) -> Block:
    own = layer.attn
    return Block(
        layer=layer,
        attention=own,
        queries=own.q_norm,
        keys=own.k_norm,
        norm=layer.norm2,
        mlp=layer.mlp,
        mask="attn_mask",
        heads=int(own.num_heads),
        scale=float(own.scale),
    )
