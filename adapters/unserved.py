"""Classes that have the seam and that the generic adapter nevertheless cannot serve, with the reason.

They are refused when they are wrapped: accepted, each of their calls would fail. An adapter of their own takes their
name off this list.
"""

from __future__ import annotations

from collections.abc import Iterable

_POOLED = "its tokens pool patches that `image_token_pooling` numbers through the crops of all images of a call"
_DISTANCES = "its attention counts distances in columns of the prompt, so that no kept token could stand where it stood"

UNSERVED = {
    "Molmo2ForConditionalGeneration": _POOLED,
    "Granite4VisionForConditionalGeneration": "it cuts images into tiles that only its own code puts together",
    "InklingForConditionalGeneration": _DISTANCES,
    "Inkling2ForConditionalGeneration": _DISTANCES,
    "Inkling2LoopForConditionalGeneration": _DISTANCES,
    "HunYuanVLForConditionalGeneration": "its positions have an axis of their own for the number of an image",
}


def why_unserved(lineage: Iterable[str]) -> str | None:
    """Why a class with these names, its own and those it inherits from, is not served; None if nothing is known."""
    return next((UNSERVED[name] for name in lineage if name in UNSERVED), None)
