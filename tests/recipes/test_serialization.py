"""Recipe files: those of the first schema are read, and none is written that could not be."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vtc import Recipe, named_recipes, recipe, register_stage
from vtc.recipes.serialization import OLD_ENTRIES, OLD_STAGES, SCHEMA
from vtc.stages import KCenter, Selector

FIRST = json.loads((Path(__file__).parents[1] / "data" / "recipes_schema1.json").read_text(encoding="utf-8"))
"""Every named recipe as the first schema wrote it."""


def test_the_first_schema_knew_the_recipes_of_today():
    assert set(FIRST) == {found.name for found in named_recipes()}
    assert {data["schema"] for data in FIRST.values()} == {1}
    assert all(any(old in json.dumps(data) for data in FIRST.values()) for old in (*OLD_ENTRIES, *OLD_STAGES))


@pytest.mark.parametrize("name", FIRST)
def test_a_file_of_the_first_schema_is_the_recipe_of_today(name, tmp_path):
    (tmp_path / "old.json").write_text(json.dumps(FIRST[name]))
    found = Recipe.load(tmp_path / "old.json")
    assert found == recipe(name)
    assert found.to_dict()["schema"] == SCHEMA
    assert not set(OLD_ENTRIES) & set(found.to_dict())


def test_frames_of_the_first_schema_stay_frames():
    assert Recipe.from_dict({**FIRST["kcenter"], "pictures": "frames"}).images_as == "frames"


@dataclass(frozen=True)
class Homeless(Selector):
    """A selector that nobody registered."""

    weights: Any = (1.0,)
    name = "homeless"

    def select(self, tokens, pool, k, *, seed):
        return pool[:k]


@dataclass(frozen=True)
class Impostor(KCenter):
    """One that has the name of another."""


@pytest.mark.parametrize("stage", [Homeless(), Impostor()], ids=str)
def test_a_stage_that_load_could_not_find_is_not_saved(stage, tmp_path):
    message = rf"{type(stage).__name__}.*is not registered as its name.*register_stage\({type(stage).__name__}\)"
    with pytest.raises(ValueError, match=message):
        Recipe((stage,)).save(tmp_path / "mine.json")
    with pytest.raises(ValueError, match=message):
        Recipe((stage,)).save_pretrained(tmp_path / "mine")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("registries")
def test_parameters_that_a_file_would_change_are_not_saved(tmp_path):
    register_stage(Homeless)
    with pytest.raises(ValueError, match=r"weights=\(1\.0,\).*does not bring back"):
        Recipe((Homeless(),)).save(tmp_path / "mine.json")
    Recipe((Homeless(weights=0.5),)).save(tmp_path / "mine.json")
    assert Recipe.load(tmp_path / "mine.json").stages == (Homeless(0.5),)
