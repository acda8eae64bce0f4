"""Arguments as long as the prompt, and what a class makes of them: shortened, put back, or refused by name."""

from __future__ import annotations

import pytest
import torch

from tests.checks import check_close, check_same
from tests.families import (
    FAMILIES,
    IMAGE,
    llava,
    llava_inputs,
    qwen25vl,
    qwen_inputs,
)
from tests.families.odd_grids import ODD_GRIDS, ODD_VIDEOS
from tests.families.qwen import qwen2vl
from tests.grid import generate, kept
from vtc import Recipe, reduce_tokens, restore
from vtc.adapters import find
from vtc.reduction.dry_call import dropped_arguments
from vtc.reduction.prompt import Span, compact
from vtc.stages import Stride

ROWS = [[3, 1, 4, 2, 5], [2, 3, 6]]
HALF = Recipe((Stride(),), keep=0.4)
EXAONE, CLOVA, ERNIE = (
    next(odd for odd in ODD_GRIDS if odd.name.startswith(name)) for name in ("Exaone", "HyperCLOVA", "Ernie")
)
OMNI = next(odd for odd in ODD_VIDEOS if odd.name.startswith("Qwen3Omni"))


@pytest.mark.parametrize("odd", [EXAONE, CLOVA], ids=["exaone", "clova"])
def test_positions_that_a_class_drops_are_put_back(odd):
    model, inputs = reduce_tokens(odd.build(), HALF), odd.inputs(ROWS)
    assert dropped_arguments(find(model)) == ("position_ids",)
    seen = []
    model.get_decoder().register_forward_pre_hook(lambda m, a, k: seen.append(k["position_ids"]), with_kwargs=True)
    generate(model, inputs)
    length = inputs["input_ids"].shape[1]
    assert all(bool((steps[:, -1] == length - 1 + i).all()) for i, steps in enumerate(seen))
    for r, item in enumerate([[0, 1], [2]]):  # kept tokens stand where their columns are: the class counts padding
        columns = torch.nonzero(inputs["input_ids"][r] == IMAGE).flatten()
        anchors, start = [], 0
        for i in item:
            anchors += [start + a for a in kept(model)[i]]
            start += len(model.vtc.report.items[i].layout)
        assert set(columns[anchors].tolist()) <= set(seen[0][r].tolist())
        assert not {c for n, c in enumerate(columns.tolist()) if n not in anchors} & set(seen[0][r].tolist())


@pytest.mark.parametrize("odd", [EXAONE, CLOVA], ids=["exaone", "clova"])
def test_dropped_positions_are_found(odd, monkeypatch):
    """A control: without them generate's first step is not forward's."""
    model, inputs = reduce_tokens(odd.build(), HALF), odd.inputs(ROWS[1:])
    want = model(**inputs).logits[:, -1]
    first = generate(model, inputs).logits[0]
    check_close(first, want, "logits")
    monkeypatch.setattr(model.vtc._wrapped, "dropped", ())
    with pytest.raises(AssertionError):
        check_close(generate(model, inputs).logits[0], want, "logits")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_tested_families_drop_nothing(family):
    assert dropped_arguments(find(family.build())) == ()


def remade(model, **changes):
    """A model whose class changes what its own `prepare_inputs_for_generation` answers."""

    def prepare(self, *args, **kwargs):
        made = base.prepare_inputs_for_generation(self, *args, **kwargs)
        return {**made, **{name: change(made[name]) for name, change in changes.items()}}

    base = type(model)
    model.__class__ = type(base.__name__, (base,), {"prepare_inputs_for_generation": prepare})
    return model


def test_a_class_that_makes_other_positions_is_refused():
    reduce_tokens(remade(llava(), position_ids=lambda x: x + 3))  # one shift for all is no other distance
    with pytest.raises(ValueError, match="makes others of position_ids"):
        reduce_tokens(remade(llava(), position_ids=lambda x: 2 * x))
    with pytest.raises(ValueError, match="makes others of mm_encoder_outputs"):
        reduce_tokens(remade(llava(), mm_encoder_outputs=lambda x: None))


def test_a_class_whose_own_method_fails_is_refused():
    def fail(value):
        raise KeyError("pixel_values")

    with pytest.raises(ValueError, match=r"\.prepare_inputs_for_generation .*position_ids.*KeyError: 'pixel_values'"):
        reduce_tokens(remade(llava(), input_ids=fail))


