"""`vtc bench quality` from door to door, on the embedded model and a few questions."""

from __future__ import annotations

import json
import re
import shutil
from itertools import pairwise

import pytest
from typer.testing import CliRunner

from tests.adapters.test_processors import qwen_processor
from tests.families import qwen25vl
from vtc import embedded
from vtc.bench.config import BenchConfig
from vtc.bench.journal import ROWS
from vtc.bench.plot import draw
from vtc.bench.quality import run
from vtc.bench.tables import matrix
from vtc.bench.workers import WorkerFailure, work
from vtc.cli.main import app
from vtc.embedded.samples import FOLDER, samples
from vtc.recipes.named import recipe

RECIPES = tuple(map(recipe, ("kcenter", "random", "resize", "globalcom2")))
PLAN = BenchConfig(("tiny-llava",), RECIPES, (1.0, 0.1), n=10, batch=4, dtype="float32", max_new_tokens=6)
TEMPLATE = """{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}\
<|vision_start|><|image_pad|><|vision_end|>{% else %} {{ c['text'] }} {% endif %}{% endfor %}{% endfor %}"""


def command(*args: object):
    result = CliRunner().invoke(app, ["bench", "quality", *map(str, args)], env={"COLUMNS": "300"})
    result.error = " ".join(result.stderr.split())
    return result


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("quality")


@pytest.fixture(scope="module")
def outcome(out):
    seen = []
    made = run(PLAN, out, on_progress=lambda done, total: seen.append((done, total)))
    assert all(before <= after for before, after in pairwise(seen))
    assert seen[-1] == (100, 100)  # full, text alone and four recipes at two keeps, the refused ones included
    return made


def variant(document, name, keep, model=0):
    return next(a for a in document["models"][model]["arms"] if (a["recipe"], a["keep"]) == (name, keep))


def test_what_is_written(out, outcome):
    assert [path.name for path in outcome.files] == ["quality.json", "quality.md", "quality.png", "quality.svg"]
    assert json.loads((out / "quality.json").read_text()) == outcome.document
    assert (out / "quality.png").read_bytes().startswith(b"\x89PNG")
    svg = (out / "quality.svg").read_text()
    assert svg.startswith("<?xml")
    assert "<dc:date>" not in svg
    draw(outcome.document, out / "again")
    assert (out / "again.svg").read_text() == svg


