"""The classes that vLLM loads in place of its own, by the names of the architectures."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.models import (
    gemma3_mm,
    gemma4_mm,
    interns1,
    llava,
    llava_next,
    llava_onevision,
    qwen2_5_vl,
    qwen2_vl,
    qwen3_5,
    qwen3_vl,
    smolvlm,
)
from vllm.model_executor.models.utils import WeightsMapper
from vllm.multimodal import MULTIMODAL_REGISTRY

from vtc.reduction.pipeline import ReducedItem

from .families import (
    Gemma3Family,
    Gemma4Family,
    InternVLFamily,
    LlavaFamily,
    LlavaNextFamily,
    LlavaOnevisionFamily,
    Qwen2Family,
    Qwen3Family,
    Qwen25Family,
    Qwen35Family,
    SmolVLMFamily,
)
from .positions import OriginalPositions, with_offsets
from .processing import shortening
from .serving import ReducingModel
from .timed_frames import TimedFrames

NEWER_NAMES = WeightsMapper(
    orig_to_new_prefix={
        f"vision_tower.{part}": f"vision_tower.vision_model.{part}"
        for part in ("embeddings.", "pre_layrnorm.", "encoder.", "post_layernorm.", "head.")
    }
)
"""Checkpoints saved by transformers 5.23 or later have no `vision_model` in the names of a CLIP or SigLIP tower."""


class ReducingQwen(ReducingModel, OriginalPositions):
    """Qwen2-VL and its successors: grids of tokens, M-RoPE."""

    def full_item(self, tokens: list[int], feature: Any) -> list[int]:
        """See `OriginalPositions.full_item`."""
        grid = feature.data[f"{feature.modality}_grid_thw"].data
        return tokens[:1] * (int(grid.prod()) // self.config.vision_config.spatial_merge_size**2)  # type: ignore[attr-defined]

    @property
    def row_width(self) -> int:
        """See `OriginalPositions.row_width`."""
        return int(self.config.get_text_config().hidden_size)  # type: ignore[attr-defined]

    def rows(self, item: ReducedItem, batch: dict[str, Any], index: int) -> Tensor:
        """See `ReducingModel.rows`."""
        layout, anchor = item.media.layout, item.reduction.anchor.cpu()
        offsets = layout.cell[anchor]
        if item.media.modality == "video":
            offsets = torch.cat(
                [(layout.unit[anchor] * self._pace(batch, index)).long()[:, None], offsets[:, 1:]], dim=1
            )
        rows = super().rows(item, batch, index)
        return with_offsets(rows, offsets)

    def _pace(self, batch: dict[str, Any], index: int) -> float:
        """By how much the first axis grows from frame to frame."""
        return 1.0


@MULTIMODAL_REGISTRY.register_processor(
    shortening(qwen2_vl.Qwen2VLMultiModalProcessor, Qwen2Family),
    info=qwen2_vl.Qwen2VLProcessingInfo,
    dummy_inputs=qwen2_vl.Qwen2VLDummyInputsBuilder,
)
class Qwen2VLForConditionalGeneration(ReducingQwen, qwen2_vl.Qwen2VLForConditionalGeneration):
    """Qwen2-VL."""

    family = Qwen2Family


@MULTIMODAL_REGISTRY.register_processor(
    shortening(qwen2_5_vl.Qwen2_5_VLMultiModalProcessor, Qwen25Family),
    info=qwen2_5_vl.Qwen2_5_VLProcessingInfo,
    dummy_inputs=qwen2_5_vl.Qwen2_5_VLDummyInputsBuilder,
)
class Qwen2_5_VLForConditionalGeneration(ReducingQwen, qwen2_5_vl.Qwen2_5_VLForConditionalGeneration):
    """Qwen2.5-VL: the first axis counts seconds."""

    family = Qwen25Family

    def _pace(self, batch: dict[str, Any], index: int) -> float:
        seconds = batch.get("second_per_grid_ts")
        return (1.0 if seconds is None else float(seconds[index])) * self.config.vision_config.tokens_per_second


class ReducingTimedQwen(TimedFrames, ReducingQwen):
    """Qwen3-VL and its successors: the frames of a video stand behind their times."""

    def rows(self, item: ReducedItem, batch: dict[str, Any], index: int) -> Tensor:
        """See `ReducingModel.rows`."""
        if item.media.modality == "image":
            return super().rows(item, batch, index)
        features = torch.cat([item.embedded.features, *item.embedded.planes], dim=1)
        times = [float(time) for time in batch["timestamps"][index]]
        return self.timed_rows(features, item, item.media.inputs["grid_thw"], times)


@MULTIMODAL_REGISTRY.register_processor(
    shortening(qwen3_vl.Qwen3VLMultiModalProcessor, Qwen3Family),
    info=qwen3_vl.Qwen3VLProcessingInfo,
    dummy_inputs=qwen3_vl.Qwen3VLDummyInputsBuilder,
)
class Qwen3VLForConditionalGeneration(ReducingTimedQwen, qwen3_vl.Qwen3VLForConditionalGeneration):
    """Qwen3-VL: a row holds the DeepStack planes too."""

    family = Qwen3Family

    @property
    def row_width(self) -> int:
        """See `OriginalPositions.row_width`."""
        return super().row_width * (1 + len(self.config.vision_config.deepstack_visual_indexes))


@MULTIMODAL_REGISTRY.register_processor(
    shortening(qwen3_vl.Qwen3VLMultiModalProcessor, Qwen35Family),
    info=qwen3_5.Qwen3_5ProcessingInfo,
    dummy_inputs=qwen3_vl.Qwen3VLDummyInputsBuilder,
)
class Qwen3_5ForConditionalGeneration(ReducingTimedQwen, qwen3_5.Qwen3_5ForConditionalGeneration):
    """Qwen3.5 and 3.6: layers of linear attention beside full ones."""

    family = Qwen35Family


@MULTIMODAL_REGISTRY.register_processor(
    shortening(qwen3_vl.Qwen3VLMultiModalProcessor, Qwen35Family),
    info=qwen3_5.Qwen3_5MoeProcessingInfo,
    dummy_inputs=qwen3_vl.Qwen3VLDummyInputsBuilder,
)
class Qwen3_5MoeForConditionalGeneration(ReducingTimedQwen, qwen3_5.Qwen3_5MoeForConditionalGeneration):
    """Qwen3.5 and 3.6 with experts."""

    family = Qwen35Family


@MULTIMODAL_REGISTRY.register_processor(
    shortening(llava.LlavaMultiModalProcessor, LlavaFamily),
    info=llava.LlavaProcessingInfo,
    dummy_inputs=llava.LlavaDummyInputsBuilder,
)
class LlavaForConditionalGeneration(ReducingModel, llava.LlavaForConditionalGeneration):
    """LLaVA-1.5. vLLM counts positions, so that kept tokens stand side by side."""

    family = LlavaFamily
    hf_to_vllm_mapper = llava.LlavaForConditionalGeneration.hf_to_vllm_mapper | NEWER_NAMES


@MULTIMODAL_REGISTRY.register_processor(
    shortening(llava_next.LlavaNextMultiModalProcessor, LlavaNextFamily),
    info=llava_next.LlavaNextProcessingInfo,
    dummy_inputs=llava.LlavaDummyInputsBuilder,
)
class LlavaNextForConditionalGeneration(ReducingModel, llava_next.LlavaNextForConditionalGeneration):
    """LLaVA-NeXT. vLLM counts positions, so that kept tokens stand side by side."""

    family = LlavaNextFamily
    hf_to_vllm_mapper = llava_next.LlavaNextForConditionalGeneration.hf_to_vllm_mapper | NEWER_NAMES


@MULTIMODAL_REGISTRY.register_processor(
    shortening(llava_onevision.LlavaOnevisionMultiModalProcessor, LlavaOnevisionFamily),
    info=llava_onevision.LlavaOnevisionProcessingInfo,
    dummy_inputs=llava_onevision.LlavaOnevisionDummyInputsBuilder,
)
class LlavaOnevisionForConditionalGeneration(ReducingModel, llava_onevision.LlavaOnevisionForConditionalGeneration):
    """LLaVA-OneVision. vLLM counts positions, so that kept tokens stand side by side."""

    family = LlavaOnevisionFamily
    hf_to_vllm_mapper = llava_onevision.LlavaOnevisionForConditionalGeneration.hf_to_vllm_mapper | NEWER_NAMES


@MULTIMODAL_REGISTRY.register_processor(
    shortening(interns1.InternS1MultiModalProcessor, InternVLFamily),
    info=interns1.InternS1ProcessingInfo,
    dummy_inputs=interns1.InternS1DummyInputsBuilder,
)
class InternVLForConditionalGeneration(ReducingModel, interns1.InternS1ForConditionalGeneration):
    """InternVL in transformers' format. vLLM counts positions, so that kept tokens stand side by side."""

    family = InternVLFamily


