"""Stages: one method a file, pure tensor code. The lines that call `enrol` are where a new one is enrolled."""

from .allocate.density import Density
from .allocate.even import Even
from .allocate.joint import Joint
from .allocate.thumbnail import Thumbnail
from .base import (
    STAGES,
    Allocator,
    FrameSelector,
    InputStage,
    Merger,
    Resizer,
    Selector,
    Stage,
    enrol,
)
from .decoder import (
    DECODER,
    VTW,
    DecoderStage,
    FastV,
    Feather,
    Layerwise,
    LLaVolta,
    PyramidDrop,
    SparseVLM,
    ToDRE,
)
from .encoder import DiffRate, EncoderStage, ToMe
from .input.resize import Resize
from .merge.area import Area
from .merge.mean import Mean
from .select import (
    SELECTORS,
    Cls,
    ClsSampling,
    Grid,
    KCenter,
    LocalGlobal,
    MaxSum,
    Random,
    Stride,
)

enrol(*SELECTORS, *DECODER)
enrol(Even, Joint, Thumbnail, Density, Mean, Area, Resize, ToMe, DiffRate)

__all__ = [
    "STAGES",
    "VTW",
    "Allocator",
    "Area",
    "Cls",
    "ClsSampling",
    "DecoderStage",
    "Density",
    "DiffRate",
    "EncoderStage",
    "Even",
    "FastV",
    "Feather",
    "FrameSelector",
    "Grid",
    "InputStage",
    "Joint",
    "KCenter",
    "LLaVolta",
    "Layerwise",
    "LocalGlobal",
    "MaxSum",
    "Mean",
    "Merger",
    "PyramidDrop",
    "Random",
    "Resize",
    "Resizer",
    "Selector",
    "SparseVLM",
    "Stage",
    "Stride",
    "Thumbnail",
    "ToDRE",
    "ToMe",
    "enrol",
]
