"""Vision towers that fold tokens together while they run: hooks on their blocks, told what to do by a context."""

from .blocks import Block, Blocks
from .hooks import install, is_hooked
from .merge_state import EncoderMergeState, finished, merging

__all__ = ["Block", "Blocks", "EncoderMergeState", "finished", "install", "is_hooked", "merging"]
