import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

import vtc
from vtc import embedded
from vtc.cli import demo
from vtc.cli.main import app
from vtc.embedded.samples import samples
from vtc.inference import asking
from vtc.inference.loading import load
from vtc.media.images import load_image
from vtc.recipes.named import ESSENTIAL, named_recipes, recipe
from vtc.recipes.registration import RECIPES

SAMPLE = samples()[0]
PHOTOGRAPHS = Path(vtc.__file__).parent / "embedded" / "photographs"
ROOT = Path(__file__).parents[2]


def vtc_command(*args: object):
    """The result of `vtc *args`, its output as one line of words."""
    result = CliRunner().invoke(app, [str(a) for a in args], env={"COLUMNS": "200"})
    result.text = " ".join(result.stdout.split())
    result.error = " ".join(result.stderr.split())
    return result


def row(result, name: str) -> list[str]:
    """The cells of the row of the table that begins with `name`."""
    line = next(line for line in result.stdout.splitlines() if re.match(rf"│ {re.escape(name)}\s", line))
    return [cell.strip() for cell in line.strip("│").split("│")][1:]


@pytest.fixture(scope="module")
def loaded():
    return load("tiny-llava", device="cpu")


# Help and errors


def test_help_loads_nothing_heavy():
    code = "import sys; from vtc.cli.main import app; app(['--help'], standalone_mode=False); "
    code += "sys.exit(str([m for m in ('torch', 'transformers', 'PIL', 'numpy') if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "[]"
    assert "recipes" in done.stdout


def test_version_and_help():
    assert vtc_command("--version").text == f"vtc {vtc.__version__}"
    for name in ("ask", "show", "probe", "recipes", "demo", "check"):
        assert vtc_command(name, "-h").exit_code == 0
    assert "A whole number of 2 or more" in vtc_command("ask", "--help").text.replace("│ ", "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--keep", "0"], "keep=0.0 is outside (0, 1]"),
        (["--keep", "-0.5"], "keep=-0.5 is outside (0, 1]"),
        (["--keep", "1.5"], "keep=1.5 is outside (0, 1]"),
        (["--keep", "nan"], "keep=nan is outside (0, 1]"),
        (["--keep", "inf"], "keep=inf is outside (0, 1]"),
        (["--recipe", "kcentre"], "unknown recipe 'kcentre'; did you mean 'kcenter'"),
        (["--recipe", "nowhere.json"], "nowhere.json"),
        (["--positions", "new"], "positions='new'; expected one of original, compact"),
        (["--model", "tiny-lava"], "did you mean 'tiny-llava'?"),
        (["--model", "me/model"], "the Hugging Face hub could not be reached"),
        (["--device", "gpu"], "device='gpu' is unknown"),
        (["--dtype", "half"], "dtype='half'; expected one of"),
    ],
)
def test_bad_options_are_one_plain_line(options, message):
    result = vtc_command("ask", SAMPLE.path, "where is it?", *options)
    assert result.exit_code == 1
    assert message in result.error
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize(
    "args", ["ask", "ask x.png q --keep many", "ask x.png q --nope", "ask x.png a b", "no-command"]
)
def test_wrong_usage_exits_with_2(args):
    assert vtc_command(*args.split()).exit_code == 2


def test_an_empty_question_is_refused():
    result = vtc_command("ask", SAMPLE.path, "  ")
    assert (result.exit_code, "question=' ' is empty" in result.error) == (1, True)


def test_debug_shows_the_traceback_wherever_it_stands():
    for args in (["--debug", "ask", "nowhere.png", "q"], ["ask", "nowhere.png", "q", "--debug"]):
        result = CliRunner().invoke(app, args)
        assert isinstance(result.exception, FileNotFoundError)
    result = CliRunner().invoke(app, ["ask", "nowhere.png", "--", "--debug"])
    assert result.exit_code == 1
    assert not isinstance(result.exception, FileNotFoundError)


@pytest.mark.parametrize("kind", ["missing", "directory", "text", "strip", "video", "cut short"])
@pytest.mark.parametrize("command", ["ask", "show"])
def test_bad_images_are_one_plain_line(tmp_path, kind, command):
    path = tmp_path / {"video": "x.mp4", "missing": "none.png"}.get(kind, "x.png")
    if kind == "directory":
        path.mkdir()
    elif kind == "strip":
        Image.new("RGB", (20_000, 10)).save(path)
    elif kind == "cut short":
        path.write_bytes(SAMPLE.path.read_bytes()[:3000])
    elif kind != "missing":
        path.write_bytes(b"words, words, words")
    result = vtc_command(command, path, *(["what?"] if command == "ask" else ["--out", tmp_path / "out.png"]))
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert path.name in result.error
    assert not (tmp_path / "out.png").exists()


