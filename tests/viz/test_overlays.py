from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from transformers import CLIPImageProcessor, Qwen2VLImageProcessor, SiglipImageProcessor
from transformers.models.idefics3.image_processing_idefics3 import Idefics3ImageProcessor
from transformers.models.llava.image_processing_llava import LlavaImageProcessor

import vtc
from tests.families import llava, qwen25vl
from vtc.adapters import find
from vtc.core.flops import DecoderCost
from vtc.core.tokens import Layout, Reduction
from vtc.inference.asking import prompt, report_on
from vtc.media.images import load_image
from vtc.recipes.named import recipe as find_recipe
from vtc.reduction.decoder.report import Trace
from vtc.reduction.report import ItemReport, Report
from vtc.viz.colors import KEPT, REGIONS, TINT
from vtc.viz.legend import LEAST
from vtc.viz.overlays import at_last_layer, draw, mosaic, overlay
from vtc.viz.visible_crop import coverage, view

CAT = load_image(Path(vtc.__file__).parent / "embedded" / "photographs" / "cat.jpg")
TALL = CAT.transpose(Image.Transpose.ROTATE_90)


def item(kept: list[int], height: int = 4, width: int = 6, frames: int = 1) -> ItemReport:
    layout = Layout.of_grid(height, width, frames=frames)
    return ItemReport.of("image", 0, layout, Reduction.pruning(torch.tensor(kept), len(layout)))


def merged(owner: list[list[int]], anchors: list[int]) -> ItemReport:
    assign = torch.tensor(owner)
    reduction = Reduction(torch.tensor(anchors), assign.flatten(), torch.ones(assign.numel()))
    return ItemReport.of("image", 0, Layout.of_grid(*assign.shape), reduction)


def centre(image: Image.Image, cell: int, height: int = 4, width: int = 6, *, rows: int | None = None):
    y, x = divmod(cell, width)
    tall = rows if rows is not None else image.height
    return image.getpixel((int((x + 0.5) * image.width / width), int((y + 0.5) * tall / height)))


# What the encoder sees


def squeeze(side: int = 96):
    return CLIPImageProcessor(size={"height": side, "width": side}, do_center_crop=False)


def crop(side: int = 168):
    return CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})


def pad(side: int = 168):
    size = {"height": side, "width": side}
    return LlavaImageProcessor(do_pad=True, size=size, crop_size=size)


def encoder_pixels(image: Image.Image, processor, model) -> np.ndarray:
    """`[H, W, 3]` what the adapter says that the encoder gets, as bytes would have it."""
    adapter = find(model)
    (media,) = adapter.media(processor(image, return_tensors="pt"))
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (processor.image_mean, processor.image_std))
    return ((adapter.pixels(media) * std + mean) * 255).clamp(0, 255).permute(1, 2, 0).numpy()


def distance(drawn: Image.Image, pixels: np.ndarray) -> float:
    scaled = drawn.resize(pixels.shape[1::-1], Image.Resampling.BICUBIC)
    return float(np.abs(np.asarray(scaled, dtype=float) - pixels).mean())


CASES = {
    "squeeze": (squeeze, llava),
    "crop": (crop, llava),
    "crop after no resize": (
        lambda: CLIPImageProcessor(do_resize=False, crop_size={"height": 168, "width": 210}),
        llava,
    ),
    "crop beyond the image": (
        lambda: CLIPImageProcessor(size={"shortest_edge": 168}, crop_size={"height": 210, "width": 210}),
        llava,
    ),
    "pad": (pad, llava),
    "siglip": (lambda: SiglipImageProcessor(size={"height": 168, "width": 168}), llava),
    "qwen": (lambda: Qwen2VLImageProcessor(patch_size=4, min_pixels=64, max_pixels=40_000), qwen25vl),
}


@pytest.mark.parametrize("image", [CAT, TALL, CAT.resize((90, 20)), CAT.resize((33, 300))], ids=lambda p: str(p.size))
@pytest.mark.parametrize("case", CASES)
def test_view_is_what_the_encoder_sees(case, image):
    make, build = CASES[case]
    processor = make()
    pixels = encoder_pixels(image, processor, build())
    assert distance(view(image, processor), pixels) < 3


