"""The cues of CLIP, SigLIP and InternVL towers by hand, from an eager model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.encoders.base import Outputs, Softmaxes


def has_cls(model: nn.Module) -> bool:
    """Whether the tower has a class token."""
    return not model.config.vision_config.model_type.startswith("siglip")


@torch.no_grad()
def tower_cues(model: nn.Module, pixels: Tensor, **options: bool) -> dict[str, Tensor]:
    """All cues of `[images, 3, H, W]`, each `[images, N, ...]`."""
    layer = model.config.vision_feature_layer % model.config.vision_config.num_hidden_layers
    layers = next(
        m for n, m in model.model.vision_tower.named_modules() if n.endswith(("encoder.layers", "encoder.layer"))
    )
    attention = getattr(layers[layer], "self_attn", None) or layers[layer].attention
    with Outputs(keys=getattr(attention, "k_norm", attention.k_proj)) as found, Softmaxes() as soft:
        out = model.model.vision_tower(pixels, output_hidden_states=True, **options)
    assert len(soft.maps) == len(layers)
    features = out.last_hidden_state if layer == len(layers) - 1 and found_last(model) else out.hidden_states[layer + 1]
    cls = has_cls(model)
    first = 1 if cls and model.config.vision_feature_select_strategy != "full" else 0
    early = soft.maps[layer // 2].mean(dim=1)
    late, logits = soft.maps[layer].mean(dim=1), soft.logits[layer].mean(dim=1)
    cues = {
        "received_attention": late.mean(dim=1)[:, first:],
        "keys": found["keys"][:, first:],
        "encoder_features": features[:, first:],
    }
    if not cls:
        received = cues["received_attention"]
        return {**cues, "attention": received, "attention_logits": received.log(), "early_attention": early.mean(dim=1)}
    rows = {"cls_attention": late[:, 0], "attention_logits": logits[:, 0], "early_attention": early[:, 0]}
    for name, row in rows.items():
        cues[name] = row[:, 1:] if first else torch.cat([torch.zeros(len(row), 1), row[:, 1:]], dim=1)
    return {**cues, "attention": cues["cls_attention"]}


def found_last(model: nn.Module) -> bool:
    """Whether the projector gets the tower's last output, behind its final norm, and not a layer's."""
    return model.config.vision_feature_layer == -1 and model.config.vision_config.model_type == "internvl_vision"
