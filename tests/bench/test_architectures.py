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
    layers = 6 if name == "gemma4-e4b" else 4  # of whose first five none is full
    model, remark = build(name, layers=layers)
    given = architecture(name).requests(model, 2, 1)
    assert f"{layers} of its" in remark
    with reduced(model, recipe("kcenter", keep=0.1)):
        assert model(**given, logits_to_keep=1).logits.isfinite().all()
        assert model.vtc.report.after < 0.2 * model.vtc.report.before


class Shape:
    """What requests read of a model."""

    device, dtype = torch.device("cpu"), torch.bfloat16

    def __init__(self, name):
        self.config = architecture(name).config()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_images_of_a_batch_differ_where_the_model_takes_several_sizes(name):
    shape = Shape(name)
    given = architecture(name).requests(shape, 4, 1)
    counts = (given["input_ids"] == shape.config.image_token_id).sum(1)
    lengths = given["attention_mask"].sum(1)
    assert (lengths - counts == (lengths - counts)[0]).all()
    assert counts.max() == counts[0]
    assert (counts.unique().numel() > 1) == (name != "llava-1.5-7b")
    assert given["attention_mask"][:, -1].all()  # padding stands on the left
    assert given["pixel_values"].dtype == torch.bfloat16
    if "image_grid_thw" in given:
        assert given["image_grid_thw"].prod(1).sum() == len(given["pixel_values"])
        assert (given["image_grid_thw"].prod(1) // 4).tolist() == counts.tolist()


def test_several_images_of_a_prompt():
    shape = Shape("internvl3-2b")
    given = architecture("internvl3-2b").requests(shape, 2, 2)
    assert (given["input_ids"] == shape.config.image_token_id).sum(1).tolist() == [256 * 8, 256 * 5]


def test_tokens_of_the_largest_image():
    shape = Shape("qwen3-vl-4b")
    given = architecture("qwen3-vl-4b").requests(shape, 1, 1, 256)
    assert (given["input_ids"] == shape.config.image_token_id).sum() == 256
    with pytest.raises(ValueError, match="--image-tokens 256: this architecture has sizes of its own"):
        architecture("internvl3-2b").requests(Shape("internvl3-2b"), 1, 1, 256)
