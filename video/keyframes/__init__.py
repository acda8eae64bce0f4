"""Keyframe selectors: one method a file, on numpy alone. A new one is one call of `add`."""

from .aks import AKS
from .base import KEYFRAMES, KeyframeSelector, keyframes
from .change import Change
from .dcode import DCoDe
from .kffocus import KFFocus
from .maxmin import MaxMin
from .mmr import MMR
from .segments import Segments
from .uniform import Uniform

KEYFRAMES.add(Uniform.name, Uniform)
KEYFRAMES.add(Change.name, Change)
KEYFRAMES.add(DCoDe.name, DCoDe)
KEYFRAMES.add(KFFocus.name, KFFocus)
KEYFRAMES.add(MaxMin.name, MaxMin)
KEYFRAMES.add(AKS.name, AKS)
KEYFRAMES.add(MMR.name, MMR)
KEYFRAMES.add(Segments.name, Segments)

__all__ = [
    "AKS",
    "KEYFRAMES",
    "MMR",
    "Change",
    "DCoDe",
    "KFFocus",
    "KeyframeSelector",
    "MaxMin",
    "Segments",
    "Uniform",
    "keyframes",
]
