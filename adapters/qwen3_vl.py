"""Qwen3-VL: DeepStack planes beside the features, and timestamps as text between the frames of a video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

from vtc.core.tokens import Embedded

from .qwen_vl import Qwen2VL


class Qwen3VL(Qwen2VL):
    """Qwen3-VL, dense and mixture of experts.

    The planes of DeepStack are shortened, and merged, by the reduction of the features. Frames stand apart in the
    prompt, each behind its timestamp; a frame that keeps nothing leaves its timestamp.
    """

    classes: ClassVar[tuple[str, ...]] = ("Qwen3VLForConditionalGeneration", "Qwen3VLMoeForConditionalGeneration")

    def output(self, modality: str, items: Sequence[Embedded]) -> BaseModelOutputWithPooling:
        """See `Adapter.output`."""
        rows: Any = [item.features for item in items]
        planes: Any = [list(plane) for plane in zip(*(item.planes for item in items), strict=True)]
        return BaseModelOutputWithDeepstackFeatures(pooler_output=rows, deepstack_features=planes)
