"""Vision towers that fold tokens together while they run: hooks on their blocks, told what to do by a context."""

from .blocks import Block, Blocks
from .hooks import install, is_hooked
from .merge_state import Work, finished, merging

__all__ = ["Block", "Blocks", "Work", "finished", "install", "is_hooked", "merging"]
