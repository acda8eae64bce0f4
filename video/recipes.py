"""The named recipes of videos; the core finds this module by its entry point."""

from __future__ import annotations

from vtc.recipes import RECIPES
from vtc.stages import Grid, KCenter, enrol

from .stages import ClipBudget, Keyframes

enrol(Keyframes, ClipBudget)

RECIPES.add("uniform", lambda: (Keyframes("uniform"), Grid()))
RECIPES.add("keyframes", lambda: (Keyframes(), KCenter()))
RECIPES.add("clip-budget", lambda: (ClipBudget(), KCenter()))
RECIPES.add("video", lambda: (Keyframes(share=0.75), ClipBudget(), KCenter()))

DEFAULT = "video"
"""What a video is reduced by where nothing is said."""
