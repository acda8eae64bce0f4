"""Names: known ones are found, near ones suggested, taken ones refused."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vtc.core.registry import Registry, nearest


@pytest.fixture
def registry() -> Registry[object]:
    found: Registry[object] = Registry("stage")
    found.add("select/kcenter", 1)
    found.add("select/cls", 2)
    return found


def test_entries_are_found_in_the_order_of_enrolment(registry):
    assert registry.get("select/cls") == 2
    assert list(registry) == ["select/kcenter", "select/cls"]
    assert "select/cls" in registry
    assert "cls" not in registry
    assert 3 not in registry


def test_an_unknown_name_suggests_the_nearest_and_lists_all(registry):
    with pytest.raises(
        ValueError, match=r"unknown stage 'select/kcentre'; did you mean 'select/kcenter'\? \(known: .*cls, select/k"
    ):
        registry.get("select/kcentre")


@pytest.mark.parametrize("name", ["zzz", "", None, 7])
def test_a_name_like_no_other_suggests_nothing(registry, name):
    with pytest.raises(ValueError, match=r"unknown stage .* \(known: ") as caught:
        registry.get(name)
    assert "did you mean" not in str(caught.value)


def test_a_taken_name_is_refused_and_the_same_entry_is_not(registry):
    with pytest.raises(ValueError, match="stage 'select/cls' is already taken by 2"):
        registry.add("select/cls", 3)
    assert registry.add("select/cls", 2) == 2
    assert registry.get("select/cls") == 2


def test_the_decorator_enrols_and_answers_the_entry(registry):
    @registry.enrol("select/mine")
    class Mine:
        pass

    assert registry.get("select/mine") is Mine


@pytest.mark.parametrize(("name", "hint"), [("kcentr", "; did you mean 'kcenter'?"), ("xyz", ""), (None, "")])
def test_nearest(name, hint):
    assert nearest(name, ["kcenter", "cls"]) == hint


def alone(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("line", "loads"),
    [
        ("recipe('kcenter')", False),
        ("recipe('clip-budget')", True),
        ("[one.name for one in named_recipes()].index('video')", True),
        ("Recipe.from_dict({'schema': 1, 'stages': [{'stage': 'input/keyframes', 'share': 0.5}], 'keep': 0.1})", True),
        ("'uniform' in RECIPES", True),
    ],
)
def test_plug_ins_are_imported_when_a_name_is_not_there_yet(line, loads):
    head = "import sys\nfrom vtc.recipes import *\nfrom vtc.recipes import RECIPES"
    assert alone(f"{head}\n{line}\nprint('vtc.video' in sys.modules)") == str(loads)


def test_a_registry_without_plug_ins_stays_as_it_is(registry, monkeypatch):
    monkeypatch.setattr("vtc.core.registry.entry_points", lambda group: pytest.fail(f"asked for {group}"))
    assert "missing" not in registry
    asked: list[str] = []
    monkeypatch.setattr("vtc.core.registry.entry_points", lambda group: asked.append(group) or [])
    other: Registry[int] = Registry("stage", "mine")
    other.add("a", 1)
    assert other.get("a") == 1
    assert asked == []
    assert list(other) == ["a"]
    assert "b" not in other
    assert asked == ["mine"]
