"""Calls off the usual path, each of which could go wrong without a word."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import DynamicCache, GenerationConfig, StaticCache
from transformers.generation import LogitsProcessor

from tests.families import PAD, text
from tests.names import CACHE
from tests.reduction.test_generate import ROWS, answer, each_family
from tests.reduction.test_neighbours import lora
from tests.reduction.test_turns import first_turn, longer, whole
from vtc import Recipe, reduce_tokens, restore
from vtc.adapters import find
from vtc.core.tokens import Layout
from vtc.reduction.pipeline import ItemCounts, reduce_media
from vtc.reduction.prompt import Span, compact
from vtc.reduction.report import PhaseTimer
from vtc.stages import KCenter, Mean, Resize

ONE = [[3, (1,), 5]]


def logits(model, inputs, **options):
    return torch.stack(answer(model, inputs, output_logits=True, return_dict_in_generate=True, **options).logits, dim=1)


@each_family
def test_one_row_without_a_cache_is_no_packed_sequence(family):
    model = reduce_tokens(family.build(), "stride", keep=0.25)
    inputs = family.inputs(ONE)
    torch.testing.assert_close(logits(model, inputs, use_cache=False), logits(model, inputs), rtol=1e-5, atol=1e-5)


@each_family
def test_padding_after_an_early_end_stays_masked_in_the_next_turn(family):
    if family.layers == "sliding":
        return  # a window counts what is masked in the cache
    model, inputs, first = first_turn(family, [[3, (1,), 5], [2, (2,), 2]])
    ids, mask, grown = longer(family, inputs, first.sequences)
    prompt = inputs["input_ids"].shape[1]
    ids[0, prompt + 2 : prompt + 5], mask[0, prompt + 2 : prompt + 5] = PAD, 0
    if family.layers == "linear":  # what a state has read cannot be masked later
        with pytest.raises(ValueError, match=r"attention_mask hides tokens of rows \[0\] .*without the cache"):
            logits(model, {"input_ids": ids, "attention_mask": mask, CACHE: first[CACHE]})
        return
    expected = logits(model, whole(inputs, ids, mask, grown))
    # The cache of row 0 holds what really was generated there; the mask hides it.
    got = logits(model, {"input_ids": ids, "attention_mask": mask, CACHE: first[CACHE]})
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@each_family
def test_a_cache_cropped_into_the_prompt_is_refused_and_one_cropped_to_it_is_not(family):
    if family.layers != "full":
        return  # transformers crops caches of full layers only
    model, inputs, first = first_turn(family, ROWS[1:])
    cache, short = first[CACHE], model.vtc.report.prompt_after[0]
    cache.crop(short - cache.get_seq_length())
    ids = torch.cat([inputs["input_ids"], torch.tensor([text(3, 9)])], dim=1)
    mask = torch.ones_like(ids)
    expected = answer(model, whole(inputs, ids, mask, 3))
    deeper = copy.deepcopy(cache)
    assert torch.equal(answer(model, {"input_ids": ids, "attention_mask": mask, CACHE: cache}), expected)
    deeper.crop(-2)
    with pytest.raises(ValueError, match="cropped"):
        answer(model, {"input_ids": ids, "attention_mask": mask, CACHE: deeper})


@each_family
def test_a_failed_turn_can_be_repeated(family):
    model, inputs, first = first_turn(family, ROWS[1:])
    ids, mask, grown = longer(family, inputs, first.sequences)
    expected = answer(model, whole(inputs, ids, mask, grown))
    given = {"input_ids": ids, "attention_mask": mask, CACHE: first[CACHE]}

    def fail(*args):
        raise MemoryError

    broken = model.get_decoder().register_forward_pre_hook(fail)
    with pytest.raises(MemoryError):
        answer(model, given)
    broken.remove()
    assert torch.equal(answer(model, given), expected)


@each_family
def test_a_cache_that_was_reset_forgets_its_images(family):
    model = family.build()
    texts = family.inputs([[9]])
    expected = answer(model, texts)
    reduce_tokens(model, keep=0.25)
    cache = StaticCache(config=model.config.get_text_config(), max_cache_len=120)
    answer(model, {**family.inputs(ROWS[1:]), CACHE: cache})
    cache.reset()
    assert torch.equal(answer(model, {**texts, CACHE: cache}), expected)
    assert not hasattr(cache, "vtc")


@each_family
def test_padding_is_found_with_a_config_object_too(family):
    model = reduce_tokens(family.build(), keep=0.25)
    model.generation_config.eos_token_id = None
    inputs = dict(family.inputs(ROWS))
    expected = answer(model, inputs)
    del inputs["attention_mask"]
    config = GenerationConfig(max_new_tokens=5, do_sample=False)
    assert torch.equal(model.generate(**inputs, generation_config=config), expected)
    right = {k: v for k, v in family.inputs(ROWS, "right").items() if k != "attention_mask"}
    with pytest.raises(ValueError, match="padding_side"):
        model.generate(**right, generation_config=config)


@each_family
@pytest.mark.parametrize("style", ["short mask", "embeds", "tuple", "repeated"])
@torch.no_grad()
def test_a_loop_over_forward_in_other_styles(family, style):
    model = reduce_tokens(family.build(), keep=0.25)
    inputs = family.inputs(ROWS[1:])
    expected = answer(model, inputs)[0, -5:].tolist()
    out = model(**inputs, use_cache=True, return_dict=style != "tuple")
    first = out[0] if style == "tuple" else out.logits
    cache = next(p for p in out if hasattr(p, "get_seq_length")) if style == "tuple" else out[CACHE]
    if style == "repeated" and family.layers == "linear":
        return  # a state cannot be repeated
    if style == "repeated":
        cache.batch_repeat_interleave(2)
        first = first.repeat_interleave(2, dim=0)
    got = []
    for _ in range(5):
        token = first[:, -1].argmax(-1, keepdim=True)
        got.append(int(token[0]))
        given = {"input_ids": token} if style != "embeds" else {"inputs_embeds": model.get_input_embeddings()(token)}
        if style == "short mask":
            given["attention_mask"] = torch.ones(1, cache.get_seq_length() + 1, dtype=torch.long)
        first = model(**given, **{CACHE: cache}, use_cache=True).logits
    assert got == expected


@each_family
def test_a_forward_inside_of_generate_is_reduced_and_leaves_the_report(family):
    model = reduce_tokens(family.build(), keep=0.25)
    inputs, lengths = family.inputs(ROWS[1:]), []

    class Nested(LogitsProcessor):
        def __call__(self, input_ids, scores):
            lengths.append(model(**family.inputs(ONE), use_cache=True)[CACHE].get_seq_length())
            return scores

    alone = model(**family.inputs(ONE), use_cache=True)[CACHE].get_seq_length()
    answer(model, inputs, logits_processor=[Nested()])
    assert set(lengths) == {alone}
    assert len(model.vtc.report.items) == 2


def test_compact_text_goes_on_from_the_new_top_where_the_last_token_is_dropped():
    out = compact(torch.arange(8).view(1, 1, 8), [Span(0, torch.arange(3, 8))], [torch.tensor([0, 2])])
    assert out[0, 0, -1] == out[0, 0, [3, 5]].max() == 4


@each_family
def test_a_generate_kept_across_restore_is_the_stock_one(family):
    model = family.build()
    inputs = family.inputs(ROWS)
    stock = answer(model, inputs)
    kept = reduce_tokens(model, keep=0.25).generate
    restore(model)
    assert torch.equal(kept(**inputs, max_new_tokens=5, do_sample=False, eos_token_id=None), stock)


@each_family
def test_placeholders_without_images_are_refused(family):
    model = reduce_tokens(family.build(), keep=0.25)
    inputs = {k: v for k, v in family.inputs(ROWS).items() if k in ("input_ids", "attention_mask")}
    with pytest.raises(ValueError, match=r"no (image|video) was passed"):
        answer(model, inputs)
    with pytest.raises(ValueError, match=r"no (image|video) was passed"):
        model(**inputs)


@each_family
def test_packed_rows_are_refused(family):
    model = reduce_tokens(family.build(), keep=0.25)
    inputs = dict(family.inputs(ONE))
    del inputs["attention_mask"]
    length = inputs["input_ids"].shape[1]
    packed = torch.cat([torch.arange(length - 3), torch.arange(3)])[None]
    with pytest.raises(ValueError, match="packed"):
        model(**inputs, position_ids=packed)


def test_a_whole_share_of_one_is_all_tokens():
    layout = Layout.of_grid(4, 6)
    assert Recipe((Resize(share=1), KCenter())).encoded_grids(layout) == layout.grids
    with pytest.raises(TypeError, match="share=True"):
        Resize(share=True)


@each_family
def test_generation_keeps_no_graph_of_the_encoder(family):
    model = reduce_tokens(family.build(), keep=0.25)
    seen = []
    watch = model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"].requires_grad), with_kwargs=True
    )
    answer(model, family.inputs(ONE))
    watch.remove()
    assert not any(seen)


@each_family
def test_autocast_does_not_reach_selection_and_merging(family):
    adapter, recipe = find(family.build()), Recipe((KCenter(), Mean()), keep=0.25)
    media = adapter.media(family.inputs(ROWS))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        encoded = adapter.encode(media, ())
        counted = [ItemCounts.of(recipe, item) for item in media]
        under = reduce_media(adapter, recipe, counted, PhaseTimer(torch.device("cpu")))
    for item, tokens, got in zip(media, encoded, under, strict=True):
        expected = recipe.reduce(tokens, recipe.count(item.layout))
        assert torch.equal(got.reduction.assign, expected.assign)
        assert expected.merges


@each_family
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's use of it, not ours
def test_flops_count_a_wrapped_map_once(family):
    bare, tuned = family.build(), lora(family.build())
    decoder = {id(p) for p in tuned.get_base_model().get_decoder().parameters()}
    extra = sum(p.numel() for n, p in tuned.named_parameters() if "lora_" in n and id(p) in decoder)
    plain = find(bare).cost().linear_flops
    assert find(tuned.get_base_model()).cost().linear_flops == plain + 2 * extra


@each_family
def test_a_negative_padding_id_is_not_used(family):
    model = family.build()
    if type(model).__name__.startswith("Gemma4"):
        return  # the stock class looks up the padding's embedding for each placeholder
    model.config.get_text_config().pad_token_id = -1
    reduce_tokens(model, keep=0.25)
    rows = [[3, (1,), 5], [2, (2,), 2, (3,), 1]]
    assert torch.isfinite(model(**family.inputs(rows)).logits).all()


@each_family
def test_a_first_turn_of_text_and_then_a_image_says_what_to_do(family):
    model = reduce_tokens(family.build(), keep=0.25)
    cache = DynamicCache(config=model.config.get_text_config())
    answer(model, {**family.inputs([[6]]), CACHE: cache})
    later = family.inputs(ONE)
    with pytest.raises(ValueError, match="without the cache"):
        answer(model, {**later, CACHE: cache})
