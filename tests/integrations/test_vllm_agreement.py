"""What `vtc check --engine vllm` makes of two routes, without vLLM."""

from __future__ import annotations

import importlib.util
import json

import pytest
from typer.testing import CliRunner

from vtc.cli.check import print_agreement
from vtc.cli.engine_options import json_object
from vtc.cli.main import app
from vtc.integrations.vllm.agreement import AgreementReport, RecipeAgreement, _compared, _reason, kept_of
from vtc.recipes.named import recipe

ROUTE = {"anchor": kept_of([[0, 3], [5, 9]]), "before": 16, "length": 30, "text": "red"}


def report(rows, dtype="float32"):
    return AgreementReport("m", dtype, "compact", {"vllm": "0.32.0"}, tuple(rows))


def compared(**changes):
    return _compared(recipe("kcenter"), [ROUTE, ROUTE], [ROUTE, {**ROUTE, **changes}])


def test_equal_routes_agree():
    row = compared()
    assert (row.before, row.after, row.same_lengths, row.same_kept, row.shared, row.same_answers) == (
        16,
        4,
        2,
        2,
        1.0,
        2,
    )
    assert report([row]).holds


@pytest.mark.parametrize(
    "changes",
    [{"anchor": kept_of([[0, 3], [5, 8]])}, {"anchor": kept_of([[0, 3, 5, 9]])}, {"text": "blue"}, {"length": 31}],
)
def test_in_float32_any_difference_is_one(changes):
    assert not report([compared(), compared(**changes)]).holds


def test_in_half_precision_a_near_tie_may_fall_otherwise_but_lengths_may_not():
    wide = {**ROUTE, "anchor": kept_of([range(40)])}
    other = {**wide, "anchor": kept_of([[*range(39), 55]]), "text": "blue"}
    assert report([_compared(recipe("kcenter"), [wide], [other])], "bfloat16").holds
    assert not report([compared(length=31)], "bfloat16").holds
    assert not report([compared(anchor=kept_of([[1, 2, 4, 8]]))], "bfloat16").holds


def test_a_refusal_is_a_row_with_the_reason_and_nothing_is_agreed_on_without_rows():
    row = _compared(recipe("tome"), [ROUTE], "recipe 'tome' cannot be served")
    assert row.error == "vLLM: recipe 'tome' cannot be served"
    assert not report([row]).holds
    assert not report([]).holds


def test_the_reason_is_the_last_error_that_was_printed():
    assert _reason("Traceback\nValueError: first\n[rank0]: RuntimeError: second: more\nat the end\n").endswith(
        "second: more"
    )
    assert _reason("just a line\n") == "just a line"
    assert _reason("") == "it printed nothing"


def test_the_table_says_what_agrees(capsys):
    print_agreement(report([compared(), RecipeAgreement("tome", 0.25, 0, error="vLLM: no")]))
    said = capsys.readouterr().out
    for words in ("16 -> 4", "2/2", "refused", "tome: vLLM: no", "The routes do not agree."):
        assert words in said


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_the_command_names_the_remedy():
    done = CliRunner().invoke(app, ["check", "--engine", "vllm"])
    assert done.exit_code == 1
    assert "pip install 'vtc-vlm[vllm]'" in done.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--engine", "sglang"], "engine='sglang'; expected"),
        (["--engine", "vllm", "--engine-args", "[1]"], "engine_args='[1]'"),
    ],
)
def test_bad_options_are_named(options, words):
    done = CliRunner().invoke(app, ["check", *options])
    assert done.exit_code == 1
    assert words in " ".join(done.output.split())


def test_arguments_of_an_engine_are_an_object():
    assert json_object("engine_args", None) == {}
    assert json_object("engine_args", json.dumps({"a": [1]})) == {"a": [1]}
    with pytest.raises(ValueError, match="expected a JSON object"):
        json_object("engine_args", "{")
