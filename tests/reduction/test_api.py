"""The public calls: what they take for a recipe, the typed handle, and what a report shows of itself."""

from __future__ import annotations

import json
import threading
import warnings

import pytest
import torch

from tests.families import FAMILIES
from tests.reduction.test_generate import ROWS, answer
from vtc import Handle, Recipe, handle, recipe, reduce_tokens, reduced, restore
from vtc.core.tokens import Layout, Reduction
from vtc.reduction.report import ItemReport, Report
from vtc.stages import KCenter, Mean

LLAVA = FAMILIES[0]


@pytest.mark.parametrize(
    ("spec", "same"),
    [
        (KCenter(), "kcenter"),
        ([KCenter(), Mean()], "kcenter-mean"),
        ((KCenter(), Mean()), "kcenter-mean"),
        ("DivPrune", "kcenter"),
    ],
    ids=str,
)
def test_stages_and_papers_reduce_as_the_recipe_does(spec, same):
    model, inputs = LLAVA.build(), LLAVA.inputs(ROWS)
    want = answer(reduce_tokens(model, same, keep=0.25), inputs)
    assert torch.equal(answer(reduce_tokens(model, spec, keep=0.25), inputs), want)
    restore(model)
    with reduced(model, spec, keep=0.25):
        assert torch.equal(answer(model, inputs), want)


def test_a_recipe_folder_reduces(tmp_path):
    recipe("kcenter-mean", keep=0.5).save_pretrained(tmp_path)
    model = reduce_tokens(LLAVA.build(), str(tmp_path))
    assert handle(model).recipe == recipe("kcenter-mean", keep=0.5)


def test_the_handle_is_that_of_the_model():
    model = reduce_tokens(LLAVA.build(), "kcenter")
    found: Handle = handle(model)
    assert found is model.vtc
    assert not {name for name in ("attach", "detach", "check", "generate", "changing") if hasattr(found, name)}
    restore(model)
    with pytest.raises(ValueError, match="model=LlavaForConditionalGeneration is not wrapped"):
        handle(model)
    with pytest.raises(TypeError, match="model=3 is a int"):
        handle(3)


def test_a_small_int_warns_where_the_caller_stands():
    model = LLAVA.build()
    with pytest.warns(UserWarning, match=r"keep=1 is an int.*keep=1\.0") as caught:
        reduce_tokens(model, keep=1)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="keep=2") as caught, reduced(model, keep=2):
        pass
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer(reduce_tokens(model, Recipe((KCenter(),), keep=8)), LLAVA.inputs(ROWS))


def test_the_report_of_a_thread_is_read_where_none_was_made():
    """`generate` in a thread of its own and its streamer read here, as transformers shows it."""
    model, inputs = reduce_tokens(LLAVA.build(), "kcenter"), LLAVA.inputs(ROWS)
    worker = threading.Thread(target=lambda: answer(model, inputs))
    worker.start()
    worker.join()
    assert len(model.vtc.report.items) == len(LLAVA.inputs(ROWS)["pixel_values"])
    answer(model, LLAVA.inputs(ROWS[:1]))
    own = model.vtc.report
    worker = threading.Thread(target=lambda: answer(model, inputs))
    worker.start()
    worker.join()
    assert model.vtc.report is own
    with pytest.raises(LookupError, match="since it was wrapped"):
        _ = reduce_tokens(model, "stride").vtc.report


def test_a_report_shows_itself_in_a_few_lines():
    model = reduce_tokens(LLAVA.build(), "kcenter")
    answer(model, LLAVA.inputs(ROWS))
    report = model.vtc.report
    assert repr(report) == str(report)
    assert len(repr(report)) < 800
    assert "tensor" not in repr(report.items)
    page = report._repr_html_()
    assert page.count("<tr>") == 1 + len(report.items)
    assert f"<td>{report.items[0].after}</td>" in page
    assert "prefill FLOPs" in page


def test_a_report_is_json():
    model = reduce_tokens(LLAVA.build(), "fastv")
    answer(model, LLAVA.inputs(ROWS))
    report = model.vtc.report
    found = json.loads(json.dumps(report.to_dict()))
    assert found["before"] == report.before
    assert found["after"] == report.after == sum(item["after"] + item["structural"] for item in found["items"])
    assert found["decoder"]["layers"] == list(report.decoder.layers)
    assert "cells" not in found["items"][0]["units"][0]
    units = json.loads(json.dumps(report.to_dict(cells=True)))["items"][0]["units"]
    assert [len(unit["cells"]) for unit in units] == [unit.after for unit in report.items[0].units]


def video(frames: int) -> Layout:
    one = Layout.of_grid(2, 3)
    return Layout(
        unit=torch.arange(frames).repeat_interleave(6),
        cell=one.cell.repeat(frames, 1),
        structural=torch.zeros(6 * frames, dtype=torch.bool),
        grids=one.grids * frames,
        kinds=("frame",) * frames,
    )


def test_frames_of_a_long_video_are_folded_and_those_of_a_short_one_are_not():
    anchor = torch.cat([torch.arange(12), torch.tensor([12, 18])])
    long = ItemReport.of("video", 0, video(64), Reduction.pruning(anchor, 6 * 64))
    assert "64 frames 1x2x3: 14 of 384, 0 to 6 each" in str(Report("mine", (long,)))
    short = ItemReport.of("video", 0, video(3), Reduction.pruning(torch.arange(7), 18))
    assert "frame 1x2x3: 6 of 6, frame 1x2x3: 1 of 6, frame 1x2x3: 0 of 6" in str(Report("mine", (short,)))


def test_a_name_in_a_report_is_no_markup():
    assert "<b>" not in Report("<b>bold</b>", ())._repr_html_()
