"""Positions of kept tokens beside those of the full prompt, without vLLM."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vtc.integrations.vllm.positions import AXES, BASE, DIGITS, OriginalPositions, parted, with_offsets

TOKEN = 7


@dataclass(frozen=True)
class Place:
    offset: int
    length: int
    is_embed: torch.Tensor | None = None


@dataclass(frozen=True)
class Feature:
    mm_position: Place
    grid: tuple[int, int, int]
    modality: str = "image"
    data: dict = field(default_factory=lambda: {"vtc_image": 1})


class Stock:
    """A model with M-RoPE: items take the place of their largest side."""

    width = 4

    def get_mrope_input_positions(self, tokens, features):
        found, at, start = [], 0, 0
        for feature in features:
            offset = feature.mm_position.offset
            found.append(torch.arange(at, at + offset - start).expand(AXES, -1))
            at += offset - start
            cells = torch.cartesian_prod(*(torch.arange(n) for n in feature.grid)).T
            assert tokens[offset : offset + cells.shape[1]] == [TOKEN] * cells.shape[1]
            found.append(cells + at)
            at, start = at + max(feature.grid), offset + cells.shape[1]
        found.append(torch.arange(at, at + len(tokens) - start).expand(AXES, -1))
        positions = torch.cat(found, dim=1)
        return positions, int(positions.max()) + 1 - len(tokens)

    def embed_input_ids(self, ids, embeddings=None, *, is_multimodal=None):
        rows = torch.zeros(len(ids), self.width)
        if embeddings is not None:
            assert all(own.shape[1] == self.width for own in embeddings)
            rows[is_multimodal] = torch.cat(list(embeddings))
        return rows

    def forward(self, ids, positions):
        return positions


class Model(OriginalPositions, Stock):
    row_width = Stock.width

    def full_item(self, tokens, feature):
        t, h, w = feature.grid
        return [TOKEN] * (t * h * w)


def prompts(grids, kept, text):
    """A full prompt and a shortened one, with their items."""
    full, short, fulls, shorts = [], [], [], []
    for number, (grid, keep) in enumerate(zip(grids, kept, strict=True)):
        full += range(100 * number + 10, 100 * number + 10 + text)
        short += range(100 * number + 10, 100 * number + 10 + text)
        length = grid[0] * grid[1] * grid[2]
        fulls.append(Feature(Place(len(full), length), grid))
        shorts.append(Feature(Place(len(short), len(keep)), grid))
        full += [TOKEN] * length
        short += [TOKEN] * len(keep)
    tail = list(range(9000, 9000 + text))
    return full + tail, short + tail, fulls, shorts


grids = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5))


@st.composite
def items(draw):
    found = draw(st.lists(grids, min_size=1, max_size=3))
    kept = []
    for t, h, w in found:
        some = draw(st.sets(st.integers(0, t * h * w - 1), min_size=1))
        kept.append(sorted(some))
    return found, kept, draw(st.integers(1, 4))


@given(items(), st.integers(1, 7))
def test_each_token_stands_where_the_full_prompt_put_it_whatever_the_chunks(case, chunk):
    found, kept, text = case
    full, short, fulls, shorts = prompts(found, kept, text)
    expected, delta = Stock().get_mrope_input_positions(full, fulls)
    model = Model()
    positions, own_delta = model.get_mrope_input_positions(short, shorts)
    assert own_delta + len(short) == delta + len(full)
    rows, offsets, columns, at = [], [], [], 0
    for number, (grid, keep) in enumerate(zip(found, kept, strict=True)):
        start = fulls[number].mm_position.offset
        columns += [*range(at, start), *(start + k for k in keep)]
        at = start + fulls[number].mm_position.length
        offsets.append(torch.cartesian_prod(*(torch.arange(n) for n in grid)).reshape(-1, AXES)[keep])
        rows.append(torch.randn(len(keep), Stock.width))
    columns += range(at, len(full))
    items_rows = torch.cat([with_offsets(row, offset) for row, offset in zip(rows, offsets, strict=True)])
    media = torch.tensor([token == TOKEN for token in short])
    used = 0
    for begin in range(0, len(short), chunk):
        ids, some = torch.tensor(short[begin : begin + chunk]), media[begin : begin + chunk]
        count = int(some.sum())
        mine = [items_rows[used : used + count]] if count else None
        used += count
        embedded = model.embed_input_ids(ids, mine, is_multimodal=some)
        assert embedded.shape == (len(ids), Stock.width)
        moved = model.forward(ids, positions[:, begin : begin + chunk].clone())
        assert torch.equal(moved, expected[:, columns[begin : begin + chunk]])


def test_items_that_were_not_reduced_stand_where_they_stood():
    full, _, fulls, _ = prompts([(1, 2, 3), (1, 2, 2)], [range(6), range(4)], 2)
    stock = [Feature(f.mm_position, f.grid, data={}) for f in fulls]
    model = Model()
    expected, delta = Stock().get_mrope_input_positions(full, fulls)
    positions, own = model.get_mrope_input_positions(full, stock)
    assert torch.equal(positions, expected)
    assert own == delta
    media = torch.tensor([token == TOKEN for token in full])
    model.embed_input_ids(torch.tensor(full), [torch.randn(6, 4), torch.randn(4, 4)], is_multimodal=media)
    assert torch.equal(model.forward(None, positions.clone()), expected)


def test_without_an_item_of_ours_the_stock_model_is_given_what_came():
    given = []

    class Asked(Stock):
        def get_mrope_input_positions(self, tokens, features):
            given.append((tokens, features))
            return torch.zeros(AXES, len(tokens)), 0

    class Both(OriginalPositions, Asked):
        pass

    tokens, features = [5, 1, 2, 3], [Feature(Place(1, 3, torch.tensor([False, True, False])), (1, 1, 1), data={})]
    Both().get_mrope_input_positions(tokens, features)
    assert given[0][0] is tokens
    assert given[0][1] is features


def test_beside_an_item_of_ours_another_keeps_its_place_and_its_text():
    embeds = torch.tensor([False, True, True, True, True, False])
    full, short = [5, *[TOKEN] * 6, 8, 1, *[TOKEN] * 4, 2], [5, TOKEN, TOKEN, 8, 1, *[TOKEN] * 4, 2]
    seen = []

    class Asked(Stock):
        def get_mrope_input_positions(self, tokens, features):
            seen.append((tokens, [feature.mm_position for feature in features]))
            return torch.arange(len(tokens)).expand(AXES, -1), 0

    class Both(OriginalPositions, Asked):
        row_width = 4
        full_item = Model.full_item

    features = [Feature(Place(1, 2), (1, 2, 3)), Feature(Place(4, 6, embeds), (1, 2, 2), data={})]
    positions, _ = Both().get_mrope_input_positions(short, features)
    tokens, places = seen[0]
    assert tokens == full
    assert (places[0].offset, places[0].length) == (1, 6)
    assert (places[1].offset, places[1].length, places[1].is_embed) == (8, 6, embeds)
    assert positions[0].tolist() == [0, 1, 1, 7, 8, 9, 10, 11, 12, 13]


def test_an_offset_does_not_outlive_its_step():
    model, media = Model(), torch.tensor([True])
    model.embed_input_ids(
        torch.tensor([TOKEN]), [with_offsets(torch.ones(1, 4), torch.ones(1, 3).long())], is_multimodal=media
    )
    moved = model.forward(None, torch.zeros(3, 1, dtype=torch.int64))
    assert moved.flatten().tolist() == [1, 1, 1]
    assert model.forward(None, torch.zeros(3, 1, dtype=torch.int64)).flatten().tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_digits_are_exact_in_any_float_of_16_bits(dtype):
    offsets = torch.randint(0, BASE**DIGITS, (5000, AXES))
    offsets[0], offsets[1] = 0, BASE**DIGITS - 1
    rows = torch.randn(5000, 3).to(dtype)
    back, found = parted(with_offsets(rows, offsets))
    assert torch.equal(back, rows)
    assert torch.equal(found, offsets)
    if dtype == torch.bfloat16:  # as whole numbers, as EVS carries them, they would not be
        assert not torch.equal(offsets.to(dtype).long(), offsets)


def test_an_offset_that_digits_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="offsets from 0 to 4294967296; expected 0 to 4294967295"):
        with_offsets(torch.ones(2, 1), torch.tensor([[0, 0, 0], [0, 0, BASE**DIGITS]]))


def test_text_of_an_item_around_its_placeholders_stays_text():
    embeds = torch.tensor([False, True, True, False])
    short = Feature(Place(1, 4, embeds), (1, 2, 3))
    tokens = [5, 1, TOKEN, TOKEN, 2, 6]
    full = [5, 1, *[TOKEN] * 6, 2, 6]
    expected, _ = Stock().get_mrope_input_positions(full, [Feature(Place(2, 6), (1, 2, 3))])
    positions, _ = Model().get_mrope_input_positions(tokens, [short])
    assert torch.equal(positions, expected[:, [0, 1, 2, 2, 8, 9]])
