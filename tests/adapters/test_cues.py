"""Cues are what the encoder itself computes: against the stock tower, eager, one image at a time (`encoders`)."""

from __future__ import annotations

import pytest
import torch

from tests.checks import check_close
from tests.encoders import ENCODERS, Softmaxes
from tests.families import FAMILIES, VARIANTS, Family
from tests.grid import (
    fresh,
    generate,
    kept,
    stock,
)
from vtc import Recipe, adapters, reduce_tokens
from vtc.stages import Cls

ROWS = [[3, (1, 12, 4), 4, (2, 4, 8), 2, (5, 6, 6), 5], [(3, 8, 10), 6]]
"""Images of four sizes where a family has sizes; in windows of 2 x 2 tokens, whole and cut."""
ALL = tuple(family for family in (*FAMILIES, *VARIANTS) if family.cues)
every_kind = pytest.mark.parametrize("family", ALL, ids=lambda family: family.name)


def known(family: Family) -> list[str]:
    """The cues that the family can give."""
    return [name for name in adapters.cues.NAMES if family.has_cls or name != "cls_attention"]


def encoded(family: Family, names: list[str], attention: str = "sdpa", dtype: torch.dtype = torch.float32):
    """The items of `ROWS` as the adapter encodes them, in one batch."""
    model = fresh(family, attention).to(dtype)
    adapter = adapters.find(model)
    inputs = family.inputs(ROWS)
    inputs = {name: value.to(dtype) if "pixel" in name else value for name, value in inputs.items()}
    hooks = adapter.listen(names)
    with torch.no_grad():
        tokens = adapter.encode(adapter.media(inputs), names)
    for hook in hooks:
        hook.remove()
    return tokens


@every_kind
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_every_cue_is_what_the_stock_tower_computes(family, attention):
    encoder, model = ENCODERS[family.name], stock(family, "eager")
    tokens = encoded(family, known(family), attention)
    images = encoder.images(family.inputs(ROWS))
    assert len(tokens) == len(images) == 4
    for item, image in zip(tokens, images, strict=True):
        want = encoder.cues(model, image)
        assert set(item.cues) == set(known(family))
        check_close(item.features, encoder.features(model, image), "features")
        for name in known(family):
            assert len(item.cue(name)) == len(item.layout)
            check_close(item.cue(name), want[name], name)


@every_kind
def test_layouts_are_those_of_the_images(family):
    encoder, model = ENCODERS[family.name], stock(family)
    for item, image in zip(encoded(family, []), encoder.images(family.inputs(ROWS)), strict=True):
        want = encoder.layout(model, image)
        assert item.layout.unit.tolist() == want.unit.tolist()
        assert item.layout.cell.tolist() == want.cell.tolist()
        assert item.layout.structural.tolist() == want.structural.tolist()
        assert item.layout.grids == want.grids
        assert item.layout.kinds == want.kinds
        check_close(torch.tensor(item.layout.boxes), torch.tensor(want.boxes), "boxes")
        assert item.cues == {}


@every_kind
def test_attention_is_a_distribution_in_fp32(family):
    for item in encoded(family, known(family), dtype=torch.bfloat16):
        received = item.cue("received_attention")
        assert received.dtype == item.cue("attention").dtype == torch.float32
        assert bool((received >= 0).all())
        # A class token that does not go on keeps its part; a token of four patches, or nine, has their mean.
        whole = {"llava-siglip": 1.0, "llava-full": 1.0}.get(family.name)
        for unit, kind in enumerate(item.layout.kinds):
            mass = received[item.layout.unit == unit].sum()
            due = (
                0.25
                if family.name.startswith(("qwen", "glm", "lfm2"))
                else 1 / 9
                if "gemma4" in family.name
                else 1.0
                if kind == "thumbnail" and not family.has_cls
                else whole
            )
            # Of a tile, what its padding received is gone; pooling keeps no sum.
            assert mass < 1 + 1e-5 if due is None else abs(mass - due) < 1e-5
            assert mass < 1 or not family.has_cls or due == 1


@every_kind
def test_the_cue_called_attention_is_that_of_the_cls_where_there_is_one(family):
    own = "cls_attention" if family.has_cls else "received_attention"
    for item in encoded(family, known(family)):
        assert torch.equal(item.cue("attention"), item.cue(own))


def test_a_cls_that_goes_on_is_structural_and_no_candidate():
    family = next(f for f in VARIANTS if f.name == "llava-full")
    model = reduce_tokens(fresh(family), Recipe((Cls(),), keep=0.25))
    generate(model, family.inputs(ROWS), tokens=1)
    for item in model.vtc.report.items:
        assert (item.before, item.after, item.structural) == (36, 9, 1)
        assert item.reduction.anchor[0] == 0
    for item in encoded(family, known(family)):
        assert item.layout.structural.nonzero().flatten().tolist() == [0]
        assert item.cue("cls_attention")[0] == 0


@pytest.mark.parametrize("family", [f for f in ALL if not f.has_cls], ids=lambda family: family.name)
def test_a_cls_cue_without_a_cls_is_refused(family):
    with pytest.raises(ValueError, match=r"cue 'cls_attention'.*CLS.*'received_attention'"):
        adapters.find(stock(family)).listen(["cls_attention"])


