"""`vtc report` on a benchmark: the curve, the tables, and the questions that fewer tokens lost."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from tests.pages import Page
from vtc.bench.config import BenchConfig
from vtc.bench.journal import BenchRow
from vtc.bench.quality import run
from vtc.html_report import write_report
from vtc.html_report.benchmark_run import read_run, swaps
from vtc.html_report.failure_examples import worst
from vtc.recipes.named import recipe

RECIPES = tuple(map(recipe, ("kcenter", "random", "globalcom2")))
PLAN = BenchConfig(("tiny-llava",), RECIPES, (0.5, 0.05), n=10, batch=10, dtype="float32", max_new_tokens=6)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    run(PLAN, folder, curve=False)
    return folder


@pytest.fixture
def copy(bench, tmp_path):
    """A benchmark that may be spoilt."""
    return shutil.copytree(bench, tmp_path / "bench")


def page(source, out, **options) -> Page:
    return Page.read(write_report(source, out / "page.html", **options))


def edit(path, change) -> None:
    """Applies `change` to the object in a JSON file."""
    held = json.loads(path.read_text())
    change(held)
    path.write_text(json.dumps(held))


@pytest.fixture(scope="module")
def found(bench, tmp_path_factory):
    return page(bench, tmp_path_factory.mktemp("out"), examples=4)


def test_it_shows_curve_tables_versions_and_fingerprint(bench, found):
    document = json.loads((bench / "quality.json").read_text())
    for words in (document["config_hash"], document["models"][0]["weights"], f"torch {document['versions']['torch']}"):
        assert words in found.text
    points = re.findall(r"(kcenter|random): ([\d.]+) % with ([\d.]+) % of the tokens", found.text)
    assert len(points) == 4
    variants = {(variant["recipe"], variant["keep"]): variant for variant in document["models"][0]["arms"]}
    for name, score, share in points:
        keep = 0.5 if float(share) > 20 else 0.05
        assert float(score) == pytest.approx(100 * variants[name, keep]["exact"]["mean"], abs=0.06)
    assert "globalcom2, keep 0.5 refused" in found.text
    assert found.asks_for() == []


def test_what_was_lost_is_first_with_its_overlay(bench, found):
    """Counted again from the rows: the questions are in the order of how many recipes lost them."""
    rows = [BenchRow(**json.loads(line)) for line in (bench / "rows.jsonl").read_text().splitlines()]
    right = {row.id for row in rows if row.name == "full" and row.exact}
    lost: dict[str, int] = {}
    for row in rows:
        if row.name in ("kcenter", "random") and row.id in right and row.exact is False:
            lost[row.id] = lost.get(row.id, 0) + 1
    assert lost
    shown = found.ids
    counts = [lost.get(name, 0) for name in shown]
    assert counts == sorted(lost.values(), reverse=True)[:4] + [0] * max(0, 4 - len(lost))
    images = [attributes for name, attributes in found.tags if name == "img"]
    assert len(images) == 4
    assert all(re.match(r"(kcenter|random), keep 0\.0?5: \d+ of 196 tokens", image["alt"]) for image in images)
    first = " ".join(found.articles[0])
    assert "right with all tokens, wrong with fewer" in first
    assert "question" in first
    assert "true answer" in first


def test_swaps_count_both_ways():
    def row(name: str, id: str, exact: bool | None, **more) -> BenchRow:
        return BenchRow("m", name, 1.0 if name == "full" else 0.5, id, "x", exact=exact, **more)

    some = [
        *(row("full", "abcd"[i], right) for i, right in enumerate((True, True, False, True))),
        *(row("r", "abcd"[i], right) for i, right in enumerate((True, False, True))),
        row("r", "d", None, error="OSError"),
        row("full", "e", False),
        row("r", "e", False),
    ]
    assert swaps({(one.variant, one.id): one for one in some}, "r@0.5", "exact") == (["b"], ["c"])


@pytest.mark.parametrize("name", ["quality.json", "rows.jsonl", "config.json"])
def test_a_file_of_a_benchmark_stands_for_it(bench, tmp_path, name):
    assert "tiny-llava" in page(bench / name, tmp_path, examples=0).text


def test_examples_are_bounded(bench, tmp_path):
    assert page(bench, tmp_path, examples=0).articles == []
    many = page(bench, tmp_path, examples=100, overlays=False)
    assert len(many.articles) == 10
    assert "overlays are not wanted" in many.text
    run_ = read_run(bench)
    assert len(worst(run_, run_.document["models"][0], run_.rows["tiny-llava"], 3, None)) == 3


# What is not as it was


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("quality.json", lambda path: path.unlink(), "so no benchmark has ended there; run `vtc bench quality"),
        ("quality.json", lambda path: path.write_text("{"), "quality.json is no JSON"),
        ("quality.json", lambda path: path.write_text("{}"), "lacks schema, versions"),
        ("quality.json", lambda path: path.write_text("[]"), "lacks schema, versions"),
        ("quality.json", lambda path: edit(path, lambda held: held.update(schema=7)), "has schema 7, not 1"),
        ("rows.jsonl", lambda path: path.unlink(), "rows.jsonl is missing"),
        (
            "rows.jsonl",
            lambda path: path.write_text("[]\n"),
            "rows.jsonl, line 1 is a JSON list, not an object; run",
        ),
        ("rows.jsonl", lambda path: path.write_text('{"model": "m"}\n'), "rows.jsonl, line 1 is no row"),
    ],
)
def test_what_is_no_whole_benchmark_is_refused(copy, tmp_path, name, change, words):
    change(copy / name)
    with pytest.raises((OSError, ValueError), match=re.escape(words)):
        write_report(copy, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_options_of_answers_are_refused(bench, tmp_path):
    for name in ("questions", "model"):
        with pytest.raises(ValueError, match=f"--{name} .*bench.* is a benchmark"):
            write_report(bench, tmp_path / "page.html", **{name: "x"})


@pytest.mark.parametrize(
    ("change", "words", "images"),
    [
        (lambda model: model.update(cases="other"), "the questions have changed since this run", 0),
        (lambda model: model.update(weights="other"), "the weights of tiny-llava have changed since this run", 2),
    ],
)
def test_questions_and_weights_that_changed_are_not_drawn(copy, tmp_path, change, words, images):
    edit(copy / "quality.json", lambda held: change(held["models"][0]))
    found = page(copy, tmp_path, examples=2)
    assert words in found.text
    assert found.count("img") == images


def test_data_that_moved_is_said(copy, tmp_path):
    def moved(held):
        held["config"]["data"] = str(tmp_path / "gone.jsonl")

    edit(copy / "quality.json", moved)
    found = page(copy, tmp_path, examples=2)
    assert "the questions cannot be read any more" in found.text
    assert len(found.articles) == 2


def test_a_recipe_of_another_version_costs_its_overlay_only(copy, tmp_path):
    edit(copy / "quality.json", lambda held: held["config"]["recipes"][0].update(schema=99))
    found = page(copy, tmp_path, examples=2)
    assert "kept parts are not drawn: no recipe to draw" in found.text
    assert "right with all tokens, wrong with fewer" in found.text


def test_a_model_that_failed_is_said(copy, tmp_path):
    def failed(held):
        held["models"].append({"name": "other<b>", "weights": "x", "cases": "y", "failed": "no <i>such</i> model"})

    edit(copy / "quality.json", failed)
    found = page(copy, tmp_path, examples=0)
    assert "not measured: no <i>such</i> model" in found.text
    assert found.asks_for() == []
