"""The slow oracle: a prompt shortened by hand, and a loop over the stock language model without cache or padding.

The media are encoded one by one by the stock model; the recipe's stages are called on what it gives; all else
(folding, gathering, positions, decoding) is done again here, token by token, from the words of DESIGN.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from inspect import signature
from math import ceil, floor
from typing import Any

import torch
from torch import Tensor, nn

from tests.encoders import ENCODERS, Image, ReferenceEncoder
from tests.encoders.towers import has_cls
from tests.families import VIDEO, Family, placeholders
from tests.towers import by_hand
from vtc import (
    Budget,
    Layout,
    Recipe,
    Reduction,
    VisualTokens,
    adapters,
)
from vtc.core.tokens import FRAMES, QUESTION
from vtc.stages import FrameSelector, Resizer


@dataclass(frozen=True)
class Item:
    """What one image becomes.

    Attributes:
        anchor: the places, among the image's tokens at full size, that its outputs take.
        features: `[K, D]`.
        cells: `[K, 3]` the (t, h, w) cells of the outputs.
        total: tokens of the unreduced image.
        planes: each `[K, D]`, what the first layers add.
    """

    anchor: list[int]
    features: Tensor
    cells: Tensor
    total: int
    planes: list[Tensor]


@dataclass(frozen=True)
class Plan:
    """One row as the language model must get it.

    Attributes:
        embeds: `[S, D]`.
        positions: `[axes, S]`.
        following: the position of the first generated token, on all axes.
        columns: where each token stands in the caller's padded prompt.
        items: the row's images.
        planes: for each visual token, what the first layers add to it; None for text.
        places: for each of `items`, the token of this row that each of its outputs is.
        gone: by layer of the decoder, the tokens that nothing attends to from there on.
        folded: by layer, tokens that become the weighted mean of others: (token, members, weights).
        ids: the id of each token, None for a visual one.
    """

    embeds: Tensor
    positions: Tensor
    following: int
    columns: list[int]
    items: list[Item]
    planes: list[list[Tensor] | None]
    places: list[list[int]]
    gone: dict[int, list[int]] = field(default_factory=dict)
    folded: dict[int, list[tuple[int, list[int], list[float]]]] = field(default_factory=dict)
    ids: list[int | None] = field(default_factory=list)


def fold(reduction: Reduction, features: Tensor) -> Tensor:
    """The weighted mean of the tokens folded into each output, one output at a time."""
    rows = []
    for output in range(len(reduction.anchor)):
        members = [i for i in range(len(features)) if int(reduction.assign[i]) == output]
        mass = sum(float(reduction.weight[i]) for i in members)
        rows.append(sum(float(reduction.weight[i]) / mass * features[i] for i in members))
    return torch.stack(rows)


def reduce_image(model: nn.Module, encoder: ReferenceEncoder, recipe: Recipe, image: Image, question: Tensor) -> Item:
    """The recipe on one image, beside `question` `[T, D]`, the embeddings of the row's text."""
    full = encoder.layout(model, image)
    small, survivors_of = image, None
    if isinstance(recipe.input, FrameSelector) and encoder.modality(image) == "video":
        small, survivors_of = _some(model, encoder, recipe, image, full)
    if isinstance(recipe.input, Resizer):
        budget = Budget(share_of(recipe, recipe.input)).count(sum(full.candidates)) // len(full.grids)
        small = encoder.smaller(model, image, *recipe.input.target(full.grids[0], budget))
    layout, features, survivors = _encoded(model, encoder, recipe, small)
    cues = {name: encoder.cues(model, small)[name] for name in recipe.cues if name not in (FRAMES, QUESTION)}
    if QUESTION in recipe.cues:
        cues[QUESTION] = question
    if FRAMES in recipe.cues and encoder.modality(image) == "video":
        cues[FRAMES] = encoder.frames(model, small)
    key = adapters.Media(encoder.modality(image), full, encoder.content(image)).key
    tokens = VisualTokens(features, layout, cues, key)
    total = sum(layout.candidates)
    if recipe.selector is not None:
        total = min(total, engine_total(recipe, full) or Budget(recipe.keep).count(sum(full.candidates)))
    reduction = recipe.reduce(tokens, total)
    anchor = [survivors[k] for k in reduction.anchor.tolist()]
    if survivors_of is not None:
        anchor = [survivors_of[place] for place in anchor]
    elif small is not image:
        large, little = ((len(full.grids) * grid[0], *grid[1:]) for grid in (full.grids[0], layout.grids[0]))
        anchor = [_place(large, little, place) for place in anchor]
    planes = [fold(reduction, plane) for plane in encoder.planes(model, small)]
    return Item(anchor, fold(reduction, features), full.cell[anchor], len(full), planes)


