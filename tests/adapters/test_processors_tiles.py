"""LLaVA-NeXT, LLaVA-OneVision and InternVL with their real processors: images, several of them, and videos."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import (
    GotOcr2ImageProcessor,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    PreTrainedTokenizerFast,
)

from tests.adapters.test_processors import qwen_tokenizer, stripes
from tests.checks import check_same
from tests.families import IMAGE, VIDEO
from tests.families.internvl import MOST, TOKENS, internvl
from tests.families.internvl import TILE as INTERNVL_TILE
from tests.families.llava_next import (
    PATCH,
    SIDE,
    llava_next,
    pinpoints,
)
from tests.families.llava_onevision import RATIO, llava_onevision
from tests.families.llava_onevision import SIDE as ONEVISION_SIDE
from tests.families.llava_onevision import TILE as ONEVISION_TILE
from tests.grid import generate, steps
from vtc import reduce_tokens

SLOT, CLIP = "<|image_pad|>", "<|video_pad|>"
NAMES = {"context_image_token": SLOT, "video_token": CLIP}
NAMES |= {"start_image_token": "<|vision_start|>", "end_image_token": "<|vision_end|>"}


def tokenizer(**names: str) -> PreTrainedTokenizerFast:
    found = qwen_tokenizer()
    found.add_special_tokens({"additional_special_tokens": list(NAMES.values())})
    for name, token in names.items():
        setattr(found, name, token)
        setattr(found, f"{name}_id", found.convert_tokens_to_ids(token))
    return found


def next_processor() -> LlavaNextProcessor:
    tile = PATCH * SIDE
    images = LlavaNextImageProcessor(
        size={"shortest_edge": tile}, crop_size={"height": tile, "width": tile}, image_grid_pinpoints=pinpoints(tile)
    )
    return LlavaNextProcessor(images, tokenizer(), PATCH, "default", image_token=SLOT, num_additional_image_tokens=1)


def onevision_processor() -> LlavaOnevisionProcessor:
    size = {"height": ONEVISION_TILE, "width": ONEVISION_TILE}
    return LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=pinpoints(ONEVISION_TILE)),
        tokenizer(),
        LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=ONEVISION_SIDE**2,
        vision_feature_select_strategy="full",
        image_token=SLOT,
        video_token=CLIP,
        vision_aspect_ratio=RATIO,
    )


def internvl_processor() -> InternVLProcessor:
    size = {"height": INTERNVL_TILE, "width": INTERNVL_TILE}
    return InternVLProcessor(
        GotOcr2ImageProcessor(size=size, max_patches=MOST),
        tokenizer(**NAMES),
        InternVLVideoProcessor(size=size),
        image_seq_length=TOKENS,
    )


KINDS = {
    "next": (next_processor, llava_next),
    "onevision": (onevision_processor, llava_onevision),
    "internvl": (internvl_processor, internvl),
}
every_kind = pytest.mark.parametrize("kind", KINDS)
IMAGES = [[stripes(64, 40)], [stripes(32, 96), stripes(16, 16)]]
PROMPTS = [f"w1 w2 {SLOT} w3", f"{SLOT} w4 w5 {SLOT} w6 w7 w8"]


def video(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (frames, 40, 56, 3), dtype=np.uint8)


def check_call(model, inputs) -> list[int]:
    """keep=1.0 is the stock model, bit for bit; with less, the declared counts are kept. Candidates of each item."""
    stock = generate(model, inputs)
    whole = generate(reduce_tokens(model, "kcenter", keep=1.0), inputs)
    check_same(whole.sequences, stock.sequences, "tokens")
    check_same(steps(whole), steps(stock), "logits")
    before = [item.before for item in model.vtc.report.items]
    assert model.vtc.report.before == int(torch.isin(inputs["input_ids"], torch.tensor([IMAGE, VIDEO])).sum())
    for recipe in ("kcenter", "globalcom2", "stride-mean"):
        reduce_tokens(model, recipe, keep=0.5)
        declared = model.vtc.count(**inputs)
        out = generate(model, inputs)
        length = inputs["input_ids"].shape[1]
        assert torch.equal(out.sequences[:, :length], inputs["input_ids"])
        items = model.vtc.report.items
        assert [item.after + item.structural for item in items] == declared
        assert [item.after for item in items] == [(count + 1) // 2 for count in before]
    return before


@every_kind
@pytest.mark.parametrize("nested", [True, False])
def test_images_of_unlike_sizes_in_a_batch(kind, nested):
    make, build = KINDS[kind]
    images = IMAGES if nested else [image for row in IMAGES for image in row]
    inputs = make()(images=images, text=PROMPTS, padding=True, return_tensors="pt")
    model = build()
    check_call(model, dict(inputs))
    items = model.vtc.report.items
    assert [item.row for item in items] == [0, 1, 1]
    kinds = [{unit.kind for unit in item.units} for item in items]
    tiled = {"thumbnail", "tile"}
    if kind == "internvl":
        assert kinds == [tiled, tiled, {"image"}]
    else:
        assert kinds == ([tiled, {"image"}, {"image"}] if kind == "onevision" and nested else [tiled] * 3)


def test_videos_of_onevision_beside_images():
    processor = onevision_processor()
    inputs = processor(
        images=[[stripes(64, 40)], [stripes(32, 96)]],
        videos=[video(3, 1), video(3, 2)],
        text=[f"w1 {CLIP} w2 {SLOT} w3", f"{SLOT} w4 {CLIP} w5 w6"],
        padding=True,
        return_tensors="pt",
    )
    model = llava_onevision()
    before = check_call(model, dict(inputs))
    items = model.vtc.report.items
    assert [(item.modality, item.row) for item in items] == [("image", 0), ("image", 1), ("video", 0), ("video", 1)]
    pooled = ((ONEVISION_SIDE + 1) // 2) ** 2
    assert before[2:] == [3 * pooled] * 2
    assert [unit.kind for unit in items[2].units] == ["frame"] * 3
    assert [item.structural for item in items[2:]] == [1, 1]


def test_videos_of_onevision_alone():
    inputs = onevision_processor()(videos=[video(2)], text=[f"w1 {CLIP} w2"], padding=True, return_tensors="pt")
    model = llava_onevision()
    check_call(model, dict(inputs))
    assert [item.modality for item in model.vtc.report.items] == ["video"]


def test_each_frame_of_an_internvl_video_is_an_item():
    inputs = internvl_processor()(
        images=[stripes(64, 40)],
        videos=[video(3)],
        text=[f"w1 {CLIP} w2 {SLOT} w3"],
        padding=True,
        return_tensors="pt",
    )
    model = internvl()
    before = check_call(model, dict(inputs))
    items = model.vtc.report.items
    assert before[:3] == [TOKENS] * 3
    assert [len(item.units) for item in items] == [1, 1, 1, items[3].before // TOKENS]
    assert items[3].units[-1].kind == "thumbnail"
