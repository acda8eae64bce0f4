"""`vtc check --engine vllm` on an embedded model, from the command line."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from vtc.cli.main import app


def test_the_routes_agree_and_a_recipe_that_one_refuses_is_said():
    options = ["--model", "tiny-llava", "--dtype", "float32", "--recipe", "kcenter", "--recipe", "cls", "--json"]
    done = CliRunner().invoke(app, ["check", "--engine", "vllm", *options])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [(row["recipe"], row["holds"], row["same_kept"]) for row in found["rows"]] == [
        ("kcenter", True, 6),
        ("cls", True, 6),
    ]
    assert (found["positions"], found["rows"][0]["before"], found["rows"][0]["after"]) == ("compact", 196, 49)
