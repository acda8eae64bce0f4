"""Classes that have the seam and that the generic adapter nevertheless cannot serve, with the reason.

They are refused when they are wrapped: accepted, each of their calls would fail. An adapter of their own takes their
name off this list.
"""

from __future__ import annotations

from collections.abc import Iterable

_PATCHES = "its pixels come as patches without grids, so that the shape of an image is not known"
_POOLED = "its tokens pool patches that `image_token_pooling` numbers through the crops of all images of a call"
_MORE = "its encoder answers more than features, which the model needs as well"
_ARRANGED = "it arranges the tokens of an image in a way that the prompt alone does not show"

UNSERVED = {
    "Molmo2ForConditionalGeneration": _POOLED,
    "FuyuForCausalLM": _PATCHES,
    "Ovis2ForConditionalGeneration": _MORE,
    "ChameleonForConditionalGeneration": _MORE,
    "Emu3ForConditionalGeneration": _MORE,
    "DeepseekVLHybridForConditionalGeneration": _MORE,
    "GraniteDoclingForConditionalGeneration": _MORE,
    "Apertus1p5ForConditionalGeneration": _MORE,
    "Granite4VisionForConditionalGeneration": "it cuts images into tiles that only its own code puts together",
    "HunYuanVLForConditionalGeneration": _ARRANGED,
    "HYV4VLForConditionalGeneration": _ARRANGED,
    "InklingForConditionalGeneration": _ARRANGED,
    "Inkling2ForConditionalGeneration": _ARRANGED,
    "Inkling2LoopForConditionalGeneration": _ARRANGED,
    "VideoLlavaForConditionalGeneration": "its images come as `pixel_values_images` and share its video encoder",
}


def why_unserved(lineage: Iterable[str]) -> str | None:
    """Why a class with these names, its own and those it inherits from, is not served; None if nothing is known."""
    return next((UNSERVED[name] for name in lineage if name in UNSERVED), None)