def share_of(recipe: Recipe, stage: Any) -> float | int:
    """What a stage before the selector leaves: its own share, but all where the recipe keeps all."""
    return recipe.keep if isinstance(recipe.keep, float) and recipe.keep == 1.0 else stage.own_share or recipe.keep


def engine_total(recipe: Recipe, full: Layout) -> int | None:
    """What vLLM's EVS leaves of a video, where the recipe counts as it does."""
    if not getattr(recipe.selector, "engine", False) or set(full.kinds) != {"frame"} or isinstance(recipe.keep, int):
        return None
    return max(full.candidates[0], int(sum(full.candidates) * (1 - (1 - recipe.keep))))


def _some(
    model: nn.Module, encoder: ReferenceEncoder, recipe: Recipe, image: Image, full: Layout
) -> tuple[Image, list[int] | None]:
    """The video less the frames that the recipe leaves out, and the place of each of its tokens in the whole video."""
    units, each = len(full.grids), full.candidates[0]
    if isinstance(recipe.keep, float) and recipe.keep == 1.0:
        return image, None
    if recipe.input.own_share is not None:
        k = max(1, floor(recipe.input.own_share * units + 0.5))
    else:
        asked = Budget(recipe.keep).count(units * each) / each
        k = ceil(asked) if recipe.selector is not None else max(1, floor(asked))
    if k >= units:
        return image, None
    chosen = recipe.input.choose(encoder.frames(model, image), k).tolist()
    places = [i for i, unit in enumerate(full.unit.tolist()) if unit in chosen or bool(full.structural[i])]
    return encoder.some(image, chosen), places


def _encoded(
    model: nn.Module, encoder: ReferenceEncoder, recipe: Recipe, image: Image
) -> tuple[Layout, Tensor, list[int]]:
    """The layout and the features of what the encoder gives, and which of the image's tokens each began as."""
    layout = encoder.layout(model, image)
    if recipe.encoder is None:
        return layout, encoder.features(model, image), list(range(len(layout)))
    keep = share_of(recipe, recipe.encoder)
    with by_hand(model, recipe.encoder, keep) as found:
        features = encoder.features(model, image)
    if recipe.encoder.spread:
        return layout, features, list(range(len(layout)))
    missing = int(has_cls(model) and model.config.vision_feature_select_strategy != "full")
    began = [token.began - missing for token in found[0] if token.began >= missing]
    return layout.take(torch.tensor(began)), features, began


def _place(full: tuple[int, int, int], small: tuple[int, int, int], token: int) -> int:
    """The token of the full grid that the middle of a small grid's token falls on."""
    _, h, w = small
    t, y, x = token // (h * w), token // w % h, token % w
    row = floor((y + Fraction(1, 2)) * full[1] / h)
    column = floor((x + Fraction(1, 2)) * full[2] / w)
    return (t * full[1] + row) * full[2] + column


@torch.no_grad()
def plans(model: nn.Module, family: Family, inputs: dict[str, Tensor], recipe: Recipe) -> list[Plan]:
    """One plan per row of `inputs`. `model` is a stock one; eager, if the recipe needs cues."""
    assert "vtc" not in model.__dict__
    encoder = ENCODERS[family.name]
    waiting = encoder.images(inputs)
    found = []
    for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True):
        columns = torch.nonzero(mask).flatten().tolist()
        line = ids[columns].tolist()
        mine = taken(model, encoder, line, waiting)
        text = [token for token in line if token not in kinds(model).values()]
        question = model.get_input_embeddings()(torch.tensor(text, dtype=torch.int64))
        items = {id(image): reduce_image(model, encoder, recipe, image, question) for image in mine}
        full = encoder.positions(model, line, mine)
        found.append(_plan(model, encoder, line, columns, mine, items, full, recipe.positions == "compact"))
    assert not waiting
    return found


def taken(model: nn.Module, encoder: ReferenceEncoder, line: list[int], waiting: list[Image]) -> list[Image]:
    """Takes the images of one row from those that wait, by the placeholders of each kind; in prompt order."""
    mine: list[Image] = []
    for kind, token in kinds(model).items():
        left = line.count(token)
        while left > 0:
            mine.append(next(p for p in waiting if encoder.modality(p) == kind))
            waiting[:] = [p for p in waiting if p is not mine[-1]]
            left -= len(encoder.layout(model, mine[-1]))
        assert left == 0
    return mine


