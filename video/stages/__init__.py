"""Stages of a video: frames left out before the encoder, budgets over clips, selectors that compare frames."""

from .clip_budget import ClipBudget
from .film import FilmSelector, before, describe, is_film
from .keyframes import Keyframes
from .langdc import SemanticDensity
from .two_densities import FirstOfSegment, KeyDensity

__all__ = [
    "ClipBudget",
    "FilmSelector",
    "FirstOfSegment",
    "KeyDensity",
    "Keyframes",
    "SemanticDensity",
    "before",
    "describe",
    "is_film",
]
