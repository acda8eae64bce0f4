"""Colours of overlays as people see them who lack a kind of cone, and what their legends say."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vtc.core.tokens import Layout, Reduction
from vtc.reduction.report import ItemReport
from vtc.viz.cell_marks import colors_of, marked, marks_of
from vtc.viz.colors import (
    DIM,
    HATCH,
    KEPT,
    REGIONS,
    TINT,
    region_colors,
)
from vtc.viz.drawing import length
from vtc.viz.legend import (
    KEPT_MARK,
    KEYFRAME,
    LINES,
    MERGED,
    TEXT,
    Mark,
    captioned,
    wrapped,
)
from vtc.viz.overlays import overlay

# Machado, Oliveira and Fernandes, "A physiologically-based model for simulation of color vision deficiency" (2009),
# at full severity, over linear RGB.
SEEN_BY = {
    "all cones": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
RED = (200, 60, 50)


def linear(color, vision: str) -> np.ndarray:
    """Linear RGB of an sRGB colour as those eyes see it."""
    share = np.asarray(color, dtype=float) / 255
    return np.clip(SEEN_BY[vision] @ np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4), 0, 1)


def srgb(light: np.ndarray) -> np.ndarray:
    return 255 * np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def lab(color, vision: str) -> np.ndarray:
    """CIELAB of an sRGB colour as those eyes see it."""
    x, y, z = TO_XYZ @ linear(color, vision) / np.array([0.9505, 1, 1.089])
    x, y, z = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def closest(colors, vision: str) -> float:
    return min(float(np.linalg.norm(lab(a, vision) - lab(b, vision))) for a, b in combinations(colors, 2))


@pytest.mark.parametrize("vision", SEEN_BY)
def test_regions_can_be_told_apart(vision):
    assert closest((*REGIONS, KEPT), vision) > 10
    assert closest(REGIONS, vision) > 14


@pytest.mark.parametrize("vision", ["deuteranopia", "protanopia"])
def test_the_distance_shows_colours_that_cannot_be_told_apart(vision):
    olive = srgb(linear(RED, vision))
    assert closest((RED, olive), "all cones") > 30
    assert closest((RED, olive), vision) < 5


@pytest.mark.parametrize("vision", SEEN_BY)
@pytest.mark.parametrize("grey", [14, 72, 129])
def test_tints_can_be_told_apart_over_dark_and_bright(vision, grey):
    assert closest([np.array(color) * TINT + grey * (1 - TINT) for color in REGIONS], vision) > 5


@pytest.mark.parametrize("vision", ["deuteranopia", "protanopia"])
def test_kept_and_dropped_differ_by_lightness(vision):
    """Outline against the dimmest and the brightest that a dropped cell gets."""
    for dimmed in ((14,) * 3, (129,) * 3):
        assert abs(lab(KEPT, vision)[0] - lab(dimmed, vision)[0]) > 12


def test_a_dropped_cell_beside_merged_ones_has_a_line_across_it():
    """A green tint over a bright part is nearly grey to eyes without green cones, so colour must not be all."""
    drawn = np.asarray(marked(Image.new("RGB", (200, 100), (250, 250, 250)), merged([[0, 0, -1, -1]]), 0, 0))
    across = (drawn == HATCH).all(axis=2)
    assert across[:, 100:150].sum() >= 20
    assert across[:, 150:].sum() >= 20
    assert not across[:, :100].any()


# Which region gets which


def merged(owner: list[list[int]], units: int = 1) -> ItemReport:
    assign = torch.tensor(owner)
    layout = Layout.of_grid(*assign.shape) if units == 1 else Layout.of_grid(1, assign.shape[1], frames=units)
    flat = assign.flatten()
    anchors = torch.tensor([int((flat == region).nonzero()[0]) for region in range(int(flat.max()) + 1)])
    return ItemReport.of("image", 0, layout, Reduction(anchors, flat, torch.ones(len(flat))))


@given(st.integers(1, 8), st.integers(1, 8), st.randoms(use_true_random=False))
def test_few_regions_side_by_side_always_differ(height, width, random):
    """With no more regions than colours, no two alike touch."""
    owner = np.array([[random.randrange(-1, 6) for _ in range(width)] for _ in range(height)])
    colors = region_colors([owner])
    assert set(colors) == {region for region in owner.ravel().tolist() if region >= 0}
    sides = ((owner[:, :-1], owner[:, 1:]), (owner[:-1], owner[1:]))
    beside = [pair for one, other in sides for pair in zip(one.ravel(), other.ravel(), strict=True)]
    assert all(colors[a] != colors[b] for a, b in beside if a != b and min(a, b) >= 0)


def test_a_region_over_frames_has_one_colour():
    """By itself, the second frame would give its last region what the first frame needs."""
    item = merged([[0, 0, 1, 1], [1, 1, 2, 2]], units=2)
    colors = colors_of(item)
    grey = Image.new("RGB", (400, 100), (128, 128, 128))
    images = [marked(grey, item, 0, frame, colors) for frame in (0, 1)]
    assert images[0].getpixel((399 - 25, 20)) == images[1].getpixel((25, 20)) != grey.getpixel((0, 0))
    alone = region_colors([np.array([[1, 1, 2, 2]])])
    assert alone[2] != colors[2]


# What legends say


def pruned(kept: list[int]) -> ItemReport:
    return ItemReport.of("image", 0, Layout.of_grid(2, 4), Reduction.pruning(torch.tensor(kept), 8))


@pytest.mark.parametrize(
    ("item", "texts"),
    [
        (pruned([0, 5]), ["kept", "dropped"]),
        (merged([[0, 0, 1, 1]]), ["kept, each in a colour", "merged into the kept one"]),
        (merged([[0, 0, -1, 1]]), ["kept, each in a colour", "merged into the kept one", "dropped"]),
    ],
)
def test_a_legend_tells_the_marks_that_occur(item, texts):
    assert [mark.text for mark in marks_of(item)] == texts


@pytest.mark.parametrize("width", [50, 240, 400, 1024])
def test_a_legend_is_drawn_at_every_width(width):
    """Under a narrow image it takes more lines; it is never left out, as a strip without it shows."""
    image = Image.new("RGB", (width, 40), "black")
    with_legend = captioned(image, "kcenter, keep 0.25", (KEPT_MARK, MERGED))
    without = captioned(image, "kcenter, keep 0.25", ())
    strip = np.asarray(with_legend)[40:]
    for color in (KEPT, MERGED.fill):
        assert (strip == color).all(axis=2).sum() >= 12
        assert not (np.asarray(without)[40:] == color).all(axis=2).any()
    assert (strip[:, -3:] == 255).all()


def test_a_mark_may_be_hatched():
    marks = (Mark("x", DIM), Mark("x", DIM, shape="hatched"))
    plain, hatched = (captioned(Image.new("RGB", (300, 9)), "", (mark,)) for mark in marks)
    assert np.asarray(plain).shape == np.asarray(hatched).shape
    assert [(np.asarray(p) == HATCH).all(axis=2).any() for p in (plain, hatched)] == [False, True]


def test_the_mark_of_a_keyframe_is_a_diamond():
    strip = np.asarray(captioned(Image.new("RGB", (300, 9)), "", (KEYFRAME,)))[9:]
    wide = (strip == KEPT).all(axis=2).sum(axis=1)
    filled = wide[wide > 0].tolist()
    assert filled == sorted(filled[: len(filled) // 2 + 1]) + sorted(filled[len(filled) // 2 + 1 :], reverse=True)
    assert len(set(filled)) > 2


def test_a_caption_keeps_its_distance_to_the_edge():
    strips = [np.asarray(captioned(Image.new("RGB", (600, 9)), "words", (KEYFRAME,), edge))[9:] for edge in (8, 30)]
    assert [int(np.flatnonzero((strip < 255).any(axis=(0, 2)))[0]) // 4 for strip in strips] == [2, 7]


@given(st.text(max_size=200), st.integers(40, 600))
def test_wrapped_lines_fit_and_lose_nothing_but_what_dots_stand_for(text, room):
    lines = wrapped(text, room)
    assert len(lines) <= LINES
    assert all(length(line, TEXT) <= room for line in lines)
    if not any(line.endswith("...") for line in lines):
        assert " ".join(lines).split() == text.split()


def test_the_parts_of_a_long_caption_are_in_their_order():
    lines = wrapped("one two three four five six", 60)
    assert " ".join(lines) == "one two three four five six"
    shorter = wrapped("one two three four five six", 60, lines=2)
    assert shorter[0] == lines[0]
    assert shorter[1].endswith("...")
    heights = [captioned(Image.new("RGB", (300, 9)), "word " * n, ()).height for n in (1, 20, 40, 400, 4000)]
    assert all(a <= b for a, b in pairwise(heights))
    assert heights[-1] == heights[-2] < 120


def test_a_huge_image_is_drawn_bounded():
    assert max(overlay(Image.new("RGB", (6000, 300)), pruned([1])).size) == 2048
    assert overlay(Image.new("RGB", (600, 300)), pruned([1])).width == 600
