"""What decoder stages cannot do is refused before anything is changed, with the reason and a remedy."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import DynamicCache, LlavaConfig, LlavaForConditionalGeneration, MistralConfig, StaticCache
from transformers.cache_utils import Cache, QuantizedLayer

from tests.checks import check_close, check_same, footprint
from tests.families import FAMILIES, IMAGE, placeholders
from tests.families.common import TEXT, VISION, spread
from tests.grid import (
    fresh,
    generate,
    steps,
    stock,
)
from tests.names import CACHE
from tests.reduction.decoder.common import (
    BATCHES,
    ByLot,
    four,
    recipe,
    wrapped,
)
from tests.reduction.test_turns import longer
from vtc import Recipe, reduce_tokens, restore
from vtc.stages import VTW, FastV, Feather, KCenter, Layerwise, PyramidDrop, ToDRE

PARTIAL = [family for family in FAMILIES if family.layers != "full"]


@pytest.mark.parametrize("family", PARTIAL, ids=lambda family: family.name)
def test_layers_that_do_not_see_every_token(family):
    model = fresh(family)
    before = footprint(model)
    with pytest.raises(ValueError, match=r"\w+ has layers of kind \['\w+'.*\], .*'kcenter'"):
        reduce_tokens(model, "layerwise")
    assert footprint(model) == before


@four
def test_flex_attention(family):
    model = copy.deepcopy(stock(family))
    model.get_decoder().config._attn_implementation_internal = "flex_attention"
    with pytest.raises(ValueError, match=r"attn_implementation='flex_attention' .*'sdpa'"):
        reduce_tokens(model, "layerwise")


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ((FastV([(9, 0.5)]),), "names layer 9, and the decoder has layers 0 to 2"),
        ((FastV([(0, 0.5)]),), "cuts at layer 0, and the stage scores by the attention of the layer before"),
        ((FastV([(1, 0.5)]), Layerwise([(1, 0.5)])), "both cut at layer 1"),
        ((Layerwise([(1, 0.2)]), ByLot(((2, 0.5),))), "tokens that left do not come back"),
    ],
    ids=str,
)
def test_schedules_that_do_not_fit_the_model(stages, message):
    model = fresh(FAMILIES[0])
    before = footprint(model)
    with pytest.raises(ValueError, match=message):
        reduce_tokens(model, Recipe(stages))
    assert footprint(model) == before


def test_parameters_out_of_range():
    for make, error, message in (
        (lambda: Feather(stride=-1), ValueError, r"stride=-1 .*at least 1, or 0"),
        (lambda: Feather(stride=1.5), TypeError, "stride=1.5 is a float"),
        (lambda: VTW([(0.5, 0.1)]), ValueError, r"give \[\(layer, 0\)\]"),
        (lambda: ToDRE(threshold=0), ValueError, "threshold=0; expected a share"),
        (lambda: Recipe((FastV(),), keep=0.5), ValueError, "each follows its own schedule"),
        (lambda: Recipe((KCenter(), "fastv")), TypeError, "stages holds 'fastv'"),
    ):
        with pytest.raises(error, match=message):
            make()


@four
def test_chunked_prefill(family):
    model = wrapped(family, recipe("once"))
    with pytest.raises(ValueError, match="prefill_chunk_size=8"):
        generate(model, family.inputs(BATCHES["one"]), prefill_chunk_size=8)


@four
def test_a_cache_that_was_filled_before_wrapping(family):
    model, inputs = fresh(family), family.inputs(BATCHES["one"])
    cache = model(input_ids=torch.tensor([[5, 6, 7]]), use_cache=True)[CACHE]
    reduce_tokens(model, Recipe((PyramidDrop(((1, 0.5),)),)))
    before = torch.tensor([[5, 6, 7]])
    given = {**inputs, "attention_mask": torch.ones(1, 3 + inputs["input_ids"].shape[1], dtype=torch.int64)}
    for name in ("input_ids", "mm_token_type_ids"):
        if name in inputs:
            given[name] = torch.cat([before if name == "input_ids" else 0 * before, inputs[name]], dim=1)
    with pytest.raises(ValueError, match=r"the cache holds 3 tokens .*without the cache"):
        generate(model, {**given, CACHE: cache}, tokens=1)


@four
def test_a_stage_that_breaks_its_contract(family):
    class Wrong(ByLot):
        def keep(self, tokens, count, cut):
            return torch.arange(count + 1)

    model = wrapped(family, Recipe((Wrong(),)))
    with pytest.raises(ValueError, match=r"'decoder/by-lot' kept \d+ tokens .* \d+ of \d+ .*`count`"):
        generate(model, family.inputs(BATCHES["one"]))
    out = generate(reduce_tokens(model, recipe("once")), family.inputs(BATCHES["one"]))  # nothing stays behind
    assert out.sequences.shape[0] == 1


def test_windows_that_the_configuration_does_not_name_by_layer():
    text = MistralConfig(**TEXT, sliding_window=8)
    vision = {"model_type": "clip_vision_model", **VISION, "image_size": 42, "patch_size": 7}
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=IMAGE)
    model = spread(LlavaForConditionalGeneration._from_config(config))
    with pytest.raises(ValueError, match=r"MistralModel has layers of kind \['sliding_attention'\].*'kcenter'"):
        reduce_tokens(model, "layerwise")


@four
def test_a_cache_with_windows(family):
    model = wrapped(family, recipe("once"))
    windows = MistralConfig(**TEXT, sliding_window=8)
    cache = DynamicCache(config=windows)
    with pytest.raises(ValueError, match="the cache has a DynamicSlidingWindowLayer at layer 1"):
        generate(model, family.inputs(BATCHES["one"]), **{CACHE: cache})


@four
def test_packed_sequences(family):
    model, inputs = wrapped(family, recipe("once")), dict(family.inputs(BATCHES["one"]))
    length = inputs["input_ids"].shape[1]
    ends = torch.tensor([0, 5, length], dtype=torch.int32)
    with pytest.raises(ValueError, match=r"cu_seq_lens_q.*packed.*one sequence a row"):
        model(**inputs, cu_seq_lens_q=ends, cu_seq_lens_k=ends, max_length_q=length, max_length_k=length)
    del inputs["attention_mask"]
    packed = torch.cat([torch.arange(5), torch.arange(length - 5)])[None]
    given = packed if family.axes == 1 else packed.expand(4, 1, -1)
    with pytest.raises(ValueError, match=r"packed.*one sequence a row"):
        model(**inputs, position_ids=given)


@four
def test_right_padding_before_generation(family):
    with pytest.raises(ValueError, match="padding_side = 'left'"):
        generate(wrapped(family, recipe("once")), family.inputs(BATCHES["uneven"], "right"))


@pytest.mark.parametrize(
    ("schedule", "error", "words"),
    [
        (((1, 0.25), (2, 0.5)), ValueError, "keep grows from 0.25 to 0.5 at layer 2.*give keeps that fall"),
        (((1, 5), (2, 9)), ValueError, "keep grows from 5 to 9 at layer 2"),
        (((1, 5), (2, 0.5)), ValueError, "mixes shares and counts; give keeps of one kind"),
        (((-1, 0.5),), ValueError, "layer -1; expected an index from 0 on"),
        (((1.0, 0.5),), ValueError, r"layer 1.0; expected .* a share of the depth in \[0, 1\)"),
        (((1, 1.5),), ValueError, r"keep=1.5 at layer 1; expected a share in \[0, 1\]"),
        (((1, -0.5),), ValueError, "keep=-0.5 at layer 1"),
        ((), TypeError, r"schedule=\(\); expected \[\(layer, keep\)"),
        (((1, True),), TypeError, r"schedule holds \(1, True\); expected a pair"),
        ("often", TypeError, "schedule='often'; expected"),
        (((float("nan"), 0.5),), ValueError, "layer nan; expected"),
        (((1, float("nan")),), ValueError, "keep=nan at layer 1; expected"),
    ],
)
def test_schedules_that_mean_nothing(schedule, error, words):
    with pytest.raises(error, match=words):
        Layerwise(schedule)


@four
@torch.no_grad()
def test_a_prompt_that_was_cropped(family):
    model, inputs = wrapped(family, recipe("once")), family.inputs(BATCHES["one"])
    first = generate(model, inputs, suppress_tokens=placeholders(model))
    ids, mask, _ = longer(family, inputs, first.sequences)
    with pytest.raises(ValueError, match=r"cannot be cropped by \d+ tokens"):
        first[CACHE].crop(-20)
    first[CACHE].crop(inputs["input_ids"].shape[1] - 1 - first[CACHE].get_seq_length())  # a token of the question
    with pytest.raises(ValueError, match=r"the cache holds \d+ tokens, fewer than the \d+ of its shortened prompt"):
        generate(model, {"input_ids": ids, "attention_mask": mask, CACHE: first[CACHE]})


@four
def test_flex_attention_after_wrapping(family):
    model, inputs = reduce_tokens(fresh(family), "layerwise"), family.inputs(BATCHES["one"])
    config = model.get_decoder().config
    config._attn_implementation_internal = "flex_attention"
    for call in (generate, lambda m, x: m(**x)):
        with pytest.raises(ValueError, match="attn_implementation='flex_attention' takes masks"):
            call(model, inputs)
    config._attn_implementation_internal = "sdpa"
    generate(model, inputs)


@pytest.mark.parametrize("schedule", ["layer-0", "once", "withdraw"])
@four
@torch.no_grad()
def test_a_shortened_cache_and_a_model_that_was_restored(family, schedule):
    model, inputs = wrapped(family, recipe(schedule)), family.inputs(BATCHES["uneven"])
    first = generate(model, inputs, tokens=1)
    cache, ids = first[CACHE], first.sequences
    held = [layer.keys.clone() for layer in cache.layers]
    given = {"input_ids": ids, "attention_mask": torch.cat([inputs["attention_mask"], torch.ones_like(ids[:, -1:])], 1)}
    want = steps(generate(model, {**given, CACHE: copy.deepcopy(cache)}, tokens=1))
    restore(model)
    decoder = model.get_decoder()
    with pytest.raises(ValueError, match=r"left out.*not wrapped; .*reduce_tokens"):
        generate(model, {**given, CACHE: cache}, tokens=1)
    with pytest.raises(ValueError, match=r"left out.*not wrapped; .*reduce_tokens"):
        decoder(inputs_embeds=torch.zeros(len(ids), 1, decoder.config.hidden_size), **{CACHE: cache})
    assert all(torch.equal(layer.keys, keys) for layer, keys in zip(cache.layers, held, strict=True))
    reduce_tokens(model, recipe(schedule))
    check_same(steps(generate(model, {**given, CACHE: cache}, tokens=1)), want, "what the refused calls left")


@four
@torch.no_grad()
def test_a_cache_that_was_emptied_may_be_read_by_any_model(family):
    model, inputs = wrapped(family, recipe("layer-0")), family.inputs(BATCHES["one"])
    cache = model(**inputs, use_cache=True)[CACHE]
    restore(model)
    cache.reset()
    check_same(model(**inputs, **{CACHE: cache}).logits, stock(family)(**inputs).logits, "logits")


@pytest.mark.parametrize("schedule", ["layer-0", "once"])
@torch.no_grad()
def test_a_static_cache_too_small_for_what_left(schedule):
    family = FAMILIES[0]
    model, inputs = wrapped(family, recipe(schedule)), family.inputs(BATCHES["one"])
    length, config = inputs["input_ids"].shape[1], model.config.get_text_config()
    short, tight, enough = (StaticCache(config=config, max_cache_len=length + more) for more in (-1, 1, 3))
    with pytest.raises(ValueError, match=rf"max_cache_len={length - 1}, .* {length} tokens.*DynamicCache"):
        model(**inputs, **{CACHE: short})
    with pytest.raises(ValueError, match=rf"max_cache_len={length + 1}, .* reaches {length + 2} .*use a DynamicCache"):
        generate(model, inputs, tokens=4, **{CACHE: tight})
    want = steps(generate(model, inputs, tokens=4))
    check_close(steps(generate(model, inputs, tokens=4, **{CACHE: enough})), want, "logits")


@torch.no_grad()
def test_a_later_turn_that_outgrows_the_static_cache_of_the_first():
    family = FAMILIES[0]
    model, inputs = wrapped(family, recipe("layer-0")), family.inputs(BATCHES["one"])
    options = {"cache_implementation": "static", "suppress_tokens": placeholders(model)}
    first = generate(model, inputs, tokens=3, **options)
    ids, mask, _ = longer(family, inputs, first.sequences)
    with pytest.raises(ValueError, match=r"max_cache_len=\d+, .* \d+ tokens.*DynamicCache"):
        generate(model, {"input_ids": ids, "attention_mask": mask, CACHE: first[CACHE]}, tokens=3)


@pytest.mark.parametrize("kind", ["indexed_attention", "minimax_m3_sparse", "hybrid", "a_kind_of_tomorrow"])
def test_kinds_of_layers_that_are_not_known_to_see_every_token(kind):
    model = fresh(FAMILIES[0])
    model.get_decoder().config.layer_types = [kind, "full_attention", "full_attention"]
    with pytest.raises(ValueError, match=rf"LlamaModel has layers of kind \['{kind}'\]"):
        reduce_tokens(model, "layerwise")
    model.get_decoder().config.layer_types = ["full_attention"] * 3
    reduce_tokens(model, "layerwise")


def turns(model: Any, family: Any, cache: Any) -> Any:
    """A turn with an image, then the arguments of another with one."""
    inputs, new = family.inputs(BATCHES["one"]), family.inputs([[2, (2, 8, 6), 3]])
    first = generate(model, inputs, tokens=2, suppress_tokens=placeholders(model), **{CACHE: cache})
    ids = torch.cat([first.sequences, new["input_ids"][:, 1:]], dim=1)
    return {**new, "input_ids": ids, "attention_mask": torch.ones_like(ids), CACHE: first[CACHE]}


class Exact(QuantizedLayer):
    """Quantised in form: no bit is lost."""

    def _quantize(self, tensor, axis):
        return tensor.clone()

    def _dequantize(self, tensor):
        return tensor


def test_a_stage_that_reads_keys_of_a_quantised_cache():
    family = FAMILIES[0]
    model = wrapped(family, Recipe((PyramidDrop(((1, 0.5),)),)))
    given = turns(model, family, Cache(layers=[Exact(residual_length=4) for _ in range(3)]))
    held = given[CACHE].get_seq_length()
    with pytest.raises(ValueError, match=r"'pyramiddrop' .* layer 1 .*Exact.*DynamicCache"):
        generate(model, given, tokens=1)
    assert given[CACHE].get_seq_length() == held
    other = wrapped(family, Recipe((FastV(((1, 0.5),)),)))
    given, plain = (turns(other, family, c) for c in (Cache(layers=[Exact() for _ in range(3)]), DynamicCache()))
    check_close(steps(generate(other, given, tokens=2)), steps(generate(other, plain, tokens=2)), "logits")


@torch.no_grad()
def test_a_call_that_failed_leaves_no_claim_to_the_next_one():
    family = FAMILIES[0]
    model, inputs = wrapped(family, recipe("layer-0")), family.inputs(BATCHES["one"])
    first = generate(model, inputs, tokens=1)
    given = {"input_ids": first.sequences, "attention_mask": torch.ones_like(first.sequences), CACHE: first[CACHE]}

    def fails(*_):
        raise RuntimeError("out of memory")

    hook = model.get_decoder().layers[0].self_attn.register_forward_pre_hook(fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        generate(model, given, tokens=1)
    hook.remove()
    restore(model)
    with pytest.raises(ValueError, match=r"left out.*not wrapped; .*reduce_tokens"):
        generate(model, given, tokens=1)


def test_attention_whose_module_has_no_eager_kernel(monkeypatch):
    family = FAMILIES[0]
    model, inputs = wrapped(family, Recipe((FastV(((1, 0.5),)),))), family.inputs(BATCHES["one"])
    want = steps(generate(model, inputs))
    attention = type(model.get_decoder().layers[0].self_attn)
    monkeypatch.setattr(attention, "__module__", __name__)
    check_same(steps(generate(model, inputs)), want, "logits")
    model.get_decoder().config._attn_implementation_internal = "eager"
    with pytest.raises(ValueError, match=r"attn_implementation='eager': \w+Attention .*'sdpa'"):
        generate(model, inputs)
