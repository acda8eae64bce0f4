"""Stages: one method a file, pure tensor code. The lines that call `enrol` are where a new one is enrolled."""

from .allocate.even import Even
from .base import STAGES, Allocator, InputStage, Merger, Selector, Stage, enrol
from .input.resize import Resize
from .merge.mean import Mean
from .select import SELECTORS, Cls, KCenter, Random, Stride

enrol(*SELECTORS)
enrol(Even, Mean, Resize)

__all__ = [
    "STAGES",
    "Allocator",
    "Cls",
    "Even",
    "InputStage",
    "KCenter",
    "Mean",
    "Merger",
    "Random",
    "Resize",
    "Selector",
    "Stage",
    "Stride",
    "enrol",
]
