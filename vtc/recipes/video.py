"""The named recipes of videos; registries import this module once a name is not there yet."""

from __future__ import annotations

from vtc.stages import (
    Area,
    Grid,
    Joint,
    KCenter,
    Mean,
)
from vtc.stages.base import add_stages
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

from .registration import register_recipe

add_stages(
    Keyframes, ClipBudget, FirstOfSegment, KeyDensity, SemanticDensity, EVS, VidCom2, DyCoke, FrameFusion, AlongTime
)
add_stages(FastVID, FastVIDMean, Codebook, AdaptiveCodebook, CodebookMean, StrongApart, QuestionBudget)

register_recipe("uniform", (Keyframes("uniform"), Grid()))
register_recipe("keyframes", (Keyframes(), KCenter()))
register_recipe("clip-budget", (ClipBudget(), KCenter()))
register_recipe("video", (Keyframes(share=0.75), ClipBudget(), KCenter()))
register_recipe("video-question", (Keyframes(share=0.75), QuestionBudget(), KCenter()))
register_recipe("evs", (Joint(), EVS()))
register_recipe("evs-vllm", (Joint(), EVS(engine=True)))
register_recipe("vidcom2", (Joint(), VidCom2()))
register_recipe("dycoke", (Joint(), DyCoke()))
register_recipe("framefusion", (Joint(), FrameFusion(), AlongTime()))
register_recipe("fastvid", (Joint(), FastVID(), FastVIDMean()))
register_recipe("vqtoken", (Joint(), Codebook(), CodebookMean()))
register_recipe("vqtoken-adaptive", (Joint(), AdaptiveCodebook(), CodebookMean()))
register_recipe("dcode", (Keyframes("dcode", share=0.5), StrongApart(), Mean(least=0.8)))
register_recipe("kffocus", (Keyframes("kffocus", share=0.75), KeyDensity(), KCenter()))
register_recipe("tdc", (FirstOfSegment(), KCenter(), Mean()))
register_recipe("videogpt+", (Keyframes("segments", share=0.5), Grid(), Area()))
register_recipe("langdc", (SemanticDensity(), KCenter()))

DEFAULT = "video"
"""What a video is reduced by where nothing is said."""
