"""The named recipes of videos; the core finds this module by its entry point."""

from __future__ import annotations

from vtc.recipes import RECIPES
from vtc.stages import Area, Grid, KCenter, Mean, enrol

from .stages import ClipBudget, FirstOfSegment, KeyDensity, Keyframes, SemanticDensity

enrol(Keyframes, ClipBudget, FirstOfSegment, KeyDensity, SemanticDensity)

RECIPES.add("uniform", lambda: (Keyframes("uniform"), Grid()))
RECIPES.add("keyframes", lambda: (Keyframes(), KCenter()))
RECIPES.add("clip-budget", lambda: (ClipBudget(), KCenter()))
RECIPES.add("video", lambda: (Keyframes(share=0.75), ClipBudget(), KCenter()))
RECIPES.add("kffocus", lambda: (KeyDensity(), KCenter()))
RECIPES.add("tdc", lambda: (FirstOfSegment(), KCenter(), Mean()))
RECIPES.add("videogpt+", lambda: (Keyframes("segments", share=0.5), Grid(), Area()))
RECIPES.add("langdc", lambda: (SemanticDensity(), KCenter()))

DEFAULT = "video"
"""What a video is reduced by where nothing is said."""