def kinds(model: nn.Module) -> dict[str, int]:
    """The placeholder of each modality; videos of every family are written as `VIDEO`."""
    return {"video" if token == VIDEO else "image": token for token in placeholders(model)}


def _plan(
    model: nn.Module,
    encoder: ReferenceEncoder,
    line: list[int],
    columns: list[int],
    images: list[Image],
    items: dict[int, Item],
    full: Tensor,
    compact: bool,
) -> Plan:
    names = {token: kind for kind, token in kinds(model).items()}
    left = {kind: [items[id(p)] for p in images if encoder.modality(p) == kind] for kind in names.values()}
    done = dict.fromkeys(left, 0)
    rows, positions, kept, planes, ids = [], [], [], [], []
    places: dict[int, list[int]] = {id(item): [] for item in items.values()}
    following, i = 0, 0
    while i < len(line):
        if line[i] not in names:
            rows.append(model.get_input_embeddings()(torch.tensor(line[i])))
            positions.append(torch.full((len(full),), following) if compact else full[:, i])
            kept.append(columns[i])
            planes.append(None)
            ids.append(line[i])
            i, following = i + 1, following + 1
            continue
        # A stretch of placeholders is all of an item, or what stands between two texts inside of it.
        kind = names[line[i]]
        item, start = left[kind][0], done[kind]
        size = 0
        while start + size < item.total and i + size < len(line) and line[i + size] == line[i]:
            size += 1
        outputs = [k for k, place in enumerate(item.anchor) if start <= place < start + size]
        stays = [item.anchor[k] - start for k in outputs]
        ladder, climbed = ladders(full[:, i : i + size], stays)
        for n, (k, place) in enumerate(zip(outputs, stays, strict=True)):
            places[id(item)].append(len(rows))
            rows.append(item.features[k])
            planes.append([plane[k] for plane in item.planes])
            ids.append(None)
            positions.append(following + ladder[n] if compact else full[:, i + place])
            kept.append(columns[i + place])
        i, following, done[kind] = i + size, following + climbed, start + size
        if done[kind] == item.total:
            done[kind] = 0
            left[kind].pop(0)
    found = torch.stack(positions, dim=1)
    last = int(found[:, -1].max()) + 1
    own = list(items.values())
    return Plan(torch.stack(rows), found, last, kept, own, planes, list(places.values()), ids=ids)


def ladders(full: Tensor, stays: list[int]) -> tuple[Tensor, int]:
    """`compact` within one stretch: `[K, axes]` offsets from its first position, and how far the text after it moves.

    Each axis keeps the first of the offsets that it had, as many as different ones stay. Text goes on after the only
    axis, or after the larger of height and width.

    Args:
        full: `[axes, N]` positions of the unreduced stretch.
        stays: which of its tokens stay.
    """
    moving = range(len(full)) if len(full) == 1 else (1, 2)
    if not stays:
        return torch.empty(0, len(full)), 0
    steps, climbed = [], 0
    for axis, places in enumerate(full.tolist()):
        rungs = sorted({places[k] for k in stays})
        had = [place - min(places) for place in sorted(set(places))]
        steps.append(torch.tensor([had[rungs.index(places[k])] for k in stays]))
        if axis in moving:
            climbed = max(climbed, had[len(rungs) - 1] + 1)
    return torch.stack(steps, dim=1), climbed


@torch.no_grad()
def logits(model: nn.Module, plan: Plan, tokens: Sequence[int] = ()) -> Tensor:
    """`[S + T, V]` logits of the planned row and `tokens` after it: the whole sequence again, no cache, no padding."""
    new = torch.tensor(tokens, dtype=torch.int64)
    if type(model).__name__.startswith("Gemma4"):  # which takes a placeholder of its own for padding
        new = torch.where(
            torch.isin(new, torch.tensor(placeholders(model))), model.config.text_config.pad_token_id, new
        )
    embeds = torch.cat([plan.embeds, model.get_input_embeddings()(new)])[None]
    steps = (plan.following + torch.arange(len(new))).expand(len(plan.positions), -1)
    positions = torch.cat([plan.positions, steps], dim=1)[:, None]
    if plan.gone or plan.folded:
        return model.lm_head(_by_layer(model, plan, embeds, positions))[0]
    out = model.get_decoder()(
        **_deepstack(plan, embeds),
        **_per_layer(model, [*plan.ids, *new.tolist()]),
        inputs_embeds=embeds,
        position_ids=positions[0] if len(positions) == 1 else positions,
        attention_mask=_attention(model, plan, embeds),
        use_cache=False,
    )
    return model.lm_head(out.last_hidden_state)[0]


