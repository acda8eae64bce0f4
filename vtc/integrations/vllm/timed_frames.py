"""Videos of Qwen3-VL: frames stand apart in the prompt, each behind its time in words.

How many tokens a frame keeps is known once the encoder has run, and the length of a prompt before. So all of a video's
place in the prompt is filled with embeddings, those of the times among them: their number is known, and their order the
model makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.models.qwen3_vl import Qwen3VLMultiModalProcessor

from vtc.reduction.pipeline import ReducedItem

from .positions import OriginalPositions, with_offsets


class TimedFrames(OriginalPositions):
    """Mixin ahead of `Qwen3VLForConditionalGeneration` of vLLM and its like."""

    config: Any
    language_model: Any
    _tokenizer: Any

    def full_item(self, tokens: list[int], feature: Any) -> list[int]:
        """See `OriginalPositions.full_item`."""
        _, height, width = (feature.data[f"{feature.modality}_grid_thw"].data // self._merges).tolist()
        if feature.modality == "image":
            return tokens[:1] * (height * width)
        start, video = self.config.vision_start_token_id, self.config.video_token_id
        found: list[int] = []
        for token in tokens:
            if token != video:
                found += [token, *[video] * (height * width)] if token == start else [token]
        return found

    @property
    def _merges(self) -> Tensor:
        side = self.config.vision_config.spatial_merge_size
        return torch.tensor([1, side, side])

    def timed_rows(self, features: Tensor, item: ReducedItem, grid: Tensor, times: Sequence[float]) -> Tensor:
        """The rows of a video, those of its times among them, with their offsets.

        Args:
            features: `[K, columns]` of the kept tokens.
            item: what was kept.
            grid: `[3]` (t, h, w) in patches.
            times: of the frames, in seconds.
        """
        frames, height, width = (grid.cpu() // self._merges).tolist()
        video = self.config.video_token_id
        whole = Qwen3VLMultiModalProcessor.get_video_repl(
            tokens_per_frame=[height * width] * frames,
            timestamps=times,
            tokenizer=self._tokenizer,
            vision_start_token_id=self.config.vision_start_token_id,
            vision_end_token_id=self.config.vision_end_token_id,
            video_token_id=video,
        ).full
        ids = torch.tensor(whole)
        stay = ids != video
        stay[torch.nonzero(ids == video).flatten()[item.reduction.anchor.cpu()]] = True
        ids = ids[stay]
        rows = features.new_zeros(len(ids), features.shape[1])
        words = self.language_model.embed_input_ids(ids[ids != video].to(features.device))
        rows[(ids != video).to(rows.device), : words.shape[1]] = words.to(rows)
        rows[(ids == video).to(rows.device)] = features
        positions = self._positions_of(whole, grid)[:, stay]
        return with_offsets(rows, (positions - positions[:, :1]).T)

    def _positions_of(self, tokens: list[int], grid: Tensor) -> Tensor:
        """The stock positions of a video's unreduced tokens, `[3, N]`."""
        data = {"video_grid_thw": SimpleNamespace(data=grid.cpu())}
        feature: Any = SimpleNamespace(modality="video", data=data, mm_position=SimpleNamespace(offset=0))
        positions, _ = super(OriginalPositions, self).get_mrope_input_positions(tokens, [feature])  # type: ignore[misc]
        return positions
