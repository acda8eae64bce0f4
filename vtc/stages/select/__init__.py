"""Selectors: which candidate tokens stay. Those in `SELECTORS` become recipes, those in `MERGED` with `Mean` too."""

from vtc.stages.base import Selector

from .cls import Cls
from .cls_sampling import ClsSampling
from .grid import Grid
from .kcenter import KCenter
from .local_global import LocalGlobal
from .maxsum import MaxSum
from .random import Random
from .stride import Stride

SELECTORS: tuple[type[Selector], ...] = (KCenter, Cls, Random, Stride, MaxSum, Grid, ClsSampling, LocalGlobal)
MERGED: tuple[type[Selector], ...] = (KCenter, Cls, Random, Stride)

__all__ = [
    "MERGED",
    "SELECTORS",
    "Cls",
    "ClsSampling",
    "Grid",
    "KCenter",
    "LocalGlobal",
    "MaxSum",
    "Random",
    "Stride",
]