@torch.no_grad()
def test_types_that_choose_experts_are_those_of_the_kept_tokens():
    model, inputs = ERNIE.build(), ERNIE.inputs(ROWS)
    seen = []
    model.get_decoder().register_forward_pre_hook(
        lambda m, a, k: seen.append(k["moe_mm_token_type_ids"]), with_kwargs=True
    )
    reduce_tokens(model, HALF)
    model(**inputs)
    generate(model, inputs)
    for types in seen[:2]:
        for r, own in enumerate(types):
            stays = sum(len(item.reduction) for item in model.vtc.report.items if item.row == r)
            images = sum(item.row == r for item in model.vtc.report.items)
            assert int(own.sum()) == stays + 2 * images  # and the start and end of each


@pytest.mark.parametrize("build", [qwen2vl, qwen25vl], ids=["qwen2vl", "qwen25vl"])
@torch.no_grad()
def test_types_in_numpy_are_read_as_by_the_stock_model(build):
    inputs = qwen_inputs([[3, (1,), 4], [2, (2,), 5]])
    types = inputs.pop("mm_token_type_ids")
    model = build()
    check_same(
        model(**inputs, mm_token_type_ids=types.numpy()).logits, model(**inputs, mm_token_type_ids=types).logits, ""
    )
    reduce_tokens(model, HALF)
    want = model(**inputs, mm_token_type_ids=types).logits
    check_same(model(**inputs, mm_token_type_ids=types.numpy()).logits, want, "logits")
    with pytest.raises(ValueError, match=r"mm_token_type_ids has .* columns"):
        model(**inputs, mm_token_type_ids=types.numpy()[:, :-1])


@pytest.mark.parametrize("shape", [(2,), (3, 2)], ids=["rows", "axes"])
def test_unknown_arguments_of_the_prompts_length_are_refused_by_name(shape):
    model, inputs = reduce_tokens(llava(), keep=0.25), llava_inputs([[3, (1,), 4], [2, (2,), 5]])
    mystery = torch.zeros(*shape, inputs["input_ids"].shape[1])
    with pytest.raises(ValueError, match=r"mystery .*token_arguments"):
        model(**inputs, mystery=mystery)
    with pytest.raises(ValueError, match=r"mystery .*token_arguments"):
        model(**inputs, mystery=mystery.numpy())
    model(**inputs, mystery=mystery[..., :-1])  # of another length: the model's own affair
    restore(model)(**inputs, mystery=mystery)


def test_forward_without_types_is_refused_as_by_the_stock_model():
    model, inputs = qwen2vl(), qwen_inputs([[3, (1,), 4]])
    types = inputs.pop("mm_token_type_ids")
    with pytest.raises(ValueError, match="mm_token_type_ids"):
        model(**inputs)
    for keep in (1.0, 0.25):
        reduce_tokens(model, keep=keep)
        with pytest.raises(ValueError, match="mm_token_type_ids is missing"):
            model(**inputs)
    want = model(**inputs, mm_token_type_ids=types).logits
    positions, _ = model.model.get_rope_index(**inputs, mm_token_type_ids=types)
    check_close(model(**inputs, position_ids=positions).logits, want, "logits")
    with pytest.raises(ValueError, match="mm_token_type_ids is missing"):  # where the stock class says nothing
        reduce_tokens(qwen25vl(), keep=0.25)(**inputs)


@torch.no_grad()
def test_fractional_positions_stay_fractions():
    model, inputs = OMNI.build(), OMNI.inputs(ROWS)
    seen = []
    model.get_decoder().register_forward_pre_hook(lambda m, a, k: seen.append(k["position_ids"]), with_kwargs=True)
    generate(model, inputs)
    full = seen[0][-3:]
    assert bool((full != full.round()).any())
    seen.clear()
    reduce_tokens(model, HALF)
    generate(model, inputs)
    short = seen[0][-3:]
    assert short.dtype == full.dtype
    for r in range(len(ROWS)):
        places = {tuple(place) for place in full[:, r].T.tolist()}
        assert {tuple(place) for place in short[:, r].T.tolist()} <= places | {(0.0, 0.0, 0.0)}


def test_compact_fractions_keep_their_steps_and_text_behind_time_follows():
    times = torch.tensor([0.0, 1, 7.5, 7.5, 14, 14, 20.5, 20.5, 21.5, 22.5])
    places = torch.stack([times, times.clamp_max(1.0), times.clamp_max(1.0)])[:, None]
    places[1:, 0, 8:] = times[8:]
    short = compact(places, [Span(0, torch.arange(2, 8))], [torch.tensor([0, 4])])
    check_same(short[0, 0, [2, 6]], torch.tensor([7.5, 14.0]), "the first steps of the ladder")
    check_same(short[:, 0, 8:], torch.tensor([15.0, 16.0]).expand(3, 2), "text goes on after the last of them")
