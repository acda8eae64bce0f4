"""Shortening a prompt, against plain loops over rows and columns."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import check_same
from tests.oracle import ladders
from vtc import Layout
from vtc.reduction.prompt import (
    PromptMap,
    Span,
    compact,
    locate,
)

PLACEHOLDERS = {"image": 90, "video": 93}


@st.composite
def keeps(draw) -> torch.Tensor:
    """`[B, L]` bool, at least one kept column in each row."""
    rows, length = draw(st.integers(1, 4)), draw(st.integers(1, 10))
    keep = [[draw(st.booleans()) for _ in range(length)] for _ in range(rows)]
    for row in keep:
        row[draw(st.integers(0, length - 1))] = True
    return torch.tensor(keep)


def shortened(keep: torch.Tensor, values: torch.Tensor, left: bool, fill: int) -> list[list[int]]:
    """Each row's kept values, padded to the longest row."""
    rows = [
        [v for v, k in zip(row, kept, strict=True) if k]
        for row, kept in zip(values.tolist(), keep.tolist(), strict=True)
    ]
    width = max(map(len, rows))
    return [[fill] * (width - len(row)) + row if left else row + [fill] * (width - len(row)) for row in rows]


@given(keeps(), st.booleans(), st.integers(0, 3))
def test_take_gathers_row_by_row_and_leaves_the_tail(keep, left, tail):
    splice = PromptMap.keeping(keep, left=left)
    ids = torch.arange(100, 100 + keep.numel()).view_as(keep)
    after = torch.arange(len(keep) * tail).view(len(keep), tail)
    want = shortened(keep, ids, left, fill=-7)
    got = splice.take(torch.cat([ids, after], dim=1), -7)
    assert got.tolist() == [row + more for row, more in zip(want, after.tolist(), strict=True)]
    assert splice.full_length == keep.shape[1]
    assert splice.short_length == len(want[0])


@given(keeps(), st.booleans())
def test_take_treats_every_axis_alike(keep, left):
    splice = PromptMap.keeping(keep, left=left)
    values = torch.arange(3 * keep.numel()).view(3, *keep.shape)
    got = splice.take(values, 0)
    for axis in range(3):
        check_same(got[axis], splice.take(values[axis], 0), "values")


@given(keeps(), st.booleans(), st.integers(0, 3))
def test_the_mask_marks_real_tokens_and_takes_over_the_tail(keep, left, tail):
    splice = PromptMap.keeping(keep, left=left)
    full = torch.ones(len(keep), keep.shape[1] + tail, dtype=torch.int64)
    full[:, keep.shape[1] :] = torch.arange(tail) % 2
    want = shortened(keep, keep.long(), left, fill=0)
    got = splice.take(full, 0)
    assert got.dtype == torch.int64
    assert got.tolist() == [row + [t % 2 for t in range(tail)] for row in want]


@given(keeps(), st.booleans())
def test_nearest_is_the_last_kept_column_at_or_before(keep, left):
    splice = PromptMap.keeping(keep, left=left)
    for r, row in enumerate(keep.tolist()):
        short = [splice.columns[r, s].item() if splice.mask[r, s] else None for s in range(splice.short_length)]
        first = next(c for c, kept in enumerate(row) if kept)
        for column in range(len(row)):
            before = max((c for c in range(column + 1) if row[c]), default=first)
            assert splice.nearest[r, column] == short.index(before)


@given(keeps(), st.booleans(), st.integers(1, 3))
def test_expand_repeats_each_row_in_place(keep, left, times):
    splice = PromptMap.keeping(keep, left=left)
    many = splice.expand(times * len(keep))
    for row in range(len(keep)):
        for copy in range(times):
            check_same(many.columns[row * times + copy], splice.columns[row], "columns")
            check_same(many.mask[row * times + copy], splice.mask[row], "mask")
            check_same(many.nearest[row * times + copy], splice.nearest[row], "nearest")


def test_expand_to_no_multiple_is_refused():
    splice = PromptMap.keeping(torch.ones(2, 3, dtype=torch.bool), left=True)
    with pytest.raises(ValueError, match=r"batch of 3 rows .* the 2 "):
        splice.expand(3)


@given(keeps(), st.booleans())
def test_keeping_all_is_the_identity(keep, left):
    splice = PromptMap.keeping(torch.ones_like(keep), left=left)
    values = torch.arange(keep.numel()).view_as(keep)
    check_same(splice.take(values, -1), values, "values")
    check_same(splice.nearest, torch.arange(keep.shape[1]).expand_as(keep), "nearest")


@st.composite
def prompts(draw):
    """Ids, and the items behind their placeholders in prompt order within each modality."""
    rows, sizes = [], {"image": [], "video": []}
    for _ in range(draw(st.integers(1, 3))):
        row = []
        for _ in range(draw(st.integers(0, 4))):
            row += draw(st.lists(st.integers(3, 80), max_size=2))
            kind, size = draw(st.sampled_from(["image", "video"])), draw(st.integers(1, 4))
            sizes[kind].append((len(rows), len(row), size))
            row += [PLACEHOLDERS[kind]] * size
        rows.append([*row, 5])
    width = max(map(len, rows))
    return torch.tensor([[0] * (width - len(row)) + row for row in rows]), sizes, [width - len(row) for row in rows]


@given(prompts())
def test_locate_finds_each_item(prompt):
    ids, sizes, padding = prompt
    items = [(kind, item) for kind in ("image", "video") for item in sizes[kind]]
    spans = locate(ids, PLACEHOLDERS, [(kind, size) for kind, (_, _, size) in items])
    assert len(spans) == len(items)
    for span, (_, (row, start, size)) in zip(spans, items, strict=True):
        assert span.row == row
        assert span.columns.tolist() == list(range(start + padding[row], start + padding[row] + size))


