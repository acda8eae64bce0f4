"""`vtc check`: what holds of good models passes, what cannot be done is said."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict

import pytest
import torch
from transformers import BertConfig, BertModel, Qwen3VLProcessor, Qwen3VLVideoProcessor

from tests.adapters.test_processors import qwen_processor
from tests.check_models import (
    FEW,
    NAMES,
    SHOWN,
    TEMPLATE,
    cases,
    checked,
)
from tests.cli.test_main import vtc_command
from tests.families import FAMILIES, LLAVA
from tests.families.qwen import qwen3vl, qwen25vl
from tests.families.qwen35 import qwen35
from vtc import embedded
from vtc.check.capture import few_threads
from vtc.check.context import CheckContext, CheckPrompt
from vtc.check.prompts import makers
from vtc.check.runner import (
    CHECKS,
    check,
    possible,
    recipes,
    runnable,
)
from vtc.check.tolerance import CheckResult, drift
from vtc.inference.loading import load

RARE = ("marks by token are the kept ones'", "what the stock model refuses is refused")
"""Invariants of models with further inputs by token, or that refuse a prompt without its token types."""

# What is right passes


@pytest.mark.parametrize(
    "family",
    [pytest.param(family, marks=pytest.mark.nightly if i > 1 else ()) for i, family in enumerate(SHOWN)],
    ids=lambda family: family.name,
)
def test_all_holds_of_small_models(family):
    model = family.build()
    able, _ = runnable(model, recipes())
    result = checked(model, able, family)
    assert [row.failures for row in result.rows if row.holds is False] == []
    assert result.holds
    assert {row.name for row in result.rows if row.holds is None} <= set(RARE)
    assert "vtc" not in model.__dict__
    assert {"kcenter", "kcenter-mean", "stride"} <= set(result.recipes)
    assert family.layers != "full" or {"layerwise", "kcenter+feather"} <= set(result.recipes)


def test_the_command_on_the_embedded_model():
    result = vtc_command("check", "--model", "tiny-llava", "--max-new-tokens", "3")
    assert result.exit_code == 0, result.stdout
    held = len(CHECKS) - len(RARE)
    assert f"{held} of {held} hold; not possible here: {', '.join(RARE)}" in result.text
    assert "LlavaForConditionalGeneration, adapter Llava, float32 on cpu; transformers" in result.text
    assert "prompts: one image, two images, batch" in result.text
    assert "left out, since this model cannot run them: globalcom2" in result.text
    for name in NAMES:
        line = next(line for line in result.stdout.splitlines() if line.strip().startswith(name))
        assert line.split()[-1] == ("possible" if name in RARE else "yes")
    assert result.stderr == ""


@pytest.mark.parametrize(("dtype", "name"), [("bfloat16", "kcenter-mean"), ("float16", "kcenter+feather")])
def test_half_precision_is_judged_beside_the_stock_model(dtype, name):
    model, processor = load("tiny-llava", device="cpu", dtype=dtype)
    found, _ = possible(model, makers(model, processor))
    result = check(CheckContext(model, found, recipes([name], positions="original"), 3))
    assert result.holds, result.summary
    batch = result.rows[NAMES.index("a batch equals its singles")].worst
    assert batch.stock > 0
    assert batch.allowed >= 4 * batch.stock
    assert batch.worst <= batch.allowed


def saved(model, processor, place) -> str:
    """A directory that holds both."""
    model.save_pretrained(place)
    processor.chat_template = TEMPLATE
    processor.save_pretrained(place)
    return str(place)


def processors():
    processor = qwen_processor()
    size = dict(processor.video_processor.size)
    video = Qwen3VLVideoProcessor(patch_size=4, merge_size=2, temporal_patch_size=2, size=size)
    newer = Qwen3VLProcessor(processor.image_processor, processor.tokenizer, video)
    return {"qwen25vl": (qwen25vl, processor), "qwen3vl": (qwen3vl, newer), "qwen35": (qwen35, newer)}


@pytest.mark.parametrize("name", ["qwen25vl", "qwen3vl", "qwen35"])
def test_a_directory_with_videos(tmp_path, name):
    build, processor = processors()[name]
    result = vtc_command("check", "--model", saved(build(), processor, tmp_path), *FEW)
    assert result.exit_code == 0, result.stdout
    # transformers reads a checkpoint of Qwen3.5 with its own tokenizer, which knows no word of this one.
    batch = "batch without a row of text only" if name == "qwen35" else "batch"
    assert f"prompts: one image, two images, {batch}, video" in result.text
    # Qwen3-VL and Qwen3.5 refuse a prompt without its token types, Qwen2.5-VL does not.
    blind = RARE if name == "qwen25vl" else RARE[:1]
    held = len(CHECKS) - len(blind)
    assert f"{held} of {held} hold; not possible here: {', '.join(blind)}" in result.text


def test_results_are_plain_data():
    result = checked(LLAVA.build(), recipes(["stride"], positions="original"))
    assert json.loads(json.dumps(asdict(result)))["rows"][0]["name"] == NAMES[0]


# What cannot be done is said


def test_what_the_processor_cannot_do_is_no_pass(monkeypatch):
    def fail():
        raise TypeError("one image only")

    model = LLAVA.build()
    one = cases(LLAVA)[0]
    ways = {"one image": [lambda: one], "two images": [fail, fail], "batch": [fail, lambda: cases(LLAVA)[2]]}
    found, notes = possible(model, ways)
    assert [case.name for case in found] == ["one image", "batch"]
    assert notes == ["two images: not possible: TypeError: one image only"]
    with pytest.raises(ValueError, match=r"no prompt .*x: .*TypeError: one image only"):
        possible(model, {"x": [fail]})
    model.lm_head.weight.data.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"'one image' with NaN in torch\.float32; .*bfloat16"):
        possible(model, {"one image": [lambda: one]})


def test_a_video_that_cannot_be_built_is_named(tmp_path, monkeypatch):
    place = saved(qwen25vl(), qwen_processor(), tmp_path)
    monkeypatch.setattr("vtc.check.prompts._video", lambda *args: 1 / 0)
    result = vtc_command("check", "--model", place, *FEW)
    assert result.exit_code == 0
    assert "video: not possible: ZeroDivisionError: division by zero" in result.text


def test_an_input_stage_that_cannot_shrink_a_video_is_left_out():
    video = next(family for family in FAMILIES if family.name == "qwen25vl-video")
    context = CheckContext(
        video.build(), [CheckPrompt("video", video.inputs([[2, (5, 3, 4, 4), 3]]))], recipes(["resize"], keep=2)
    )
    with pytest.raises(ValueError, match=r"no recipe .*resize, original, video: .*keep=2 "):
        check(context)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "tiny-lava"], "did you mean 'tiny-llava'?"),
        (["--model", "./nowhere"], "no such directory"),
        (["--keep", "0"], "keep=0.0 is outside (0, 1]"),
        (["--keep", "1"], "keep=1.0 keeps every token, so that nothing is checked"),
        (["--recipe", "fastv", "--keep", "0.5"], "follows its own schedule"),
        (["--recipe", "kcentre"], "did you mean 'kcenter'"),
        (["--recipe", "globalcom2"], "use 'even' as the allocator"),
        (["--positions", "new"], "positions='new'; expected one of original, compact, both"),
        (["--dtype", "half"], "dtype='half'; expected one of"),
    ],
)
def test_bad_options_are_one_plain_line(options, message):
    result = vtc_command("check", *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.error
    assert result.stderr.count("\n") == 1


def test_models_that_cannot_be_asked_are_refused(tmp_path):
    BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1)).save_pretrained(tmp_path / "text")
    bare = shutil.copytree(embedded.path("tiny-llava"), tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    alone = shutil.copytree(bare, tmp_path / "alone")
    for name in ("processor_config.json", "tokenizer.json", "tokenizer_config.json"):
        (alone / name).unlink()
    expected = {"text": "does not take images", "bare": "LlavaProcessor has no chat template", "alone": "processor"}
    for name, message in expected.items():
        result = vtc_command("check", "--model", tmp_path / name)
        assert (result.exit_code, result.stdout) == (1, "")
        assert message in result.error
        assert result.stderr.startswith("error: ")


def test_a_wrapped_model_is_refused():
    model = LLAVA.build()
    model.vtc = None
    with pytest.raises(ValueError, match=r"model is wrapped; .*restore\(model\)"):
        CheckContext(model, [], [])


# Figures


def test_drift_is_a_share_of_the_spread_until_the_tokens_part():
    logits = torch.tensor([[0.0, 1, 2, 3, 10], [0, 1, 2, 3, 10], [0, 1, 2, 3, 10]])
    tokens = torch.tensor([4, 4, 4])
    moved = logits.clone()
    moved[0, 0] += 0.8
    assert drift((tokens, moved), (tokens, logits)) == pytest.approx(0.1)
    moved[2, 0] += 80
    assert drift((tokens, moved), (tokens, logits)) == pytest.approx(10)
    assert drift((torch.tensor([4, 3, 4]), moved), (tokens, logits)) == pytest.approx(0.1)
    barred = torch.cat([logits, torch.full((3, 1), -torch.inf)], dim=1)
    assert drift((tokens, barred), (tokens, barred)) == 0
    moved[0, 1] = torch.nan
    assert drift((tokens, moved), (tokens, logits)) == float("inf")


def test_a_finding_without_a_number_does_not_hold():
    assert CheckResult(0).holds
    assert not CheckResult(float("nan"), 1.0).holds


def test_small_models_run_on_one_thread_and_the_number_is_put_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with few_threads(LLAVA.build()):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
