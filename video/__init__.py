"""Video: reading, shots, keyframes, budgets over clips, and questions about video files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vtc.core.lazy import lazy

if TYPE_CHECKING:
    from .batch import answer_batch
    from .clips.clip import Clip
    from .qa.asking import Answer, ask
    from .qa.preparing import Prepared, prepare
    from .reading import frames, probe
    from .reading.sampling import Sampling

_HOME = {
    "Answer": "qa.asking",
    "Clip": "clips.clip",
    "Prepared": "qa.preparing",
    "Sampling": "reading.sampling",
    "answer_batch": "batch",
    "ask": "qa.asking",
    "frames": "reading",
    "prepare": "qa.preparing",
    "probe": "reading",
}

__all__ = ["Answer", "Clip", "Prepared", "Sampling", "answer_batch", "ask", "frames", "prepare", "probe"]

__getattr__, __dir__ = lazy(__name__, _HOME)
