"""Decoder stages: which visual tokens leave inside the language model. Each in `DECODER` is a recipe by its name."""

from .attention import Attention
from .base import (
    Cut,
    DecoderStage,
    DecoderTokens,
    Reads,
)
from .fastv import FastV
from .feather import Feather
from .layerwise import Layerwise
from .llavolta import LLaVolta
from .pyramiddrop import PyramidDrop
from .sparsevlm import SparseVLM
from .todre import ToDRE
from .vtw import VTW

DECODER: tuple[type[DecoderStage], ...] = (Layerwise, Feather, FastV, PyramidDrop, SparseVLM, ToDRE, VTW, LLaVolta)

__all__ = [
    "DECODER",
    "VTW",
    "Attention",
    "Cut",
    "DecoderStage",
    "DecoderTokens",
    "FastV",
    "Feather",
    "LLaVolta",
    "Layerwise",
    "PyramidDrop",
    "Reads",
    "SparseVLM",
    "ToDRE",
]
