"""Each recipe's accuracy on the embedded models, held within a band, so that a regression in any stage is seen.

`pytest tests/bench/test_golden.py --golden -m nightly` writes the figures again, after a change that is
meant to change them.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vtc import embedded
from vtc.bench.config import BenchConfig
from vtc.bench.quality import run
from vtc.bench.variants import FULL, chosen
from vtc.embedded.spec import HELD_OUT, VERSION

GOLDEN = Path(__file__).parents[1] / "data" / "golden.json"
QUESTIONS, FIRST, KEEP = 150, HELD_OUT + 9000, 0.1
BAND = 0.04
"""Six of 150 answers: rounding differs between processors and versions, and turns an answer here and there."""


IMAGES_AT_EVERY_CHANGE = ("none", "kcenter", "random", "kcenter-mean", "todre", "tome")
"""What is measured at every change: each family of rules once. All recipes are at night."""
OF_VIDEOS = (
    "none",
    "kcenter",
    "random",
    "uniform",
    "keyframes",
    "clip-budget",
    "video",
    "evs",
    "vidcom2",
    "dycoke",
    "fastvid",
    "tdc",
)
VIDEOS_AT_EVERY_CHANGE = ("none", "random", "video", "dycoke")
MODELS = (*embedded.NAMES, "tiny-qwen videos")


def names_of(label: str, whole: bool) -> tuple[str, ...]:
    """The recipes to measure; none named: all."""
    if label.endswith(" videos"):
        return OF_VIDEOS if whole else VIDEOS_AT_EVERY_CHANGE
    return () if whole else IMAGES_AT_EVERY_CHANGE


def measured(label: str, out: Path, whole: bool) -> dict[str, float | None]:
    """Exact match of each variant on the fixed questions; None where the model refuses the recipe."""
    name, videos = label.split()[0], label.endswith(" videos")
    recipes, text_alone = chosen(names_of(label, whole))
    bench_config = BenchConfig(
        (name,), tuple(recipes), (KEEP,), text_alone=text_alone, n=QUESTIONS, first=FIRST, videos=videos
    )
    made = run(bench_config, out, curve=False, draws=1).document
    assert not made["errors"]
    return {
        variant["recipe"]: round(variant["exact"]["mean"], 4) if variant["status"] == "measured" else None
        for variant in made["models"][0]["arms"]
    }


def outside(found: dict[str, float | None], golden: dict[str, float | None]) -> dict[str, tuple]:
    """The arms whose accuracy is not within the band, or that are measured in one of the two alone."""
    return {
        variant: (found.get(variant), golden.get(variant))
        for variant in {**found, **golden}
        if (found.get(variant) is None) != (golden.get(variant) is None)
        or (found.get(variant) is not None and abs(found[variant] - golden[variant]) > BAND)
    }


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.nightly)], ids=["some", "all"])
@pytest.mark.parametrize("name", MODELS)
def test_every_recipe_is_as_good_as_it_was(name, whole, tmp_path, request):
    found = measured(name, tmp_path, whole)
    held = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if request.config.getoption("--golden") and whole:
        held = {"world": VERSION, "keep": KEEP, "models": {**held.get("models", {}), name: found}}
        GOLDEN.write_text(json.dumps(held, indent=1) + "\n")
    assert held["world"] == VERSION
    golden = held["models"][name]
    named = {*names_of(name, whole), FULL} if names_of(name, whole) else set(golden)
    assert outside(found, {recipe: score for recipe, score in golden.items() if recipe in named}) == {}


def test_the_band_is_narrower_than_what_a_broken_stage_costs():
    """A control: where `kcenter` picks as `random` does, or a recipe is refused that was not, the test fails."""
    for name, golden in json.loads(GOLDEN.read_text())["models"].items():
        assert embedded.path(name.split()[0]).is_dir()
        assert "kcenter" in outside({**golden, "kcenter": golden["random"]}, golden)
        assert "random" in outside({**golden, "random": None}, golden)
        assert golden["full"] - golden["none"] > 0.3
        assert outside(golden, golden) == {}
