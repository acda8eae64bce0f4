"""Stages of a video: frames left out before the encoder, budgets over clips, selectors that compare frames."""

from .base import (
    VideoSelector,
    before,
    describe,
    is_video,
)
from .clip_budget import ClipBudget
from .codebook import AdaptiveCodebook, Codebook, CodebookMean
from .dcode import StrongApart
from .dycoke import DyCoke
from .evs import EVS
from .fastvid import FastVID, FastVIDMean
from .keyframes import Keyframes
from .langdc import SemanticDensity
from .question_budget import QuestionBudget
from .time_runs import AlongTime, FrameFusion
from .two_densities import FirstOfSegment, KeyDensity
from .vidcom2 import VidCom2

__all__ = [
    "EVS",
    "AdaptiveCodebook",
    "AlongTime",
    "ClipBudget",
    "Codebook",
    "CodebookMean",
    "DyCoke",
    "FastVID",
    "FastVIDMean",
    "FirstOfSegment",
    "FrameFusion",
    "KeyDensity",
    "Keyframes",
    "QuestionBudget",
    "SemanticDensity",
    "StrongApart",
    "VidCom2",
    "VideoSelector",
    "before",
    "describe",
    "is_video",
]
