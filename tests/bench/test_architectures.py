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
    with pytest.raises(ValueError, match="not one of its 28 layers fits"):
        build("internvl3-2b", memory=1e9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_what_fits_takes_its_requests_reduced(name):
    model, remark = build(name, memory=2.2e9)
    given = architecture(name).requests(model, 2, 1)
    assert "language-model layers, since memory holds no more" in remark
    with reduced(model, recipe("kcenter", keep=0.1)):
        assert model(**given, logits_to_keep=1).logits.isfinite().all()
        assert model.vtc.report.after < 0.2 * model.vtc.report.before
