from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vtc.core.tokens import Layout, Reduction
from vtc.embedded.video import Video
from vtc.inference import prompting
from vtc.inference.asking import prompt, report_on
from vtc.inference.loading import load
from vtc.media.video_frames import VideoFrames
from vtc.recipes.composition import Recipe
from vtc.recipes.named import recipe
from vtc.reduction.report import ItemReport, Report
from vtc.stages import KCenter
from vtc.video.qa.token_usage import low_res_frames, token_usage
from vtc.video.stages import ClipBudget, Keyframes, describe
from vtc.viz import drawing, timeline_tracks
from vtc.viz.cell_marks import marked
from vtc.viz.colors import KEPT
from vtc.viz.drawing import (
    MARGIN,
    WIDTH,
    clock,
    color_of,
    length,
    shortened,
)
from vtc.viz.timeline import STRIP, timeline
from vtc.viz.timeline_tracks import (
    AXIS,
    BUDGETS,
    COUNTS,
    NUMBER,
)

HEADER = 44
SIDE = 4


def shots(*lengths: int, height: int = 36, width: int = 48) -> VideoFrames:
    """Shots of so many frames, two a second; each shows a pattern of its own, on which a stripe moves."""
    pixels = []
    for number, count in enumerate(lengths):
        ground = np.random.default_rng(number).integers(0, 256, (3, 4, 3), dtype=np.uint8)
        image = np.asarray(Image.fromarray(ground).resize((width, height), Image.Resampling.NEAREST))
        for i in range(count):
            frame = image.copy()
            frame[:, i % width] = 255
            pixels.append(frame)
    return VideoFrames.regular(np.stack(pixels), 2)


def report(units: int, kept: list[int], kind: str = "frame") -> Report:
    """On one video of `units` units of 4 x 4 tokens, of which `kept` stay."""
    layout = Layout.join([Layout.of_grid(SIDE, SIDE, kind=kind)] * units)
    item = ItemReport.of("video", 0, layout, Reduction.pruning(torch.tensor(sorted(kept)), len(layout)))
    return Report("video", (item,))


def some(units: int, each: int) -> list[int]:
    return [unit * SIDE**2 + token for unit in range(units) for token in range(each)]


ALL = Recipe((KCenter(),))
BOTH = Recipe((Keyframes(share=0.5), ClipBudget(), KCenter()), name="video")

# The account


