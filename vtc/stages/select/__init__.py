"""Selectors: which candidate tokens stay. Each one in `SELECTORS` becomes a recipe, with and without merging."""

from ..base import Selector
from .cls import Cls
from .kcenter import KCenter
from .random import Random
from .stride import Stride

SELECTORS: tuple[type[Selector], ...] = (KCenter, Cls, Random, Stride)

__all__ = ["SELECTORS", "Cls", "KCenter", "Random", "Stride"]
