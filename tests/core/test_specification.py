"""Rules by name and parameters: text, objects, instances; what recipe files and the command line make of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from vtc import Recipe
from vtc.core.specification import spec_of
from vtc.recipes.named import recipe
from vtc.recipes.overrides import changed
from vtc.stages import KCenter
from vtc.video.clips.segmenters import (
    SEGMENTERS,
    Content,
    DensitySegmenter,
    EvenSegmenter,
    Neighbour,
    segmenter,
)
from vtc.video.keyframes import (
    AKS,
    MMR,
    KFFocus,
    MaxMin,
    Segments,
    keyframes,
)
from vtc.video.stages import ClipBudget, Keyframes, QuestionBudget


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("neighbour", Neighbour()),
        ("neighbour:threshold=0.7,reach=2", Neighbour(threshold=0.7, reach=2)),
        ("neighbour:threshold=none,least=3", Neighbour(threshold=None, least=3)),
        ("even", EvenSegmenter(parts=4)),
        ("even:every=2.5", EvenSegmenter(every=2.5)),
        ("tdc", Neighbour.tdc()),
        ("tdc:least=8,window=16", Neighbour.tdc(8, 16)),
        ("dyseg:clips=3,threshold=0.8", Neighbour.dyseg(3, 0.8)),
        ("content:threshold=60", Content(threshold=60)),
        ({"name": "density", "share": 0.5}, DensitySegmenter(share=0.5)),
        (EvenSegmenter(parts=2), EvenSegmenter(parts=2)),
    ],
    ids=str,
)
def test_segmenters_by_name_and_parameters(spec, expected):
    found = segmenter(spec)
    assert found == expected
    assert segmenter(json.loads(json.dumps(spec_of(found)))) == expected


@pytest.mark.parametrize("name", [*SEGMENTERS, "tdc", "dyseg"])
def test_every_segmenter_stands_in_a_recipe_and_its_file(tmp_path, name):
    made = Recipe((Keyframes({"name": "segments", "segmenter": name}), ClipBudget(segmenter=name), KCenter()))
    made.save(tmp_path / "r.json")
    again = Recipe.load(tmp_path / "r.json")
    assert again == made
    assert hash(again.stages) == hash(made.stages)
    assert again.to_dict() == made.to_dict()
    assert again.allocator.rule == segmenter(name)


def test_defaults_are_written_as_their_names_alone():
    for stage in (ClipBudget(), ClipBudget(segmenter=Neighbour()), ClipBudget(segmenter={"name": "neighbour"})):
        assert stage == ClipBudget()
        assert stage.parameters()["segmenter"] == "neighbour"
    assert Keyframes(MaxMin()).parameters()["strategy"] == "maxmin"
    assert QuestionBudget(segmenter="even").parameters()["segmenter"] == "even"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("maxmin", MaxMin()),
        ("maxmin:time=0", MaxMin(time=0)),
        ("segments:segmenter=even", Segments("even")),
        ({"name": "segments", "segmenter": {"name": "even", "parts": 3}}, Segments(EvenSegmenter(parts=3))),
        ("mmr:relevance=0.7", MMR(0.7)),
        (AKS(depth=2), AKS(depth=2)),
    ],
    ids=str,
)
def test_keyframes_by_name_and_parameters(spec, expected):
    found = keyframes(spec)
    assert found == expected
    assert keyframes(json.loads(json.dumps(spec_of(found)))) == expected


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: segmenter("cuts"), ValueError, "unknown segmenter 'cuts'"),
        (lambda: segmenter("even:part=4"), ValueError, "'even' has no parameter 'part'; did you mean 'parts'"),
        (lambda: segmenter("even:parts"), ValueError, "'parts' is no parameter=value"),
        (lambda: segmenter("even:parts=0"), ValueError, "segmenter='even:parts=0': parts=0 is below 1"),
        (lambda: segmenter("even:parts=few"), ValueError, "parts='few' is a str"),
        (lambda: segmenter({"parts": 4}), ValueError, "has no name; expected an object such as"),
        (lambda: segmenter(4), TypeError, "segmenter=4 is a int; expected a name"),
        (lambda: keyframes("maxmin:times=2"), ValueError, "did you mean 'time'"),
        (lambda: Keyframes("aks"), ValueError, "strategy='aks' chooses by a question; say what scores frames"),
        (lambda: Keyframes("maxmin", scorer="model"), ValueError, "scorer='model' scores frames for a question"),
        (lambda: Keyframes("aks", scorer="clip"), ValueError, "scorer='clip'; expected 'model'"),
        (lambda: Keyframes(features="colour"), ValueError, "features='colour'; expected 'color-layout'"),
        (lambda: ClipBudget(features=3), TypeError, "features=3 is a int"),
    ],
)
def test_what_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_recipe_takes_other_rules():
    video = recipe("video")
    made = changed(video, keyframes="mmr:relevance=0.7", segmenter="even:parts=3", features="timm:resnet18")
    assert (made.name, made.keep, made.input.share) == (video.name, video.keep, 0.75)
    assert (made.input.selector, made.input.scorer, made.input.features) == (MMR(0.7), "model", "timm:resnet18")
    assert (made.allocator.rule, made.allocator.features) == (EvenSegmenter(parts=3), "timm:resnet18")
    assert changed(video) is video
    assert (
        changed(recipe("keyframes"), keyframes="segments", segmenter="tdc").input.selector.segmenter == Neighbour.tdc()
    )
    again = changed(changed(video, keyframes="aks", scorer="clip:/there"), features="tower")
    assert (again.input.selector, again.input.scorer) == (AKS(), "clip:/there")
    assert changed(again, keyframes="kffocus").input.scorer is None
    assert changed(again, keyframes="kffocus").input.selector == KFFocus()


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("clip-budget", {"keyframes": "change"}, "recipe 'clip-budget' has no stage that leaves frames out"),
        ("keyframes", {"segmenter": "even"}, "recipe 'keyframes' has no budget over clips or keyframes by 'segments'"),
        ("kcenter", {"features": "tower"}, "recipe 'kcenter' has no stage that leaves frames out or budget over clips"),
        ("video", {"scorer": "model"}, "scorer='model' scores frames for a question, and strategy='maxmin' asks none"),
    ],
)
def test_a_change_that_a_recipe_has_no_place_for_is_refused(name, changes, message):
    with pytest.raises(ValueError, match=message):
        changed(recipe(name), **changes)


def test_segmenters_of_frames_cut_units_where_the_frames_change():
    """Two frames to a unit; dark until frame 2, light from frame 3 on, in the middle of a unit."""
    video = torch.zeros(4, 2, 3, 16, 16)
    video[1, 1], video[2:] = 1.0, 1.0
    for name, expected in (("content", [(0, 2), (2, 4)]), ("content:threshold=90", [(0, 4)])):
        _, clips = ClipBudget(segmenter=name).seen(video)
        assert [(clip.start, clip.end) for clip in clips] == expected, name
    stage = Keyframes({"name": "segments", "segmenter": "content"})
    assert stage.choose(video, 2).tolist() == [1, 3]


def test_even_clips_are_of_equal_length_and_weights_follow_the_features():
    video = torch.rand(8, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    _, clips = ClipBudget(segmenter="even:parts=4").seen(video)
    assert [len(clip) for clip in clips] == [2, 2, 2, 2]
    means = np.repeat(np.eye(2, 4, dtype=np.float32), 4, axis=0)
    _, clips = ClipBudget(features="tower").seen(video, lambda: means)
    assert [len(clip) for clip in clips] == [4, 4]
