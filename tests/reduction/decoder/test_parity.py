"""Each method keeps what its paper's rule keeps, told from the eager attention of the stock model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.families import Family, visual
from tests.grid import fresh, generate
from tests.reduction.decoder.common import FOUR, wrapped
from vtc import Recipe, VisualTokens
from vtc.stages import FastV, Feather, Grid, Layerwise, LLaVolta, PyramidDrop, SparseVLM, ToDRE
from vtc.stages.decoder import DecoderStage

four = pytest.mark.parametrize("family", FOUR, ids=lambda family: family.name)
ROWS = [[3, (1, 12, 4), 4], [2, (3, 8, 6), 6, (4, 12, 4), 3]]
"""Uneven rows, padded on the left; two images in the second."""
LAYER = 2


def kept(family: Family, stage: DecoderStage) -> list[list[int]]:
    """The tokens of each item that the stage leaves at `LAYER`."""
    model = wrapped(family, Recipe((stage,)))
    generate(model, family.inputs(ROWS), tokens=1)
    return [left.tolist() for left in model.vtc.report.decoder.kept[LAYER]]


class Shown:
    """The stock model's eager run over the whole prompt, and where its items stand."""

    def __init__(self, family: Family) -> None:
        model, inputs = fresh(family, "eager"), family.inputs(ROWS)
        self.entering: dict[int, Tensor] = {}
        self.layers: Any = model.get_decoder().layers
        for i, layer in enumerate(self.layers):
            layer.self_attn.register_forward_pre_hook(self._catch(i), with_kwargs=True)
        model.get_decoder().layers[0].register_forward_pre_hook(self._entry, with_kwargs=True)
        with torch.no_grad():
            self.attention = model(**inputs, output_attentions=True).attentions
        ids, self.mask = inputs["input_ids"], inputs["attention_mask"].bool()
        self.visual = visual(ids, model)
        self.items = [(r, columns) for r in range(len(ids)) for columns in runs(self.visual[r])]

    def _catch(self, i: int) -> Any:
        def catch(module: nn.Module, args: Any, kwargs: Any) -> None:
            self.entering[i] = kwargs["hidden_states"]

        return catch

    def _entry(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self.embeds = args[0] if args else kwargs["hidden_states"]

    def words(self, row: int, after: int) -> list[int]:
        """Real text columns of a row behind column `after`."""
        free = self.mask[row] & ~self.visual[row]
        return [c for c in torch.nonzero(free).flatten().tolist() if c > after]


def runs(row: Tensor) -> list[list[int]]:
    """Stretches of neighbouring placeholders."""
    found: list[list[int]] = []
    for column in torch.nonzero(row).flatten().tolist():
        if found and found[-1][-1] == column - 1:
            found[-1].append(column)
        else:
            found.append([column])
    return found


def best(scores: Tensor, share: float) -> list[int]:
    count = max(1, int(share * len(scores) + 0.5))
    return sorted(sorted(range(len(scores)), key=lambda i: (-float(scores[i]), i))[:count])


@four
@pytest.mark.parametrize(("stage", "layer"), [(FastV, LAYER - 1), (PyramidDrop, LAYER)])
def test_last_tokens_attention(family, stage, layer):
    """FastV reads the layer before, PyramidDrop the layer that comes next; both the last token, mean over heads."""
    shown = Shown(family)
    want = [best(shown.attention[layer][r, :, -1, columns].mean(0), 0.4) for r, columns in shown.items]
    assert kept(family, stage(((LAYER, 0.4),))) == want
    other = [best(shown.attention[layer - 1][r, :, -1, columns].mean(0), 0.4) for r, columns in shown.items]
    assert other != want  # another layer's attention is another choice


def without_positions(layer: Any, states: Tensor, last: int, columns: list[int]) -> Tensor:
    """`[N]` attention of the last token to `columns` as if no token were turned, softmax over these alone."""
    attention = layer.self_attn
    query = attention.q_proj(states[last]).view(-1, attention.head_dim)
    key = attention.k_proj(states[columns]).view(len(columns), -1, attention.head_dim)
    if hasattr(attention, "q_norm"):
        query, key = attention.q_norm(query), attention.k_norm(key)
    groups = len(query) // key.shape[1]
    rows = [(key[:, h // groups] @ query[h]) * attention.scaling for h in range(len(query))]
    return torch.stack([row.softmax(-1) for row in rows]).mean(0)


@four
@pytest.mark.parametrize("stride", [0, 3])
@torch.no_grad()
def test_feather(family, stride):
    shown = Shown(family)
    model = wrapped(family, Recipe((Feather(((LAYER, 0.3),), stride=stride),)))
    generate(model, family.inputs(ROWS), tokens=1)
    report = model.vtc.report
    for (r, columns), item, left in zip(shown.items, report.items, report.decoder.kept[LAYER], strict=True):
        scores = without_positions(shown.layers[LAYER - 1], shown.entering[LAYER - 1][r], -1, columns)
        want = set(best(scores, 0.3))
        if stride:
            want |= {i for i, (_, y, x) in enumerate(item.layout.cell.tolist()) if y % 3 == 0 and x % 3 == 0}
        assert left.tolist() == sorted(want)


@four
@torch.no_grad()
def test_sparsevlm_raters_and_scores(family):
    shown = Shown(family)
    want = []
    for r, columns in shown.items:
        words = shown.words(r, columns[-1])
        affinity = (shown.embeds[r, columns] @ shown.embeds[r, words].T).softmax(1).mean(0)
        rating = [w for w, a in zip(words, affinity, strict=True) if a >= affinity.mean()]
        assert 0 < len(rating) < len(words)
        want.append(best(shown.attention[LAYER - 1][r][:, rating][:, :, columns].mean((0, 1)), 0.4))
    assert kept(family, SparseVLM(((LAYER, 0.4),), recycle=False)) == want
    recycled = kept(family, SparseVLM(((LAYER, 0.4),)))
    assert [len(one) for one in recycled] == [len(one) for one in want]
    assert recycled != want


@four
@torch.no_grad()
def test_todre_withdraws_below_both_thresholds(family):
    shown = Shown(family)
    most = []
    for r, columns in shown.items:
        behind = shown.words(r, columns[-1])
        opening = min(c[0] for row, c in shown.items if row == r)  # in front of it is the system prompt
        every = shown.words(r, opening)
        rows = shown.attention[LAYER - 1][r]
        toward = float(rows[:, behind][:, :, columns].sum(-1).mean())
        back = float(rows[:, columns][:, :, every].sum(-1).mean())
        most.append(max(toward, back))
    threshold = sorted(most)[1] * 1.001
    found = [bool(left) for left in kept(family, ToDRE(((LAYER, 0),), threshold=threshold))]
    assert found == [value >= threshold for value in most]
    assert True in found
    assert False in found


@four
def test_layerwise_is_the_even_grid(family):
    model = wrapped(family, Recipe((Layerwise(((LAYER, 0.25),)),)))
    generate(model, family.inputs(ROWS), tokens=1)
    report = model.vtc.report
    for item, left in zip(report.items, report.decoder.kept[LAYER], strict=True):
        if len(item.layout.grids) > 1:
            continue
        tokens = VisualTokens(torch.zeros(len(item.layout), 1), item.layout)
        pool = torch.nonzero(~item.layout.structural).flatten()
        assert left.tolist() == Grid().select(tokens, pool, len(left), seed=0).tolist()


@four
@torch.no_grad()
def test_llavolta_averages_neighbours(family):
    """The states that enter the layer are means of windows; each stands at its window's middle."""
    model = wrapped(family, Recipe((LLaVolta(((LAYER, 0.5),)),)))
    caught = {}
    layer = model.get_decoder().layers[LAYER]
    layer.register_forward_pre_hook(
        lambda module, args, kwargs: caught.update(states=args[0] if args else kwargs["hidden_states"]),
        with_kwargs=True,
    )
    inputs = family.inputs(ROWS[:1])
    model(**inputs)
    plain = fresh(family)
    plain.get_decoder().layers[LAYER].register_forward_pre_hook(
        lambda module, args, kwargs: caught.update(full=args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    plain(**inputs)
    columns = torch.nonzero(visual(inputs["input_ids"], plain)[0]).flatten().tolist()
    pairs = [columns[i : i + 2] for i in range(0, len(columns), 2)]
    want = torch.stack([caught["full"][0, pair].mean(0) for pair in pairs])
    start = columns[0]
    torch.testing.assert_close(caught["states"][0, start : start + len(pairs)], want, rtol=1e-5, atol=1e-5)
    left = model.vtc.report.decoder.kept[LAYER][0]
    free = torch.nonzero(~model.vtc.report.items[0].layout.structural).flatten()
    assert left.tolist() == free[::2].tolist()


def test_stages_are_data():
    """A stage with other parameters is another recipe, and comes back from its dictionary."""
    for stage in (FastV(((3, 0.1),)), Feather(stride=2), SparseVLM(recycle=False), ToDRE(threshold=0.2)):
        recipe = Recipe((stage,))
        assert Recipe.from_dict(recipe.to_dict()) == recipe != replace(recipe, stages=(type(stage)(),))
