"""The named recipes of videos; the core finds this module by its entry point."""

from __future__ import annotations

from vtc.stages import (
    Area,
    Grid,
    Joint,
    KCenter,
    Mean,
    enrol,
)
from vtc.video.stages import (
    EVS,
    AdaptiveCodebook,
    AlongTime,
    ClipBudget,
    Codebook,
    CodebookMean,
    DyCoke,
    FastVID,
    FastVIDMean,
    FirstOfSegment,
    FrameFusion,
    KeyDensity,
    Keyframes,
    QuestionBudget,
    SemanticDensity,
    StrongApart,
    VidCom2,
)

from .composition import RECIPES

enrol(Keyframes, ClipBudget, FirstOfSegment, KeyDensity, SemanticDensity, EVS, VidCom2, DyCoke, FrameFusion, AlongTime)
enrol(FastVID, FastVIDMean, Codebook, AdaptiveCodebook, CodebookMean, StrongApart, QuestionBudget)

RECIPES.add("uniform", lambda: (Keyframes("uniform"), Grid()))
RECIPES.add("keyframes", lambda: (Keyframes(), KCenter()))
RECIPES.add("clip-budget", lambda: (ClipBudget(), KCenter()))
RECIPES.add("video", lambda: (Keyframes(share=0.75), ClipBudget(), KCenter()))
RECIPES.add("video-question", lambda: (Keyframes(share=0.75), QuestionBudget(), KCenter()))
RECIPES.add("evs", lambda: (Joint(), EVS()))
RECIPES.add("evs-vllm", lambda: (Joint(), EVS(engine=True)))
RECIPES.add("vidcom2", lambda: (Joint(), VidCom2()))
RECIPES.add("dycoke", lambda: (Joint(), DyCoke()))
RECIPES.add("framefusion", lambda: (Joint(), FrameFusion(), AlongTime()))
RECIPES.add("fastvid", lambda: (Joint(), FastVID(), FastVIDMean()))
RECIPES.add("vqtoken", lambda: (Joint(), Codebook(), CodebookMean()))
RECIPES.add("vqtoken-adaptive", lambda: (Joint(), AdaptiveCodebook(), CodebookMean()))
RECIPES.add("dcode", lambda: (Keyframes("dcode", share=0.5), StrongApart(), Mean(least=0.8)))
RECIPES.add("kffocus", lambda: (Keyframes("kffocus", share=0.75), KeyDensity(), KCenter()))
RECIPES.add("tdc", lambda: (FirstOfSegment(), KCenter(), Mean()))
RECIPES.add("videogpt+", lambda: (Keyframes("segments", share=0.5), Grid(), Area()))
RECIPES.add("langdc", lambda: (SemanticDensity(), KCenter()))

DEFAULT = "video"
"""What a video is reduced by where nothing is said."""
