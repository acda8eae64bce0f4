"""Decoder stages: which visual tokens leave inside the language model."""

from .attention import Attention
from .base import Cut, DecoderStage, DecoderTokens, Reads

__all__ = ["Attention", "Cut", "DecoderStage", "DecoderTokens", "Reads"]