@MULTIMODAL_REGISTRY.register_processor(
    shortening(gemma3_mm.Gemma3MultiModalProcessor, Gemma3Family),
    info=gemma3_mm.Gemma3ProcessingInfo,
    dummy_inputs=gemma3_mm.Gemma3DummyInputsBuilder,
)
class Gemma3ForConditionalGeneration(ReducingModel, gemma3_mm.Gemma3ForConditionalGeneration):
    """Gemma 3. vLLM counts positions, so that kept tokens stand side by side."""

    family = Gemma3Family
    hf_to_vllm_mapper = gemma3_mm.Gemma3ForConditionalGeneration.hf_to_vllm_mapper | NEWER_NAMES


@MULTIMODAL_REGISTRY.register_processor(
    shortening(gemma4_mm.Gemma4MultiModalProcessor, Gemma4Family),
    info=gemma4_mm.Gemma4ProcessingInfo,
    dummy_inputs=gemma4_mm.Gemma4DummyInputsBuilder,
)
class Gemma4ForConditionalGeneration(ReducingModel, gemma4_mm.Gemma4ForConditionalGeneration):
    """Gemma 4. vLLM counts positions, so that kept tokens stand side by side."""

    family = Gemma4Family


@MULTIMODAL_REGISTRY.register_processor(
    shortening(smolvlm.SmolVLMMultiModalProcessor, SmolVLMFamily),
    info=smolvlm.SmolVLMProcessingInfo,
    dummy_inputs=smolvlm.SmolVLMDummyInputsBuilder,
)
class SmolVLMForConditionalGeneration(ReducingModel, smolvlm.SmolVLMForConditionalGeneration):
    """SmolVLM. vLLM counts positions, so that kept tokens stand side by side."""

    family = SmolVLMFamily
