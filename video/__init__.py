"""Video: reading, shots, keyframes, budgets over clips, and questions about video files."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .batch import answer_batch
    from .clips import Clip
    from .prepared import Prepared, prepare
    from .question import Answer, ask
    from .reader import frames, probe
    from .sampling import Sampling

_HOME = {
    "Answer": "question",
    "Clip": "clips",
    "Prepared": "prepared",
    "Sampling": "sampling",
    "answer_batch": "batch",
    "ask": "question",
    "frames": "reader",
    "prepare": "prepared",
    "probe": "reader",
}

__all__ = ["Answer", "Clip", "Prepared", "Sampling", "answer_batch", "ask", "frames", "prepare", "probe"]


def __getattr__(name: str) -> Any:
    # Lazy, as `vtc` itself: a child process that only decodes loads numpy and PyAV alone.
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
