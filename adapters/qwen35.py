"""Qwen3.5 and Qwen3.6: layers of linear attention beside full ones, and timestamps between the frames of a video."""

from __future__ import annotations

from typing import ClassVar

from .qwen_vl import Qwen2VL


class Qwen35(Qwen2VL):
    """Qwen3.5, dense and mixture of experts. The checkpoints of Qwen3.6 name the same classes.

    Images, videos and prompts are those of Qwen3-VL: frames stand apart in the prompt, each behind its timestamp, and a
    frame that keeps nothing leaves its timestamp. The vision tower is that of Qwen3-VL without DeepStack, so that there
    are no planes. The language model's layers of linear attention are given the shortened prompt like the others;
    having one state for all tokens, they let none be taken out later, so decoder stages are refused.
    """

    classes: ClassVar[tuple[str, ...]] = ("Qwen3_5ForConditionalGeneration", "Qwen3_5MoeForConditionalGeneration")
    media_arguments: tuple[str, ...] = ("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw")
