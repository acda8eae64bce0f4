"""Segmenters: one rule a file. Importing them loads neither torch nor transformers."""

from .adaptive import Adaptive
from .base import (
    SEGMENTERS,
    SceneCut,
    Segmentation,
    Segmenter,
)
from .content import Content
from .cover import segment, to_clips
from .density import DensitySegmenter
from .even import EvenSegmenter
from .hashes import Hash
from .named import segmenter
from .neighbour import Neighbour
from .units import clips_of, frame_cuts, unit_clips

__all__ = [
    "SEGMENTERS",
    "Adaptive",
    "Content",
    "DensitySegmenter",
    "EvenSegmenter",
    "Hash",
    "Neighbour",
    "SceneCut",
    "Segmentation",
    "Segmenter",
    "clips_of",
    "frame_cuts",
    "segment",
    "segmenter",
    "to_clips",
    "unit_clips",
]