def test_an_item_may_be_interrupted():
    (span,) = locate(torch.tensor([[90, 5, 90, 6]]), PLACEHOLDERS, [("image", 2)])
    assert span.columns.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("rows", "sizes"),
    [
        ([[1, 90, 90, 2]], [3]),
        ([[1, 90, 90, 2]], [1]),
        ([[1, 90, 90, 2]], []),
        ([[1, 2, 3, 4]], [2]),
        ([[1, 90, 90, 2]], [2, 2]),
        ([[1, 2, 90, 90], [90, 90, 1, 2]], [4]),
        ([[90, 90, 90, 2], [90, 1, 1, 2]], [2, 2]),
    ],
    ids=str,
)
def test_placeholders_that_do_not_match_are_refused(rows, sizes):
    counts = [row.count(90) for row in rows]
    words = (
        rf"input_ids hold {re.escape(str(counts))} placeholders \(id 90\) .*images have {re.escape(str(sizes))} tokens"
    )
    with pytest.raises(ValueError, match=words):
        locate(torch.tensor(rows), PLACEHOLDERS, [("image", size) for size in sizes])


@st.composite
def media(draw):
    """One row of text and images: its positions as M-RoPE counts them, spans, and what is kept of each image."""
    positions, spans, kept, cells, start = [], [], [], [], 0
    for _ in range(draw(st.integers(1, 3))):
        for _ in range(draw(st.integers(0, 2))):
            positions.append([start] * 3)
            start += 1
        height, width = draw(st.integers(1, 4)), draw(st.integers(1, 4))
        grid = Layout.of_grid(height, width).cell
        spans.append(Span(0, torch.arange(len(positions), len(positions) + len(grid))))
        kept.append(torch.tensor(sorted(draw(st.sets(st.integers(0, len(grid) - 1), min_size=1)))))
        cells.append(grid)
        positions += (grid + start).tolist()
        start += max(height, width)
    positions.append([start] * 3)
    return torch.tensor(positions).T[:, None], spans, kept, cells


def climbed(length: int, spans, kept, cells, axes: int) -> torch.Tensor:
    """`[axes, L]` renumbered by walking along the prompt; -1 where a token is dropped."""
    full = [cell.T if axes == 3 else torch.arange(len(cell))[None] for cell in cells]
    out = torch.full((axes, length), -1)
    following, column = 0, 0
    starts = {int(span.columns[0]): i for i, span in enumerate(spans)}
    while column < length:
        if column not in starts:
            out[:, column] = following
            column, following = column + 1, following + 1
            continue
        i = starts[column]
        offsets, height = ladders(full[i], kept[i].tolist())
        out[:, spans[i].columns[kept[i]]] = (following + offsets).T
        column, following = column + len(cells[i]), following + height
    return out


@given(media(), st.sampled_from([1, 3]))
def test_compact_climbs_ladders_without_gaps(prompt, axes):
    positions, spans, kept, cells = prompt
    if axes == 1:
        positions = torch.arange(positions.shape[-1])[None, None]
    want = climbed(positions.shape[-1], spans, kept, cells, axes)
    stays = want[0] >= 0
    got = compact(positions, spans, kept)
    check_same(got[:, 0, stays], want[:, stays], "positions")


@given(media(), st.sampled_from([1, 3]))
def test_compact_with_all_kept_is_the_identity(prompt, axes):
    positions, spans, _, cells = prompt
    if axes == 1:
        positions = torch.arange(positions.shape[-1])[None, None]
    before = positions.clone()
    check_same(compact(positions, spans, [torch.arange(len(c)) for c in cells]), positions, "positions")
    check_same(positions, before, "the argument's values")


def test_compact_leaves_other_rows_alone():
    positions = torch.arange(8).expand(1, 2, 8)
    got = compact(positions, [Span(1, torch.arange(2, 6))], [torch.tensor([1, 3])])
    assert got[0, 0].tolist() == list(range(8))
    assert got[0, 1].tolist() == [0, 1, 3, 2, 3, 3, 4, 5]  # dropped tokens stand at the new top


@pytest.mark.parametrize(
    ("frames", "rows", "after", "kept", "behind"),
    [
        (4, 1, 5, [0, 2], 3),  # text behind the last frame's time (Qwen-Omni): it follows the last time that stays
        (4, 1, 2, [0, 2], 2),  # text behind the rows, as Qwen-VL counts: frames that go do not move it
        (3, 3, 4, [0, 3, 6], 2),  # both alike: rows count
        (3, 3, 4, [0, 1], 3),
    ],
)
def test_text_behind_a_video_follows_what_it_followed(frames, rows, after, kept, behind):
    cells = Layout.of_grid(rows, 1, frames=frames).cell + 1
    positions = torch.cat([torch.zeros(1, 3).long(), cells, torch.full((2, 3), after) + torch.tensor([[0], [1]])])
    got = compact(positions.T[:, None], [Span(0, torch.arange(1, len(cells) + 1))], [torch.tensor(kept)])[:, 0].T
    assert got[-2:].tolist() == [[behind] * 3, [behind + 1] * 3]
    for axis in range(3):
        old = cells[kept, axis].unique().tolist()
        assert got[1:-2][kept, axis].tolist() == [1 + old.index(place) for place in cells[kept, axis].tolist()]


def test_a_stretch_of_which_nothing_stays_leaves_no_gap():
    columns = torch.tensor([1, 2, 5, 6])  # two frames, and the second's time stamp between them
    got = compact(torch.arange(8)[None, None], [Span(0, columns)], [torch.tensor([2, 3])])
    assert got[0, 0].tolist() == [0, 0, 0, 1, 2, 3, 4, 5]
