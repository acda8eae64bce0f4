"""LFM2-VL beyond the grid: its processor's prompts, how tiles are known, and what its states of convolutions refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import Lfm2VlImageProcessor, Lfm2VlProcessor, PreTrainedTokenizerFast

from tests.adapters.test_processors import stripes
from tests.adapters.test_qwen35 import uneven_turn
from tests.checks import check_close, check_same, footprint
from tests.families import IMAGE
from tests.families.lfm2_vl import CLOSE, FIRST, LFM2_VL, OPEN, WHOLE, WORDS, lfm2_vl
from tests.grid import generate, steps
from tests.reduction.test_edges import logits
from vtc import Recipe, adapters, named_recipes, reduce_tokens
from vtc.adapters import Lfm2VL
from vtc.reduction import wrapped_model
from vtc.stages import KCenter, Stride

SPECIAL = {
    "<image>": IMAGE,
    **{f"<|img_row_{r}_col_{c}|>": FIRST + 10 * (r - 1) + c - 1 for r in range(1, 11) for c in range(1, 11)},
    "<|img_thumbnail|>": WHOLE,
    "<|image_start|>": OPEN,
    "<|image_end|>": CLOSE,
    "<pad>": 0,
    "[UNK]": 3,
}
"""As in the vocabularies of LFM2-VL (the placeholder is 396 there) and of LFM2.5-VL (124907)."""
INSIDE = [found.name for found in named_recipes() if found.decoder]
HALF = Recipe((Stride(),), keep=0.5)


def lfm2_processor(**options: Any) -> Lfm2VlProcessor:
    """Tiles of 16 x 16 pixels, which are 2 x 2 tokens."""
    free = iter(i for i in range(WORDS) if i not in SPECIAL.values())
    words = {word: next(free) for word in ["<s>", "</s>", *(f"w{i}" for i in range(40))]}
    core = Tokenizer(models.WordLevel({**words, **SPECIAL}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="[UNK]",
        padding_side="left",
        additional_special_tokens=list(SPECIAL)[:-2],
    )
    sizes = dict(
        encoder_patch_size=4,
        tile_size=16,
        min_image_tokens=2,
        max_image_tokens=6,
        max_tiles=6,
        size={"height": 16, "width": 16},
    )
    return Lfm2VlProcessor(Lfm2VlImageProcessor(**{**sizes, **options}), tokenizer)


def large(**options: Any) -> dict[str, Tensor]:
    """A row with a large image beside a small one, and a row with two large ones that no text parts."""
    said = {"use_image_special_tokens": options.pop("marks")} if "marks" in options else {}
    made = lfm2_processor(**options)(
        images=[[stripes(64, 40), stripes(16, 16)], [stripes(20, 60), stripes(40, 40)]],
        text=["w1 w2 <image> w3 <image>", "<image><image> w4"],
        padding=True,
        return_tensors="pt",
        **said,
    )
    return dict(made)


def kinds(inputs: dict[str, Tensor]) -> list[tuple[str, ...]]:
    return [item.layout.kinds for item in adapters.find(lfm2_vl()).media(inputs)]


def test_the_class_and_those_that_inherit_from_it_have_the_adapter():
    model = lfm2_vl()
    assert type(adapters.find(model)) is Lfm2VL
    model.__class__ = type("Mine", (type(model),), {})
    assert type(adapters.find(model)) is Lfm2VL


def test_tiles_as_the_real_processor_gives_them():
    inputs, model = large(), lfm2_vl()
    want = steps(generate(model, inputs))
    reduce_tokens(model, "cls", keep=1.0)
    check_same(steps(generate(model, inputs)), want, "logits")
    reduce_tokens(model, "cls-mean", keep=0.5)
    generate(model, inputs)
    items = model.vtc.report.items
    assert [item.after for item in items] == model.vtc.count(**inputs)
    assert [item.row for item in items] == [0, 0, 1, 1]
    assert [item.layout.kinds for item in items] == [
        ("tile",) * 6 + ("thumbnail",),
        ("image",),
        ("tile",) * 3 + ("thumbnail",),
        ("tile",) * 4 + ("thumbnail",),
    ]
    assert items[0].layout.boxes[1] == (0.0, 1 / 3, 0.5, 2 / 3)  # 2 rows, 3 columns
    assert items[2].layout.boxes[1] == (1 / 3, 0.0, 2 / 3, 1.0)
    assert sum(len(item.layout.grids) for item in items) == len(inputs["pixel_values"])


def test_the_thumbnail_is_the_image_that_the_tiles_make_up():
    """By the pixels: as the layout has it the mosaic is the thumbnail, and with tiles in another order it is not."""
    item = adapters.find(lfm2_vl()).media(large())[0]

    def shown(unit: int) -> Tensor:
        height, width = item.inputs["spatial_shapes"][unit].tolist()
        patches = item.inputs["pixel_values"][unit, : height * width].view(height, width, 4, 4, 3)
        return patches.permute(4, 0, 2, 1, 3).reshape(3, 4 * height, 4 * width)

    def mosaic(order: list[int]) -> Tensor:
        canvas = torch.zeros(3, 32, 48)
        for unit in range(6):
            y, x = (round(side * edge) for side, edge in zip((32, 48), item.layout.boxes[unit][:2], strict=True))
            canvas[:, y : y + 16, x : x + 16] = shown(order[unit])
        return canvas

    whole = torch.nn.functional.interpolate(shown(6)[None], (32, 48), mode="bilinear")[0]
    right, wrong = (float((mosaic(order) - whole).abs().mean()) for order in ([0, 1, 2, 3, 4, 5], [0, 2, 4, 1, 3, 5]))
    assert right < wrong / 4


def test_without_a_thumbnail_tiles_stay_one_item():
    assert kinds(large(use_thumbnail=False)) == [("tile",) * 6, ("image",), ("tile",) * 3, ("tile",) * 4]


def test_without_marks_each_tile_is_an_item():
    inputs = large(marks=False)
    found = kinds(inputs)
    assert found == [("image",)] * len(inputs["pixel_values"])
    model = lfm2_vl()
    want = model(**inputs).logits
    check_same(reduce_tokens(model, "kcenter", keep=1.0)(**inputs).logits, want, "logits")
    assert len(reduce_tokens(model, HALF).vtc.count(**inputs)) == len(found) == 17


@pytest.mark.parametrize("change", ["another vocabulary", "a row short", "another order", "unlike tiles"])
def test_what_is_no_whole_grid_of_tiles_is_taken_one_by_one(change):
    inputs = LFM2_VL.inputs([[3, (3, 8, 6), 4]])
    assert kinds(inputs) == [("tile",) * 4 + ("thumbnail",)]
    ids, marks = inputs["input_ids"], [FIRST, FIRST + 1, FIRST + 10, FIRST + 11]
    if change == "another vocabulary":
        ids[(ids >= FIRST) & (ids <= WHOLE)] = 5
    elif change == "a row short":
        ids[ids == marks[3]] = FIRST + 20
    elif change == "another order":
        ids[ids == marks[1]], ids[ids == marks[2]] = marks[2], marks[1]
    else:
        ids[ids == marks[3]], ids[ids == WHOLE] = WHOLE, marks[3]
    assert kinds(inputs) == [("image",)] * 5


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("spatial_shapes", lambda v: None, r"spatial_shapes is missing; pass all"),
        ("pixel_attention_mask", lambda v: None, r"pixel_attention_mask is missing; pass all"),
        ("pixel_values", lambda v: v[0], r"pixel_values is \(44, 48\); expected a tensor of 3 axes.*Lfm2VlFor"),
        ("spatial_shapes", lambda v: v[:1], r"pixel_values holds \(2, 44\) patches, spatial_shapes is \[\[6, 6\]\]"),
        ("spatial_shapes", lambda v: v + 2, r"spatial_shapes is \[\[8, 8\], .*shows \[36, 16\].*one processor call"),
        ("spatial_shapes", lambda v: v * 0, r"at least 2, and as many patches shown"),
        ("input_ids", lambda v: v[:, :-3], r"input_ids hold \[11\] placeholders .*\[9, 4\] tokens"),
    ],
)
def test_what_does_not_fit_is_refused(name, change, message):
    inputs = LFM2_VL.inputs([[3, (4, 6, 6), 2, (1, 4, 4), 0]])
    assert [len(item.layout) for item in adapters.find(lfm2_vl()).media(inputs)] == [9, 4]
    given = {**inputs, name: change(inputs[name])}
    if name == "input_ids":
        given["attention_mask"] = torch.ones_like(given["input_ids"])
    with pytest.raises(ValueError, match=message):
        reduce_tokens(lfm2_vl(), HALF)(**given)


def test_prompts_without_ids_are_refused():
    pixels = {k: v for k, v in LFM2_VL.inputs([[3, (4, 6, 6), 2]]).items() if k not in ("input_ids", "attention_mask")}
    with pytest.raises(ValueError, match="input_ids"):
        reduce_tokens(lfm2_vl(), HALF).vtc.count(**pixels)


def test_images_as_frames_lose_frames_by_their_pixels():
    same = stripes(16, 16)
    inputs = dict(
        lfm2_processor()(
            images=[[same, same, same, stripes(16, 16).rotate(90)]],
            text=["w1 <image> w2 <image> w3 <image> w4 <image>"],
            return_tensors="pt",
        )
    )
    model = reduce_tokens(lfm2_vl(), "keyframes", keep=0.5, images_as="frames")
    model(**inputs)
    (item,) = model.vtc.report.items
    left = {int(item.layout.unit[k]) for k in item.reduction.anchor.tolist()}
    assert len(left) == 2
    assert 3 in left


@pytest.mark.parametrize("name", INSIDE)
def test_stages_inside_the_language_model_are_refused_with_the_reason(name):
    model = lfm2_vl()
    before = footprint(model)
    with pytest.raises(
        ValueError, match=r"stages=\['decoder/.*Lfm2Model has layers of kind \['conv'\].*recurrent state"
    ):
        reduce_tokens(model, name)
    assert footprint(model) == before


def test_rows_that_go_on_by_unlike_numbers_of_tokens_are_refused_and_would_be_wrong(monkeypatch):
    model, given, fresh = uneven_turn(LFM2_VL)
    with pytest.raises(ValueError, match=r"rows \[1\] go on from the cache .*recurrent states of Lfm2.*one row at a"):
        logits(model, given)
    model, given, fresh = uneven_turn(LFM2_VL)
    monkeypatch.setattr(wrapped_model, "check_padding", lambda *_: None)
    got, want = logits(model, given), logits(model, fresh)
    check_close(got[0], want[0], "logits of the even row")
    with pytest.raises(AssertionError):
        check_close(got[1], want[1], "logits of the padded row")


def test_a_recipe_saved_and_loaded_keeps_the_same(tmp_path):
    inputs, kept = large(), []
    Recipe((KCenter(),), keep=0.4).save(tmp_path / "one.json")
    for chosen in (Recipe((KCenter(),), keep=0.4), tmp_path / "one.json"):
        model = reduce_tokens(lfm2_vl(), chosen)
        generate(model, inputs, tokens=1)
        kept.append([item.reduction.anchor.tolist() for item in model.vtc.report.items])
    assert kept[0] == kept[1]
