"""Architectures at their real size: as many parameters as the published checkpoints, cut where memory is short."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForImageTextToText

from vtc import reduced
from vtc.bench.architectures import ARCHITECTURES, architecture, build
from vtc.recipes.named import recipe


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_has_the_parameters_of_the_published_checkpoint(name):
    one = architecture(name)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(one.config())
    parameters = sum({id(p): p.numel() for p in model.parameters()}.values())
    assert parameters == pytest.approx(one.parameters, rel=0.01)


def test_an_unknown_one_names_the_nearest():
    with pytest.raises(ValueError, match=r"did you mean 'qwen3-vl-4b'.*known: llava-1\.5-7b"):
        architecture("qwen3-vl-4")


def test_a_model_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="not even 1 of its 28 layers fit"):
        build("internvl3-2b", memory=1e9)


@pytest.mark.parametrize(("layers", "said"), [(0, "pass 4 to 32"), (3, "pass 4 to 32"), (33, "--layers 33")])
def test_layers_that_are_not_there_or_too_few_for_a_cache_are_refused(layers, said):
    with pytest.raises(ValueError, match=said):
        build("qwen3.5-4b", layers=layers)


@pytest.mark.slow
def test_what_memory_does_not_hold_is_left_out():
    _, remark = build("internvl3-2b", memory=2.2e9)
    assert "of its 28 language-model layers, since memory holds no more" in remark


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_what_fits_takes_its_requests_reduced(name):
    model, remark = build(name, layers=4)
    given = architecture(name).requests(model, 2, 1)
    assert "4 of its" in remark
    with reduced(model, recipe("kcenter", keep=0.1)):
        assert model(**given, logits_to_keep=1).logits.isfinite().all()
        assert model.vtc.report.after < 0.2 * model.vtc.report.before