def test_the_comparison_would_show_another_part_of_the_image():
    for processor, wrong in ((crop(), squeeze()), (squeeze(), crop()), (pad(), crop()), (crop(), pad())):
        assert distance(view(CAT, wrong), encoder_pixels(CAT, processor, llava())) > 15
    shifted = CAT.transform(CAT.size, Image.Transform.AFFINE, (1, 0, 8, 0, 1, 0))
    assert distance(view(shifted, crop()), encoder_pixels(CAT, crop(), llava())) > 6


def test_view_of_the_embedded_model():
    from transformers import AutoImageProcessor, AutoModelForImageTextToText

    from vtc import embedded

    processor = AutoImageProcessor.from_pretrained(embedded.path("tiny-llava"))
    model = AutoModelForImageTextToText.from_pretrained(embedded.path("tiny-llava"))
    assert distance(view(CAT, processor), encoder_pixels(CAT, processor, model)) < 3
    assert view(CAT, processor).size[0] / view(CAT, processor).size[1] == pytest.approx(451 / 300, rel=0.01)


@pytest.mark.parametrize("size", [(1, 1), (30, 20), (700, 500), (4000, 3000), (200, 1)])
def test_view_has_a_good_size(size):
    for processor in (squeeze(), crop(), Qwen2VLImageProcessor()):
        drawn = view(Image.new("RGB", size), processor)
        assert 448 <= max(drawn.size) <= 1024
        assert min(drawn.size) >= max(drawn.size) / 8.1


def test_coverage_says_how_much_is_seen():
    assert coverage((451, 300), crop()).share == pytest.approx(300 / 451, abs=0.01)
    assert coverage((300, 300), crop()).share == pytest.approx(1)
    assert coverage((451, 300), pad()).share == pytest.approx(1)
    assert coverage((400, 100), squeeze()).squeezed == pytest.approx(4)
    assert coverage((400, 100), squeeze()).share == coverage((400, 100), Qwen2VLImageProcessor()).share == 1
    assert coverage((400, 100), Qwen2VLImageProcessor()).squeezed == 1


def test_a_processor_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match=r"'Idefics3ImageProcessor': .*known: .*CLIP"):
        view(CAT, Idefics3ImageProcessor())
    with pytest.raises(ValueError, match=r"size=.*'longest_edge': 20.*; .*shortest_edge"):
        view(CAT, CLIPImageProcessor(size={"shortest_edge": 10, "longest_edge": 20}))


# What is drawn over it

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (480, 600, 3), dtype=np.uint8))


def test_kept_cells_are_clear_and_dropped_ones_are_not():
    kept = [0, 7, 23]
    drawn = overlay(IMAGE, item(kept), "a caption")
    for cell in range(24):
        same = centre(drawn, cell, rows=480) == centre(IMAGE, cell)
        assert same == (cell in kept)


def test_dropped_cells_have_no_colour():
    red, green, blue = centre(overlay(IMAGE, item([0])), 9, rows=480)
    assert red == green == blue


def test_another_choice_gives_another_image():
    one, other = (np.asarray(overlay(IMAGE, item(kept), "same")) for kept in ([3, 4], [3, 5]))
    assert one.shape == other.shape
    assert not np.array_equal(one, other)
    assert np.array_equal(one, np.asarray(overlay(IMAGE, item([3, 4]), "same")))


def test_kept_cells_are_outlined():
    drawn = overlay(IMAGE, item([7]))
    y, x = 1 * 120, 1 * 100
    assert drawn.getpixel((x, y + 60)) == drawn.getpixel((x + 99, y + 60)) == KEPT
    assert drawn.getpixel((x + 50, y)) == drawn.getpixel((x + 50, y + 119)) == KEPT


def test_all_kept_leaves_the_inside_of_each_cell():
    drawn = overlay(IMAGE, item(list(range(24))))
    assert all(centre(drawn, cell, rows=480) == centre(IMAGE, cell) for cell in range(24))


