"""Stages: one method a file, pure tensor code. The lines that call `enrol` are where a new one is enrolled."""

from .allocate.density import Density
from .allocate.even import Even
from .allocate.thumbnail import Thumbnail
from .allocate.whole import Whole
from .base import STAGES, Allocator, InputStage, Merger, Selector, Stage, enrol
from .encoder import DiffRate, EncoderStage, ToMe
from .input.resize import Resize
from .merge.area import Area
from .merge.mean import Mean
from .select import SELECTORS, Cls, ClsSampling, Grid, KCenter, LocalGlobal, MaxSum, Random, Stride

enrol(*SELECTORS)
enrol(Even, Whole, Thumbnail, Density, Mean, Area, Resize, ToMe, DiffRate)

__all__ = [
    "STAGES",
    "Allocator",
    "Area",
    "Cls",
    "ClsSampling",
    "Density",
    "DiffRate",
    "EncoderStage",
    "Even",
    "Grid",
    "InputStage",
    "KCenter",
    "LocalGlobal",
    "MaxSum",
    "Mean",
    "Merger",
    "Random",
    "Resize",
    "Selector",
    "Stage",
    "Stride",
    "Thumbnail",
    "ToMe",
    "Whole",
    "enrol",
]
