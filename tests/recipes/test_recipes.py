"""Recipes: what they refuse, what they count, how they are named, saved and loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.grid import RECIPES
from vtc import (
    Budget,
    Layout,
    Recipe,
    VisualTokens,
    named_recipes,
)
from vtc.recipes.named import DEFAULT, recipe
from vtc.recipes.registration import RECIPES as NAMED
from vtc.recipes.serialization import SCHEMA
from vtc.stages import (
    BUILT_IN,
    Cls,
    DiffRate,
    Even,
    KCenter,
    Mean,
    Random,
    Resize,
    Selector,
    Stride,
)
from vtc.video.stages import EVS

named = pytest.mark.parametrize("found", list(named_recipes()), ids=lambda found: found.name)


@pytest.mark.parametrize("found", RECIPES, ids=lambda found: found.name)
@pytest.mark.parametrize("changes", [{}, {"keep": 7, "positions": "compact", "seed": -3}, {"keep": 0.125}], ids=str)
def test_json_round_trip(found, changes, tmp_path):
    mine = replace(found, **changes)
    again = Recipe.from_dict(json.loads(json.dumps(mine.to_dict())))
    assert again == mine
    assert type(again.keep) is type(mine.keep)
    path = tmp_path / "mine.json"
    mine.save(path)
    assert Recipe.load(path) == mine
    assert json.loads(path.read_text())["schema"] == SCHEMA


@named
def test_a_name_gives_its_recipe(found):
    assert recipe(found.name) == found
    assert found.name in NAMED
    assert found.keep == (1.0 if found.only_decoder else 0.25)
    assert found.positions == "original"


def test_the_default_is_one_of_the_names():
    assert recipe() == recipe(DEFAULT)
    assert recipe().name == DEFAULT


def test_every_selector_is_a_recipe_and_some_merge():
    names = {found.name for found in named_recipes()}
    assert {"kcenter", "cls", "random", "stride", "resize"} <= names
    assert {stage.name for stage in BUILT_IN if stage.kind == "select"} <= names
    assert {f"{name}-mean" for name in ("kcenter", "cls", "random", "stride")} <= names
    assert {"pool", "cls-outliers", "todre", "globalcom2", "tokencorr"} <= names


def test_overrides_replace_and_leave_the_rest():
    base = Recipe((Stride(),), keep=0.5, positions="compact", seed=3, name="mine")
    assert recipe(base) is base or recipe(base) == base
    assert recipe(base, keep=7) == replace(base, keep=7)
    assert recipe(base, positions="original", seed=0) == replace(base, positions="original", seed=0)


def test_a_recipe_is_found_by_its_path(tmp_path):
    path = tmp_path / "mine.json"
    base = Recipe((Stride(), Mean()), keep=5, name="mine")
    base.save(path)
    assert recipe(path) == recipe(str(path)) == base
    assert recipe(path, keep=0.5).keep == 0.5
    bare = tmp_path / "recipe"
    base.save(bare)
    assert recipe(bare) == base


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("kcentre", ValueError, "unknown recipe 'kcentre'; did you mean 'kcenter'"),
        ("", ValueError, "unknown recipe ''"),
        (3, TypeError, "recipe=3 is a int"),
        (None, TypeError, "recipe=None is a NoneType"),
        (KCenter, TypeError, r"recipe=KCenter is a class; pass a stage, KCenter\(\)"),
        ([KCenter], TypeError, r"stages holds .*KCenter"),
        ([], ValueError, r"stages=\[\] drops nothing"),
        ({"select": KCenter()}, TypeError, "recipe=.* is a dict"),
        (Path("nowhere.json"), FileNotFoundError, "nowhere.json"),
    ],
    ids=str,
)
def test_what_names_no_recipe_is_refused(spec, error, message):
    with pytest.raises(error, match=message):
        recipe(spec)


@pytest.mark.parametrize(
    ("stages", "error", "message"),
    [
        ((), ValueError, "drops nothing; add a selector, an input stage or a decoder stage"),
        ((Mean(),), ValueError, "drops nothing"),
        ((Resize(), Mean()), ValueError, "merges or allocates without a selector"),
        ((Resize(), Even()), ValueError, "merges or allocates without a selector"),
        ((KCenter(), Cls()), ValueError, "more than one 'select' stage"),
        ((KCenter(), Mean(), Mean()), ValueError, "more than one 'merge' stage"),
        ((Resize(), KCenter()), ValueError, r"needs its own share, e.g. Resize\(share=0.5\)"),
        (("kcenter",), TypeError, "stages holds 'kcenter'"),
        ((KCenter,), TypeError, "stages holds .*KCenter"),
    ],
    ids=str,
)
def test_stages_that_do_not_go_together_are_refused(stages, error, message):
    with pytest.raises(error, match=message):
        Recipe(stages)


def test_a_stage_where_stages_are_expected_is_named():
    with pytest.raises(TypeError, match=r"stages=KCenter.* is a KCenter; expected stages"):
        Recipe(KCenter())
    with pytest.raises(ValueError, match="stages=5"):
        Recipe.from_dict({"schema": 2, "stages": 5})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"keep": 0}, ValueError, "keep=0 "),
        ({"keep": True}, TypeError, "keep=True"),
        ({"positions": "other"}, ValueError, "positions='other'; expected one of original, compact"),
        ({"seed": 0.5}, TypeError, "seed=0.5 is a float; expected an int"),
        ({"seed": True}, TypeError, "seed=True is a bool; expected an int"),
    ],
    ids=str,
)
def test_wrong_values_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        Recipe((Stride(),), **options)
    with pytest.raises(error, match=message):
        recipe("stride", **options)


@pytest.mark.parametrize("share", [0, -0.1, 1.5, float("nan")])
def test_a_resize_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match=rf"share={share} .*\(0, 1\]"):
        Resize(share=share)


GOOD = Recipe((Resize(share=0.5), Stride()), name="mine").to_dict()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({**GOOD, "schema": 3}, "schema 3; this version reads schemas 1 and 2"),
        ({**GOOD, "pictures": "items"}, r"unknown entries \['pictures'\]"),
        ({**GOOD, "stages": [{"stage": "allocate/whole"}]}, "unknown stage 'allocate/whole'"),
        ({key: value for key, value in GOOD.items() if key != "schema"}, "schema None"),
        ([], r"schema \[\]"),
        ({**GOOD, "colour": "red"}, r"unknown entries \['colour'\]"),
        ({**GOOD, "stages": [{"stage": "select/strid"}]}, "unknown stage 'select/strid'; did you mean 'select/stride'"),
        ({**GOOD, "stages": [{"stage": "input/resize", "shar": 0.5}]}, "no parameter 'shar'; did you mean 'share'"),
        ({**GOOD, "stages": [{"share": 0.5}]}, "unknown stage 'None'"),
        ({**GOOD, "stages": []}, "drops nothing"),
        ({key: value for key, value in GOOD.items() if key != "stages"}, "drops nothing"),
        (
            {**GOOD, "stages": ["select/stride"]},
            r"'select/stride' among its stages; expected an object such as \{.stage.: .select/kcenter.\}",
        ),
        ({**GOOD, "stages": "select/stride"}, "stages"),
        ({**GOOD, "keep": 2.5}, "keep=2.5"),
        ({**GOOD, "positions": None}, "positions=None"),
    ],
    ids=str,
)
def test_a_file_that_is_no_recipe_is_refused(data, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        Recipe.from_dict(data)
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=message):
        Recipe.load(path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"stages: []"])
def test_a_file_that_is_no_json_is_named(content, tmp_path):
    path = tmp_path / "wrong.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"wrong\.json is no recipe file"):
        Recipe.load(path)


def test_properties_name_the_stages():
    mine = Recipe((Resize(share=0.5), Random(), Mean()))
    assert mine.labels == ["input/resize", "select/random", "merge/mean"]
    assert mine.input == Resize(share=0.5)
    assert mine.selector == Random()
    assert mine.merger == Mean()
    assert mine.allocator == Even()
    assert mine.seeded
    assert not mine.adaptive
    assert mine.cues == ()
    assert Recipe((Cls(),)).cues == ("attention",)
    assert not Recipe((Cls(),)).seeded
    assert Recipe([Stride()]).stages == (Stride(),)


@given(st.integers(1, 12), st.integers(1, 12), st.one_of(st.floats(0.01, 1), st.integers(1, 200)))
def test_a_selector_counts_as_the_budget_does(height, width, keep):
    layout = Layout.of_grid(height, width)
    assert Recipe((Stride(),), keep=keep).count(layout) == Budget(keep).count(height * width)


@given(st.integers(1, 12), st.integers(1, 12), st.floats(0.01, 1), st.floats(0.01, 1))
def test_resizing_before_a_selector_counts_against_the_full_image(height, width, part, keep):
    layout = Layout.of_grid(height, width)
    mine = Recipe((Resize(share=part), Stride()), keep=keep)
    ((_, h, w),) = mine.encoded_grids(layout)
    assert h * w <= Budget(part).count(height * width)
    assert mine.count(layout) == min(h * w, Budget(keep).count(height * width))


@dataclass(frozen=True)
class Outside(Selector):
    """Chooses tokens of another unit, right in number and order."""

    name = "outside"

    def select(self, tokens, pool, k, *, seed):
        other = torch.nonzero(tokens.layout.unit != tokens.layout.unit[pool[0]]).flatten()
        return other[:k]


def test_a_selector_that_leaves_its_pool_is_refused():
    two = Layout(
        unit=torch.tensor([0] * 4 + [1] * 4),
        cell=torch.zeros(8, 3, dtype=torch.int64),
        structural=torch.zeros(8, dtype=torch.bool),
        grids=((1, 2, 2),) * 2,
        kinds=("tile",) * 2,
    )
    with pytest.raises(ValueError, match=r"selector 'outside'.*of its pool"):
        Recipe((Outside(),)).reduce(VisualTokens(torch.randn(8, 3), two), 4)


@pytest.mark.parametrize(
    "stage",
    [
        Even(floor=np.int64(1)),
        EVS(floor=np.int64(2)),
        DiffRate(np.int64(9), (np.int64(8),), (np.int64(7),)),
    ],
    ids=lambda stage: stage.name,
)
def test_ints_of_numpy_travel_in_recipe_files(stage, tmp_path):
    stages = (stage, KCenter()) if stage.kind == "allocate" else (stage,)
    Recipe(stages).save(tmp_path / "mine.json")
    assert Recipe.load(tmp_path / "mine.json").stages == stages
