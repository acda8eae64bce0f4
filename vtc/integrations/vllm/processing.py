"""In the API server: as many placeholders as the recipe counts, and cache keys that tell recipes apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor
from vllm.multimodal.inputs import MultiModalFieldConfig, MultiModalKwargsItems
from vllm.multimodal.processing import PromptReplacement, PromptUpdate, PromptUpdateDetails
from vllm.multimodal.utils import group_and_batch_mm_items

from vtc.core.tokens import Layout
from vtc.recipes.composition import Recipe

from .families import Family, GeometryOnly
from .metrics import count_tokens
from .request_report import REQUESTS
from .settings import KEY, NUMBER, fingerprint, packed, recipe_of, without_ours

PIXELS = "pixel_values"
_profiling: ContextVar[bool] = ContextVar("vtc_profiling", default=False)


@dataclass
class ShortenedPlaceholders(PromptUpdateDetails):
    """The placeholders of a reduced item. vLLM caches them with the item, so that a request knows what it saved.

    Attributes:
        before: how many tokens the stock model would have read.
        after: how many are left.
    """

    before: int = 0
    after: int = 0


class ShorteningProcessor:
    """Mixin ahead of a stock `BaseMultiModalProcessor`."""

    family: ClassVar[type[Family]]

    @cached_property
    def _geometry(self) -> Family:
        return self.family(GeometryOnly(self.info.ctx.get_hf_config()))  # type: ignore[attr-defined, call-arg]

    def _recipe(self, kwargs: Mapping[str, Any]) -> Recipe | None:
        recipe = recipe_of(self.info.ctx.get_hf_config(), kwargs)  # type: ignore[attr-defined]
        if recipe is not None:
            self._geometry.check_recipe(recipe)
        return recipe

    def _apply_hf_processor_main(self, mm_items: Any, hf_kwargs: Mapping[str, Any]) -> Any:
        data = super()._apply_hf_processor_main(mm_items, without_ours(hf_kwargs))  # type: ignore[misc]
        recipe = self._recipe(hf_kwargs)
        if recipe is None:
            return data
        for modality, count in mm_items.get_all_counts().items():
            if count and modality in self.family.counted:
                data[f"{KEY}_{modality}"] = packed(recipe)
        return data

    def _get_mm_fields_config(self, hf_inputs: Any, hf_processor_mm_kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        fields = dict(super()._get_mm_fields_config(hf_inputs, without_ours(hf_processor_mm_kwargs)))  # type: ignore[misc]
        for modality, name in self.family.counted.items():
            if f"{KEY}_{modality}" in hf_inputs:
                # On the CPU, where what positions are made of stays even if the pixels are not sent again.
                fields[f"{KEY}_{modality}"] = MultiModalFieldConfig.shared(
                    modality, len(hf_inputs[name]), keep_on_cpu=True
                )
        return _renamed_pixels(hf_inputs, fields)

    def _get_mm_hashes(self, inputs: Any) -> Any:
        kwargs = {name: value for name, value in inputs.hf_processor_mm_kwargs.items() if name != NUMBER}
        hashes = super()._get_mm_hashes(replace(inputs, hf_processor_mm_kwargs=kwargs))  # type: ignore[misc]
        recipe = self._recipe(kwargs)
        if recipe is None:
            return hashes
        return {modality: [f"{key}-{fingerprint(recipe)}" for key in keys] for modality, keys in hashes.items()}

    def _get_prompt_updates(
        self, mm_items: Any, hf_processor_mm_kwargs: Mapping[str, Any], out_mm_kwargs: MultiModalKwargsItems
    ) -> Sequence[PromptUpdate]:
        plain = without_ours(hf_processor_mm_kwargs)
        updates: Sequence[PromptUpdate] = super()._get_prompt_updates(mm_items, plain, out_mm_kwargs)  # type: ignore[misc]
        recipe = self._recipe(hf_processor_mm_kwargs)
        if recipe is None:
            return updates
        return [self._shortened(u, recipe, out_mm_kwargs) if u.modality in self.family.counted else u for u in updates]

    def _shortened(self, update: PromptUpdate, recipe: Recipe, out: MultiModalKwargsItems) -> PromptUpdate:
        assert isinstance(update, PromptReplacement)

        def replacement(index: int) -> ShortenedPlaceholders:
            stock = update.replacement(index) if callable(update.replacement) else update.replacement
            details = stock if isinstance(stock, PromptUpdateDetails) else PromptUpdateDetails.from_seq(stock)
            layouts, name = self._layouts(out[update.modality][index]), f"{update.modality} {index}"
            return shortened(details, layouts, recipe, name, mixed=update.modality in self.family.mixed)

        return PromptReplacement(update.modality, update.target, replacement)

    def _layouts(self, item: Any) -> list[Layout]:
        ((_, batch),) = group_and_batch_mm_items([item])
        return [media.layout for media in self._geometry.items(stock_names(batch))]

    def _cached_apply_hf_processor(self, inputs: Any, timing_ctx: Any) -> Any:
        result = super()._cached_apply_hf_processor(inputs, timing_ctx)  # type: ignore[misc]
        updates = [update for items in result.prompt_updates.values() for item in items for update in item]
        if not _profiling.get():
            items = [update.content for update in updates if isinstance(update.content, ShortenedPlaceholders)]
            self._report(items, inputs.hf_processor_mm_kwargs)
        return result

    def _report(self, items: Sequence[ShortenedPlaceholders], kwargs: Mapping[str, Any]) -> None:
        count_tokens(items)
        number, recipe = kwargs.get(NUMBER), self._recipe(kwargs)
        if number is not None and recipe is not None:
            REQUESTS.put(str(number), recipe.name, recipe.keep, items)

    def get_dummy_mm_inputs(self, *args: Any, **kwargs: Any) -> Any:
        """See the stock processor: inputs by which memory is measured, which are no request's."""
        token = _profiling.set(True)
        try:
            return super().get_dummy_mm_inputs(*args, **kwargs)  # type: ignore[misc]
        finally:
            _profiling.reset(token)


