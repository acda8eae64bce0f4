"""GLM-4.1V, 4.5V, 4.6V and GLM-OCR: 2 x 2 patches a token, M-RoPE, one placeholder for images and for videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from einops import rearrange
from torch import Tensor, nn

from . import cues as signals
from .base import Media
from .cues import InputRecorder, first_argument
from .qwen_vl import Qwen2VL


class Glm4V(Qwen2VL):
    """GLM-4.1V, 4.5V (mixture of experts), 4.6V and GLM-OCR.

    Patches, their order and the positions of images are those of Qwen2-VL. A convolution over 2 x 2 patches ends the
    tower; `encoder_features` are what it is given. Frames of a video stand apart in the prompt, each between tokens of
    its own and before its timestamp, and a frame that keeps nothing leaves all three. They are written with the
    placeholder of images: the stock model puts the features of each kind into all of them, and so takes images or
    videos in one call, never both.
    """

    classes: ClassVar[tuple[str, ...]] = (
        "Glm4vForConditionalGeneration",
        "Glm4vMoeForConditionalGeneration",
        "Glm46VForConditionalGeneration",
        "GlmOcrForConditionalGeneration",
    )
    media_arguments: tuple[str, ...] = ("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw")

    @property
    def placeholders(self) -> dict[str, int]:
        """See `Adapter.placeholders`. `video_token_id` stands in no prompt: the processor writes images instead."""
        image = int(self.model.config.image_token_id)
        return {"image": image, "video": image}

    def media(self, inputs: Mapping[str, Any]) -> list[Media]:
        """See `Adapter.media`.

        Raises:
            ValueError: images and videos together, too.
        """
        if all(inputs.get(name) is not None for name in ("pixel_values", "pixel_values_videos")):
            raise ValueError(
                f"pixel_values and pixel_values_videos: {type(self.model).__name__} writes both with one placeholder, "
                "and the stock model takes one kind in a call; pass images and videos in prompts of their own"
            )
        return super().media(inputs)

    def input_recorders(self, cues: Sequence[str]) -> list[tuple[nn.Module, InputRecorder]]:
        """See `Adapter.input_recorders`."""
        return signals.input_recorders(cues, self._attention, (self._visual.downsample, "downsample"), has_cls=False)

    def _patch_cue(self, name: str, recorded: Mapping[str, Any], grids: Tensor) -> Tensor:
        if name != "encoder_features":
            return super()._patch_cue(name, recorded, grids)
        blocks = first_argument(recorded["downsample"])
        return rearrange(blocks, "n dim height width -> (n height width) dim")

    def _queries_and_keys(self, attention: Any, hidden: Tensor) -> tuple[Tensor, Tensor]:
        queries, keys = super()._queries_and_keys(attention, hidden)
        if not hasattr(attention, "q_norm"):
            return queries, keys
        # GLM-OCR norms each head.
        per_head = "n (heads dim) -> n heads dim"
        queries = attention.q_norm(rearrange(queries, per_head, heads=attention.num_heads))
        keys = attention.k_norm(rearrange(keys, per_head, heads=attention.num_heads))
        return queries.flatten(1), keys.flatten(1)
