"""Names: known ones are found, near ones suggested, taken ones refused."""

from __future__ import annotations

import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from vtc.core.registry import OLD_PLUGINS, PLUGINS, Registry, nearest


@pytest.fixture
def registry() -> Registry[object]:
    found: Registry[object] = Registry("stage")
    found.add("select/kcenter", 1)
    found.add("select/cls", 2)
    return found


def test_entries_are_found_in_the_order_of_registration(registry):
    assert registry.get("select/cls") == 2
    assert list(registry) == ["select/kcenter", "select/cls"]
    assert "select/cls" in registry
    assert "cls" not in registry
    assert 3 not in registry


def test_an_unknown_name_suggests_the_nearest_and_lists_all(registry):
    with pytest.raises(
        ValueError,
        match=r"unknown stage 'select/kcentre'; did you mean 'select/kcenter'.*\(known: .*cls, select/k",
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


def test_the_decorator_registers_and_returns_the_entry(registry):
    @registry.register("select/mine")
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
    other: Registry[int] = Registry("stage", plugins=True)
    other.add("a", 1)
    assert other.get("a") == 1
    assert asked == []
    assert list(other) == ["a"]
    assert "b" not in other
    assert asked == [PLUGINS, OLD_PLUGINS]


def test_a_plug_in_that_fails_is_named_and_takes_no_other_with_it(monkeypatch):
    points = [
        SimpleNamespace(value="broken_one", load=lambda: 1 / 0),
        SimpleNamespace(value="good_one", load=lambda: other.add("good", 1)),
    ]
    monkeypatch.setattr("vtc.core.registry.entry_points", lambda group: points if group == PLUGINS else [])
    other: Registry[int] = Registry("stage", plugins=True)
    with pytest.warns(UserWarning, match=r"'broken_one'.*ZeroDivisionError"):
        assert other.get("good") == 1


@pytest.mark.parametrize("spelt", ["select/k-center", "SELECT/KCenter", "select/k_center", "select / kcenter"])
def test_case_dashes_and_blanks_do_not_matter(registry, spelt):
    assert registry.get(spelt) == 1
    assert registry.canonical(spelt) == "select/kcenter"
    with pytest.raises(ValueError, match=rf"{spelt!r} is already taken by 1 .*'select/kcenter'"):
        registry.add(spelt, 3)


def test_an_alias_is_found_and_not_listed(registry):
    registry.alias("Div-Prune", "select/kcenter")
    assert registry.get("divprune") == 1
    assert registry.canonical("divprune") == "select/kcenter"
    assert registry.aliases("select/kcenter") == ("Div-Prune",)
    assert list(registry) == ["select/kcenter", "select/cls"]
    with pytest.raises(ValueError, match=r"'divprune' is already taken by 1 .*'select/kcenter'"):
        registry.add("divprune", 3)
    with pytest.raises(ValueError, match="alias 'divprune' is already taken by 'select/kcenter'"):
        registry.alias("divprune", "select/cls")
    with pytest.raises(ValueError, match="of='select/x' is no stage yet"):
        registry.alias("x", "select/x")


def test_a_long_registry_suggests_three_and_lists_none():
    long: Registry[int] = Registry("recipe", listing="`vtc recipes`")
    for i in range(40):
        long.add(f"name{i}", i)
    with pytest.raises(ValueError, match="unknown recipe") as caught:
        long.get("name")
    assert len(re.findall(r"'name\d+'", str(caught.value))) == 3
    assert str(caught.value).endswith("`vtc recipes` lists all 40")


def test_the_same_lines_run_again_take_the_place_of_what_they_made(registry):
    def defined():
        class Mine:
            pass

        Mine.__qualname__ = "Mine"
        return Mine

    first, again = defined(), defined()
    registry.add("mine", first)
    assert registry.add("mine", again) is again
    assert registry.get("mine") is again


@pytest.mark.parametrize(("name", "error"), [(3, TypeError), ("", ValueError), (" - ", ValueError)])
def test_a_name_must_be_some_text(registry, name, error):
    with pytest.raises(error, match=f"name={name!r}"):
        registry.add(name, 1)


THREADS = """
import sys, time, types
from concurrent.futures import ThreadPoolExecutor
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from vtc.core.registry import Registry

class Slow(MetaPathFinder, Loader):
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name == "slow_names" else None
    def exec_module(self, module):
        time.sleep(0.5)
        assert "other" not in names, "the importing thread may look names up"
        names.add("late", 1)

sys.meta_path.insert(0, Slow())
names = Registry("stage", built_in=["slow_names"])
with ThreadPoolExecutor(4) as pool:
    print(sorted(pool.map(lambda _: names.get("late"), range(4))))
"""


def test_threads_wait_for_names_that_one_of_them_imports():
    assert alone(THREADS) == "[1, 1, 1, 1]"


def test_an_import_that_fails_is_no_unknown_name_the_second_time():
    other: Registry[int] = Registry("stage", built_in=["no_such_module_of_names"])
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="no_such_module_of_names"):
            other.get("a")


def test_names_of_videos_are_taken_before_they_are_loaded():
    line = "import vtc\nfrom vtc.stages import KCenter\ntry:\n    vtc.register_recipe('EVS', [KCenter()])\n"
    line += "except ValueError as error:\n    print('already taken' in str(error), vtc.recipe('vidcom2').name)"
    assert alone(line) == "True vidcom2"


def test_the_names_of_videos_are_those_that_their_module_registers():
    code = (
        "from vtc.core.registry import VIDEO_NAMES\nfrom vtc.recipes import RECIPES\nfrom vtc.stages import STAGES\n"
        "def known():\n    return {n for r in (RECIPES, STAGES) for n in (*r._entries, *r._aliases)}\n"
        "before = known()\nimport vtc.recipes.video\nprint(known() - before == set(VIDEO_NAMES))"
    )
    assert alone(code) == "True"
