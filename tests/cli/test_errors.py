"""The command line shows no traceback: whatever is passed, whatever goes wrong, and by `--debug` alone."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from tests.video.batch.videos import rows, save
from tests.video.videos import write
from vtc.cli import console
from vtc.cli import main as cli
from vtc.cli.main import app

VIDEO = np.arange(12, dtype=np.uint8)[:, None, None, None] * np.full((12, 96, 96, 3), 20, np.uint8)
DEEP = "[" * 100_000
DIGITS = "9" * 5000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("given")
    write(made / "0.mp4", VIDEO, fps=2)
    Image.new("RGB", (96, 96), "red").save(made / "p.png")
    save(made / "q.jsonl", rows(1, 1))
    for name, text in (("deep", DEEP), ("digits", f'{{"id": {DIGITS}}}\n'), ("empty", ""), ("bytes", "\x00\xff")):
        (made / f"{name}.json").write_text(text, encoding="latin-1")
        (made / f"{name}.jsonl").write_text(text + "\n", encoding="latin-1")
    (made / "folder.json").mkdir()
    return made


def said(*arguments, code=1):
    """The one line on stderr that a command ends with."""
    done = CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "200"})
    assert done.exit_code == code, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert "Traceback" not in done.output
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


NUMBERS = [("--fps", "0"), ("--fps", "nan"), ("--fps", "inf"), ("--fps", "-1"), ("--fps", DIGITS), ("--look", "-inf")]
NUMBERS += [("--start", "1e30"), ("--start", "nan"), ("--end", "-1"), ("--slack", "nan"), ("--frames", "0")]


@pytest.mark.parametrize(("option", "value"), NUMBERS)
def test_numbers_that_are_none_are_named(folder, option, value):
    assert option[2:] in said("ask", folder / "0.mp4", "what?", f"{option}={value}")


@pytest.mark.parametrize("option", ["--fps=1e9", "--fps=1e300", "--frames=99999999999999999999999", "--look=1e30"])
def test_numbers_beyond_what_there_is_take_all_that_there_is(folder, option):
    done = CliRunner().invoke(app, ["ask", str(folder / "0.mp4"), "what?", option, "--max-new-tokens=1"])
    assert done.exit_code == 0, done.output
    assert "read: 12 of 12 frames" in done.stdout


@pytest.mark.parametrize("option", ["--recipes=", "--models= ", "--skills=,"])
def test_a_list_that_names_nothing_is_not_taken_for_all(tmp_path, option):
    done = CliRunner().invoke(app, ["bench", "quality", "--n=1", "--out", str(tmp_path / "bench"), option])
    assert done.exit_code == 2
    assert option.partition("=")[0] in done.stderr
    assert "names nothing" in done.stderr
    assert not (tmp_path / "bench").exists()


@pytest.mark.parametrize("name", ["deep", "digits", "empty", "bytes", "folder", "none"])
def test_a_recipe_file_that_is_none_is_named(folder, name):
    line = said("ask", folder / "p.png", "what?", "--recipe", folder / f"{name}.json")
    assert f"{name}.json" in line.replace("'", "")
    assert "Errno" not in line
    assert len(line) < 2100


@pytest.mark.parametrize("name", ["deep", "digits", "bytes"])
@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("batch", "{}", "--out", "out.jsonl"), 2),
        (("batch", "q.jsonl", "--out", "{}"), 2),
        (("merge", "{}", "--out", "out.jsonl"), 1),
        (("report", "{}", "--out", "out.html"), 1),
        (("bench", "quality", "--out", "bench", "--data", "{}"), 1),
    ],
)
def test_a_file_of_lines_that_is_none_is_named_with_its_line(folder, monkeypatch, name, command, code):
    monkeypatch.chdir(folder)
    line = said(*(part.format(f"{name}.jsonl") for part in command), code=code)
    assert f"{name}.jsonl, line 1 " in line


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ValueError("keep=2; pass less"), 1, "error: keep=2; pass less"),
        (MemoryError(), 1, "error: memory does not suffice: take fewer frames"),
        (MemoryError("8 frames take 1 GiB"), 1, "error: memory does not suffice: 8 frames take 1 GiB"),
        (torch.OutOfMemoryError("CUDA out of memory"), 1, "error: memory does not suffice: CUDA out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "error: memory does not suffice"),
        (OverflowError("too large"), 1, "error: too large"),
        (RecursionError("maximum"), 1, "error: what was passed is nested too deeply to be read"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), 1, "error: 'utf-8' codec"),
        (ImportError("needs gradio"), 1, "error: needs gradio"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.json"), 1, "error: a.json: no such file"),
        (OSError(errno.EXDEV, "Invalid link", "a", None, "b"), 1, "error: a -> b: invalid link"),
        (TimeoutError(), 1, "error: TimeoutError"),
        (ValueError("x" * 9999), 1, "error: xxx"),
        (KeyboardInterrupt(), 130, "error: interrupted"),
        (
            RuntimeError("shape\nmismatch"),
            70,
            "error: internal: RuntimeError: shape mismatch; run with --debug for the",
        ),
        (KeyError("a"), 70, "error: internal: KeyError: 'a'; run with --debug"),
        (ZeroDivisionError("by zero"), 70, "error: internal: ZeroDivisionError: by zero"),
        (StopIteration(), 70, "error: internal: StopIteration"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_ends_a_command_is_one_line_and_an_exit_code(monkeypatch, error, code, words):
    def fail(*given):
        raise error

    monkeypatch.setattr("vtc.cli.ask_show.ask", fail)
    monkeypatch.setattr("vtc.cli.batch._engine", fail)
    line = said("ask", "a.png", "what?", code=code)
    assert line.startswith(words)
    assert len(line) < 2100
    if isinstance(error, KeyboardInterrupt):
        return
    refused = code == 1 and (isinstance(error, RecursionError) or not isinstance(error, RuntimeError))
    said("batch", "q.jsonl", "--out", "a.jsonl", code=2 if refused else code)
    for command in (["ask", "a.png", "what?"], ["batch", "q.jsonl", "--out", "a.jsonl"]):
        with pytest.raises(type(error)):
            CliRunner().invoke(app, ["--debug", *command], standalone_mode=False, catch_exceptions=False)


@pytest.mark.parametrize("arguments", [["recipes"], ["probe", "--json", "no.mp4"], ["--help"]])
def test_a_reader_that_has_left_is_no_error(arguments):
    command = [sys.executable, "-c", "from vtc.cli.main import main; main()", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.wait() == 1
        assert process.stderr.read() == ""


def test_internal_faults_show_their_traceback_with_debug_alone(tmp_path):
    code = "import sys, vtc.cli.ask_show as m\nm.ask = lambda *given: 1 / 0\nfrom vtc.cli.main import main\nmain()"
    for options, count in (([], 0), (["--debug"], 1)):
        command = [sys.executable, "-c", code, "ask", "a.png", "what?", *options]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})
        assert done.stderr.count("Traceback") == count
        assert done.returncode == (1 if count else console.INTERNAL)
    assert cli.main
