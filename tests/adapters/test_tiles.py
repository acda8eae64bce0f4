"""Where tile tokens stand in the image: against the stock models' packing, and against the real image processors."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import avg_pool2d
from transformers import (
    CLIPVisionConfig,
    GotOcr2ImageProcessor,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    SiglipVisionConfig,
)
from transformers.image_processing_utils import get_patch_output_size
from transformers.models.got_ocr2.image_processing_got_ocr2 import get_optimal_tiled_canvas
from transformers.models.llava_next.modeling_llava_next import get_anyres_image_grid_shape

import vtc
from tests.families import TEXT
from vtc import Layout, adapters
from vtc.adapters.internvl import arrangement, layout_of_tiles
from vtc.adapters.tiles import Tile, tiled
from vtc.embedded.scene import HELD_OUT, Scene

SMALL = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=1)
WORDS = dict(
    TEXT, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1
)
PHOTOS = sorted((Path(vtc.__file__).parent / "embedded" / "photographs").glob("*.jpg"))


def next_model():
    """LLaVA-NeXT at the sizes of its checkpoints, but thin."""
    vision = CLIPVisionConfig(**SMALL, image_size=336, patch_size=14)
    config = LlavaNextConfig(vision_config=vision, text_config=LlamaConfig(**WORDS), image_token_index=90)
    return LlavaNextForConditionalGeneration(config).eval()


def onevision_model():
    """The same of LLaVA-OneVision: 384 is no multiple of 14, and 36 arrangements have up to 36 tiles."""
    vision = SiglipVisionConfig(**SMALL, image_size=384, patch_size=14, vision_use_head=False)
    text = LlamaConfig(**WORDS)
    config = LlavaOnevisionConfig(vision_config=vision, text_config=text, image_token_index=90, video_token_index=93)
    return LlavaOnevisionForConditionalGeneration(config).eval()


MODELS = {"next": next_model, "onevision": onevision_model}
IMAGES = {
    "next": LlavaNextImageProcessor(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}),
    "onevision": LlavaOnevisionImageProcessor(),
}
every_kind = pytest.mark.parametrize("kind", MODELS)


@pytest.fixture(scope="module")
def found():
    """Each kind's model and adapter."""
    models = {kind: build() for kind, build in MODELS.items()}
    return {kind: (model, adapters.find(model)) for kind, model in models.items()}


def grid_of(model, size):
    return get_anyres_image_grid_shape(size, model.config.image_grid_pinpoints, model.config.vision_config.image_size)


def layout_of(model, adapter, size) -> Layout:
    rows, columns = grid_of(model, size)
    side = model.config.vision_config.image_size
    pixels = torch.zeros(1).expand(1, 1 + rows * columns, 3, side, side)
    (item,) = adapter.media({"pixel_values": pixels, "image_sizes": torch.tensor([size])})
    return item.layout


def pack(model, values, size, newline):
    """`[tiles, patches, C]` in the stock order."""
    options = ("default", newline) if model.config.model_type == "llava_next" else (newline,)
    return model.model.pack_image_features([values], torch.tensor([size]), *options)[0][0]


