"""Encoder stages on whole models, beyond what every recipe is checked for in the grid."""

from __future__ import annotations

import copy
import pickle
import re
import threading

import pytest
import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from tests.checks import check_close, check_same, footprint
from tests.families import FAMILIES, VARIANTS, Family
from tests.grid import (
    SEVERAL,
    UNEVEN,
    fresh,
    stock,
)
from tests.towers import layers_of
from vtc import (
    Budget,
    Recipe,
    reduce_tokens,
    restore,
)
from vtc.reduction.vision_encoder import folded
from vtc.stages import (
    Cls,
    DiffRate,
    FastV,
    KCenter,
    MaxSum,
    Random,
    Stride,
    ToMe,
)

SPREAD = Recipe((ToMe(share=0.5, spread=True), Stride()), keep=0.3, name="spread")
ALL = {family.name: family for family in (*FAMILIES, *VARIANTS)}
LLAVA = ALL["llava"]


def seen(model: nn.Module, inputs: dict[str, Tensor]) -> list[list[int]]:
    """How many tokens each layer's attention and its MLP are given, in a plain forward."""
    found: list[list[int]] = []
    layers, hooks = layers_of(model.model.vision_tower), []
    note = lambda module, args, kwargs: found[-1].append((args[0] if args else kwargs["hidden_states"]).shape[1])  # noqa: E731
    for layer in layers:
        hooks.append(layer.register_forward_pre_hook(lambda module, args: found.append([])))
        inner = getattr(layer, "self_attn", None) or layer.attention
        hooks += [m.register_forward_pre_hook(note, with_kwargs=True) for m in (inner, layer.mlp)]
    try:
        with torch.no_grad():
            model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found


@pytest.mark.parametrize("name", [f.name for f in ALL.values() if f.folds])
def test_the_tower_computes_less(name):
    """MLPs and later layers are given the survivors only, whether or not these are spread behind the tower."""
    family = ALL[name]
    inputs = family.inputs(SEVERAL)
    full = seen(fresh(family), inputs)
    model = reduce_tokens(fresh(family), SPREAD)
    short = seen(model, inputs)
    used = model.vtc._wrapped.adapter.blocks("tome", spread=True)
    prefix, depth = used.prefix, len(used.blocks)
    patches = full[0][0] - prefix
    left = ToMe().schedule(patches, Budget(0.5).count(patches), depth)
    before = (patches, *left)
    assert short[:depth] == [[prefix + a, prefix + b] for a, b in zip(before, left, strict=False)]
    assert all(pair == [prefix + patches] * 2 for pair in (*full, *short[depth:]))


@pytest.mark.parametrize("family", [f for f in FAMILIES if not f.folds], ids=lambda family: family.name)
def test_families_whose_towers_cannot_fold_say_why(family: Family):
    model = fresh(family)
    before = footprint(model)
    words = (
        r"stage 'encoder/tome' folds tokens inside the vision tower.*|vision tower \w+ \(\w+\): tokens can be folded"
    )
    for recipe in ("tome", SPREAD):
        with pytest.raises(ValueError, match=words) as error:
            reduce_tokens(model, recipe)
        assert "use a selector" in str(error.value) or "have it spread" in str(error.value)
        assert footprint(model) == before
    if family.name.startswith("qwen2"):
        with pytest.raises(ValueError, match=r"'encoder/tome' .*Qwen2.*whole blocks of patches"):
            reduce_tokens(model, "tome")


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.folds == "spread"], ids=lambda family: family.name)
def test_families_that_need_the_whole_grid_ask_for_it(family: Family):
    model = fresh(family)
    with pytest.raises(ValueError, match=r"'encoder/tome' .*ForConditionalGeneration.*ToMe\(share=0\.5, spread=True"):
        reduce_tokens(model, "tome")
    alone = reduce_tokens(model, Recipe((ToMe(share=0.5, spread=True),), keep=10_000))
    inputs = family.inputs(SEVERAL)
    with torch.no_grad():
        changed = alone(**inputs).logits
    assert alone.vtc.report.after == alone.vtc.report.before == sum(alone.vtc.count(**inputs))
    assert not torch.allclose(changed, stock(family)(**inputs).logits, atol=1e-3)


