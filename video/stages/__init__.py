"""Stages of a video: frames left out before the encoder, budgets over clips, selectors that compare frames."""

from .clip_budget import ClipBudget
from .dycoke import DyCoke
from .evs import EVS
from .film import FilmSelector, before, describe, is_film
from .keyframes import Keyframes
from .langdc import SemanticDensity
from .two_densities import FirstOfSegment, KeyDensity
from .vidcom2 import VidCom2

__all__ = [
    "EVS",
    "ClipBudget",
    "DyCoke",
    "FilmSelector",
    "FirstOfSegment",
    "KeyDensity",
    "Keyframes",
    "SemanticDensity",
    "VidCom2",
    "before",
    "describe",
    "is_film",
]
