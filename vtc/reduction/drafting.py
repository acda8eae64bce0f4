"""A wrapped model that drafts: it proposes tokens to another, which verifies them (assisted generation).

The draft is handed what the target has: its encoder's features, or the request of a wrapped target with the pixels in
it. It may leave out what it likes, since the target decides which of its tokens stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vtc.adapters import Adapter, Media
from vtc.adapters.decoders import CACHE_NAMES
from vtc.adapters.placeholders import arranged
from vtc.core.tokens import VisualTokens
from vtc.recipes.composition import Recipe

from .cache_metadata import ReducedPromptInfo, cache_among
from .pipeline import encoder_cues
from .request import Request

WRAP = "wrap the target too, so that its pixels reach the draft"


def is_draft(config: Any) -> bool:
    """Return whether a generation config is that of a draft."""
    return bool(getattr(config, "is_assistant", False))


def drafted(inputs: Mapping[str, Any], adapter: Adapter) -> dict[str, Any]:
    """The arguments of a draft's call, as those of a call of its own.

    Behind the first round the media are in the cache already, together with tokens that the target has refused since:
    these are cropped. `generate` cannot do it, since it compares the cache with the length of the full conversation.
    """
    given, ids = dict(inputs), inputs["input_ids"]
    outputs = given.pop("mm_encoder_outputs", None) or {}
    cache = cache_among(given)
    for name, fill in adapter.token_arguments.items():
        if isinstance(given.get(name), Tensor):
            new = ids.shape[1] - given[name].shape[1]
            given[name] = torch.cat([given[name], ids.new_full((len(ids), max(new, 0)), fill)], dim=1)
    if cache is not None and int(cache.get_seq_length()):
        note: ReducedPromptInfo | None = getattr(cache, "vtc", None)
        if note is None or _take_refused(cache, note, ids.shape[1] - 1):
            return {name: value for name, value in given.items() if name not in adapter.media_arguments}
        given = {name: value for name, value in given.items() if name not in CACHE_NAMES}
    request = outputs.get("vtc")
    return {**given, **(request.pixels if isinstance(request, Request) else {"mm_encoder_outputs": outputs})}


def reads_prompt(request: Request, cache: Any) -> bool:
    """Return whether a step of a draft is the one that reads its prompt: the cache holds what it held before."""
    before = request.prefix.short_length if request.prefix is not None else 0
    return request.drafts and int(cache.get_seq_length()) == before


def _take_refused(cache: Any, note: ReducedPromptInfo, agreed: int) -> bool:
    """Crop the cache to the `agreed` tokens of the conversation; False where its prompt was cropped already.

    `generate` crops one token more than it needs, which may be the last one of the prompt.
    """
    if note.tail(cache) < 0:
        return False
    refused = note.mask.shape[1] + note.tail(cache) - agreed
    if refused > 0:
        cache.crop(-refused)
    return True


def encoded_media(outputs: Mapping[str, Any], adapter: Adapter, recipe: Recipe) -> list[Media]:
    """The items whose features a target hands over. Where their tokens stood is not known: at most a square.

    Raises:
        ValueError: features that this model cannot take, or a recipe that needs more than features.
    """
    _check_recipe(recipe)
    width = adapter.model.get_input_embeddings().weight.shape[-1]
    found = []
    for modality in ("image", "video"):
        rows, planes = _rows(outputs.get(modality)), _planes(outputs.get(modality))
        if rows:
            adapter.note_container(outputs[modality].pooler_output)
        sizes = [len(row) for row in rows]
        split = [plane.split(sizes) for plane in planes]
        for i, row in enumerate(rows):
            if row.shape[-1] != width:
                raise ValueError(
                    f"the target hands over features of {row.shape[-1]} values, and the draft "
                    f"{type(adapter.model).__name__} takes {width}; {WRAP}, which encodes them for itself"
                )
            layout = arranged((len(row),), 1, 1)
            tokens = VisualTokens(row, layout, planes=tuple(plane[i] for plane in split))
            found.append(Media(modality, layout, {"features": row}, encoded=tokens))
    return found


def _check_recipe(recipe: Recipe) -> None:
    needs = [f"the cue {cue!r}" for cue in encoder_cues(recipe)]
    needs += [f"stage {stage.label!r}" for stage in (recipe.input, recipe.encoder) if stage is not None]
    needs += [f"the tiles of stage {stage.label!r}" for stage in recipe.stages if stage.thumbnail]
    needs += ["images_as='frames'"] if recipe.images_as == "frames" else []
    if needs:
        raise ValueError(
            f"the draft's recipe {recipe.name!r} needs {needs[0]} of the encoder, and the target hands over features "
            f"alone; {WRAP}, or draft with a recipe such as 'kcenter'"
        )


def _rows(output: Any) -> Sequence[Tensor]:
    """The features of each item, `[N, D]`; one tensor is a batch of items of one size."""
    pooled = getattr(output, "pooler_output", None)
    return [] if pooled is None else [part.reshape(-1, part.shape[-1]) for part in pooled]


def _planes(output: Any) -> list[Tensor]:
    """Return the DeepStack planes of all tokens, layer by layer, each `[N, D]`."""
    planes = getattr(output, "deepstack_features", None)
    if planes is None:
        return []
    return [plane if isinstance(plane, Tensor) else torch.cat(list(plane)) for plane in planes]
