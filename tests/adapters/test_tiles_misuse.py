"""Tiles that do not fit: refused by name, with a remedy; and the edge cases that are no misuse."""

from __future__ import annotations

import pytest
import torch

from tests.families import FAMILIES
from tests.families.llava_next import llava_next
from tests.grid import fresh, generate
from vtc import reduce_tokens


def family(name):
    return next(f for f in FAMILIES if f.name == name)


def wrong(name: str, message: str, **changes) -> None:
    """A call with other inputs is refused, by `generate`, `forward` and `count` alike."""
    model = reduce_tokens(fresh(family(name)), "kcenter", keep=0.25)
    inputs = family(name).inputs([[3, (1, 12, 4), 4, (2, 4, 8), 5], [2, (3, 8, 6), 6]])
    inputs = {**inputs, **{key: change(inputs) for key, change in changes.items()}}
    inputs = {key: value for key, value in inputs.items() if value is not None}
    for call in (lambda: generate(model, inputs), lambda: model(**inputs), lambda: model.vtc.count(**inputs)):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("name", ["llava-next", "llava-onevision"])
def test_sizes_that_do_not_fit_the_tiles(name):
    for change, message in (
        (lambda sizes: None, "image_sizes is missing; pass all"),
        (lambda sizes: sizes[:2], "image_sizes=.* describes 2 images, but pixel_values holds 3"),
        (lambda sizes: sizes[[1, 0, 2]], r"image_sizes\[0\]=.* holds more; .*image_grid_pinpoints"),
        (lambda sizes: sizes * 0, "image_sizes=.*expected the height and width"),
        (lambda sizes: sizes[:, :1], "image_sizes=.*expected the height and width"),
    ):
        wrong(name, message, image_sizes=lambda inputs, change=change: change(inputs["image_sizes"]))
    for change, message in (
        (lambda pixels: pixels[:, :3], r"image_sizes\[0\]=.* holds fewer; .*image_grid_pinpoints"),
        (lambda pixels: pixels[0, 0], r"pixel_values is \(3,"),
        (lambda pixels: pixels[0], "pixel_values holds 7 tiles, but .*one call"),
        (lambda pixels: pixels[..., :14], r"tiles of \d+ x 14 pixels, and the vision tower takes"),
    ):
        wrong(name, message, pixel_values=lambda inputs, change=change: change(inputs["pixel_values"]))
    wrong(name, "vision_feature_layer=0 differs from the model's", vision_feature_layer=lambda inputs: 0)


def test_wrong_use_of_onevision_and_internvl():
    name = "llava-onevision"
    wrong(name, "batch_num_images=.* counts 2 images, but", batch_num_images=lambda i: torch.tensor([1, 1]))
    wrong(name, "vision_aspect_ratio='anyres_max_9' differs", vision_aspect_ratio=lambda i: "anyres_max_9")
    wrong(name, r"pixel_values_videos is \(1,", pixel_values_videos=lambda i: torch.zeros(1, 3, 21, 21))
    name = "internvl"
    wrong(name, r"pixel_values is \(3, 16, 16\)", pixel_values=lambda i: i["pixel_values"][0])
    wrong(name, r"tiles of 16 x 12 pixels; expected squares", pixel_values=lambda i: i["pixel_values"][..., :12])
    wrong(name, r"in runs of \[.*\], but pixel_values holds \d+ tiles", pixel_values=lambda i: i["pixel_values"][1:])
    wrong(name, "pass frames|as its processor returns", pixel_values_videos=lambda i: torch.zeros(1, 2, 3, 16, 16))
    model = reduce_tokens(fresh(family(name)), "kcenter")
    with pytest.raises(ValueError, match="input_ids are missing"):
        model.vtc.count(pixel_values=torch.zeros(1, 3, 16, 16))


def test_videos_for_llava_next_are_refused():
    wrong("llava-next", "LLaVA-NeXT takes no videos", pixel_values_videos=lambda i: torch.zeros(1, 2, 3, 28, 28))


def test_a_class_token_among_tiles_is_refused():
    model = llava_next()
    model.config.vision_feature_select_strategy = "full"
    with pytest.raises(ValueError, match=r"vision_feature_select_strategy='full'.*'default'"):
        reduce_tokens(model)
    inter = family("internvl").build()
    inter.config.vision_feature_select_strategy = "full"
    with pytest.raises(ValueError, match=r"vision_feature_select_strategy='full'.*'default'"):
        reduce_tokens(inter)


@pytest.mark.parametrize("name", ["llava-next", "llava-onevision", "internvl"])
def test_a_image_of_one_tile(name):
    """A thumbnail and one tile, or InternVL's single one: every recipe that looks at thumbnails runs."""
    inputs = family(name).inputs([[3, (7, 2, 2), 3]])
    for recipe in ("kcenter", "globalcom2", "tokencorr"):
        model = reduce_tokens(fresh(family(name)), recipe, keep=0.5)
        generate(model, inputs)
        (item,) = model.vtc.report.items
        assert len(item.units) == (1 if name == "internvl" else 2)
        assert item.after == (item.before + 1) // 2


@pytest.mark.parametrize("name", ["llava-next", "llava-onevision", "internvl"])
def test_pixels_of_no_image(name):
    model = reduce_tokens(fresh(family(name)), "kcenter")
    pixels = family(name).inputs([[3, (7, 2, 2), 3]])["pixel_values"][:0]
    with pytest.raises(ValueError, match=r"pixel_values is \(0, .*nothing"):
        model(**family(name).inputs([[4]]), pixel_values=pixels)


def test_all_tiles_in_one_row_are_the_stacked_ones():
    """The stock models take both; without fill-up tiles nothing is lost."""
    for name in ("llava-next", "llava-onevision"):
        inputs = family(name).inputs([[3, (1, 12, 4), 4, (2, 4, 8), 5]])
        model = reduce_tokens(fresh(family(name)), "kcenter", keep=0.25)
        want = generate(model, inputs).sequences
        kept = [item.reduction.anchor.tolist() for item in model.vtc.report.items]
        tiles = inputs["pixel_values"].flatten(0, 1)
        flat = {**inputs, "pixel_values": tiles[tiles.flatten(1).any(dim=1)]}
        assert torch.equal(generate(model, flat).sequences, want)
        assert [item.reduction.anchor.tolist() for item in model.vtc.report.items] == kept
