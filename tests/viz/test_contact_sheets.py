"""Contact sheets of videos, and images before and after."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vtc
from vtc.core.tokens import Layout, Reduction
from vtc.inference.asking import prompt, report_on
from vtc.inference.loading import load
from vtc.media.images import load_image
from vtc.media.video_frames import VideoFrames
from vtc.recipes.named import recipe
from vtc.reduction.report import ItemReport
from vtc.viz.contact_sheets import (
    GAP,
    UNDER,
    WIDTH,
    contact_sheet,
)
from vtc.viz.drawing import crossed
from vtc.viz.overlays import before_after, draw, pair
from vtc.viz.visible_crop import view

CAT = load_image(Path(vtc.__file__).parent / "embedded" / "photographs" / "cat.jpg")


def video(count: int, height: int = 60, width: int = 80) -> VideoFrames:
    """Each frame of one colour, which tells its number."""
    pixels = np.zeros((count, height, width, 3), dtype=np.uint8)
    pixels[..., 0] = (np.arange(count) * 7 % 256)[:, None, None]
    pixels[..., 1:] = (200, 40)
    return VideoFrames(pixels, np.arange(count) / 2.0, count / 2)


def report(kept: list[int], frames: int, height: int = 2, width: int = 3) -> ItemReport:
    layout = Layout.of_grid(height, width, frames=frames)
    return ItemReport.of("video", 0, layout, Reduction.pruning(torch.tensor(kept, dtype=torch.int64), len(layout)))


def at(sheet: Image.Image, number: int, columns: int, y: float, x: float):
    """The pixel at a share of the height and the width of a thumbnail; four by three, 293 wide in rows of four."""
    width = (WIDTH + GAP) // columns - GAP
    height = round(width * 0.75)
    row, column = divmod(number, columns)
    return sheet.getpixel((int(column * (width + GAP) + x * width), int(row * (height + UNDER + GAP) + y * height)))


def test_kept_cells_of_each_frame_are_clear():
    """Frame 1 keeps its first cell, frame 2 its last."""
    frames = video(4)
    sheet = contact_sheet(frames, report([6, 17], 4), encoded=[True] * 4)
    colors = [tuple(frames.pixels[i, 0, 0].tolist()) for i in range(4)]
    assert at(sheet, 1, 4, 0.25, 0.17) == colors[1]
    assert at(sheet, 2, 4, 0.75, 0.83) == colors[2]
    for number, y, x in ((1, 0.75, 0.83), (2, 0.25, 0.17), (0, 0.25, 0.17), (3, 0.75, 0.83)):
        red, green, blue = at(sheet, number, 4, y, x)
        assert red == green == blue


def test_frames_that_were_not_encoded_are_pale_and_crossed():
    frames = video(4)
    item = report([6, 17], 4)
    sheet = contact_sheet(frames, item, encoded=[False, True, True, False])
    pale = at(sheet, 0, 4, 0.25, 0.5)
    assert pale[0] == pale[1] == pale[2] > 150
    assert at(sheet, 1, 4, 0.75, 0.83)[0] < 130
    assert at(sheet, 0, 4, 0.5, 0.5) != pale
    other = contact_sheet(frames, item, encoded=[True] * 4)
    assert at(other, 0, 4, 0.25, 0.5)[0] < 130
    assert other.height == sheet.height
    assert not np.array_equal(np.asarray(other)[-30:], np.asarray(sheet)[-30:])  # the legend tells of them


def test_without_word_of_the_encoder_empty_units_are_crossed():
    frames, item = video(4), report([6, 17], 4)
    guessed, told = contact_sheet(frames, item), contact_sheet(frames, item, encoded=[False, True, True, False])
    above = guessed.height - 40
    assert np.array_equal(np.asarray(guessed)[:above], np.asarray(told)[:above])
    assert not np.array_equal(np.asarray(guessed), np.asarray(told))  # but their legends differ


def test_frames_encoded_together_are_one_unit():
    frames = video(7)
    sheet = contact_sheet(frames, report([0, 18], 4))
    assert at(sheet, 3, 4, 0.25, 0.17) == tuple(frames.pixels[6, 0, 0].tolist())
    for count in (3, 9):
        with pytest.raises(ValueError, match=f"frames={count}: the item has 4 units"):
            contact_sheet(video(count), report([0], 4))
    with pytest.raises(ValueError, match=r"encoded has 3 .* 4 units"):
        contact_sheet(video(4), report([0], 4), encoded=[True] * 3)
    with pytest.raises(ValueError, match="most=0"):
        contact_sheet(video(4), report([0], 4), most=0)


@pytest.mark.parametrize(("count", "height", "width"), [(1, 60, 80), (300, 60, 80), (64, 300, 30), (64, 20, 400)])
def test_a_sheet_is_bounded(count, height, width):
    sheet = contact_sheet(video(count, height, width), report([0], count), "some words")
    assert 16 <= sheet.width <= WIDTH
    assert sheet.height <= 2000


def test_of_many_units_some_are_shown_and_it_says_so():
    frames, item = video(40), report(list(range(0, 240, 6)), 40)
    few = contact_sheet(frames, item, most=4)
    assert at(few, 0, 4, 0.25, 0.17) == tuple(frames.pixels[5, 0, 0].tolist())
    assert at(few, 3, 4, 0.25, 0.17) == tuple(frames.pixels[35, 0, 0].tolist())
    whole = contact_sheet(video(4), report(list(range(0, 24, 6)), 4))
    assert few.height == whole.height
    assert not np.array_equal(np.asarray(few)[-30:], np.asarray(whole)[-30:])


def test_crossed_keeps_no_colour_and_another_image_stays_another():
    one, other = (np.asarray(crossed(Image.new("RGB", (40, 30), color))) for color in ("black", "yellow"))
    assert np.ptp(one, axis=2).max() == np.ptp(other, axis=2).max() == 0
    assert other[5, 20, 0] > one[5, 20, 0] > 130


# Before and after


@pytest.fixture(scope="module")
def drawn():
    model, processor = load("tiny-llava")
    chosen = recipe("kcenter", keep=0.25)
    return processor.image_processor, report_on(model, prompt(model, processor, CAT, "how many?"), chosen), chosen


def test_a_pair_has_one_size_and_only_the_second_has_marks(drawn):
    seen, report, _ = drawn
    before, after = pair(CAT, seen, report)
    assert before.size == after.size
    assert np.array_equal(np.asarray(before), np.asarray(view(CAT, seen)))
    changed = (np.asarray(before) != np.asarray(after)).any(axis=2).mean()
    assert 0.6 < changed < 0.98


@pytest.mark.parametrize("image", [CAT, CAT.transpose(Image.Transpose.ROTATE_90)], ids=["wide", "tall"])
def test_before_and_after_are_side_by_side_or_stacked(drawn, image):
    seen, report, chosen = drawn
    before, after = pair(image, seen, report)
    both = before_after(image, seen, report, chosen)
    place = (0, before.height + 8) if before.width > before.height * 1.5 else (before.width + 8, 0)
    box = (*place, place[0] + after.width, place[1] + after.height)
    assert np.array_equal(np.asarray(both.crop(box)), np.asarray(after))
    assert np.array_equal(np.asarray(both.crop((0, 0, *before.size))), np.asarray(before))
    assert both.height > box[3]


def test_pair_of_tiles_has_the_thumbnail_too():
    model, processor = load("tiny-internvl")
    report = report_on(model, prompt(model, processor, CAT, "how many?"), chosen := recipe("kcenter", keep=0.25))
    before, after = pair(CAT, processor.image_processor, report)
    whole = draw(CAT, processor.image_processor, report, chosen)
    assert before.size == after.size
    assert np.array_equal(np.asarray(after), np.asarray(whole.crop((0, 0, *after.size))))
    assert (len(report.items[0].units) > 1) == (after.width > view(CAT, processor.image_processor).width)


def test_frames_without_an_item_are_drawn_as_they_are():
    frames = video(30)
    sheet = contact_sheet(frames, None, "some frames", most=4)
    assert [at(sheet, number, 4, 0.5, 0.5) for number in (0, 3)] == [
        tuple(frames.pixels[first, 0, 0].tolist()) for first in (3, 26)
    ]
