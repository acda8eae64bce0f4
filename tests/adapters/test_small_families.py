"""Adapters of families without cues, beyond the sweep: where tokens stand, and what is refused."""

from __future__ import annotations

import pytest
import torch

from tests.sweep.patches import compressed, factored
from tests.sweep.table import ROWS, SWEPT, label
from vtc import reduce_tokens
from vtc.adapters import find
from vtc.check.context import CheckContext, CheckPrompt
from vtc.check.runner import check, recipes


def one(name: str, kind: str = "image"):
    return next(odd for odd in SWEPT if label(odd).removesuffix("-video") == name and odd.kind == kind)


def items(name: str, rows=ROWS, kind: str = "image"):
    odd = one(name, kind)
    return find(odd.build()).media(odd.inputs(rows))


def test_tiles_and_the_whole_image_are_units_of_one_item():
    two, three = items("UnlimitedOcr", [[2, 1, 2]]), items("Ovis2", [[2, 5, 2]])
    (layout,) = (item.layout for item in two)
    assert layout.kinds == ("tile", "tile", "thumbnail")
    assert layout.boxes[:2] == ((0.0, 0.0, 1.0, 0.5), (0.0, 0.5, 1.0, 1.0))
    assert layout.candidates == (16, 16, 16)
    # A newline behind each of 4 rows of the tiles' raster and of the image, and the separator.
    assert torch.nonzero(layout.structural).flatten().tolist() == [8, 17, 26, 35, 40, 45, 50, 55, 56]
    (layout,) = (item.layout for item in three)
    assert layout.kinds == ("thumbnail", *["tile"] * 4)
    assert layout.boxes[3] == (0.5, 0.0, 1.0, 0.5)


def test_an_image_without_tiles_is_one_unit():
    for name in ("UnlimitedOcr", "DeepseekOcr2", "Step3p7", "Ovis2"):
        even = 2 if name != "Ovis2" else 3
        (item,) = items(name, [[2, even, 2]])
        assert item.layout.kinds == ("image",), name


def test_rows_of_an_image_end_in_newlines_that_always_go_on():
    odd = one("Emu3")
    model = reduce_tokens(odd.build(), "kcenter", keep=1)
    with torch.no_grad():
        model(**odd.inputs([[2, 1, 3]]))
    (item,) = model.vtc.report.items
    assert item.layout.grids == ((1, 2, 4),)
    assert (item.after, item.structural) == (1, 2)
    assert {4, 9} <= set(item.reduction.anchor.tolist())


def test_lines_of_patches_are_rows():
    (item,) = items("Fuyu", [[2, 1, 3]])
    assert item.layout.grids == ((1, 2, 6),)


def test_a_video_that_its_processor_thinned():
    """The tokens that the mask has left are the item's, and the rest of the check holds as for any other."""
    model, make = one("VideoLlama3", "video").build(), factored("video", mask=True)
    two, short = (make([row]) for row in ROWS)
    batch = CheckPrompt("batch", make(ROWS), (two, short), make(ROWS[::-1]), (1, 0))
    prompts = [CheckPrompt("one", short), CheckPrompt("two", two), batch]
    result = check(CheckContext(model, prompts, recipes(["kcenter"], positions="original"), 3))
    assert [row.failures for row in result.rows if row.holds is False] == []
    full = factored("video")([ROWS[1]])
    assert compressed(full)["video_compression_mask"].sum() == sum(len(i.layout) for i in find(model).media(short))


def test_frames_of_video_llava_are_units_with_a_class_token():
    odd = one("VideoLlava", "video")
    model = reduce_tokens(odd.build(), "kcenter", keep=0.5)
    with torch.no_grad():
        model(**odd.inputs([[2, 1, 3]]))
    (item,) = model.vtc.report.items
    assert item.layout.kinds == ("frame", "frame")
    assert (item.after, item.structural) == (36, 2)
    assert {0, 37} <= set(item.reduction.anchor.tolist())


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("Fuyu", {"pixel_values": torch.zeros(1, 4, 48)}, r"pixel_values is \(1, 4, 48\); expected .* for each row"),
        ("Fuyu", {"pixel_values": torch.zeros(2, 4, 48)}, r"pixel_values holds 4 patches for a row.*12 placeholders"),
        ("Ovis2", {"pixel_values": torch.zeros(2, 3, 24, 24)}, r"pixel_values holds 2 tiles, and input_ids write \["),
        (
            "VideoLlama3",
            {"image_merge_sizes": None},
            r"image_merge_sizes=None: expected one factor for each of 3 im",
        ),
        ("MiniCPMV4_6", {"target_sizes": torch.tensor([[8, 8]])}, r"target_sizes describe 64 patches of 4 pixels, but"),
        ("MiniCPMV4_6", {"target_sizes": None}, "target_sizes is missing"),
        ("MiniCPMV4_6", {"downsample_mode": "4x"}, r"downsample_mode='4x' differs from the model's"),
        (
            "DeepseekOcr2",
            {"num_local_patches": [1, 0, 0]},
            r"num_local_patches=\[1, 0, 0\] for 3 images .* 4 tiles",
        ),
        ("UnlimitedOcr", {"patches_grid": None}, "patches_grid is missing"),
        ("UnlimitedOcr", {"patches_grid": [[1, 1]] * 3}, r"patches_grid=.* and num_local_patches=\[2, 0, 2\] differ"),
        ("GraniteDocling", {"pixel_attention_mask": None}, r"pixel_attention_mask None; expected \[rows, tiles"),
        ("VideoLlava", {"pixel_values": torch.zeros(3, 24, 24)}, "pixel_values is no tensor of 4 axes"),
    ],
)
def test_other_input_is_refused_by_name(name, change, message):
    odd = one(name)
    model = reduce_tokens(odd.build(), "kcenter", keep=0.5)
    with pytest.raises(ValueError, match=message):
        model.vtc.count(**{**odd.inputs(ROWS), **change})


def test_a_config_that_does_not_say_is_refused_when_wrapped():
    model = one("MiniCPMV4_7").build()
    model.config.image_token_id = None
    with pytest.raises(ValueError, match=r"config\.image_token_id=None of MiniCPMV4_7\w+: .*set it"):
        reduce_tokens(model)
    model = one("VideoLlava").build()
    model.config.vision_feature_select_strategy = "full"
    with pytest.raises(ValueError, match=r"vision_feature_select_strategy='full' of the config .*'default'"):
        reduce_tokens(model)
