"""Start a part of one embedded model from the weights that another learned.

InternVL's ViT from CLIP's: block for block they are the same, but for CLIP's first norm.
Any language model from another's.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText

# What CLIP's norm behind the embeddings divides by on average, measured on drawn scenes (0.67, deviation 0.2 among
# patches). InternVL's tower has no such norm; one division for all patches comes close, and training does the rest.
SPREAD = 0.67


@torch.no_grad()
def copy_clip_tower(clip: Any, vit: Any) -> None:
    """Copy the tower `clip` (`CLIPVisionModel`) into `vit` (`InternVLVisionModel`) of equal width and patch size.

    `vit` takes as many blocks as it has, and of the positions the middle of the larger grid.
    """
    embeddings, target, norm = clip.embeddings, vit.embeddings, clip.pre_layrnorm
    width = len(norm.weight)
    normed = (norm.weight / SPREAD)[:, None] * (torch.eye(width) - 1 / width)
    filters = embeddings.patch_embedding.weight
    target.patch_embeddings.projection.weight.copy_((normed @ filters.flatten(1)).view_as(filters))
    target.patch_embeddings.projection.bias.zero_()
    places = embeddings.position_embedding.weight
    target.position_embeddings[0, 1:] = _middle(places[1:], target.patch_embeddings.num_patches) @ normed.T + norm.bias
    target.position_embeddings[0, 0] = norm(embeddings.class_embedding + places[0])
    target.cls_token.zero_()
    for block, own in zip(clip.encoder.layers, vit.encoder.layer, strict=False):
        for theirs, ours in (
            (block.layer_norm1, own.layernorm_before),
            (block.layer_norm2, own.layernorm_after),
            (block.mlp, own.mlp),
            (block.self_attn.q_proj, own.attention.q_proj),
            (block.self_attn.k_proj, own.attention.k_proj),
            (block.self_attn.v_proj, own.attention.v_proj),
            (block.self_attn.out_proj, own.attention.projection_layer),
        ):
            ours.load_state_dict(theirs.state_dict())
        own.lambda_1.fill_(1)
        own.lambda_2.fill_(1)


def _middle(places: Tensor, wanted: int) -> Tensor:
    side, small = round(len(places) ** 0.5), round(wanted**0.5)
    edge = (side - small) // 2
    grid = places.view(side, side, -1)[edge : edge + small, edge : edge + small]
    return grid.reshape(wanted, -1)


@torch.no_grad()
def load_language_model(model: Any, directory: Path) -> None:
    """Give the language model of `model`, with its head, the weights of that in the finished `directory`.

    All embedded models share words, width and depth; biases that the other has not start at 0.
    ValueError for a model that lacks something else.
    """
    theirs = AutoModelForImageTextToText.from_pretrained(directory, local_files_only=True).state_dict()
    for name, ours in model.state_dict().items():
        if not name.startswith(("model.language_model.", "lm_head.")):
            continue
        if name not in theirs and not name.endswith("_proj.bias"):
            raise ValueError(f"--language={directory} has no {name}; name the directory of an embedded model")
        ours.copy_(theirs.get(name, torch.zeros_like(ours)))
