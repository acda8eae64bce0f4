"""A vision tower on its own, such as a timm ViT, with its tokens folded while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from vtc.adapters.vit_blocks import blocks_of
from vtc.core.budget import Keep, check_keep
from vtc.encoder import (
    EncoderMergeState,
    install,
    is_hooked,
    merging,
)
from vtc.stages import EncoderStage


@contextmanager
def folded(tower: nn.Module, stage: EncoderStage, keep: Keep = 0.5) -> Iterator[EncoderMergeState]:
    """Context manager: `tower` folds tokens, in this thread or task; afterwards it is what it was.

    `last_hidden_state` then holds the class token and registers, if there are any, and the survivors in raster order.
    What each is made of stands in `work.done` after each call: `assign` and `anchor` in patches, and `size`.

    Args:
        tower: a transformers CLIP, SigLIP or InternVL vision model, or a `TimmWrapperModel` of a plain ViT.
        stage: what folds, such as `ToMe()`.
        keep: a share (0, 1] of each image's patches, or at most that many; a stage with its own share takes that.

    Raises:
        ValueError: a tower of another kind, or one that the stage cannot be used on.
    """
    blocks = blocks_of(tower)
    blocks.check(stage)
    if is_hooked(blocks):
        raise ValueError(
            f"tower is a {type(tower).__name__} whose tokens are folded already, by another folded block or by "
            "reduce_tokens; leave that block, or call restore on its model first"
        )
    hooks = install(blocks)
    try:
        with merging(stage, check_keep(keep) if stage.own_share is None else stage.own_share, blocks) as work:
            assert work is not None
            yield work
    finally:
        for hook in hooks:
            hook.remove()