# ask


def test_ask_prints_both_answers_and_what_they_cost():
    options = ("--model", "tiny-llava", "--keep", "0.25", "--max-new-tokens", "4")
    result = vtc_command("ask", SAMPLE.path, SAMPLE.question, *options)
    assert (result.exit_code, result.stderr) == (0, "")
    assert row(result, "visual tokens") == ["196", "49"]
    full, short = map(int, row(result, "prompt tokens"))
    assert full - short == 147
    first, later = (
        [float(cell.removesuffix(" ms")) for cell in row(result, f"time to {token}")]
        for token in ("first token", "each later token")
    )
    assert all(prefill > step > 0 for prefill, step in zip(first, later, strict=True))
    assert "of KV cache" in result.text
    assert "prefill FLOPs" in result.text
    assert "median of 5 runs each" in result.text


KEEPS = [("1", 196), ("1.0", 196), ("64", 64), ("2", 2), ("9999", 196), ("0.5", 98)]


@pytest.mark.parametrize(("keep", "tokens"), KEEPS)
def test_keep_is_a_share_up_to_1_and_a_count_from_2(keep, tokens):
    result = vtc_command("ask", SAMPLE.path, "where is the square?", "--keep", keep, "--max-new-tokens", "1")
    assert row(result, "visual tokens") == ["196", str(tokens)]


def test_a_recipe_file_keeps_its_own_settings(tmp_path):
    recipe("stride", keep=10).save(tmp_path / "mine.json")
    options = ["--recipe", tmp_path / "mine.json", "--max-new-tokens", "1"]
    assert row(vtc_command("ask", SAMPLE.path, "where?", *options), "visual tokens") == ["196", "10"]
    assert row(vtc_command("ask", SAMPLE.path, "where?", *options, "--keep", "7"), "visual tokens") == ["196", "7"]


def test_words_that_the_model_does_not_know_are_named():
    options = ("--model", "tiny-llava", "--max-new-tokens", "1")
    result = vtc_command("ask", SAMPLE.path, "where is the [red] zebra, zebra?", *options)
    assert result.exit_code == 0
    assert result.error.startswith("note: tiny-llava has no '[', ']', 'zebra' among its words")


