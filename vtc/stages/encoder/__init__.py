"""Encoder stages: tokens folded together inside the vision tower."""

from .base import EncoderStage
from .diffrate import DiffRate
from .tome import ToMe

__all__ = ["DiffRate", "EncoderStage", "ToMe"]
