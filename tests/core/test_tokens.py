"""Layouts, visual tokens, and what a `Reduction` makes of features: against loops over single tokens."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import check_same
from tests.oracle import fold
from vtc import Layout, Reduction, VisualTokens
from vtc.core.tokens import WHOLE


@st.composite
def reductions(draw, total: int | None = None) -> Reduction:
    """Any reduction, of `total` tokens if that is given: some dropped, some folded, weights free."""
    total = total or draw(st.integers(1, 12))
    anchor = sorted(draw(st.sets(st.integers(0, total - 1), min_size=1)))
    assign = [draw(st.integers(-1, len(anchor) - 1)) for _ in range(total)]
    for output, place in enumerate(anchor):
        assign[place] = output
    weight = [draw(st.sampled_from([0.25, 0.5, 1.0, 2.0, 3.0])) for _ in range(total)]
    return Reduction(torch.tensor(anchor), torch.tensor(assign), torch.tensor(weight))


def rows(total: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(total, 6, generator=torch.Generator().manual_seed(total)).to(dtype)


@given(reductions())
def test_apply_is_the_weighted_mean_of_a_loop(reduction):
    features = rows(len(reduction.assign))
    torch.testing.assert_close(reduction.apply(features), fold(reduction, features), rtol=1e-5, atol=1e-6)


@given(reductions(), st.sampled_from([torch.bfloat16, torch.float16]))
def test_apply_takes_means_in_fp32_and_answers_in_the_dtype_it_was_given(reduction, dtype):
    features = rows(len(reduction.assign), dtype)
    got = reduction.apply(features)
    assert got.dtype == dtype
    # One unit of the last place: the fp32 sums may be taken in another order.
    bound = 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(got.float(), fold(reduction, features.float()), rtol=bound, atol=1e-3 * bound)


@given(reductions())
def test_gradients_are_the_weights(reduction):
    features = rows(len(reduction.assign)).requires_grad_()
    reduction.apply(features).sum().backward()
    want = torch.zeros(len(features))
    for token, output in enumerate(reduction.assign.tolist()):
        if output >= 0:
            want[token] = reduction.weight[token] / reduction.weight[reduction.assign == output].sum()
    if not reduction.merges:
        want = torch.isin(torch.arange(len(features)), reduction.anchor).float()
    torch.testing.assert_close(features.grad, want[:, None].expand(-1, 6))


@given(reductions(), st.data())
def test_one_after_another_is_both_as_one(first, data):
    second = data.draw(reductions(len(first)))
    both = second.after(first)
    features = rows(len(first.assign))
    torch.testing.assert_close(both.apply(features), second.apply(first.apply(features)), rtol=1e-4, atol=1e-5)
    goes = [-1 if one < 0 else second.assign[one].item() for one in first.assign.tolist()]
    assert both.assign.tolist() == goes
    assert both.anchor.tolist() == [first.anchor[place].item() for place in second.anchor.tolist()]


@given(st.integers(1, 30), st.data())
def test_pruning_keeps_rows_bit_for_bit(total, data):
    anchor = torch.tensor(sorted(data.draw(st.sets(st.integers(0, total - 1), min_size=1))))
    reduction = Reduction.pruning(anchor, total)
    features = rows(total, torch.bfloat16)
    check_same(reduction.apply(features), features[anchor], "rows")
    assert not reduction.merges
    assert len(reduction) == len(anchor)
    assert reduction.assign.tolist() == [anchor.tolist().index(i) if i in anchor else -1 for i in range(total)]


def test_identity_changes_nothing():
    features = rows(9)
    check_same(Reduction.identity(9).apply(features), features, "rows")


def test_a_merge_of_equal_rows_is_that_row_and_keeps_its_norm():
    reduction = Reduction(torch.tensor([1]), torch.zeros(4, dtype=torch.int64), torch.ones(4))
    row = rows(1)
    torch.testing.assert_close(reduction.apply(row.expand(4, -1)), row)


def test_anchors_may_be_gathered_on_another_device_type():
    moved = Reduction.identity(3).to("meta")
    assert moved.anchor.device.type == moved.assign.device.type == moved.weight.device.type == "meta"


@pytest.mark.parametrize(
    ("anchor", "assign", "weight"),
    [((2, 1), (4,), (4,)), ((2,), (4, 1), (4,)), ((2,), (4,), (3,))],
    ids=str,
)
def test_a_reduction_of_other_shapes_is_refused(anchor, assign, weight):
    shown = "anchor, assign, weight .*" + re.escape(f"{anchor}, {assign}, {weight}")
    with pytest.raises(ValueError, match=shown + r"; .*\[K\], \[N\], \[N\]"):
        Reduction(torch.zeros(anchor).long(), torch.zeros(assign).long(), torch.zeros(weight))


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))
def test_a_grid_is_laid_out_in_raster_order(frames, height, width):
    layout = Layout.of_grid(height, width, frames=frames, kind="clip")
    cells = [[t, h, w] for t in range(frames) for h in range(height) for w in range(width)]
    assert layout.cell.tolist() == cells
    assert len(layout) == len(cells)
    assert layout.candidates == (len(cells),)
    assert layout.structurals == (0,)
    assert layout.grids == ((frames, height, width),)
    assert layout.kinds == ("clip",)


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=20))
def test_candidates_and_structural_tokens_are_counted_by_unit(tokens):
    layout = Layout(
        unit=torch.tensor([unit for unit, _ in tokens]),
        cell=torch.zeros(len(tokens), 3, dtype=torch.int64),
        structural=torch.tensor([fixed for _, fixed in tokens]),
        grids=((1, 1, 1),) * 3,
        kinds=("tile",) * 3,
    )
    assert layout.candidates == tuple(sum(u == unit and not s for u, s in tokens) for unit in range(3))
    assert layout.structurals == tuple(sum(u == unit and s for u, s in tokens) for unit in range(3))


def test_joined_layouts_number_their_units_on():
    parts = [Layout.of_grid(1, 2), Layout.of_grid(2, 1, frames=2, kind="clip", box=(0.0, 0.0, 0.5, 1.0))]
    joined = Layout.join([*parts, parts[0]])
    assert joined.unit.tolist() == [0, 0, 1, 1, 1, 1, 2, 2]
    assert joined.cell.tolist() == [*parts[0].cell.tolist(), *parts[1].cell.tolist(), *parts[0].cell.tolist()]
    assert joined.grids == ((1, 1, 2), (2, 2, 1), (1, 1, 2))
    assert joined.kinds == ("image", "clip", "image")
    assert joined.boxes == (WHOLE, (0.0, 0.0, 0.5, 1.0), WHOLE)


def test_centres_lie_in_the_box_of_their_unit():
    tile = Layout.of_grid(2, 1, box=(0.5, 0.25, 1.0, 0.5))
    assert tile.centres.tolist() == [[0.625, 0.375], [0.875, 0.375]]
    fixed = torch.tensor([False, True])
    whole = Layout(torch.zeros(2).long(), torch.tensor([[0, 0, 1], [-1, -1, -1]]), fixed, ((1, 1, 2),), ("image",))
    assert whole.boxes == (WHOLE,)
    assert whole.centres[0].tolist() == [0.5, 0.75]
    assert whole.centres[1].isnan().all()


@pytest.mark.parametrize("shape", [(5, 4), (6,), (1, 6, 4)], ids=str)
def test_features_that_do_not_fit_the_layout_are_refused(shape):
    with pytest.raises(ValueError, match=rf"features have shape {re.escape(str(shape))}, .* 6 tokens"):
        VisualTokens(torch.zeros(shape), Layout.of_grid(2, 3))


def test_a_cue_that_was_not_computed_is_named():
    tokens = VisualTokens(torch.zeros(6, 2), Layout.of_grid(2, 3), {"keys": torch.ones(6)})
    assert tokens.cue("keys").tolist() == [1] * 6
    with pytest.raises(ValueError, match=r"cue 'attention' .*\(computed: keys\)"):
        tokens.cue("attention")
    with pytest.raises(ValueError, match=r"cue 'attention' .*\(computed: none\)"):
        VisualTokens(torch.zeros(6, 2), Layout.of_grid(2, 3)).cue("attention")