@every_kind
def test_cues_name_the_cells_that_were_changed(family):
    """Changing the pixels of one cell changes the encoder features of that cell most, and moves its own keys most."""
    model = fresh(family)
    adapter = adapters.find(model)
    hooks = adapter.listen(["encoder_features", "keys"])
    (item, *_) = adapter.media(family.inputs(ROWS))
    (before,) = adapter.encode([item], ["encoder_features", "keys"])
    for place in torch.nonzero(~item.layout.structural).flatten().tolist():
        changed = adapters.Media(item.modality, item.layout, repainted(family, model, item, place))
        (after,) = adapter.encode([changed], ["encoder_features", "keys"])
        for name in ("encoder_features", "keys"):
            moved = (after.cue(name) - before.cue(name)).norm(dim=1)
            assert int(moved.argmax()) == place, f"{name} of token {place}"
    for hook in hooks:
        hook.remove()


def repainted(family, model, item, place: int) -> dict[str, torch.Tensor]:
    """The inputs of an item with the pixels of one token inverted and brightened."""
    unit, (_, row, column) = int(item.layout.unit[place]), item.layout.cell[place].tolist()
    inputs = {name: value.clone() for name, value in item.inputs.items()}
    pixels = inputs["pixel_values"]
    if "position_ids" in inputs or "spatial_shapes" in inputs:
        frame, patches = ENCODERS[family.name].painted(model, item, place)
        pixels[frame, patches] *= -4
        return inputs
    if pixels.ndim == 2:
        _, height, width = item.layout.grids[0]
        first = 4 * ((unit * height + row) * width + column)
        pixels[first : first + 4] *= -4
        return inputs
    size = model.config.vision_config.patch_size
    patch = size if isinstance(size, int) else size[0]
    tiles = pixels if pixels.ndim == 4 else pixels[None]
    places = ENCODERS[family.name].painted(model, item, place) if pixels.ndim == 4 else [(0, row, column)]
    for tile, y, x in places:
        tiles[tile, :, y * patch : (y + 1) * patch, x * patch : (x + 1) * patch] *= -4
    return inputs


@every_kind
def test_no_square_attention_map_is_made(family, monkeypatch):
    """With blocks of 4 queries no softmax has more than 4 rows, and a CLS cue takes a single one."""
    block = adapters.cues.column_means
    monkeypatch.setattr(adapters.cues, "column_means", lambda q, k, s: block(q, k, s, block=4))
    want = encoded(family, known(family))
    with Softmaxes() as soft:
        got = encoded(family, known(family))
    assert soft.maps
    assert max(m.shape[-2] for m in soft.maps) <= 4
    for item, other in zip(got, want, strict=True):
        check_close(item.cue("received_attention"), other.cue("received_attention"), "received_attention")
    if family.has_cls:
        with Softmaxes() as soft:
            encoded(family, ["cls_attention"])
        assert {m.shape[-2] for m in soft.maps} == {1}


@pytest.mark.parametrize("block", [1, 3, 7, 1024])
def test_blocks_of_queries_do_not_change_what_is_received(block):
    generator = torch.Generator().manual_seed(0)
    queries, keys = torch.randn(2, 2, 3, 7, 4, generator=generator).unbind(0)
    want = (queries @ keys.transpose(-1, -2) * 0.5).softmax(-1).mean(dim=1).mean(dim=1)
    check_close(adapters.cues.column_means(queries, keys, 0.5, block=block), want, "received attention")
    check_close(
        adapters.cues.cls_row(queries, keys, 0.5),
        (queries @ keys.transpose(-1, -2) * 0.5).softmax(-1).mean(dim=1)[:, 0, 1:],
        "CLS attention",
    )


@every_kind
def test_the_cls_recipe_keeps_the_most_attended(family):
    model = reduce_tokens(fresh(family), "cls", keep=5)
    generate(model, family.inputs(ROWS), tokens=1)
    encoder = ENCODERS[family.name]
    for item, places, image in zip(
        model.vtc.report.items, kept(model), encoder.images(family.inputs(ROWS)), strict=True
    ):
        attention = encoder.cues(stock(family, "eager"), image)["attention"].clone()
        attention[item.layout.structural] = -1
        for number, unit in enumerate(item.units):
            inside = (item.layout.unit == number) & ~item.layout.structural
            top = attention.masked_fill(~inside, -1).argsort(descending=True)[: unit.after]
            assert [p for p in places if inside[p]] == sorted(top.tolist())
        assert sum(unit.after for unit in item.units) == 5


def test_taps_hear_only_their_own_call():
    family = FAMILIES[0]
    model = reduce_tokens(fresh(family), "cls")
    pixels = family.inputs(ROWS)["pixel_values"]
    with adapters.cues.recording() as recorded:
        with adapters.cues.recording() as inner:
            model.model.get_image_features(pixels)
        assert set(inner) == {"attention"}
    assert recorded == {}
    model.model.get_image_features(pixels)
    assert set(inner) == {"attention"}
