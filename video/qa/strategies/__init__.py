"""Plans: how a question about a video is asked, in one call of the model or in several. One plan a file."""

from .base import (
    PLANS,
    Asker,
    Call,
    Strategy,
    plan,
)
from .decompose import Decompose
from .direct import Direct
from .thought import SegmentThought

PLANS.add(Direct.name, Direct)
PLANS.add(Decompose.name, Decompose)
PLANS.add(SegmentThought.name, SegmentThought)

__all__ = ["PLANS", "Asker", "Call", "Decompose", "Direct", "SegmentThought", "Strategy", "plan"]
