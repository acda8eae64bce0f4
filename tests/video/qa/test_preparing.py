"""From a file to an answer: both doors, exact counts, and what is refused."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.checks import check_same
from tests.grid import generate, steps
from tests.video.videos import write
from vtc import (
    Layout,
    Recipe,
    reduce_tokens,
    restore,
)
from vtc.embedded.video import VALIDATION, Video
from vtc.inference.loading import load
from vtc.inference.prompting import inputs, processed
from vtc.media.video_frames import VideoFrames
from vtc.recipes.named import recipe
from vtc.stages import KCenter, Resize
from vtc.video import Sampling, ask, prepare
from vtc.video.keyframes import AKS, Uniform
from vtc.video.qa.token_usage import low_res_frames, token_usage
from vtc.video.stages import ClipBudget, Keyframes

LOSSLESS = {"codec": "libx264rgb", "pixels": "rgb24", "options": {"qp": "0"}}
VIDEO = next(
    video for video in map(Video, range(VALIDATION, VALIDATION + 99)) if video.kind == "needle" and video.frames == 16
)
NEAR = Sampling(isolated=False)
"""In this process, which saves the start of a child for each reading."""
NAMES = ("uniform", "keyframes", "clip-budget", "video", "kcenter")


@cache
def loaded(name: str = "tiny-qwen"):
    return load(name)


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("video") / "video.mp4", VIDEO.pixels(96), fps=2, **LOSSLESS)


def test_a_file_is_read_as_it_was_drawn(path):
    made = prepare(path, loaded()[1], "what flashes?", "clip-budget", sampling=NEAR)
    assert np.array_equal(made.frames.pixels, VIDEO.pixels(96))
    assert made.frames.seconds.tolist() == [i / 2 for i in range(16)]
    assert (made.temporal_patch_size, made.chosen.tolist(), made.tokens) == (2, list(range(8)), 8 * 36)
    assert made.recipe == recipe("clip-budget")
    assert set(made.seconds) == {"look", "choose", "read", "process"}
    assert (made.read.asked, made.read.delivered, made.read.lost) == (16, 16, ())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("keep", [0.25, 0.1, 40])
def test_both_doors_keep_as_many_tokens_and_choose_the_same_frames(path, name, keep):
    model, processor = loaded()
    made = prepare(path, processor, "what flashes?", name, keep=keep, sampling=NEAR)
    whole = inputs(model, processor, ["what flashes?"], [VideoFrames.regular(VIDEO.pixels(96), 2)])
    reduce_tokens(model, name, keep=keep)
    generate(model, whole, tokens=1)
    (item,) = model.vtc.report.items
    restore(model)
    assert made.tokens == item.before
    reduce_tokens(model, made.recipe)
    generate(model, dict(made.inputs), tokens=1)
    report = model.vtc.report
    restore(model)
    assert report.after == item.after == recipe(name, keep=keep).count(item.layout)
    if name in ("uniform", "keyframes"):
        assert made.chosen.tolist() == [i for i, unit in enumerate(item.units) if unit.after]


def test_the_same_frames_give_the_same_answer_by_either_door(path):
    model, processor = loaded()
    made = prepare(path, processor, "what flashes?", "video", keep=0.2, sampling=NEAR)
    assert 0 < len(made.chosen) < 8
    said = ask(model, processor, path, "what flashes?", "video", keep=0.2, sampling=NEAR)
    by_hand = processed(processor, ["what flashes?"], [made.frames])
    for one in (dict(made.inputs), dict(by_hand)):
        reduce_tokens(model, made.recipe)
        out = generate(model, one, tokens=3)
        restore(model)
        text = processor.tokenizer.decode(out.sequences[0, one["input_ids"].shape[1] :])
        assert text.startswith(said.text)
    check_same(by_hand["pixel_values_videos"], made.inputs["pixel_values_videos"], "pixels")
    assert said.report.after == recipe("video", keep=0.2).count(Layout.join([Layout.of_grid(6, 6, kind="frame")] * 8))


def test_a_flash_is_found_where_uniform_frames_miss_it(path):
    (flash,) = [actor for actor in VIDEO.actors if actor.role == "flash"]
    units = {frame // 2 for a, b in flash.life.spans for frame in range(a, b)}
    processor = loaded()[1]
    found = prepare(path, processor, "what flashes?", "keyframes", sampling=NEAR)
    assert units & set(found.chosen.tolist())
    even = prepare(path, processor, "what flashes?", "keyframes", selector=Uniform(), sampling=NEAR)
    assert len(even.chosen) == len(found.chosen) == 2
    assert even.chosen.tolist() == [2, 6]


def test_whole_frames_alone_leave_nothing_for_the_model(path):
    model, processor = loaded()
    made = prepare(path, processor, "what flashes?", Recipe((Keyframes(),), keep=0.25), sampling=NEAR)
    assert made.recipe is None
    assert len(made.chosen) == 2
    said = ask(model, processor, path, "what flashes?", Recipe((Keyframes(),), keep=0.25), sampling=NEAR)
    assert said.report is None
    assert "vtc" not in model.__dict__


@pytest.mark.parametrize(("name", "each"), [("tiny-llava", 196), ("tiny-internvl", 36)])
def test_models_that_know_no_videos_get_frames_as_images(path, name, each):
    model, processor = loaded(name)
    said = ask(model, processor, path, "what color is the star?", "video", keep=0.25, sampling=NEAR)
    made = said.prepared
    assert (made.temporal_patch_size, made.recipe.images_as, len(made.chosen), made.tokens) == (
        1,
        "frames",
        12,
        16 * each,
    )
    (item,) = said.report.items
    assert {unit.kind for unit in item.units} == {"frame"}
    assert item.after == 4 * each


def test_scores_of_a_question_choose_where_the_selector_asks(path):
    (flash,) = [actor for actor in VIDEO.actors if actor.role == "flash"]
    at = flash.life.spans[0][0]
    shown = VIDEO.pixels(96)
    wanted = {i for i, frame in enumerate(shown) if np.array_equal(frame, shown[at])}

    def score(frame: np.ndarray, question: str) -> float:
        assert question == "what flashes?"
        return float(any(np.array_equal(frame, shown[i]) for i in wanted))

    made = prepare(
        path, loaded()[1], "what flashes?", "keyframes", keep=0.12, selector=AKS(), scores=score, sampling=NEAR
    )
    assert at // 2 in made.chosen
    with pytest.raises(ValueError, match=r"scores=None, .*'aks' .*'uniform'"):
        prepare(path, loaded()[1], "what flashes?", "keyframes", selector=AKS(), sampling=NEAR)
    with pytest.raises(ValueError, match=r"scores=.* leave scores out"):
        prepare(path, loaded()[1], "what flashes?", "keyframes", scores=score, sampling=NEAR)
    with pytest.raises(ValueError, match=r"strategy='aks' chooses by a question.*scores"):
        Keyframes("aks")


@pytest.mark.parametrize(
    ("sampling", "times"),
    [
        (Sampling(fps=1), [0, 1, 2, 3, 4, 5, 6, 7]),
        (Sampling(frames=4), [1, 3, 5, 7]),
        (Sampling(start=2, end=4), [2, 2.5, 3, 3.5]),
        (Sampling(start=7.5), [7.5]),
        (Sampling(fps=30), [i / 2 for i in range(16)]),
        (Sampling(end=1.4), [0, 0.5, 1]),
    ],
    ids=str,
)
def test_candidates(path, sampling, times):
    near = Sampling(sampling.fps, sampling.frames, sampling.start, sampling.end, isolated=False)
    made = prepare(path, loaded()[1], "what flashes?", "kcenter", sampling=near)
    assert made.frames.seconds.tolist() == times
    assert made.frames.duration == 8.0


def test_a_resized_video_keeps_its_recipe(path):
    mine = Recipe((Resize(),), keep=0.5)
    assert prepare(path, loaded()[1], "what flashes?", mine, sampling=NEAR).recipe == mine


def test_times_that_are_uneven_reach_the_processor(tmp_path):
    seconds = [0.0, 0.3, 2.0, 2.1, 5.0, 6.5]
    path = write(tmp_path / "vfr.mkv", VIDEO.pixels(96)[:6], seconds=seconds, **LOSSLESS)
    made = prepare(path, loaded()[1], "what?", "kcenter", sampling=Sampling(fps=30, isolated=False))
    assert made.frames.seconds == pytest.approx(seconds, abs=1e-3)
    told = made.frames.metadata()
    assert np.array(told["frames_indices"]) / told["fps"] == pytest.approx(seconds, abs=1e-3)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_the_shortest_videos(tmp_path, count, name):
    model, processor = loaded()
    path = write(tmp_path / "short.mp4", VIDEO.pixels(96)[:count], fps=2, **LOSSLESS)
    said = ask(model, processor, path, "what is there?", name, sampling=NEAR)
    assert len(said.prepared.chosen) >= 1
    assert said.report.after >= 9


def test_what_is_refused(path, tmp_path):
    processor = loaded()[1]
    for options, message in (
        ({"question": " "}, "question=' ' is empty"),
        ({"recipe": "kcentre"}, "unknown recipe 'kcentre'"),
        ({"selector": Uniform(), "recipe": "kcenter"}, "recipe 'kcenter' leaves none out; take one with a Keyframes"),
        ({"sampling": Sampling(start=9, isolated=False)}, "start=9.0 lies outside"),
        ({"sampling": Sampling(start=3, end=3, isolated=False)}, "end=3.0 is not behind start=3.0"),
        ({"sampling": Sampling(start=0.1, end=0.2, isolated=False)}, "no frame of .* is shown in between"),
        ({"recipe": Recipe((Keyframes(),), keep=7)}, "keep=7 is less than the 36 tokens of one frame"),
    ):
        given = {"question": "what?", "recipe": "video", "sampling": NEAR, **options}
        with pytest.raises(ValueError, match=message):
            prepare(path, processor, **given)
    with pytest.raises(FileNotFoundError, match=r"none\.mp4"):
        prepare(tmp_path / "none.mp4", processor, "what?")
    for wrong in ({"fps": 0}, {"fps": "2"}, {"frames": 0}, {"frames": 1.5}):
        with pytest.raises((TypeError, ValueError), match=f"{next(iter(wrong))}="):
            Sampling(**wrong)


def test_a_clip_budget_cuts_where_the_pixels_change():
    stage = ClipBudget()
    dark, light = torch.zeros(4, 1, 3, 8, 8), torch.ones(4, 1, 3, 8, 8)
    from vtc.video.stages import describe

    clips = stage.clips(describe(torch.cat([dark, light])))
    assert [(clip.start, clip.end) for clip in clips] == [(0, 4), (4, 8)]
    assert len(stage.clips(describe(dark))) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"segmenter": "even:part=4"}, "'even' has no parameter 'part'; did you mean 'parts'"),
        ({"segmenter": "cuts"}, "unknown segmenter 'cuts'"),
        ({"motion": -1}, "motion=-1"),
        ({"floor": -1}, "floor=-1"),
        ({"frames": "odd"}, "rule='odd'"),
    ],
)
def test_budgets_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        ClipBudget(**options)


@pytest.mark.parametrize("together", [True, False])
def test_a_floor_that_cannot_be_met_gives_way(path, together):
    model, processor = loaded()
    shots = next(video for video in map(Video, range(VALIDATION, VALIDATION + 99)) if len(video.shots) > 2)
    frames = VideoFrames.regular(shots.pixels(96), 2)
    given = inputs(model, processor, ["what?"], [frames])
    counts = []
    for floor in (30, 0):
        mine = Recipe((ClipBudget(floor=floor, together=together), KCenter()), keep=40)
        generate(reduce_tokens(model, mine), given, tokens=1)
        found = token_usage(frames, model.vtc.report, mine, low_res_frames(model, given, mine))
        counts.append([found.tokens(clip)[1] for clip in found.clips])
    restore(model)
    assert [sum(some) for some in counts] == [40, 40]
    assert max(counts[0]) - min(counts[0]) <= 1 < max(counts[1]) - min(counts[1])


def test_logits_are_those_of_the_recipe_by_itself(path):
    model, processor = loaded()
    made = prepare(path, processor, "what flashes?", "clip-budget", keep=0.25, sampling=NEAR)
    reduce_tokens(model, "clip-budget", keep=0.25)
    want = steps(
        generate(model, inputs(model, processor, ["what flashes?"], [VideoFrames.regular(VIDEO.pixels(96), 2)]))
    )
    got = steps(generate(reduce_tokens(model, made.recipe), dict(made.inputs)))
    restore(model)
    check_same(got, want, "logits")