def test_the_document(outcome):
    made = outcome.document
    assert {*made} >= {"schema", "versions", "config", "config_hash", "bootstrap", "recipes", "models", "errors"}
    assert (made["published"], made["own_questions"]) == (None, False)
    assert set(made["versions"]) == {"vtc", "torch", "transformers"}
    assert made["bootstrap"] == {"draws": 2000, "seed": 0, "level": 0.95, "resampled": "scenes"}
    assert re.fullmatch("[0-9a-f]{12}", made["config_hash"])
    assert recipe("kcenter") == recipe(type(RECIPES[0]).from_dict(made["recipes"]["kcenter"]["recipe"]))
    (model,) = made["models"]
    assert (model["metric"], model["questions"], model["failed"]) == ("exact", 10, None)
    full, kept = variant(made, "full", 1.0), variant(made, "kcenter", 0.1)
    assert full["versus_full"] is None
    assert full["exact"]["mean"] == pytest.approx(
        sum(s["score"] * s["n"] for s in full["skills"].values()) / sum(s["n"] for s in full["skills"].values())
    )
    assert kept["versus_full"]["mean"] == pytest.approx(kept["exact"]["mean"] - full["exact"]["mean"])
    assert kept["versus_full"]["low"] <= kept["versus_full"]["mean"] <= kept["versus_full"]["high"]
    assert kept["versus_resize"] is not None
    assert 0 < kept["tokens"] < full["tokens"]
    assert kept["kl"]["mean"] > 0
    for name in ("kcenter", "random", "resize"):
        whole = variant(made, name, 1.0)
        assert (whole["agreement"]["mean"], whole["kl"]["mean"]) == (1.0, 0.0)
        assert whole["versus_full"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert variant(made, "globalcom2", 0.1)["status"] == "refused"
    assert {"keep", "told_apart", "text_alone", "holds"} == set(model["gate"])


def test_the_tables(out):
    text = (out / "quality.md").read_text()
    assert "| recipe | keep 1.0 | keep 0.1 |" in text
    assert "refused: stage 'allocate/thumbnail' is guided by a thumbnail" in text
    assert re.search(r"Gate \(at keep 0\.1 .*\*\*(passed|failed)\*\*.*text alone: \d", text)
    assert "Fewer than 30 images" in text
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(tables) == 3
    for table in tables:
        assert len({re.sub(r"\\\|", "", line).count("|") for line in table.splitlines()}) == 1
    row = next(line for line in tables[2].splitlines() if line.startswith("| kcenter"))
    assert re.search(r"\| [+-]\d+\.\d \[[+-]\d+\.\d, [+-]\d+\.\d\] \|", row)


def test_stages_inside_the_language_model_are_run_once_by_their_own_schedule(tmp_path):
    chosen = tuple(map(recipe, ("fastv", "kcenter+layerwise")))
    bench_config = BenchConfig(
        ("tiny-llava",), chosen, (0.5,), text_alone=False, n=4, dtype="float32", max_new_tokens=6
    )
    made = run(bench_config, tmp_path, curve=False, draws=10).document
    alone, composed = variant(made, "fastv", 1.0), variant(made, "kcenter+layerwise", 0.5)
    assert [a["recipe"] for a in made["models"][0]["arms"]] == ["full", "fastv", "kcenter+layerwise"]
    assert (alone["tokens"], composed["tokens"]) == (196, 98)
    # Of six layers FastV shortens four by half; the composition leaves half from layer 2 on, a quarter from layer 3 on.
    assert alone["layers"] == pytest.approx(196 * (2 + 4 * 0.5) / 6)
    assert composed["layers"] == pytest.approx((98 * 2 + 49 + 25 * 3) / 6, abs=0.5)
    tables = (tmp_path / "quality.md").read_text(encoding="utf-8")
    assert "| fastv | 67% |" in tables
    assert "inside the language model, each by its own schedule" in tables
    model = made["models"][0]
    assert matrix(model)[0] == ["recipe", "keep 0.5"]
    assert matrix({**model, "arms": model["arms"][:2]})[0] == ["recipe", "exact match"]


def test_a_run_that_was_killed_goes_on_to_the_same_results(out, outcome, tmp_path):
    data = (out / ROWS).read_bytes()
    for name in ("config.json", ROWS):
        shutil.copy(out / name, tmp_path)
    (tmp_path / ROWS).write_bytes(data[: len(data) * 2 // 5])
    again = run(PLAN, tmp_path, curve=False)
    assert again.document == outcome.document
    assert len((tmp_path / ROWS).read_bytes().splitlines()) == len(data.splitlines())


def test_a_finished_run_loads_no_model(out, outcome, monkeypatch):
    monkeypatch.setattr("vtc.inference.loading.load", None)
    assert run(PLAN, out, curve=False).document == outcome.document


def test_two_jobs_give_the_numbers_of_one(outcome, tmp_path):
    assert run(PLAN, tmp_path, jobs=2, curve=False).document == outcome.document


def test_a_run_of_something_else_is_refused(out, outcome):
    result = command("--out", out, "--n", 4)
    assert result.exit_code == 1
    assert "holds a run of another configuration" in result.error
    assert "n: 10 there, 4 here" in result.error


@pytest.fixture
def own(tmp_path):
    """Two of the user's images, one that is broken and one that is not there."""
    (tmp_path / "broken.png").write_bytes((FOLDER / samples()[0].file).read_bytes()[:400])
    lines = [{"image": str(FOLDER / s.file), "question": s.question, "answer": s.answer} for s in samples()[2:5]]
    lines += [{"image": name, "question": "what?", "id": name} for name in ("broken.png", "missing.png")]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "own.jsonl"


def test_own_data_with_broken_rows(own, tmp_path):
    options = ("--out", tmp_path / "out", "--data", own, "--recipes", "kcenter", "--keep", ".25", "--no-curve")
    result = command(*options)
    assert result.exit_code == 3
    assert "2 questions or models have no answer" in result.error
    made = json.loads((tmp_path / "out" / "quality.json").read_text())
    assert {(error["id"], error["arms"]) for error in made["errors"]} == {("broken.png", 2), ("missing.png", 2)}
    assert (variant(made, "kcenter", 0.25)["n"], variant(made, "kcenter", 0.25)["errors"]) == (3, 2)
    assert "missing.png: no such file" in (tmp_path / "out" / "quality.md").read_text()
    shutil.copy(FOLDER / samples()[0].file, tmp_path / "broken.png")
    shutil.copy(FOLDER / samples()[0].file, tmp_path / "missing.png")
    assert command(*options).exit_code == 0
    made = json.loads((tmp_path / "out" / "quality.json").read_text())
    assert variant(made, "kcenter", 0.25)["n"] == 5
    assert made["errors"] == []


def test_without_answers_agreement_is_measured_on_any_model(tmp_path):
    processor = qwen_processor()
    processor.chat_template = TEMPLATE
    processor.save_pretrained(tmp_path / "qwen")
    qwen25vl().save_pretrained(tmp_path / "qwen")
    lines = [{"image": str(FOLDER / s.file), "question": f"w{i} w{i + 3}"} for i, s in enumerate(samples())]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = ("--models", tmp_path / "qwen", "--data", tmp_path / "own.jsonl", "--max-new-tokens", 4)
    result = command(*options, "--out", tmp_path / "out", "--recipes", "stride,resize", "--keep", "1,.25")
    assert result.exit_code == 0, result.error
    made = json.loads((tmp_path / "out" / "quality.json").read_text())
    (model,) = made["models"]
    assert (model["metric"], model["gate"], model["scenes"]) == ("agreement", None, 4)
    assert variant(made, "stride", 1.0)["agreement"]["mean"] == 1.0
    assert variant(made, "stride", 1.0)["kl"]["mean"] == 0.0
    assert variant(made, "stride", 0.25)["exact"] is None
    assert variant(made, "stride", 0.25)["kl"]["mean"] > 0
    assert variant(made, "stride", 0.25)["tokens"] < variant(made, "full", 1.0)["tokens"] / 3
    assert "agreement with the full model" in (tmp_path / "out" / "quality.md").read_text()


def test_weights_that_cannot_be_read(tmp_path):
    shutil.copytree(embedded.path("tiny-llava"), tmp_path / "broken")
    weights = tmp_path / "broken" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    options = ("--n", 2, "--recipes", "stride", "--keep", ".5", "--no-curve")
    alone = command("--models", tmp_path / "broken", "--out", tmp_path / "a", *options)
    assert alone.exit_code == 1
    assert "its weights cannot be read" in alone.error
    both = command("--models", f"{tmp_path / 'broken'},tiny-llava", "--out", tmp_path / "b", *options)
    assert both.exit_code == 3
    made = json.loads((tmp_path / "b" / "quality.json").read_text())
    assert "cannot be read" in made["models"][0]["failed"]
    assert variant(made, "stride", 0.5, model=1)["n"] == 2
    assert "not measured: --models" in (tmp_path / "b" / "quality.md").read_text()


def test_processes_that_die_are_told_of(monkeypatch):
    monkeypatch.setattr("vtc.bench.workers._alone", _die)
    with pytest.raises(ChildProcessError, match=r"--jobs 2: .* code 7, 7 .*same command"):
        list(work(PLAN, (), jobs=2))


def _die(*_args: object) -> None:
    raise SystemExit(7)


def test_a_failure_is_told_once_whatever_the_jobs(tmp_path):
    bench_config = BenchConfig((str(tmp_path / "model"),), (recipe(),), (0.5,), n=4, batch=1)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "bert"}')
    found = list(work(bench_config, (), jobs=2))
    assert [type(message) for message in found] == [WorkerFailure]
    assert "does not take images" in found[0].why


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--n", "0"], "--n 0; expected a whole number of at least 1"),
        (["--skills", "colour"], "--skills 'colour' is unknown; did you mean 'color'?"),
        (["--data", "nowhere.jsonl"], "--data nowhere.jsonl: no such file"),
        (["--models", "tiny-lava"], "did you mean 'tiny-llava'"),
        (["--recipes", "kcentre"], "did you mean 'kcenter'"),
        (["--keep", "2.5"], "keep=2.5 is outside (0, 1]"),
        (["--keep", "x"], "--keep 'x' is no number"),
        (["--jobs", "0"], "--jobs 0"),
        (["--draws", "0"], "--draws 0"),
        (["--draws", "1000000000"], "--draws 1000000000; expected a whole number from 1 to 1,000,000"),
        (["--jobs", "1000000000"], "--jobs 1000000000"),
        (["--seed", "-1"], "--seed -1"),
        (["--n", "1000000000"], "--n 1000000000; expected at most 1,000,000 questions"),
        (["--positions", "new"], "positions='new'"),
        (["--device", "gpu"], "device='gpu' is unknown"),
    ],
)
def test_bad_options_are_one_plain_line(tmp_path, options, message):
    result = command("--out", tmp_path / "out", *options)
    assert result.exit_code == 1
    assert message in result.error
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out" / "quality.json").exists()