def stock_centres(model, size):
    """`[N, 2]` where each token's middle lies in the image, by the stock packing and the processor's padding."""
    vision, (rows, columns) = model.config.vision_config, grid_of(model, size)
    side = vision.image_size // vision.patch_size
    y, x = (n.flatten().double() for n in torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"))
    patches = [torch.stack([y, x, torch.zeros_like(y)], dim=1)]
    for row in range(rows):
        patches += [torch.stack([y + row * side, x + c * side, torch.ones_like(y)], dim=1) for c in range(columns)]
    packed = pack(model, torch.stack(patches), size, torch.full((3,), torch.nan).double())
    middle, of_tile = packed[:, :2] + 0.5, packed[:, 2:] > 0.5
    tile = (middle.round(decimals=6) // side) * of_tile
    pixel = tile * vision.image_size + (middle - tile * side) * vision.patch_size
    canvas = (rows * vision.image_size, columns * vision.image_size)
    fitted = get_patch_output_size(torch.empty(3, *size), canvas, "channels_first")
    left, top, *_ = LlavaNextImageProcessor()._get_padding_size(fitted, canvas)
    whole = pixel / vision.image_size
    return torch.where(of_tile, (pixel - torch.tensor([top, left])) / torch.tensor(fitted), whole)


def sizes(count: int, seed: int):
    """Image sizes of all kinds, extreme ones too."""
    draw = random.Random(seed)
    fixed = [(1, 1), (336, 336), (384, 384), (337, 336), (1, 500), (500, 1), (20, 3000), (3000, 20), (2304, 2304)]
    return fixed + [(int(10 ** draw.uniform(1, 3.4)), int(10 ** draw.uniform(1, 3.4))) for _ in range(count)]


@every_kind
def test_layouts_are_the_stock_packing_for_hundreds_of_sizes(found, kind):
    model, adapter = found[kind]
    shapes, nearly = set(), [(height - 5, width - 9) for height, width in model.config.image_grid_pinpoints]
    for size in [*sizes(300, seed=1), *nearly]:
        layout, want = layout_of(model, adapter, size), stock_centres(model, size)
        assert len(layout) == len(want)
        assert layout.structural.tolist() == want[:, 0].isnan().tolist()
        torch.testing.assert_close(layout.centres, want, rtol=0, atol=1e-6, equal_nan=True)
        assert list(layout.candidates) == [h * w for _, h, w in layout.grids]
        assert layout.kinds == ("thumbnail", *["tile"] * (len(layout.grids) - 1))
        shapes.add(grid_of(model, size))
    assert len(shapes) == len({tuple(p) for p in model.config.image_grid_pinpoints})


@every_kind
def test_counts_are_what_the_processors_write(found, kind):
    model, adapter = found[kind]
    vision = model.config.vision_config
    side = vision.image_size // vision.patch_size
    stub = SimpleNamespace(vision_aspect_ratio="anyres_max_9")
    count = {"next": LlavaNextProcessor, "onevision": LlavaOnevisionProcessor}[kind]._get_unpadded_features
    for size in sizes(300, seed=2):
        want = side**2 + sum(count(stub, *size, side, side, *grid_of(model, size)))
        assert len(layout_of(model, adapter, size)) == want


def test_a_strip_too_thin_for_a_token_leaves_its_newlines(found):
    """The stock rule cuts all columns away and keeps each row's newline; they belong to the thumbnail."""
    layout = layout_of(*found["next"], (3000, 20))
    assert layout.kinds[0] == "thumbnail"
    thin = tiled(Tile(336, 24, 14), (3000, 2), (2, 1))
    assert (thin.grids, thin.kinds) == (((1, 24, 24),), ("thumbnail",))
    assert thin.structurals == (48,)


def drawn(size: tuple[int, int], place: tuple[float, float], radius: float) -> Image.Image:
    """A dark image with a soft bright spot at `place` (down, right), as shares; the radius is one of its size."""
    y, x = ((torch.arange(n) + 0.5) / n for n in size)
    spot = torch.exp(-(((y - place[0]) / radius) ** 2)[:, None] / 2 - ((x - place[1]) / radius) ** 2 / 2)
    return Image.fromarray((20 + 220 * spot).byte().numpy()).convert("RGB")


def brightest(layout: Layout, brightness: torch.Tensor, kind: str) -> int:
    mine = torch.tensor([k == kind for k in layout.kinds])[layout.unit] & ~layout.structural
    return int(brightness.masked_fill(~mine, -torch.inf).argmax())


def token_size(layout: Layout, token: int) -> torch.Tensor:
    """Height and width of a token, as shares of the image."""
    unit = int(layout.unit[token])
    top, left, bottom, right = layout.boxes[unit]
    _, height, width = layout.grids[unit]
    return torch.tensor([(bottom - top) / height, (right - left) / width], dtype=torch.float64)


def check_spot(layout: Layout, brightness: torch.Tensor, place: tuple[float, float], rest: float = 0.0) -> None:
    """The brightest token of the thumbnail and of the tiles have the spot within half a token of their middles.

    Of a strip as wide as the share `rest` of a token, at the end of each tile, the encoder sees nothing.
    """
    half = 0.52 + rest / 2
    spots = {}
    for kind in ("thumbnail", "tile"):
        token = spots[kind] = brightest(layout, brightness, kind)
        away = (layout.centres[token] - torch.tensor(place, dtype=torch.float64)).abs()
        assert bool((away <= half * token_size(layout, token)).all()), f"{kind} token {token} is {away.tolist()} away"
    # The link: of all thumbnail cells, that over the tile token is the bright one or its neighbour.
    apart = (layout.centres[spots["tile"]] - layout.centres[spots["thumbnail"]]).abs()
    reach = sum(half * token_size(layout, token) for token in spots.values())
    assert bool((apart <= reach).all())


# Sizes, their tiles in LLaVA-NeXT, and whether padding lies beside or above the image there.
NEXT_SIZES = [
    ((330, 670), (1, 2)),
    ((250, 672), (1, 2)),
    ((660, 330), (2, 1)),
    ((600, 250), (2, 1)),
    ((640, 640), (2, 2)),
    ((500, 640), (2, 2)),
    ((640, 470), (2, 2)),
    ((330, 1000), (1, 3)),
    ((990, 300), (3, 1)),
]
ONEVISION_SIZES = [
    ((384, 760), (1, 2)),
    ((760, 300), (2, 1)),
    ((700, 768), (2, 2)),
    ((700, 1100), (2, 3)),
    ((1152, 650), (3, 2)),
    ((380, 380), (1, 1)),
    ((1900, 1500), (5, 4)),
    ((1500, 2304), (4, 6)),
]
SPOTS = [(kind, *case) for kind, cases in (("next", NEXT_SIZES), ("onevision", ONEVISION_SIZES)) for case in cases]


def seen(model, kind, image):
    """Tiles as the image processor cuts them, and the mean brightness of each token."""
    tiles = IMAGES[kind](image, return_tensors="pt")["pixel_values"][0]
    patch = model.config.vision_config.patch_size
    values = avg_pool2d(tiles.mean(dim=1, keepdim=True), patch).flatten(2).transpose(1, 2)
    return tiles, pack(model, values, image.size[::-1], torch.tensor([-torch.inf]))[:, 0]


@pytest.mark.parametrize(("kind", "size", "grid"), SPOTS, ids=str)
def test_a_spot_is_found_where_it_was_painted(found, kind, size, grid):
    model, adapter = found[kind]
    assert grid_of(model, size) == grid
    draw = random.Random(size[0])
    for _ in range(6):
        place = (draw.uniform(0.06, 0.94), draw.uniform(0.06, 0.94))
        tiles, brightness = seen(model, kind, drawn(size, place, 0.03))
        (item,) = adapter.media({"pixel_values": tiles[None], "image_sizes": torch.tensor([size])})
        check_spot(item.layout, brightness, place, rest=6 / 14 if kind == "onevision" else 0.0)


def test_two_by_three_and_three_by_two_for_llava_next():
    """No checkpoint of LLaVA-NeXT has these; the arithmetic is the same."""
    tile = Tile(336, 24, 14)
    for size, grid in (((650, 1000), (2, 3)), ((1000, 600), (3, 2))):
        points = [[336 * grid[0], 336 * grid[1]]]
        processor = LlavaNextImageProcessor(
            size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}, image_grid_pinpoints=points
        )
        own = next_model()
        own.config.image_grid_pinpoints = points
        draw = random.Random(size[0])
        for _ in range(6):
            place = (draw.uniform(0.06, 0.94), draw.uniform(0.06, 0.94))
            tiles = processor(drawn(size, place, 0.03), return_tensors="pt")["pixel_values"][0]
            values = avg_pool2d(tiles.mean(dim=1, keepdim=True), 14).flatten(2).transpose(1, 2)
            brightness = pack(own, values, size, torch.tensor([-torch.inf]))[:, 0]
            check_spot(tiled(tile, size, grid), brightness, place)


def test_a_transposed_grid_is_found(found):
    """The control: tiles counted column by column, or places taken the wrong way round, fail the check of spots."""
    model, adapter = found["onevision"]
    size, place = (700, 1100), (0.2, 0.7)
    _, brightness = seen(model, "onevision", drawn(size, place, 0.03))
    layout = layout_of(model, adapter, size)
    check_spot(layout, brightness, place)
    boxes = [(a, b, c, d) for b, a, d, c in layout.boxes]
    turned = Layout(layout.unit, layout.cell, layout.structural, layout.grids, layout.kinds, tuple(boxes))
    with pytest.raises(AssertionError, match="token"):
        check_spot(turned, brightness, place)
    with pytest.raises(AssertionError, match="token"):
        check_spot(layout, brightness, (0.2, 0.3))


def test_several_images_lie_in_a_padded_square(found):
    """Of a prompt with several, OneVision pads each to a square: its tokens' places reach beyond the image."""
    _, adapter = found["onevision"]
    draw = random.Random(3)
    for size in ((300, 900), (900, 300), (500, 500), (413, 777)):
        places = [(draw.uniform(0.06, 0.94), draw.uniform(0.06, 0.94)) for _ in range(2)]
        inputs = IMAGES["onevision"]([[drawn(size, place, 0.04) for place in places]], return_tensors="pt")
        assert inputs["batch_num_images"].tolist() == [2]
        for item, place in zip(adapter.media(dict(inputs)), places, strict=True):
            assert item.layout.kinds == ("image",)
            bright = avg_pool2d(item.inputs["pixel_values"].mean(dim=1, keepdim=True), 14).flatten()
            token = int(bright.argmax())
            away = (item.layout.centres[token] - torch.tensor(place)).abs()
            assert bool((away <= 0.55 * token_size(item.layout, token)).all())


GRIDS = [(rows, columns) for rows in range(1, 13) for columns in range(1, 13) if 1 < rows * columns <= 12]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_internvl_finds_its_arrangement(grid):
    """Photos, scenes and spots, cut by the real image processor into all grids of up to twelve tiles."""
    rows, columns = grid
    tile = 112
    number = {"min_patches": rows * columns, "max_patches": rows * columns}
    processor = GotOcr2ImageProcessor(size={"height": tile, "width": tile}, crop_to_patches=True, **number)
    images = [Image.open(path).convert("RGB") for path in PHOTOS]
    images += [Scene(HELD_OUT + 1).image, Scene(HELD_OUT + 2).image, drawn((300, 300), (0.3, 0.8), 0.05)]
    for i, image in enumerate(images):
        fitted = image.resize((columns * 200 + i, rows * 200 - i))
        want = get_optimal_tiled_canvas(fitted.size[::-1], (tile, tile), rows * columns, rows * columns)
        tiles = processor(fitted, return_tensors="pt")["pixel_values"]
        assert want == (columns, rows)
        assert len(tiles) == rows * columns + 1
        assert arrangement(tiles) == grid
        assert arrangement(tiles.bfloat16()) == grid


@pytest.mark.parametrize("grid", [(1, 2), (2, 1), (2, 2), (2, 3), (3, 2)], ids=str)
def test_internvl_finds_a_spot_where_it_was_painted(grid):
    rows, columns = grid
    processor = GotOcr2ImageProcessor(size={"height": 448, "width": 448}, crop_to_patches=True)
    draw = random.Random(rows)
    for _ in range(6):
        place = (draw.uniform(0.03, 0.97), draw.uniform(0.03, 0.97))
        tiles = processor(drawn((400 * rows, 410 * columns), place, 0.04), return_tensors="pt")["pixel_values"]
        layout = layout_of_tiles(tiles, 16)
        assert layout.kinds == (*["tile"] * (rows * columns), "thumbnail")
        check_spot(layout, avg_pool2d(tiles.mean(dim=1), 28).flatten(), place)


def test_internvl_without_a_clue_goes_for_the_square_and_the_wide():
    assert [arrangement(torch.ones(n + 1, 3, 32, 32)) for n in (2, 3, 4, 6, 7, 12)] == [
        (1, 2), (1, 3), (2, 2), (2, 3), (1, 7), (3, 4),
    ]  # fmt: skip


def test_two_tiles_without_a_thumbnail_stand_where_they_meet():
    photo = Image.open(PHOTOS[0]).convert("RGB").resize((224, 224))
    pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1) / 255
    for tall in (False, True):
        halves = pixels.split(112, dim=1 if tall else 2)
        square = torch.stack([torch.nn.functional.interpolate(h[None], (112, 112))[0] for h in halves])
        assert arrangement(square) == ((2, 1) if tall else (1, 2))
        layout = layout_of_tiles(square, 4)
        assert layout.kinds == ("tile", "tile")
        assert layout.boxes[1] == ((0.5, 0.0, 1.0, 1.0) if tall else (0.0, 0.5, 1.0, 1.0))