def test_merged_cells_take_the_colour_of_where_they_went():
    grey = Image.new("RGB", (400, 200), (128, 128, 128))
    drawn = overlay(grey, merged([[0, 0, 1, 1], [0, 0, -1, 1]], [0, 3]))
    left, right = (drawn.getpixel((x, 50)) for x in (0, 399))
    assert {left, right} <= set(REGIONS)
    assert left != right
    tints = {cell: np.array(centre(drawn, cell, 2, 4, rows=200), dtype=int) for cell in (1, 2, 4, 5, 6, 7)}
    assert (tints[1] == tints[4]).all()
    assert (tints[1] == tints[5]).all()
    assert (tints[2] == tints[7]).all()
    assert (tints[1] != tints[2]).any()
    for cell, color in ((1, left), (2, right)):
        assert np.abs(tints[cell] - tints[6] - (np.array(color) - tints[6]) * TINT).max() <= 1
    assert centre(drawn, 0, 2, 4, rows=200) == (128, 128, 128)


def test_regions_side_by_side_differ():
    generator = torch.Generator().manual_seed(3)
    anchors = torch.randperm(100, generator=generator)[:20].sort().values
    cells = Layout.of_grid(10, 10).cell
    owner = torch.cdist(cells.double(), cells[anchors].double()).argmin(dim=1)
    grey = Image.new("RGB", (500, 500), (128, 128, 128))
    drawn = np.asarray(overlay(grey, merged(owner.reshape(10, 10).tolist(), anchors.tolist())), dtype=int)
    kept = set(anchors.tolist())
    for cell in range(99):
        other = cell + 1
        if cell % 10 == 9 or {cell, other} & kept or owner[cell] == owner[other]:
            continue
        places = [(50 * (c // 10) + 25, 50 * (c % 10) + 25) for c in (cell, other)]
        assert (drawn[places[0]] != drawn[places[1]]).any()


def test_frames_and_their_limits():
    report = item([0, 30], frames=2)
    first, second = (overlay(IMAGE, report, frame=frame) for frame in (0, 1))
    assert centre(first, 0, rows=480) == centre(IMAGE, 0) != centre(second, 0, rows=480)
    assert centre(second, 6, rows=480) == centre(IMAGE, 6) != centre(first, 6, rows=480)
    with pytest.raises(ValueError, match="frame=2: unit 0 has 2 frames"):
        overlay(IMAGE, report, frame=2)
    with pytest.raises(ValueError, match="unit=1: the item has 1 units"):
        overlay(IMAGE, report, unit=1)


def test_structural_tokens_are_no_cells():
    layout = Layout.of_grid(4, 6)
    structural = torch.cat([torch.ones(1, dtype=torch.bool), layout.structural])
    cell = torch.cat([torch.full((1, 3), -1), layout.cell])
    layout = Layout(torch.zeros(25, dtype=torch.int64), cell, structural, layout.grids, layout.kinds)
    report = ItemReport.of("image", 0, layout, Reduction.pruning(torch.tensor([0, 1, 8]), 25))
    assert np.array_equal(np.asarray(overlay(IMAGE, report)), np.asarray(overlay(IMAGE, item([0, 7]))))


@pytest.mark.parametrize("size", [(1024, 128), (640, 640), (50, 40)])
def test_fine_grids_and_long_captions_are_drawn(size):
    drawn = overlay(ImageOps.fit(CAT, size), item(list(range(0, 1296, 4)), 36, 36), "a very long caption " * 10)
    assert drawn.width == max(size[0], LEAST)
    assert drawn.height > size[1]


def test_tiles_are_drawn_where_they_lie_and_the_thumbnail_beside_them():
    """Two tiles side by side, the left one wider: a kept cell of the right one stays clear, all else is dimmed."""
    boxes = ((0.0, 0.0, 1.0, 0.75), (0.0, 0.75, 1.0, 1.0))
    parts = [Layout.of_grid(2, 3, kind="tile", box=boxes[0]), Layout.of_grid(2, 2, kind="tile", box=boxes[1])]
    layout = Layout.join([*parts, Layout.of_grid(2, 2, kind="thumbnail")])
    report = ItemReport.of("image", 0, layout, Reduction.pruning(torch.tensor([7, 11]), len(layout)))
    image = IMAGE.resize((640, 480))
    drawn = mosaic(image, report, "two tiles")
    assert drawn.width == 2 * 640 + 8
    clear = lambda x, y: drawn.getpixel((x, y)) == image.getpixel((x % 648, y))  # noqa: E731
    # Token 7 is the upper right cell of the right tile, token 11 the upper right cell of the thumbnail.
    assert clear(640 - 40, 120)
    assert not clear(640 - 40, 360)
    assert not clear(240, 120)
    assert clear(648 + 480, 120)
    assert not clear(648 + 160, 120)


# What leaves inside the language model


@pytest.fixture(scope="module")
def tiny_llava():
    from vtc import embedded
    from vtc.inference.loading import load

    return load(embedded.path("tiny-llava"))


@pytest.mark.parametrize("name", ["vtw", "fastv", "llavolta"])
def test_what_the_last_layer_is_given_counts_as_kept(tiny_llava, name):
    model, processor = tiny_llava
    recipe = find_recipe(name)
    report = report_on(model, prompt(model, processor, CAT, "what is in the picture?"), recipe)
    assert report.after == report.before == report.decoder.layers[0]
    (found,), last = at_last_layer(report), max(report.decoder.kept)
    assert found.reduction.anchor.tolist() == report.decoder.kept[last][0].tolist()
    assert found.after == report.decoder.layers[-1] < report.after
    assert found.reduction.merges == (name == "llavolta")
    caption = f"{name}, keep {recipe.keep}: {report.after} of {report.before} tokens, {found.after} from layer {last}"
    seen = view(CAT, processor.image_processor)
    drawn = np.asarray(draw(CAT, processor.image_processor, report, recipe))
    assert np.array_equal(drawn, np.asarray(overlay(seen, found, caption)))
    assert not np.array_equal(drawn, np.asarray(overlay(seen, report.items[0], caption)))


def test_cuts_follow_upon_a_reduction_and_upon_each_other():
    """Pairs fold into their first; inside, one pair leaves, then the second folds with the first, or all leave."""
    layout = Layout.of_grid(1, 6)
    end = torch.tensor([True])
    cell, structural = torch.cat([layout.cell, torch.full((1, 3), -1)]), torch.cat([layout.structural, end])
    layout = Layout(torch.zeros(7, dtype=torch.int64), cell, structural, layout.grids, layout.kinds)
    before = Reduction(torch.tensor([0, 2, 4, 6]), torch.tensor([0, 0, 1, 1, 2, 2, 3]), torch.ones(7))
    fold = Reduction(torch.tensor([1]), torch.tensor([0, 0]), torch.tensor([3.0, 1.0]))
    trace = Trace(DecoderCost(1, 1, 1), 5, (9,), (0,), (3,), (1,))

    def after(*cuts: tuple[int, list[int], Reduction | None]) -> Reduction:
        trace.kept = {layer: (torch.tensor(kept, dtype=torch.int64),) for layer, kept, _ in cuts}
        trace.folds = {layer: (fold,) for layer, _, fold in cuts}
        report = Report("by hand", (ItemReport.of("image", 0, layout, before),), decoder=trace)
        return at_last_layer(report)[0].reduction

    assert after().assign.tolist() == before.assign.tolist()
    first = after((1, [0, 2], None))
    assert (first.anchor.tolist(), first.assign.tolist()) == ([0, 2, 6], [0, 0, 1, 1, -1, -1, 2])
    second = after((1, [0, 2], None), (2, [2], fold))
    assert (second.anchor.tolist(), second.assign.tolist()) == ([2, 6], [0, 0, 0, 0, -1, -1, 1])
    assert (second.weight[0] / second.weight[2]).item() == 3
    assert len(after((1, [0, 2], None), (2, [], None), (3, [], None))) == 0