def test_data_whose_images_are_all_missing_is_refused_before_a_model_is_loaded(tmp_path):
    (tmp_path / "own.jsonl").write_text('{"image": "a.png", "question": "what?"}\n')
    result = command("--out", tmp_path / "out", "--data", tmp_path / "own.jsonl")
    assert result.exit_code == 1
    assert "none of its images exists" in result.error


def test_without_matplotlib_the_tables_are_written_and_the_curve_is_left_out_with_a_note(tmp_path, monkeypatch):
    monkeypatch.setattr("vtc.bench.quality.find_spec", lambda name: None)
    options = ("--n", 2, "--recipes", "kcenter", "--keep", 0.5, "--draws", 10)
    result = command("--out", tmp_path / "out", *options)
    assert result.exit_code == 0
    assert "note: no curve will be drawn: matplotlib is not installed (pip install matplotlib)" in result.error
    assert (tmp_path / "out" / "quality.md").is_file()
    assert not list((tmp_path / "out").glob("quality.png"))


def test_recipes_of_videos_are_compared_with_uniform_frames(tmp_path):
    videos = tuple(map(recipe, ("uniform", "clip-budget")))
    bench_config = BenchConfig(
        ("tiny-qwen",), videos, (0.25,), text_alone=False, n=6, videos=True, batch=6, max_new_tokens=4
    )
    made = run(bench_config, tmp_path, curve=False, draws=20).document
    even, clips = variant(made, "uniform", 0.25), variant(made, "clip-budget", 0.25)
    assert clips["versus_uniform"]["mean"] == pytest.approx(clips["exact"]["mean"] - even["exact"]["mean"])
    assert even["versus_uniform"] is None
    assert clips["tokens"] == even["tokens"]
    text = (tmp_path / "quality.md").read_text()
    assert "| against full | against uniform | agreement |" in text
    assert "resize" not in text
