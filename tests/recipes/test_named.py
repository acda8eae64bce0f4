"""What a caller may pass for a recipe: names of papers, stages, files, folders."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace

import pytest

from vtc import Recipe, named_recipes, recipe
from vtc.recipes import RECIPES
from vtc.recipes.aliases import ALIASES, NOT_BUILT
from vtc.stages import KCenter, Mean, Stride


@pytest.mark.parametrize(("name", "aliases"), ALIASES.items())
def test_an_alias_gives_the_recipe_whose_rule_the_paper_is(name, aliases):
    for alias in aliases:
        assert recipe(alias) == recipe(alias.upper()) == recipe(name)
    papers = " ".join(stage.paper for stage in recipe(name).stages)
    spelt = re.sub(r"[^a-z]", "", papers.casefold())
    assert any(re.sub(r"[^a-z]", "", alias) in spelt for alias in aliases) or name == "pyramiddrop"


@pytest.mark.parametrize(
    ("spelt", "name"),
    [
        ("DivPrune", "kcenter"),
        ("div-prune", "kcenter"),
        ("FasterVLM", "cls"),
        ("ToMe", "tome"),
        ("Sparse_VLM", "sparsevlm"),
        ("Pyramid Drop", "pyramiddrop"),
        ("FastV", "fastv"),
        ("VidCom2", "vidcom2"),
        ("D-CoDe", "dcode"),
        ("VideoGPT+", "videogpt+"),
    ],
)
def test_case_and_dashes_do_not_matter(spelt, name):
    assert recipe(spelt).name == name


WHOLE = [
    found
    for found in named_recipes()
    if len(found.stages) == 1 and found.stages[0].paper and "(" not in found.stages[0].paper
    if found.stages[0] == type(found.stages[0])()
    and found.name not in ("resize", "maxsum", "local-global", "todre-late")
]
"""Recipes that are the rule of a paper in one stage, but those of which the paper has more, or is no method."""


@pytest.mark.parametrize("found", WHOLE, ids=lambda found: found.name)
def test_a_recipe_is_found_by_the_name_that_its_paper_gave_the_method(found):
    assert recipe(found.stages[0].paper.split(",")[0]) == found


@pytest.mark.parametrize("name", NOT_BUILT)
def test_a_method_that_is_not_built_names_its_nearest_relative(name):
    relative = NOT_BUILT[name]
    assert relative.recipe in RECIPES
    assert name not in RECIPES
    with pytest.raises(ValueError, match=f"'{name}': {re.escape(relative.paper)} is not built; .*'{relative.recipe}'"):
        recipe(name)


def test_visionzip_is_suggested_in_any_spelling():
    with pytest.raises(ValueError, match=r"'Vision-Zip': VisionZip, 2412\.04467 is not built; .*'cls-mean'"):
        recipe("Vision-Zip")


def test_an_unknown_name_lists_three_and_not_all():
    with pytest.raises(ValueError, match="unknown recipe 'kcentre'") as caught:
        recipe("kcentre")
    assert len(re.findall(r"'[^']+'", str(caught.value))) == 4
    assert f"lists all {len(RECIPES)}" in str(caught.value)


def test_stages_work_like_a_recipe():
    assert recipe(KCenter(), keep=0.5) == Recipe((KCenter(),), keep=0.5, name="kcenter")
    assert (
        recipe([KCenter(), Mean()]) == recipe((KCenter(), Mean())) == Recipe((KCenter(), Mean()), name="kcenter+mean")
    )


def test_a_folder_works_like_a_recipe(tmp_path):
    mine = Recipe((Stride(), Mean()), keep=40, positions="compact", name="mine")
    mine.save_pretrained(tmp_path / "new" / "folder")
    assert (tmp_path / "new" / "folder" / "recipe.json").is_file()
    assert Recipe.from_pretrained(tmp_path / "new" / "folder") == mine
    assert recipe(tmp_path / "new" / "folder") == recipe(str(tmp_path / "new" / "folder")) == mine
    with pytest.raises(FileNotFoundError, match=r"recipe\.json"):
        recipe(tmp_path)
    with pytest.raises(ValueError, match="unknown recipe"):
        recipe(str(tmp_path))


def test_a_folder_does_not_hide_a_name(tmp_path, monkeypatch):
    Recipe((Stride(),)).save_pretrained(tmp_path / "video")
    monkeypatch.chdir(tmp_path)
    assert recipe("video").name == "video"


@pytest.mark.parametrize("keep", [1, 2, 7])
def test_a_small_int_warns_and_names_the_float(keep):
    for call in (
        lambda: recipe("kcenter", keep=keep),
        lambda: Recipe((KCenter(),), keep=keep),
        lambda: replace(recipe("kcenter"), keep=keep),
    ):
        with pytest.warns(UserWarning, match=rf"keep={keep} is an int.*keep=1\.0") as caught:
            call()
        assert caught[0].filename == __file__


@pytest.mark.parametrize("keep", [8, 64, 1.0, 0.1])
def test_other_counts_and_shares_do_not_warn(keep):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recipe("kcenter", keep=keep)