@pytest.mark.parametrize("selector", [KCenter(), MaxSum(), Random(), Stride()], ids=lambda s: s.name)
@pytest.mark.parametrize("name", ["llava", "llava-siglip", "llava-full"])
def test_selectors_choose_among_the_survivors(name, selector):
    family = ALL[name]
    inputs = family.inputs(SEVERAL)
    alone = reduce_tokens(fresh(family), Recipe((ToMe(share=0.5),)))
    both = reduce_tokens(fresh(family), Recipe((ToMe(share=0.5), selector), keep=7))
    with torch.no_grad():
        alone(**inputs)
        both(**inputs)
    for one, other in zip(alone.vtc.report.items, both.vtc.report.items, strict=True):
        assert (one.after, other.after, other.before) == (18, 7, 36)
        assert set(other.reduction.anchor.tolist()) <= set(one.reduction.anchor.tolist())
        # What goes with a survivor goes where it goes.
        for place in range(len(one.layout)):
            home = int(one.reduction.anchor[one.reduction.assign[place]])
            assert other.reduction.assign[place] == other.reduction.assign[home]


def test_outside_of_a_call_the_tower_is_stock():
    family, pixels = LLAVA, LLAVA.inputs(SEVERAL)["pixel_values"]
    model = reduce_tokens(fresh(family), "tome", keep=0.5)
    with torch.no_grad():
        model(**family.inputs(SEVERAL))
        want = stock(family).model.vision_tower(pixels).last_hidden_state
        check_same(model.model.vision_tower(pixels).last_hidden_state, want, "features")
        model.model.get_image_features(pixels, vision_feature_layer=-2, vision_feature_select_strategy="default")


