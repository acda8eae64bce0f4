"""Strategies by which a question about a video is asked, in one call of the model or in several; one a file."""

from .base import (
    STRATEGIES,
    Asker,
    Call,
    Strategy,
    strategy,
)
from .decompose import Decompose
from .direct import Direct
from .thought import SegmentThought

STRATEGIES.add(Direct.name, Direct)
STRATEGIES.add(Decompose.name, Decompose)
STRATEGIES.add(SegmentThought.name, SegmentThought)

__all__ = ["STRATEGIES", "Asker", "Call", "Decompose", "Direct", "SegmentThought", "Strategy", "strategy"]