def _by_layer(model: nn.Module, plan: Plan, states: Tensor, positions: Tensor) -> Tensor:
    """The decoder layer by layer, over everything; what is gone is masked as a key, and goes on as a query."""
    decoder = model.get_decoder()
    angles = decoder.rotary_emb(states, positions[0] if len(positions) == 1 else positions)
    length = states.shape[1]
    seen = torch.ones(length, length).tril().bool()
    for i, layer in enumerate(decoder.layers):
        for token in plan.gone.get(i, ()):
            seen[:, token] = False
            seen[token, token] = True  # else a row would see nothing, which is NaN; nothing sees it
        entering = states
        for token, members, weights in plan.folded.get(i, ()):
            mean = sum(w * entering[0, m] for m, w in zip(members, weights, strict=True)) / sum(weights)
            states = torch.cat([states[:, :token], mean[None, None], states[:, token + 1 :]], dim=1)
        mask = torch.where(seen, 0.0, torch.finfo(states.dtype).min)[None, None]
        states = layer(states, attention_mask=mask, position_embeddings=angles)
        for token, planes in enumerate(plan.planes):
            if planes is not None and i < len(planes):
                states[0, token] += planes[i]
    return decoder.norm(states)


def _per_layer(model: nn.Module, ids: list[int | None]) -> dict[str, Tensor]:
    """What a model looks up for each token beside its embedding, as the stock model hands it to its decoder."""
    decoder = model.get_decoder()
    if not getattr(decoder.config, "hidden_size_per_layer_input", 0):
        return {}
    pad = decoder.config.pad_token_id
    line = torch.tensor([[pad if token is None else token for token in ids]])
    return {"per_layer_inputs": decoder.embed_tokens_per_layer(line).unflatten(-1, (len(decoder.layers), -1))}


def _attention(model: nn.Module, plan: Plan, embeds: Tensor) -> Any:
    """The decoder's mask: of ones, or, where the model has images look at themselves both ways, by kind of layer.

    In Gemma 3 they do so in all layers, in Gemma 4 in those with a window, and in Gemma 4 without an encoder in all,
    whatever the window.
    """
    length = embeds.shape[1]
    name, words = type(model).__name__, model.config.get_text_config()
    both_ways = getattr(words, "use_bidirectional_attention", None) == "vision"
    if not both_ways and "token_type_ids" not in signature(model.forward).parameters:
        return torch.ones(1, length, dtype=torch.int64)
    image = [planes is not None for planes in plan.planes] + [False] * (length - len(plan.planes))
    first = {i: next(k for k in range(i, -1, -1) if k == 0 or not image[k - 1]) for i in range(length) if image[i]}
    hidden = torch.finfo(embeds.dtype).min
    full, near = torch.full((2, length, length), hidden)
    for q in range(length):
        for k in range(length):
            together = image[q] and image[k] and first[q] == first[k]
            inside = k > q - words.sliding_window
            if k <= q or (together and not name.startswith("Gemma4For")):
                full[q, k] = 0
            if (together or k <= q) and (inside or (together and name.startswith("Gemma4Unified"))):
                near[q, k] = 0
    return {"full_attention": full[None, None], "sliding_attention": near[None, None]}


def _deepstack(plan: Plan, embeds: Tensor) -> dict[str, Any]:
    """What the first layers add to which tokens, as the stock model hands it to its decoder."""
    added = [planes for planes in plan.planes if planes]
    if not added:
        return {}
    where = torch.tensor([bool(planes) for planes in plan.planes] + [False] * (embeds.shape[1] - len(plan.planes)))
    return {
        "visual_pos_masks": where[None],
        "deepstack_visual_embeds": [torch.stack(p) for p in zip(*added, strict=True)],
    }


def greedy(model: nn.Module, plan: Plan, steps: int) -> tuple[list[int], Tensor]:
    """The tokens that greedy decoding gives, and the logits `[steps, V]` behind them."""
    tokens: list[int] = []
    rows = []
    for _ in range(steps):
        rows.append(logits(model, plan, tokens)[-1])
        tokens.append(int(rows[-1].argmax()))
    return tokens, torch.stack(rows)