def test_threads_do_not_meet():
    model = reduce_tokens(fresh(LLAVA), "tome", keep=0.5)
    inputs, pixels = LLAVA.inputs(SEVERAL), LLAVA.inputs(UNEVEN)["pixel_values"]
    with torch.no_grad():
        want, plain = model(**inputs).logits, model.model.vision_tower(pixels).last_hidden_state
    wrong: list[str] = []

    @torch.no_grad()
    def work(own: bool) -> None:
        for _ in range(10):
            same = (
                torch.equal(model(**inputs).logits, want)
                if own
                else torch.equal(model.model.vision_tower(pixels).last_hidden_state, plain)
            )
            if not same:
                wrong.append("wrapped" if own else "bare")

    threads = [threading.Thread(target=work, args=(i % 2 == 0,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_error_inside_leaves_nothing_behind():
    model = reduce_tokens(fresh(LLAVA), "tome", keep=0.5)
    inputs = LLAVA.inputs(SEVERAL)
    with torch.no_grad():
        want = model(**inputs).logits
        stop = layers_of(model.model.vision_tower)[1].mlp.register_forward_pre_hook(_stop)
        with pytest.raises(RuntimeError, match="stopped"):
            model(**inputs)
        stop.remove()
        check_same(model(**inputs).logits, want, "logits")
    restore(model)
    with torch.no_grad():
        check_same(model(**inputs).logits, stock(LLAVA)(**inputs).logits, "logits")


def _stop(module: nn.Module, args: tuple[Tensor, ...]) -> None:
    raise RuntimeError("stopped")


@pytest.mark.parametrize("name", ["llava", "llava-siglip", "internvl"])
def test_gradients_reach_the_towers_first_layer(name):
    family = ALL[name]
    model = reduce_tokens(fresh(family), SPREAD if family.folds == "spread" else "tome", keep=0.5)
    inputs = family.inputs(SEVERAL)
    model(**inputs, labels=inputs["input_ids"].masked_fill(inputs["input_ids"] >= 90, -100)).loss.backward()
    for weight in (p for p in layers_of(model.model.vision_tower)[0].parameters() if p.ndim > 1):
        assert bool(weight.grad.isfinite().all())
        assert float(weight.grad.abs().max()) > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["llava", "llava-siglip", "internvl"])
@torch.no_grad()
def test_half_precision_keeps_the_count(name, dtype):
    family = ALL[name]
    model = reduce_tokens(fresh(family).to(dtype), SPREAD if family.folds == "spread" else "tome", keep=0.5)
    inputs = {k: v.to(dtype) if v.is_floating_point() else v for k, v in family.inputs(UNEVEN).items()}
    assert bool(model(**inputs).logits.isfinite().all())
    assert [item.after + item.structural for item in model.vtc.report.items] == model.vtc.count(**inputs)


@torch.no_grad()
def test_diffrate_on_a_model():
    stage = DiffRate(tokens=36, pruned=(33, 24), merged=(28, 15))
    model = reduce_tokens(fresh(LLAVA), Recipe((stage,), name="diffrate"))
    inputs = LLAVA.inputs(SEVERAL)
    model(**inputs)
    for item in model.vtc.report.items:
        assert item.after == len(item.reduction) == 15
        assert int((item.reduction.assign < 0).sum()) == 3 + 4
    assert model.vtc.count(**inputs) == [15] * 3
    siglip = fresh(ALL["llava-siglip"])
    with pytest.raises(ValueError, match=r"'encoder/diffrate' .*SiglipVisionModel.*'encoder/tome'"):
        reduce_tokens(siglip, Recipe((stage,)))
    with pytest.raises(ValueError, match=r"merged=\(28, 15, 15\) .*3 layers.* has 2 "):
        reduce_tokens(fresh(LLAVA), Recipe((DiffRate(36, (33, 24, 15), (28, 15, 15)),)))
    with pytest.raises(ValueError, match=r"'encoder/diffrate' .*InternVL.*spread"):
        reduce_tokens(fresh(ALL["internvl"]), Recipe((stage,)))


def test_cues_of_single_patches_are_refused():
    with pytest.raises(ValueError, match=r"cue 'attention' .*'encoder/tome' folds"):
        Recipe((ToMe(share=0.5), Cls()))


@pytest.mark.parametrize("layer", [[-2, -1], 0])
def test_features_of_several_layers_are_refused(layer):
    model = copy.deepcopy(stock(LLAVA))
    model.config.vision_feature_layer = layer
    with pytest.raises(ValueError, match=rf"vision_feature_layer={re.escape(str(layer))}: .*'encoder/tome'"):
        reduce_tokens(model, "tome")


@torch.no_grad()
def test_other_feature_layers_fold_up_to_them():
    for layer in (-1, 2, 1):
        model = copy.deepcopy(stock(LLAVA))
        model.config.vision_feature_layer = layer
        reduce_tokens(model, "tome", keep=20)
        inputs = LLAVA.inputs(SEVERAL)
        model(**inputs)
        assert [item.after for item in model.vtc.report.items] == [20] * 3
        assert len(model.vtc._wrapped.adapter.blocks("tome", spread=False).blocks) == (3 if layer == -1 else layer)


@torch.no_grad()
def test_hooks_of_transformers_may_come_first():
    """It installs those that collect hidden states at the first call; a model that ran before folds the same."""
    inputs = LLAVA.inputs(SEVERAL)
    late, early = fresh(LLAVA), copy.deepcopy(LLAVA.build())
    late(**inputs)
    outs = [reduce_tokens(model, "tome", keep=0.5)(**inputs).logits for model in (late, early)]
    check_close(outs[0], outs[1], "logits")


@torch.no_grad()
def test_copies_and_pickles_fold_on_their_own():
    model, inputs = reduce_tokens(LLAVA.build(), "tome", keep=0.5), LLAVA.inputs(UNEVEN)
    again = pickle.loads(pickle.dumps(model))  # a stock model that ran may not be picklable
    want = model(**inputs).logits
    other = copy.deepcopy(model)
    restore(model)
    for twin in (again, other):
        check_same(twin(**inputs).logits, want, "logits")
        check_same(restore(twin)(**inputs).logits, model(**inputs).logits, "logits after undo")


@pytest.mark.parametrize(
    ("stages", "after"),
    [
        ((ToMe(share=0.5), FastV()), 18),
        ((ToMe(share=0.5, spread=True), FastV()), 36),
        ((ToMe(share=0.5), KCenter(), FastV()), 9),
    ],
    ids=["fewer", "spread", "selected"],
)
@torch.no_grad()
def test_decoder_stages_go_on_from_the_survivors(stages, after):
    model = reduce_tokens(fresh(LLAVA), Recipe(stages, keep=0.25))
    inputs = LLAVA.inputs(SEVERAL)
    model(**inputs)
    assert [item.after for item in model.vtc.report.items] == [after] * 3
    assert model.vtc.count(**inputs) == [after] * 3


@torch.no_grad()
def test_two_towers_fold_each_by_its_own_block():
    shape = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=2)
    towers = [CLIPVisionModel(CLIPVisionConfig(**shape, image_size=56, patch_size=7)).eval() for _ in range(2)]
    pixels = torch.randn(2, 3, 56, 56)
    with folded(towers[0], ToMe(), keep=0.5) as outer, folded(towers[1], ToMe(), keep=0.25) as inner:
        assert [tower(pixels).last_hidden_state.shape[1] for tower in towers] == [33, 17]
        assert (outer.done.anchor.shape[1], inner.done.anchor.shape[1]) == (32, 16)
        with pytest.raises(ValueError, match=r"tower is a CLIPVisionModel .*folded already.*restore"):
            folded(towers[0], ToMe()).__enter__()
        assert towers[0](pixels).last_hidden_state.shape[1] == 33