def shortened(
    details: PromptUpdateDetails, layouts: Sequence[Layout], recipe: Recipe, name: str, *, mixed: bool = False
) -> ShortenedPlaceholders:
    """The placeholders that `recipe` leaves of an item's own.

    Args:
        details: what the stock processor writes for the item.
        layouts: of the item, or of its tiles, where each has a run of placeholders of its own.
        recipe: by which it is reduced.
        name: of the item, for errors.
        mixed: whether text may stand between the placeholders of a layout: the model then gives rows for that as well,
            so that all places of the item are filled with embeddings, in the order that only the encoder knows.

    Raises:
        ValueError: they are not as many as the layouts have tokens, or text stands between them and may not.
    """
    ids = list(details.full)
    embeds = torch.ones(len(ids), dtype=torch.bool) if details.is_embed is None else details.is_embed(ids)
    places = torch.nonzero(embeds).flatten()
    sizes = [len(layout) for layout in layouts]
    runs = places.split(sizes) if len(places) == sum(sizes) else ()
    if not runs or (any(bool((run.diff() > 1).any()) for run in runs) and not mixed):
        raise ValueError(
            f"{name}: {len(places)} placeholders for {sum(sizes)} tokens, or with text between them: where some are "
            "left out is not known before the encoder runs; vtc does not serve this in vLLM"
        )
    counts = [recipe.count(layout) + sum(layout.structurals) for layout in layouts]
    gone = {place for run, count in zip(runs, counts, strict=True) for place in run[count:].tolist()}
    kept = [id for at, id in enumerate(ids) if at not in gone]
    return ShortenedPlaceholders(kept, None if mixed else details.is_embed, before=len(places), after=sum(counts))


def _renamed_pixels(hf_inputs: Any, fields: dict[str, Any]) -> dict[str, Any]:
    """`fields` with ours before the names of pixels, in the data too.

    A worker that lacks this plugin finds no pixels then and stops at its first item; it would pass on all tokens for
    the few placeholders there are, and vLLM would cut off the last ones without a word.
    """
    reduced = {
        modality for modality in {field.modality for field in fields.values()} if f"{KEY}_{modality}" in hf_inputs
    }
    pixels = [name for name, field in fields.items() if name.startswith(PIXELS) and field.modality in reduced]
    for name in [name for name in pixels if name in hf_inputs]:
        fields[f"{KEY}_{name}"] = fields.pop(name)
        hf_inputs[f"{KEY}_{name}"] = hf_inputs.pop(name)
    return fields


def stock_names(batch: Mapping[str, Any]) -> dict[str, Any]:
    """A batch of items by the names that the stock model knows, and without what is ours alone."""
    ours = f"{KEY}_"
    names = {name: name.removeprefix(ours) if name.startswith(f"{ours}{PIXELS}") else name for name in batch}
    return {names[name]: value for name, value in batch.items() if not names[name].startswith(ours)}


def recipe_field(batch: Mapping[str, Any]) -> Tensor | None:
    """The recipe by which a batch of items is reduced, packed; None where they are not."""
    return next((v for n, v in batch.items() if n.startswith(f"{KEY}_") and not n.startswith(f"{KEY}_{PIXELS}")), None)


def shortening(base: type, family: type[Family]) -> type:
    """A stock processor class whose prompts are shortened."""
    return type(f"Shortening{base.__name__}", (ShorteningProcessor, base), {"family": family})
