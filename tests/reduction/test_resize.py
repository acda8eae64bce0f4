"""Resizing: the pixels that are encoded instead, and the cells that its tokens stand for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from transformers import CLIPImageProcessor, Qwen2VLImageProcessor

from tests.checks import check_close, check_same
from tests.encoders import ENCODERS
from tests.families import FAMILIES, Family
from tests.grid import fresh, generate, stock
from vtc import (
    Budget,
    Layout,
    Recipe,
    adapters,
    reduce_tokens,
)
from vtc.stages import Resize

llava, qwen = (next(f for f in FAMILIES if f.name == name) for name in ("llava", "qwen25vl"))
every_family = pytest.mark.parametrize("family", [llava, qwen], ids=lambda family: family.name)


def drawing(width: int, height: int) -> Image.Image:
    """A drawn scene with smooth shading and shapes."""
    shade = Image.linear_gradient("L").resize((width, height))
    image = Image.merge("RGB", (shade, shade.transpose(Image.Transpose.FLIP_TOP_BOTTOM), shade.point(lambda v: 99)))
    draw = ImageDraw.Draw(image)
    draw.ellipse((width // 8, height // 8, width // 2, height // 2), fill=(180, 90, 60))
    draw.rectangle((width // 2, height // 2, width * 7 // 8, height * 3 // 4), fill=(60, 120, 160))
    return image


def processed(family: Family, image: Image.Image) -> dict[str, torch.Tensor]:
    """What the stock processor makes of the image, at its own size."""
    if family is qwen:
        processor = Qwen2VLImageProcessor(patch_size=4, temporal_patch_size=2, merge_size=2, do_resize=False)
    else:
        processor = CLIPImageProcessor(do_resize=False, do_center_crop=False)
    return dict(processor(images=image, return_tensors="pt"))


def medium(family: Family, image: Image.Image) -> tuple[adapters.Adapter, adapters.Media]:
    adapter = adapters.find(stock(family))
    (item,) = adapter.media(processed(family, image))
    return adapter, item


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 2))
def test_qwen_patches_are_taken_apart_and_put_together_again(height, width, frames):
    adapter = adapters.find(stock(qwen))
    patches = torch.randn(frames * height * width * 4, 3 * 2 * 4 * 4)
    grid = torch.tensor([frames, height * 2, width * 2])
    layout = Layout.of_grid(height, width, frames=frames)
    whole = adapter._unpatch(adapters.Media("image", layout, {"pixel_values": patches, "grid_thw": grid}))
    assert whole.shape == (frames * 2, 3, height * 8, width * 8)
    check_same(adapter._patch(whole), patches, "patches")


@pytest.mark.parametrize("size", [(48, 32), (16, 40), (8, 8)], ids=str)
def test_qwen_unpatched_is_the_image_that_the_processor_was_given(size):
    adapter, item = medium(qwen, drawing(*size))
    mean, std = torch.tensor(Qwen2VLImageProcessor.image_mean), torch.tensor(Qwen2VLImageProcessor.image_std)
    got = adapter.pixels(item) * std[:, None, None] + mean[:, None, None]
    want = torch.tensor(list(drawing(*size).tobytes())).view(size[1], size[0], 3).permute(2, 0, 1) / 255
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(48, 32), (16, 40)], ids=str)
def test_qwen_patches_are_in_the_order_of_the_processor(size):
    adapter, item = medium(qwen, drawing(*size))
    frames = adapter.pixels(item)[None].repeat(2, 1, 1, 1)
    check_same(adapter._patch(frames), item.inputs["pixel_values"], "patches")


@every_family
@pytest.mark.parametrize("small", [(3, 3), (2, 4), (5, 1)], ids=str)
def test_a_resized_image_is_nearly_what_the_processor_makes_of_the_smaller_one(family, small):
    cell = 8 if family is qwen else 7
    image = drawing(6 * cell, 6 * cell)
    adapter, item = medium(family, image)
    got = adapter.resized(item, *small)
    smaller = image.resize((small[1] * cell, small[0] * cell), Image.Resampling.BICUBIC)
    want = processed(family, smaller)
    pixels = want["pixel_values"].reshape(got.inputs["pixel_values"].shape)
    difference = (got.inputs["pixel_values"] - pixels).abs()
    # PIL rounds to 8 bits (half a step is .5 / 255 / std = .007) and clips where bicubic overshoots.
    assert difference.mean() < 0.02
    assert difference.median() < 0.01
    if family is qwen:
        check_same(got.inputs["grid_thw"], want["image_grid_thw"][0], "grid")
    (tokens,) = adapter.encode([got], [])
    grid = torch.tensor([1, 2 * small[0], 2 * small[1]])
    near = ENCODERS[family.name].features(stock(family), {"pixel_values": pixels, "image_grid_thw": grid})
    assert tokens.layout.grids == ((1, *small),)
    assert torch.nn.functional.cosine_similarity(tokens.features, near).min() > 0.98


@every_family
def test_resizing_to_the_same_grid_changes_nothing(family):
    cell = 8 if family is qwen else 7
    adapter, item = medium(family, drawing(6 * cell, 6 * cell))
    same = adapter.resized(item, 6, 6)
    check_close(same.inputs["pixel_values"], item.inputs["pixel_values"], "pixels")
    assert same.layout.grids == item.layout.grids


def test_llava_interpolates_its_position_embeddings():
    """The tower is told to, and a smaller image's tokens stand at the smaller grid's places."""
    adapter, item = medium(llava, drawing(42, 42))
    small = adapter.resized(item, 3, 4)
    (tokens,) = adapter.encode([small], [])
    want = stock(llava).model.get_image_features(small.inputs["pixel_values"][None], interpolate_pos_encoding=True)
    check_close(tokens.features, want.pooler_output[0], "features")
    assert tokens.layout.cell.tolist() == [[0, y, x] for y in range(3) for x in range(4)]


@every_family
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_resizing_keeps_the_dtype_and_interpolates_in_fp32(family, dtype):
    cell = 8 if family is qwen else 7
    adapter, item = medium(family, drawing(6 * cell, 6 * cell))
    pixels = item.inputs["pixel_values"].to(dtype)
    low, high = ({**item.inputs, "pixel_values": values} for values in (pixels, pixels.float()))
    got, want = (
        adapter.resized(adapters.Media("image", item.layout, inputs), 3, 3).inputs["pixel_values"]
        for inputs in (low, high)
    )
    assert got.dtype == dtype
    check_same(got, want.to(dtype), "pixels")


@every_family
@pytest.mark.parametrize("keep", [0.05, 0.3, 0.5, 0.9, 4])
def test_each_token_is_reported_at_the_middle_of_what_it_covers(family, keep):
    rows = [[3, (1, 12, 4), 4, (2, 4, 8), 5], [2, (3, 8, 6), 6]]
    model = reduce_tokens(fresh(family), Recipe((Resize(),), keep=keep))
    generate(model, family.inputs(rows), tokens=1)
    for item in model.vtc.report.items:
        _, height, width = item.layout.grids[0]
        h, w = Resize().target(item.layout.grids[0], Budget(keep).count(height * width))
        cells = item.units[0].cells[:, 1:].tolist()
        assert cells == [[int((y + 0.5) * height / h), int((x + 0.5) * width / w)] for y in range(h) for x in range(w)]
        # Each cell of the full grid is shown by the small cell over its middle.
        for place, output in enumerate(item.reduction.assign.tolist()):
            _, y, x = item.layout.cell[place].tolist()
            assert divmod(output, w) == (int((y + 0.5) * h / height), int((x + 0.5) * w / width))


def test_an_already_small_image_stays_whole():
    model = reduce_tokens(fresh(qwen), "resize", keep=100)
    generate(model, qwen.inputs([[3, (1, 4, 4), 4]]), tokens=1)
    assert model.vtc.report.items[0].after == 4
    model = reduce_tokens(fresh(qwen), "resize", keep=1)
    generate(model, qwen.inputs([[3, (1, 12, 10), 4]]), tokens=1)
    assert model.vtc.report.items[0].after == 1