@given(st.integers(1, 12), st.integers(1, 2), st.data())
def test_units_and_clips_cover_the_video_and_count_every_token_once(frames, temporal_patch_size, data):
    units = -(-frames // temporal_patch_size)
    kept = data.draw(st.sets(st.integers(0, units * SIDE**2 - 1), min_size=1))
    video = shots(*[1 + i % 3 for i in range(frames)])
    video = VideoFrames(video.pixels[:frames], video.seconds[:frames], video.duration)
    for one in (ALL, Recipe((ClipBudget(), KCenter()))):
        found = token_usage(video, report(units, list(kept)), one)
        assert [unit.first + i for unit in found.units for i in range(unit.frames)] == list(range(frames))
        assert [i for clip in found.clips for i in range(clip.start, clip.end)] == list(range(units))
        assert sum(unit.after for unit in found.units) == len(kept)
        assert sum(found.tokens(clip)[1] for clip in found.clips) == len(kept)
        assert sum(found.tokens(clip)[0] for clip in found.clips) == units * SIDE**2
        assert all(a.end == b.start for a, b in zip(found.units, found.units[1:], strict=False))
        assert found.encoded == units


def test_frames_without_tokens_are_left_out_where_the_stage_leaves_them_out():
    video = shots(8, 8)
    pixels = torch.from_numpy(video.pixels).permute(0, 3, 1, 2)[:, None].float()
    chosen = Keyframes(share=0.5).choose(pixels, 8).tolist()
    kept = [unit * SIDE**2 for unit in chosen[:5]]  # three keyframes get no token
    found = token_usage(video, report(16, kept), BOTH, pixels)
    assert [i for i, unit in enumerate(found.units) if unit.encoded] == chosen
    assert found.chooses
    assert all(unit.encoded for unit in token_usage(video, report(16, kept), ALL, pixels).units)


def test_a_frame_with_tokens_was_encoded_whatever_the_pixels_say():
    video = shots(8, 8)
    pixels = torch.from_numpy(video.pixels).permute(0, 3, 1, 2)[:, None].float()
    chosen = Keyframes(share=0.5).choose(pixels, 8).tolist()
    other = next(unit for unit in range(16) if unit not in chosen)
    found = token_usage(video, report(16, [other * SIDE**2]), BOTH, pixels)
    assert found.units[other].encoded
    assert found.encoded == 8


def test_clips_are_those_of_the_allocator_and_begin_where_shots_do():
    """Of three shots the recipe sees every second frame: its cuts lie where the images change, seen or not."""
    video = shots(6, 5, 7)
    kept = some(18, 2)
    found = token_usage(video, report(18, kept), Recipe((ClipBudget(), KCenter())))
    assert [clip.start for clip in found.clips] == [0, 6, 11]
    pixels = torch.from_numpy(video.pixels).permute(0, 3, 1, 2)[:, None].float()
    chosen = sorted({0, 2, 4, 5, 7, 9, 10, 13, 17})  # none of them begins a shot
    half = [unit * SIDE**2 for unit in chosen]
    found = token_usage(video, report(18, half), BOTH, pixels)
    assert [i for i, unit in enumerate(found.units) if unit.encoded] == chosen
    assert [clip.start for clip in found.clips] == [0, 6, 11]
    inside = ClipBudget().clips(describe(pixels[chosen]))
    assert [sum(unit < clip.start for unit in chosen) for clip in found.clips] == [clip.start for clip in inside]


def test_a_shot_of_which_no_frame_was_encoded_is_no_clip():
    video = shots(4, 3, 5)
    chosen = [0, 1, 3, 7, 9, 11]
    told = report(12, [unit * SIDE**2 for unit in chosen])
    found = token_usage(video, told, BOTH)
    assert [i for i, unit in enumerate(found.units) if unit.encoded] == chosen
    assert len(found.clips) == 2
    assert found.clips[1].start in (4, 7)
    assert [clip.start for clip in token_usage(video, told, replace(BOTH, stages=BOTH.stages[1:])).clips] == [0, 4, 7]


def test_a_recipe_that_shares_by_no_clips_has_shots():
    found = token_usage(shots(4, 4), report(8, some(8, 1)), ALL)
    assert (found.shares, found.clip_word, len(found.clips)) == (False, "shot", 2)
    assert "shot 2, 2 to 4 s: 4 of 64 tokens, 4 of 4 encoded" in str(found)


def test_grids_with_an_axis_of_time_are_told_apart_by_it():
    layout = Layout.of_grid(2, 2, frames=3)
    item = ItemReport.of("video", 0, layout, Reduction.pruning(torch.tensor([0, 4, 5, 8]), len(layout)))
    found = token_usage(shots(6), Report("x", (item,)), ALL)
    assert [(unit.before, unit.after, unit.frames) for unit in found.units] == [(4, 1, 2), (4, 2, 2), (4, 1, 2)]


def test_the_last_unit_ends_with_the_video():
    video = VideoFrames(shots(2).pixels, np.array([2.5, 7.5]), 10.0)
    assert token_usage(video, report(2, [0]), ALL).units[-1].end == 10.0
    video = VideoFrames(shots(2).pixels, np.array([2.5, 7.5]), 20.0)
    assert token_usage(video, report(2, [0]), ALL).units[-1].end == 12.5
    video = VideoFrames(shots(1).pixels, np.array([4.0]), 9.0)
    assert token_usage(video, report(1, [0]), ALL).units[-1].end == 9.0


def test_what_does_not_fit_is_refused():
    video = shots(4)
    two = Report("x", report(4, [0]).items * 2)
    with pytest.raises(ValueError, match=r"report holds 2 items.*images_as='frames'"):
        token_usage(video, two, ALL)
    with pytest.raises(ValueError, match=r"frames=4: .* 5 units"):
        token_usage(video, report(5, [0]), ALL)
    with pytest.raises(ValueError, match=r"frames=4, video \(3, 1, 3, 8, 8\): .* 4 units"):
        token_usage(video, report(4, [0]), ALL, torch.zeros(3, 1, 3, 8, 8))


@pytest.mark.parametrize("name", ["tiny-qwen", "tiny-internvl"])
def test_seen_is_what_the_stages_look_at(name, monkeypatch):
    model, processor = load(name, device="cpu")
    pixels = Video(2**41 + 12)
    video = VideoFrames.regular(pixels.pixels(96)[:8], pixels.fps)
    one = recipe("video")
    if prompting.frames_are_images(model):
        one = replace(one, images_as="frames")
    looked, stock = [], Keyframes.choose

    def choose(self, frames, k):
        looked.append(frames)
        return stock(self, frames, k)

    monkeypatch.setattr(Keyframes, "choose", choose)
    inputs = prompt(model, processor, video, "what is in the second shot?")
    told = report_on(model, inputs, one)
    found = low_res_frames(model, inputs, one)
    assert torch.equal(found, looked[0].cpu())
    whole = token_usage(video, told, one, found)
    assert whole.encoded == one.frames(told.items[0].layout)
    assert all(unit.encoded for unit in whole.units if unit.after)
    assert low_res_frames(model, inputs, recipe("kcenter")) is None


# The image


def sheet_top() -> int:
    return HEADER + AXIS + 34 + STRIP


def test_kept_cells_are_clear_and_frames_that_were_left_out_are_pale():
    video = shots(4, height=300, width=300)
    kept = [3, 16 + 5, 16 + 6]
    pixels = torch.from_numpy(video.pixels).permute(0, 3, 1, 2)[:, None].float()
    told = report(4, kept)
    drawn = np.asarray(timeline(video, told, BOTH, video=pixels))
    size = next(size for size in range(100, 400) if size * 4 + 30 + 2 * MARGIN > WIDTH - 4)
    parts = [drawn[sheet_top() :, MARGIN + i * (size + 10) :][:size, :size] for i in range(4)]
    for i in (0, 1):
        frame = Image.fromarray(video.pixels[i]).resize((size, size), Image.Resampling.LANCZOS)
        assert np.array_equal(parts[i], np.asarray(marked(frame, told.items[0], i, 0)))
    for part in parts[2:]:
        assert (part[..., 0] == part[..., 1]).all()
        assert part.mean() > 140
    assert parts[0].mean() < 130  # dropped cells are dark: not to be taken for pale ones


def test_bars_are_as_high_as_the_share_that_is_kept():
    video = shots(3, 3)
    kept = [*some(3, 16), *(3 * 16 + token for token in some(3, 4))]
    found = token_usage(video, report(6, kept), Recipe((ClipBudget(), KCenter())))
    drawn = np.asarray(timeline_tracks.lanes(found).image)
    full = BUDGETS[1] - BUDGETS[0] - NUMBER
    for lane in (BUDGETS, COUNTS):
        for clip, share in ((0, 1.0), (1, 0.25)):
            x = timeline_tracks.LEFT + 10 + clip * (WIDTH - 2 * MARGIN - timeline_tracks.LEFT) // 2
            column = drawn[lane[0] : lane[1] + 1, x]
            assert (column == color_of(clip)).all(axis=1).sum() == pytest.approx(full * share, abs=2)


def test_another_choice_gives_another_image_and_the_same_one_the_same():
    video = shots(4, 4)
    draw = [np.asarray(timeline(video, report(8, kept), ALL)) for kept in ([1, 20], [1, 20], [1, 21])]
    assert np.array_equal(draw[0], draw[1])
    assert not np.array_equal(draw[0], draw[2])


def test_keyframes_have_a_mark_where_a_stage_chooses_them():
    video = shots(4, 4)
    told = report(8, some(8, 1)[:4])
    found = token_usage(video, told, BOTH)
    below = [
        np.asarray(timeline_tracks.lanes(token_usage(video, told, one)).image)[COUNTS[1] + 1 : AXIS]
        for one in (BOTH, ALL)
    ]
    fills = [(strip == KEPT).all(axis=2).any(axis=0).sum() for strip in below]
    assert fills[0] >= 7 * found.encoded
    assert fills[1] == 0


@pytest.mark.parametrize("temporal_patch_size", [1, 2])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 16, 33, 64])
def test_any_number_of_frames_is_drawn_at_a_size_to_look_at(count, temporal_patch_size):
    units = -(-count // temporal_patch_size)
    drawn = timeline(shots(count), report(units, some(units, 3)), BOTH, title="x")
    assert drawn.width == WIDTH
    assert 450 < drawn.height < 1400


@pytest.mark.parametrize(("height", "width"), [(8, 800), (800, 8), (90, 160), (160, 90), (1, 1)])
def test_any_shape_is_drawn(height, width):
    drawn = timeline(shots(9, height=height, width=width), report(9, some(9, 3)), ALL)
    assert 450 < drawn.height < 1400


def test_times_that_stand_still_or_jump_are_drawn():
    for times in ([3.0] * 4, [0.0, 0.0, 0.0, 5000.0], [0, 1e-4, 2e-4, 3e-4], [0.0, 1.0, 90_000.0, 90_001.0]):
        video = VideoFrames(shots(4).pixels, np.array(times), times[-1])
        assert timeline(video, report(4, [1]), ALL).width == WIDTH


def test_merged_tokens_are_drawn_in_the_colors_of_their_regions():
    layout = Layout.join([Layout.of_grid(2, 2, kind="frame")] * 2)
    folded = Reduction(torch.tensor([0, 6]), torch.tensor([0, 0, 0, 0, 0, 0, 1, 1]), torch.ones(8))
    item = ItemReport.of("video", 0, layout, folded)
    merged = np.asarray(timeline(shots(2), Report("x", (item,)), ALL))
    plain = Reduction.pruning(torch.tensor([0, 6]), 8)
    pruned = np.asarray(timeline(shots(2), Report("x", (ItemReport.of("video", 0, layout, plain),)), ALL))
    assert not np.array_equal(merged, pruned)


# Texts


@given(st.text(max_size=300), st.floats(0, 400))
def test_titles_are_cut_to_their_room(text, room):
    short = shortened(text, 20, room)
    assert not short or length(short, 20) <= room
    whole = " ".join(text.split())
    assert short == whole or length(whole, 20) > room
    assert short.endswith("...") or short in (whole, "")


def test_a_long_title_leaves_the_facts_alone():
    told = report(4, [1])
    one, other = (np.asarray(timeline(shots(4), told, ALL, title=title)) for title in ("a", "a long name " * 90))
    facts = slice(WIDTH - MARGIN - 200, None)
    assert one.shape == other.shape
    assert np.array_equal(one[:HEADER, facts], other[:HEADER, facts])
    assert not np.array_equal(one[:HEADER], other[:HEADER])


def test_clocks():
    assert [clock(s) for s in (0, 0.13333, 1.5, 119.5, 120, 3599, 3600, 7325)] == [
        "0 s", "0.13 s", "1.5 s", "119.5 s", "2:00", "59:59", "1:00:00", "2:02:05",
    ]  # fmt: skip


@given(st.floats(1e-4, 1e5))
def test_the_axis_has_a_handful_of_round_marks(span):
    step = timeline_tracks._step(span / timeline_tracks.TICKS)
    assert span / timeline_tracks.TICKS <= step
    assert step <= max(3 * span / timeline_tracks.TICKS, 1e-9)
    assert step in timeline_tracks.STEPS if step >= 1 else f"{step:.3e}"[:5] in ("1.000", "2.000", "5.000")


def test_neighbouring_clips_differ_and_their_names_can_be_read():
    for clip in range(20):
        assert color_of(clip) != color_of(clip + 1)
        ground, ink = (np.array(color, dtype=float) @ [0.299, 0.587, 0.114]
                       for color in (color_of(clip), drawing.readable(color_of(clip))))  # fmt: skip
        assert abs(ground - ink) > 90