def test_what_was_left_out_of_a_image_is_told(tmp_path):
    frames = [Image.new("RGB", (300, 100), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "x.webp", save_all=True, append_images=frames[1:])
    result = vtc_command("ask", tmp_path / "x.webp", "what color?", "--max-new-tokens", "1")
    assert "note: " in result.stderr
    assert "holds 2 frames; only the first one is read" in result.error
    assert "squeezes the 300 x 100 image 3.0-fold" in result.error


def test_answers_are_those_of_the_stock_model(loaded):
    model, processor = loaded
    image = load_image(SAMPLE.path)
    pair = asking.compare(model, processor, image, SAMPLE.question, recipe("kcenter", keep=1.0), rounds=0)
    text = f"USER: <image>\n{SAMPLE.question} ASSISTANT:"
    inputs = processor(images=image, text=text, return_tensors="pt")
    out = model.generate(**inputs, max_new_tokens=64, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert pair.full == pair.short == processor.decode(out, skip_special_tokens=True).strip()
    assert pair.report.before == pair.report.after == 196
    assert pair.seconds_full is None
    assert not hasattr(model, "vtc")


def test_questions_are_answered_right_with_all_tokens_and_with_a_quarter(loaded):
    model, processor = loaded
    rows = [
        asking.compare(model, processor, load_image(s.path), s.question, recipe("kcenter", keep=0.25), rounds=0)
        for s in samples()
    ]
    full = sum(pair.full == s.answer for pair, s in zip(rows, samples(), strict=True))
    both = sum(pair.full == pair.short == s.answer for pair, s in zip(rows, samples(), strict=True))
    assert full >= 0.7 * len(rows)
    assert both >= 0.4 * len(rows)


def test_a_timed_answer_has_all_its_tokens_and_its_prompt_is_dearer_than_a_step(loaded):
    model, processor = loaded
    inputs = asking.prompt(model, processor, load_image(SAMPLE.path), SAMPLE.question)
    lengths = []
    model.generate, stock = lambda **given: lengths.append(given["max_new_tokens"]) or stock(**given), model.generate
    try:
        seconds = asking.timed(model, inputs)
    finally:
        del model.generate
    assert lengths == [1 + asking.STEPS]
    assert seconds.first > seconds.next > 0


def test_timing_stops_when_it_has_taken_long(loaded, monkeypatch):
    model, processor = loaded
    monkeypatch.setattr(asking, "PATIENCE", 0.0)
    pair = asking.compare(model, processor, load_image(SAMPLE.path), "where?", recipe(), max_new_tokens=1)
    assert pair.rounds == 1
    assert pair.seconds_full is not None


# show, recipes, demo


def test_show_draws_what_was_kept(tmp_path):
    out = {}
    for name in ("kcenter", "stride", "kcenter-mean"):
        result = vtc_command("show", PHOTOGRAPHS / "cat.jpg", "--out", tmp_path / f"{name}.png", "--recipe", name)
        assert result.exit_code == 0
        assert "49 of 196 visual tokens" in result.text
        out[name] = np.asarray(Image.open(tmp_path / f"{name}.png"))
    assert not np.array_equal(out["kcenter"], out["stride"])
    assert not np.array_equal(out["kcenter"], out["kcenter-mean"])


def test_show_does_not_draw_over_what_it_is_asked_about(tmp_path):
    path = tmp_path / "own.png"
    Image.new("RGB", (64, 64), "red").save(path)
    before = path.read_bytes()
    result = vtc_command("show", path, "--out", path)
    assert result.exit_code != 0
    assert "own.png is the file that is asked about" in result.error
    assert path.read_bytes() == before


@pytest.mark.parametrize(("out", "message"), [("x.doc", "no image format has the ending"), ("no/x.png", "make it")])
def test_show_checks_its_output_first(tmp_path, out, message):
    result = vtc_command("show", SAMPLE.path, "--out", tmp_path / out)
    assert (result.exit_code, message in result.error) == (1, True)


def block(result, name: str) -> list[str]:
    """The lines of the last cell of the row of the table that begins with `name`."""
    lines = result.stdout.splitlines()
    first = next(i for i, line in enumerate(lines) if re.match(rf"│ {re.escape(name)}\s", line))
    count = next(i for i, line in enumerate(lines[first + 1 :], 1) if not re.match(r"│\s+│", line))
    return [line.strip("│").split("│")[-1].strip() for line in lines[first : first + count]]


def test_ask_and_check_as_json():
    found = json.loads(vtc_command("ask", SAMPLE.path, SAMPLE.question, "--keep", 0.25, "--json").stdout)
    assert (found["recipe"], found["keep"], found["question"]) == ("kcenter", 0.25, SAMPLE.question)
    assert found["answer_full"] == SAMPLE.answer
    assert (found["report"]["before"], found["report"]["after"]) == (196, 49)
    held = json.loads(vtc_command("check", "--recipe", "stride", "--max-new-tokens", 1, "--json").stdout)
    assert held["holds"] is True
    assert held["recipes"]
    assert {"name", "holds", "runs", "worst", "allowed", "failures"} <= set(held["rows"][0])


@pytest.mark.parametrize(
    ("command", "new", "former"),
    [
        (("batch",), "--overwrite", "--anew"),
        (("bench", "quality"), "--overwrite", "--fresh"),
        (("batch",), "--jobs", "--workers"),
    ],
    ids=str,
)
def test_one_spelling_is_shown_and_the_former_one_works(command, new, former):
    told = vtc_command(*command, "--help").stdout
    assert new in told
    assert former not in told
    found = typer.main.get_command(app)
    for name in command:
        found = found.commands[name]
    assert former in {option for parameter in found.params for option in parameter.opts}


def test_the_shell_can_complete():
    assert "--install-completion" in vtc_command("--help").stdout


def test_recipes_says_which_to_take_for_what():
    result = vtc_command("recipes")
    assert [name for name in ESSENTIAL if row(result, name)] == list(ESSENTIAL)
    assert f"vtc recipes --all` lists all {len(RECIPES)}" in " ".join(result.stdout.split())
    assert "globalcom2-released" not in result.stdout
    for name, use in ESSENTIAL.items():
        assert use.split()[0] in row(result, name)[0]


@pytest.mark.parametrize(("options", "names"), [((), list(ESSENTIAL)), (("--all",), list(RECIPES))], ids=str)
def test_recipes_as_json(options, names):
    found = json.loads(vtc_command("recipes", "--json", *options).stdout)
    assert [one["name"] for one in found] == names
    (kcenter,) = (one for one in found if one["name"] == "kcenter")
    assert kcenter["aliases"] == ["divprune"]
    assert kcenter["papers"] == ["DivPrune, 2503.02175"]
    assert kcenter["stages"] == ["select/kcenter"]
    assert kcenter["exact"]


def test_recipes_lists_all():
    result = vtc_command("recipes", "--all")
    for named in named_recipes():
        kind, count, cost = row(result, named.name)[:3]
        assert count == ("adaptive" if any(stage.adaptive for stage in named.stages) else "exact")
        assert kind == ("video" if named.is_video_recipe else "layers" if named.decoder else "any")
        assert cost
        told = " ".join(block(result, named.name))
        assert told.endswith(", ".join(named.labels))
        assert "looks at: " in told
        assert all(stage.paper in told for stage in named.stages)
    assert "2503.02175" in " ".join(block(result, "kcenter"))
    assert row(result, "decompose")[0].startswith("2 + sub-questions")


def test_demo_leaves_its_table_and_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = vtc_command("demo")
    assert result.exit_code == 0
    assert result.error == (
        "note: tiny-llava answers: small-llava is not here, and nothing is to be fetched note: timing single requests "
        "and batches, with all tokens and with fewer, in turns ..."
    )
    made = {path.name for path in (tmp_path / "vtc-demo").iterdir()}
    assert made == {"table.md", "cat.png", "coffee.png", *(s.file for s in samples())}
    table = (tmp_path / "vtc-demo" / "table.md").read_text(encoding="utf-8").splitlines()
    answers = table[: 2 + len(samples())]
    assert all(line.count("|") == 7 for line in answers)
    assert "196 → 49" in table[2]
    summary, saved = table[len(answers) + 1], table[len(answers) + 3 :]
    assert saved[0] == "| on this machine | all tokens | fewer | times |"
    assert "| visual tokens of an image | 196 | 49 | 4.0 x fewer |" in saved
    assert sum("time" in line for line in saved[2:8]) == 3
    for column, found in zip((4, 5), re.findall(r"(\d+) of 11", summary), strict=True):
        cells = [line.split("|")[column].strip() for line in answers[2:]]
        assert int(found) == sum(cell == f"{s.answer} ✓" for cell, s in zip(cells, samples(), strict=True)) > 0
    assert summary in result.text
    assert "4.0 x fewer" in result.text


def test_marks_of_the_demo():
    right = demo.DemoRow("a.png", "how many?", "2", "2", "3", 196, 49)
    assert right.cells() == ("a.png", "how many?", "2", "2 ✓", "3 ✗", "196 → 49")
    outcome = demo.DemoOutcome("tiny-llava", recipe(), (right,), (), 1.0)
    assert outcome.summary == "tiny-llava, kcenter: 1 of 1 right with all tokens, 0 of 1 with keep 0.25"
    assert demo.markdown(outcome).splitlines()[2] == "| a.png | how many? | 2 | 2 ✓ | 3 ✗ | 196 → 49 |"


def test_demo_prints_where_the_terminal_has_no_such_letters(tmp_path, monkeypatch):
    wrong = demo.DemoRow("a.png", "how many?", "2", "2", "3", 196, 49)
    outcome = demo.DemoOutcome("tiny-llava", recipe(), (wrong,), (), 1.0)
    monkeypatch.setattr(demo, "run", lambda out, model, on_answers: on_answers(outcome) or outcome)
    result = CliRunner(charset="ascii").invoke(app, ["demo", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0
    assert "196 -> 49" in result.stdout
    assert "2 +" in result.stdout
    assert result.stdout.isascii()


def test_demo_refuses_a_file_as_its_directory(tmp_path):
    (tmp_path / "x").touch()
    result = vtc_command("demo", "--out", tmp_path / "x")
    assert (result.exit_code, "x" in result.error) == (1, True)


def test_the_script_in_demos_runs(capsys):
    runpy.run_path(str(ROOT / "demos" / "wrap_a_model.py"))
    assert "49 of 196 visual tokens" in capsys.readouterr().out


def test_the_photographs_are_small_and_have_a_licence():
    readme = (PHOTOGRAPHS / "README.md").read_text()
    for path in PHOTOGRAPHS.glob("*.jpg"):
        assert path.stat().st_size < 60_000
        assert max(Image.open(path).size) <= 512
        assert f"`{path.name}`" in readme
    assert json.loads((embedded.path("tiny-llava") / "config.json").read_text())["model_type"] == "llava"
