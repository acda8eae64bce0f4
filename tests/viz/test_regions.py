"""A click on a timeline leads to the second that is drawn there, found again in the image's own pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from vtc.core.tokens import Layout, Reduction
from vtc.media.video_frames import VideoFrames
from vtc.recipes.composition import Recipe
from vtc.reduction.report import ItemReport, Report
from vtc.stages import KCenter
from vtc.video.stages import ClipBudget
from vtc.viz.drawing import MARGIN, WIDTH, color_of
from vtc.viz.regions import ClickableImage, TimeRegion, second_at, stacked
from vtc.viz.timeline import clickable_timeline, timeline

from .test_timeline import report, shots, some

LANES = 44
"""The top of the lanes: the title above them is that high."""
RECIPE = Recipe((ClipBudget(), KCenter()))
FRAMES = shots(3, 4)


@pytest.fixture(scope="module")
def drawn() -> ClickableImage:
    """Seven frames of two clips, at 0, 0.5, ... 3 s."""
    return clickable_timeline(FRAMES, report(7, some(7, 2)), RECIPE, title="x")


def leading(drawn: ClickableImage, x: float, y: float) -> float | None:
    return second_at(drawn.regions, x, y)


def lit(row: np.ndarray, color) -> list[int]:
    """Where stretches of at least 40 pixels of a colour begin in a row of pixels."""
    same = (row == color).all(-1)
    starts = np.flatnonzero(same & ~np.roll(same, 1))
    return [int(x) for x in starts if same[x : x + 40].all()]


def strips(image: Image.Image) -> list[tuple[int, int]]:
    """Left end and top of each coloured strip over a thumbnail, found by the colours of the clips alone."""
    pixels, found = np.asarray(image), []
    for y in range(LANES + 240, image.height - 64):
        starts = sorted(x for clip in (0, 1) for x in lit(pixels[y], color_of(clip)))
        if starts and (not found or y > found[-1][1] + 40):
            found += [(x, y) for x in starts]
    return found


def test_it_is_the_timeline(drawn):
    assert np.array_equal(
        np.asarray(drawn.image), np.asarray(timeline(FRAMES, report(7, some(7, 2)), RECIPE, title="x"))
    )


def test_a_thumbnail_leads_to_the_beginning_of_its_unit(drawn):
    found, starts = strips(drawn.image), FRAMES.seconds.tolist()
    assert len(found) == len(starts) == 7
    assert [leading(drawn, x + 20, y + 30) for x, y in found] == starts
    assert [leading(drawn, x + 1, y + 1) for x, y in found] == starts
    below = max(y for _, y in found)
    assert [leading(drawn, x + 1, below - 1) for x, y in found if y < below] == starts[:4]


def test_so_does_one_of_two_frames():
    layout = Layout.join([Layout.of_grid(4, 4, kind="frame")] * 4)
    item = ItemReport.of("video", 0, layout, Reduction.pruning(torch.tensor(some(4, 2)), len(layout)))
    drawn = clickable_timeline(FRAMES, Report("video", (item,)), RECIPE)
    found = strips(drawn.image)
    assert [leading(drawn, x + 20, y + 30) for x, y in found] == [0.0, 1.0, 2.0, 3.0]


def test_the_lanes_lead_to_the_time_under_the_click(drawn):
    bars = np.asarray(drawn.image)[LANES + 120]
    second = lit(bars, color_of(1))[0]
    assert leading(drawn, second, LANES + 120) == pytest.approx(1.5, abs=0.01)
    first = lit(bars, color_of(0))[0]
    assert leading(drawn, first, LANES + 120) == pytest.approx(0, abs=0.01)
    assert leading(drawn, WIDTH - 2 * MARGIN - 1, LANES + 120) == pytest.approx(3.5, abs=0.01)
    assert leading(drawn, (first + second) / 2, LANES + 200) == pytest.approx(0.75, abs=0.01)


def test_a_click_on_a_clip_leads_to_its_beginning(drawn):
    clips = np.asarray(drawn.image)[LANES + 8]
    first, second = lit(clips, color_of(0))[0], lit(clips, color_of(1))[0]
    assert [leading(drawn, x, LANES + 18) for x in (first, second - 3, second, second + 300)] == [0.0, 0.0, 1.5, 1.5]


@pytest.mark.parametrize("point", [(5, LANES + 60), (500, 10), (WIDTH - 2, LANES + 284), (200, 5000), (-5, -5)])
def test_beside_all_marks_a_click_leads_nowhere(drawn, point):
    assert leading(drawn, *point) is None


def test_where_no_time_passes_clips_lead_to_their_beginning():
    still = VideoFrames(FRAMES.pixels, np.full(7, 3.0), 3.0)
    drawn = clickable_timeline(still, report(7, some(7, 2)), RECIPE)
    assert {leading(drawn, x, LANES + 18) for x in (200, 1200)} == {3.0}


def test_the_first_of_overlapping_regions_counts_and_stacked_ones_move():
    both = (TimeRegion(0, 0, 5, 5, 1.0, 1.0), TimeRegion(0, 0, 10, 10, 0.0, 10.0))
    one, other = Image.new("RGB", (10, 20), "red"), Image.new("RGB", (10, 10), "blue")
    image, regions = stacked([ClickableImage(one), ClickableImage(other, both)])
    assert image.size == (10, 30)
    assert image.getpixel((0, 19)) == (255, 0, 0)
    assert image.getpixel((0, 20)) == (0, 0, 255)
    assert [second_at(regions, *at) for at in ((4, 24), (5, 24), (4, 25), (4, 4), (10, 24))] == [
        1.0,
        5.0,
        4.0,
        None,
        None,
    ]
