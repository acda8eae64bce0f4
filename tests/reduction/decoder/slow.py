"""A prompt's run through the decoder, layer by layer in eager attention, with a rule asked before each cut.

The stock model's own layers do the work, a row at a time, without cache or padding. What a rule drops is masked as a
key from there on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tests.oracle import Plan


@dataclass(frozen=True)
class At:
    """What a rule may look at before a layer.

    Attributes:
        row: the prompt by hand.
        item: the number of the item among the row's.
        columns: its candidates that are left.
        every: all of its candidates that entered the first layer.
        cut: which of the cuts this is.
        before: `[H, S, S]` softmaxes of the layer before.
        own: those that the layer itself would take now.
        normed: `[S, D]` what the attention of the layer before was given.
        attention: the attention module of the layer before.
    """

    row: Plan
    item: int
    columns: list[int]
    every: list[int]
    cut: int
    before: Tensor
    own: Tensor
    normed: Tensor
    attention: Any

    @property
    def text(self) -> list[int]:
        """All text of the row."""
        taken = {place for places in self.row.places for place in places}
        return [i for i in range(len(self.row.embeds)) if i not in taken]

    @property
    def behind(self) -> list[int]:
        """The text behind the item."""
        return [i for i in self.text if i > self.every[-1]]

    @property
    def cells(self) -> list[tuple[int, int]]:
        """(row, column) of each of `columns` in its image at full size."""
        places, cells = self.row.places[self.item], self.row.items[self.item].cells.tolist()
        return [tuple(cells[places.index(column)][1:]) for column in self.columns]


Rule = Callable[[At], Sequence[int]]
"""Which of `columns` stay."""


@torch.no_grad()
def walk(
    model: nn.Module,
    row: Plan,
    cuts: Sequence[int],
    rule: Rule,
    known: Mapping[int, dict[int, list[int]]] | None = None,
) -> dict[int, dict[int, list[int]]]:
    """By item of `row`, by layer of `cuts`, the candidates that stay, as tokens of the image at full size.

    Args:
        model: a stock one, eager.
        row: the prompt.
        cuts: layers.
        rule: asked for each item that is not `known`.
        known: what stayed of items of earlier turns.
    """
    decoder = model.get_decoder()
    states, length = row.embeds[None], len(row.embeds)
    positions = row.positions[:, None]
    angles = decoder.rotary_emb(states, positions[0] if len(positions) == 1 else positions)
    every = [
        [place for place, cell in zip(places, item.cells.tolist(), strict=True) if min(cell) >= 0]
        for places, item in zip(row.places, row.items, strict=True)
    ]
    here, found = [list(one) for one in every], {n: {} for n in range(len(every))}
    seen = torch.ones(length, length).tril().bool()
    before = normed = None
    for i, layer in enumerate(decoder.layers):
        if i in cuts:
            own = _softmaxes(layer, states, seen, angles)
            for n, columns in enumerate(here):
                at = At(row, n, columns, every[n], cuts.index(i), before, own, normed, decoder.layers[i - 1].self_attn)
                places = dict(zip(row.places[n], row.items[n].anchor, strict=True))
                held = known[n][i] if known and n in known else None
                stay = list(rule(at)) if held is None else [c for c in columns if places[c] in held]
                found[n][i] = [places[c] for c in stay]
                here[n] = stay
            alive = {c for one in here for c in one}
            for c in (c for one in every for c in one if c not in alive):
                seen[:, c] = False
                seen[c, c] = True
        normed = layer.input_layernorm(states)[0]
        before = _softmaxes(layer, states, seen, angles)
        states = layer(states, attention_mask=_mask(seen), position_embeddings=angles)
        for token, planes in enumerate(row.planes):
            if planes is not None and i < len(planes):
                states[0, token] += planes[i]
    return found


def _softmaxes(layer: Any, states: Tensor, seen: Tensor, angles: Any) -> Tensor:
    """`[H, S, S]`."""
    normed = layer.input_layernorm(states)
    return layer.self_attn(hidden_states=normed, position_embeddings=angles, attention_mask=_mask(seen))[1][0]


def _mask(seen: Tensor) -> Tensor:
    return torch.where(seen, 0.0, torch.finfo(torch.float32).min)[None, None]
