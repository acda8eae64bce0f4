"""Stages and recipes of one's own: by decorator and by call, in files and by name."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from vtc import Recipe, named_recipes, recipe, register_recipe, register_stage
from vtc.recipes import RECIPES
from vtc.stages import STAGES, FastV, KCenter, Mean, Merger, Selector

pytestmark = pytest.mark.usefixtures("registries")


@dataclass(frozen=True)
class Last(Selector):
    """The last tokens of the pool."""

    back: int = 0
    name = "last"

    def select(self, tokens, pool, k, *, seed):
        return pool[len(pool) - k :]


@dataclass(frozen=True)
class Needy(Last):
    """One that cannot be made without a parameter."""

    needed: int = None  # type: ignore[assignment]
    name = "needy"


def test_a_registered_selector_is_a_stage_and_a_recipe(tmp_path):
    assert register_stage(Last) is Last
    assert STAGES.get("select/last") is Last
    assert recipe("last", keep=9) == Recipe((Last(),), keep=9, name="last")
    assert "last" in {found.name for found in named_recipes()}
    Recipe((Last(back=3),)).save(tmp_path / "last.json")
    assert Recipe.load(tmp_path / "last.json").stages == (Last(back=3),)


def test_the_decorator_gives_the_class_back():
    @register_stage
    @dataclass(frozen=True)
    class Once(Last):
        name = "once"

    assert Once(back=1) == Once(1)
    assert recipe("once").stages == (Once(),)


def test_a_merger_is_a_stage_and_no_recipe():
    @register_stage
    @dataclass(frozen=True)
    class Nothing(Merger):
        name = "nothing"

        def merge(self, tokens, anchor):
            raise NotImplementedError

    assert "merge/nothing" in STAGES
    assert "nothing" not in RECIPES


def test_a_selector_with_a_parameter_to_give_is_no_recipe():
    @register_stage
    @dataclass(frozen=True)
    class Given(Selector):
        share: float
        name = "given"

        def select(self, tokens, pool, k, *, seed):
            return pool[:k]

    assert "select/given" in STAGES
    assert "given" not in RECIPES


class Bare(Selector):
    name = "bare"

    def select(self, tokens, pool, k, *, seed):
        return pool[:k]


@dataclass(frozen=True)
class Taken(Last):
    name = "video"


@dataclass(frozen=True)
class OtherKCenter(Last):
    name = "k-center"


@dataclass(frozen=True)
class Unfinished(Selector):
    name = "unfinished"


@pytest.mark.parametrize(
    ("stage", "error", "message"),
    [
        (Last(), TypeError, r"stage=Last\(back=0\) is no stage class"),
        (int, TypeError, "stage=.*int.* is no stage class"),
        (Bare, TypeError, r"Bare.* is no dataclass; put @dataclass\(frozen=True\) below @register_stage"),
        (Unfinished, TypeError, "Unfinished.* lacks"),
        (Taken, ValueError, "recipe 'video' is already taken"),
        (OtherKCenter, ValueError, "stage 'select/k-center' is already taken by .*KCenter.*another spelling"),
    ],
    ids=str,
)
def test_what_cannot_be_registered_is_refused(stage, error, message):
    with pytest.raises(error, match=message):
        register_stage(stage)


def test_a_recipe_by_call_and_by_decorator():
    made = register_recipe("mine", [KCenter(), Mean()], aliases=("my-paper",))
    assert made == recipe("MyPaper") == Recipe((KCenter(), Mean()), name="mine")

    @register_recipe("mine-late")
    def late():
        return Recipe((KCenter(), FastV()), keep=0.5, positions="compact")

    assert late().keep == 0.5
    assert recipe("mine-late") == Recipe((KCenter(), FastV()), keep=0.5, positions="compact", name="mine-late")
    assert register_recipe("one", KCenter()).stages == (KCenter(),)
    assert {"mine", "mine-late", "one"} <= {found.name for found in named_recipes()}


@pytest.mark.parametrize(
    ("name", "stages", "error", "message"),
    [
        ("kcenter", [Mean(), KCenter()], ValueError, "recipe 'kcenter' is already taken"),
        ("DivPrune", [KCenter()], ValueError, "'DivPrune' is already taken .*another spelling of 'kcenter'"),
        ("mine", [Mean()], ValueError, "drops nothing"),
        ("mine", KCenter, TypeError, "recipe=KCenter is a class"),
        ("mine", "kcenter", TypeError, "recipe='kcenter' is a str"),
        (7, [KCenter()], TypeError, "name=7"),
    ],
    ids=str,
)
def test_a_recipe_that_cannot_be_registered_is_refused(name, stages, error, message):
    with pytest.raises(error, match=message):
        register_recipe(name, stages)


def test_a_registered_selector_reduces(registries):
    register_stage(Last)
    from vtc import Layout, VisualTokens

    kept = recipe("last", keep=9).reduce(VisualTokens(torch.randn(16, 4), Layout.of_grid(4, 4)), 9)
    assert kept.anchor.tolist() == list(range(7, 16))


def test_a_decorator_without_parentheses_is_refused():
    with pytest.raises(TypeError, match=r"name=<function .*@register_recipe\('mine'\)"):
        register_recipe(lambda: [KCenter()])


def cell() -> Recipe:
    """What a notebook's cell does, each time with a class of its own."""

    @dataclass(frozen=True)
    class Again(Last):
        name = "again"

    Again.__qualname__ = "Again"
    register_stage(Again)
    return register_recipe("again-mean", [Again(), Mean()])


def test_a_cell_that_is_run_again_registers_its_recipe_again():
    cell()
    made = cell()
    assert type(recipe("again-mean").selector) is type(made.selector)
    with pytest.raises(ValueError, match="'again-mean' is already taken by a recipe of select/again and merge/mean"):
        register_recipe("again-mean", [KCenter(), Mean()])
