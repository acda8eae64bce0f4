"""In the workers: the stock model encodes, and vtc reduces the items of a step together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor

from vtc.reduction.pipeline import ItemCounts, ReducedItem, reduce_media
from vtc.reduction.report import PhaseTimer

from .families import Family
from .processing import recipe_field, stock_names
from .settings import recipe_of, unpacked

DRAFTERS = ("ngram", "suffix", "eagle3")
"""Methods of speculation that look at no embeddings of media."""


class NoTimer(PhaseTimer):
    """A timer that takes no time: the device is not waited for between the phases of a step."""

    @contextmanager
    def measure(self, phase: str) -> Iterator[None]:
        """See `PhaseTimer.measure`."""
        yield


def check_engine(vllm_config: Any) -> None:
    """Refuse settings of an engine under which answers would be wrong.

    Raises:
        ValueError: with the setting and the remedy.
    """
    model, media, parallel = (
        vllm_config.model_config,
        vllm_config.model_config.multimodal_config,
        vllm_config.parallel_config,
    )
    if media.video_pruning_rate:
        raise ValueError(
            f"video_pruning_rate={media.video_pruning_rate} prunes the same videos as vtc; use one of them"
        )
    if media.enable_mm_embeds:
        raise ValueError("enable_mm_embeds=True hands over tokens whose places are not known; leave it out with vtc")
    if model.uses_mrope and parallel.pipeline_parallel_size > 1:
        raise ValueError(
            f"pipeline_parallel_size={parallel.pipeline_parallel_size}: the positions of kept tokens do not reach "
            "later stages; use tensor parallelism with vtc"
        )
    if parallel.tensor_parallel_size > 1 and media.mm_encoder_tp_mode != "data":
        raise ValueError(
            f"tensor_parallel_size={parallel.tensor_parallel_size} splits the vision tower, and each device would keep "
            "other tokens by its part of the attention; start the engine with --mm-encoder-tp-mode data"
        )
    if parallel.prefill_context_parallel_size > 1 or getattr(parallel, "use_ubatching", False):
        raise ValueError(
            "prefill_context_parallel_size above 1 and micro-batches (--enable-dbo) part a prompt behind the step "
            "that places kept tokens; leave them out with vtc"
        )
    if getattr(vllm_config.lora_config, "enable_tower_connector_lora", False):
        raise ValueError(
            "enable_tower_connector_lora=True counts the tower's tokens by placeholders, which are fewer with vtc; "
            "leave it out"
        )
    speculative = vllm_config.speculative_config
    if model.uses_mrope and speculative is not None and speculative.method not in DRAFTERS:
        raise ValueError(
            f"speculative_config method={speculative.method!r}: drafters that embed media do not know where kept "
            f"tokens stand; use one of {', '.join(DRAFTERS)} with vtc"
        )
    mode = vllm_config.compilation_config.cudagraph_mode
    if model.uses_mrope and mode is not None and mode.mixed_mode().name == "FULL":
        raise ValueError(
            "cudagraph_mode=FULL replays prompts without the step that places kept tokens; use "
            "FULL_AND_PIECEWISE or PIECEWISE with vtc"
        )


def parts(counted: Sequence[ItemCounts], budget: int) -> Iterator[list[ItemCounts]]:
    """Items in their order, as many at a time as the encoder was measured with.

    The scheduler counts what is left of items, and the encoder is given all of them: at a tenth it would get ten times
    as many at once as the memory was tried for.

    Args:
        counted: of a step, at least one.
        budget: unreduced tokens of a part at most, where it is more than one item.
    """
    some: list[ItemCounts] = []
    for counts in counted:
        if some and sum(len(own.media.layout) for own in (*some, counts)) > budget:
            yield some
            some = []
        some.append(counts)
    yield some


class ReducingModel:
    """Mixin ahead of a stock model. Without `vtc` in the engine's settings it does what the stock model does."""

    family: ClassVar[type[Family]]

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        wanted = recipe_of(vllm_config.model_config.hf_config, {})
        if wanted is not None:
            check_engine(vllm_config)
        super().__init__(vllm_config=vllm_config, prefix=prefix)  # type: ignore[call-arg]
        self._vtc: Any = None
        if wanted is None:
            return
        served = self.family.served(self, super().embed_multimodal)  # type: ignore[misc, arg-type]
        self._vtc = self.family(served)  # type: ignore[call-arg]
        self._vtc_budget = int(vllm_config.scheduler_config.max_num_encoder_input_tokens)
        self._vtc.check_recipe(wanted)
        self._vtc.listen(sorted(self._vtc.given_cues))

    def embed_multimodal(self, **kwargs: Any) -> Any:
        """See vLLM's `SupportsMultiModal`: one tensor an item, with as many rows as its placeholders."""
        field = recipe_field(kwargs)
        if field is None:
            return super().embed_multimodal(**stock_names(kwargs))  # type: ignore[misc]
        batch, recipe = stock_names(kwargs), unpacked(field)
        counted = [ItemCounts.of(recipe, media) for media in self._vtc.items(batch)]
        timer = NoTimer(counted[0].media.layout.unit.device)
        with torch.no_grad():
            reduced = [
                item
                for part in parts(counted, self._vtc_budget)
                for item in reduce_media(self._vtc, recipe, part, timer)
            ]
        for counts, item in zip(counted, reduced, strict=True):
            due = counts.total + sum(counts.media.layout.structurals)
            if len(item.embedded.features) != due:  # the runner would cut off what is too much without a word
                raise RuntimeError(
                    f"recipe {recipe.name!r} kept {len(item.embedded.features)} tokens where {due} were announced"
                )
        return self._vtc.joined([self.rows(item, batch, i) for i, item in enumerate(reduced)], batch)

    def rows(self, item: ReducedItem, batch: dict[str, Any], index: int) -> Tensor:
        """What stands in place of an item's placeholders, `[K, columns]`."""
        return torch.cat([item.embedded.features, *item.embedded.planes], dim=1)

    def get_encoder_cudagraph_config(self) -> Any:
        """See vLLM's `SupportsEncoderCudaGraph`: graphs pass `embed_multimodal` by, and are left out with a recipe."""
        found = super().get_encoder_cudagraph_config()  # type: ignore[misc]
        if self._vtc is not None:
            found.modalities = []
        return found
