"""The slow oracle: a prompt shortened by hand, and a loop over the stock language model without cache or padding.

The media are encoded one by one by the stock model; the recipe's stages are called on what it gives; all else
(folding, gathering, positions, decoding) is done again here, token by token, from the words of DESIGN.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor

import torch
from torch import Tensor, nn

from tests.eyes import EYES, Eye, Picture
from tests.families import Family
from vtc import Budget, Recipe, Reduction, VisualTokens, adapters


@dataclass(frozen=True)
class Item:
    """What one picture becomes.

    Attributes:
        anchor: the places, among the picture's tokens at full size, that its outputs take.
        features: `[K, D]`.
        cells: `[K, 3]` the (t, h, w) cells of the outputs.
        total: tokens of the unreduced picture.
    """

    anchor: list[int]
    features: Tensor
    cells: Tensor
    total: int


@dataclass(frozen=True)
class Plan:
    """One row as the language model must get it.

    Attributes:
        embeds: `[S, D]`.
        positions: `[axes, S]`.
        following: the position of the first generated token, on all axes.
        columns: where each token stands in the caller's padded prompt.
        items: the row's pictures.
    """

    embeds: Tensor
    positions: Tensor
    following: int
    columns: list[int]
    items: list[Item]


def fold(reduction: Reduction, features: Tensor) -> Tensor:
    """The weighted mean of the tokens folded into each output, one output at a time."""
    rows = []
    for output in range(len(reduction.anchor)):
        members = [i for i in range(len(features)) if int(reduction.assign[i]) == output]
        mass = sum(float(reduction.weight[i]) for i in members)
        rows.append(sum(float(reduction.weight[i]) / mass * features[i] for i in members))
    return torch.stack(rows)


def reduce_picture(model: nn.Module, eye: Eye, recipe: Recipe, picture: Picture) -> Item:
    """The recipe on one picture."""
    full = eye.layout(model, picture)
    small = picture
    if recipe.input is not None:
        budget = Budget(recipe.input.own_share or recipe.keep).count(sum(full.candidates))
        small = eye.smaller(model, picture, *recipe.input.target(full.grids[0], budget))
    layout, features = eye.layout(model, small), eye.features(model, small)
    cues = {name: eye.cues(model, small)[name] for name in recipe.cues}
    tokens = VisualTokens(features, layout, cues, adapters.Media("image", full, picture).key)
    total = sum(layout.candidates)
    if recipe.selector is not None:
        total = min(total, Budget(recipe.keep).count(sum(full.candidates)))
    reduction = recipe.reduce(tokens, total)
    anchor = reduction.anchor.tolist()
    if small is not picture:
        anchor = [_place(full.grids[0], layout.grids[0], place) for place in anchor]
    return Item(anchor, fold(reduction, features), full.cell[anchor], len(full))


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
    eye = EYES[family.name]
    pictures = eye.pictures(inputs)
    found = []
    for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True):
        columns = torch.nonzero(mask).flatten().tolist()
        line = ids[columns].tolist()
        mine, left = [], line.count(model.config.image_token_id)
        while left > 0:
            mine.append(pictures.pop(0))
            left -= len(eye.layout(model, mine[-1]))
        assert left == 0
        items = [reduce_picture(model, eye, recipe, picture) for picture in mine]
        full = eye.positions(model, line, mine)
        found.append(_plan(model, line, columns, items, full, recipe.positions == "compact"))
    assert not pictures
    return found


def _plan(
    model: nn.Module, line: list[int], columns: list[int], items: list[Item], full: Tensor, compact: bool
) -> Plan:
    rows, positions, kept = [], [], []
    following, i, left = 0, 0, list(items)
    while i < len(line):
        if line[i] != model.config.image_token_id:
            rows.append(model.get_input_embeddings()(torch.tensor(line[i])))
            positions.append(torch.full((len(full),), following) if compact else full[:, i])
            kept.append(columns[i])
            i, following = i + 1, following + 1
            continue
        item = left.pop(0)
        ladder, climbed = ladders(item.cells, axes=len(full))
        for k, place in enumerate(item.anchor):
            rows.append(item.features[k])
            positions.append(following + ladder[k] if compact else full[:, i + place])
            kept.append(columns[i + place])
        i, following = i + item.total, following + climbed
    if not compact:
        following = int(full.max()) + 1
    return Plan(torch.stack(rows), torch.stack(positions, dim=1), following, kept, items)


def ladders(cells: Tensor, axes: int) -> tuple[Tensor, int]:
    """`compact` within one picture: `[K, axes]` offsets from its first position, and how far the text after it moves.

    On one axis, outputs are counted. On three, each axis counts the different coordinates that are left on it, and
    text goes on after the larger of height and width.
    """
    if axes == 1:
        return torch.arange(len(cells))[:, None], len(cells)
    steps = []
    for axis in range(3):
        rungs = sorted(set(cells[:, axis].tolist()))
        steps.append(torch.tensor([rungs.index(c) for c in cells[:, axis].tolist()]))
    offsets = torch.stack(steps, dim=1)
    return offsets, int(offsets[:, 1:].max()) + 1


@torch.no_grad()
def logits(model: nn.Module, plan: Plan, tokens: Sequence[int] = ()) -> Tensor:
    """`[S + T, V]` logits of the planned row and `tokens` after it: the whole sequence anew, no cache, no padding."""
    new = torch.tensor(tokens, dtype=torch.int64)
    embeds = torch.cat([plan.embeds, model.get_input_embeddings()(new)])[None]
    steps = (plan.following + torch.arange(len(new))).expand(len(plan.positions), -1)
    positions = torch.cat([plan.positions, steps], dim=1)[:, None]
    out = model.get_decoder()(
        inputs_embeds=embeds,
        position_ids=positions[0] if len(positions) == 1 else positions,
        attention_mask=torch.ones(embeds.shape[:2], dtype=torch.int64),
        use_cache=False,
    )
    return model.lm_head(out.last_hidden_state)[0]


def greedy(model: nn.Module, plan: Plan, steps: int) -> tuple[list[int], Tensor]:
    """The tokens that greedy decoding gives, and the logits `[steps, V]` behind them."""
    tokens: list[int] = []
    rows = []
    for _ in range(steps):
        rows.append(logits(model, plan, tokens)[-1])
        tokens.append(int(rows[-1].argmax()))
    return tokens, torch.stack(rows)
