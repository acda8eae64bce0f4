"""Encoder stages: tokens folded together inside the vision tower."""

from .base import EncoderStage
from .tome import ToMe

__all__ = ["EncoderStage", "ToMe"]
