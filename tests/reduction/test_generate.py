"""`generate` as users write it: every way of calling it gives what the stock model would give from the short prompt."""

from __future__ import annotations

import threading

import pytest
import torch
from transformers import DynamicCache, StoppingCriteria, TextIteratorStreamer
from transformers.generation import LogitsProcessor

from tests.families import (
    BOS,
    FAMILIES,
    VOCAB,
    Family,
    visual,
)
from tests.names import CACHE
from vtc import reduce_tokens, restore

ROWS = [[3, (1,), 5], [2, (2,), 2, (3,), 4]]
LENGTH = 5
each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def answer(model, inputs, **options):
    options = dict(max_new_tokens=LENGTH, do_sample=False, eos_token_id=None) | options
    return model.generate(**inputs, **options)


@pytest.fixture
def wrapped(family: Family):
    return reduce_tokens(family.build(), "kcenter", keep=0.25)


@each_family
def test_answers_have_the_shape_of_the_stock_model(family, wrapped):
    inputs = family.inputs(ROWS)
    out = answer(wrapped, inputs)
    prompt = inputs["input_ids"]
    assert out.shape == (2, prompt.shape[1] + LENGTH)
    assert torch.equal(out[:, : prompt.shape[1]], prompt)
    assert wrapped.vtc.report.after < wrapped.vtc.report.before


@each_family
def test_one_beam_and_streaming_equal_greedy(family, wrapped):
    inputs = family.inputs(ROWS[:1])
    greedy = answer(wrapped, inputs)
    assert torch.equal(answer(wrapped, inputs, num_beams=1), greedy)

    class Letters:
        def decode(self, ids, **options):
            return "".join(f"{int(i)} " for i in ids)

    streamer = TextIteratorStreamer(Letters(), skip_prompt=True)
    thread = threading.Thread(target=answer, args=(wrapped, inputs), kwargs={"streamer": streamer})
    thread.start()
    text = "".join(streamer)
    thread.join()
    assert text.split() == [str(i) for i in greedy[0, inputs["input_ids"].shape[1] :].tolist()]


@each_family
def test_max_length_counts_the_prompt_that_the_caller_sees(family, wrapped):
    inputs = family.inputs(ROWS)
    by_new = answer(wrapped, inputs)
    by_length = answer(wrapped, inputs, max_new_tokens=None, max_length=inputs["input_ids"].shape[1] + LENGTH)
    assert torch.equal(by_new, by_length)


@each_family
def test_inputs_may_be_given_by_place(family, wrapped):
    inputs = dict(family.inputs(ROWS))
    ids = inputs.pop("input_ids")
    out = wrapped.generate(ids, **inputs, max_new_tokens=3, do_sample=False, eos_token_id=None)
    assert torch.equal(out, answer(wrapped, {"input_ids": ids, **inputs}, max_new_tokens=3))


@each_family
def test_without_cache_equals_with_cache(family, wrapped):
    inputs = family.inputs(ROWS)
    assert torch.equal(answer(wrapped, inputs, use_cache=False), answer(wrapped, inputs))


@each_family
@pytest.mark.parametrize("beams", [2, 3])
def test_beams_of_a_batch_equal_those_of_its_rows(family, wrapped, beams):
    together = answer(wrapped, family.inputs(ROWS), num_beams=beams)
    for i, row in enumerate(ROWS):
        alone = answer(wrapped, family.inputs([row]), num_beams=beams)
        assert together[i, -LENGTH:].tolist() == alone[0, -LENGTH:].tolist()


@each_family
def test_return_sequences_of_sampling(family, wrapped):
    inputs = family.inputs(ROWS)
    torch.manual_seed(0)
    out = answer(wrapped, inputs, do_sample=True, num_return_sequences=3, top_k=VOCAB)
    assert out.shape == (6, inputs["input_ids"].shape[1] + LENGTH)
    assert torch.equal(out[:3, : inputs["input_ids"].shape[1]], inputs["input_ids"][:1].expand(3, -1))
    # The first step of every sample of a row must see the same image: equal seeds give equal answers.
    torch.manual_seed(0)
    assert torch.equal(answer(wrapped, inputs, do_sample=True, num_return_sequences=3, top_k=VOCAB), out)


@each_family
def test_processors_and_criteria_see_the_full_prompt(family, wrapped):
    inputs = family.inputs(ROWS)
    seen: list[torch.Tensor] = []

    class Note(LogitsProcessor):
        def __call__(self, input_ids, scores):
            seen.append(input_ids)
            return scores

    class Stop(StoppingCriteria):
        def __call__(self, input_ids, scores, **kwargs):
            done = input_ids.shape[1] >= inputs["input_ids"].shape[1] + 2
            return torch.full((len(input_ids),), done)

    out = answer(wrapped, inputs, logits_processor=[Note()], stopping_criteria=[Stop()])
    assert torch.equal(seen[0], inputs["input_ids"])
    assert out.shape[1] == inputs["input_ids"].shape[1] + 2


@each_family
def test_repetition_penalty_covers_the_full_prompt(family, wrapped):
    inputs = family.inputs(ROWS[:1])
    raw = answer(wrapped, inputs, max_new_tokens=1, output_logits=True, return_dict_in_generate=True)
    scored = answer(
        wrapped, inputs, max_new_tokens=1, repetition_penalty=1.7, output_scores=True, return_dict_in_generate=True
    )
    logits, scores = raw.logits[0][0], scored.scores[0][0]
    expected = logits.clone()
    ids = inputs["input_ids"][0].unique()
    expected[ids] = torch.where(logits[ids] < 0, logits[ids] * 1.7, logits[ids] / 1.7)
    torch.testing.assert_close(scores, expected)


@each_family
def test_returned_dict_holds_sequences_and_scores(family, wrapped):
    inputs = family.inputs(ROWS)
    out = answer(wrapped, inputs, return_dict_in_generate=True, output_scores=True)
    assert torch.equal(out.sequences, answer(wrapped, inputs))
    assert len(out.scores) == LENGTH
    cached = out[CACHE].get_seq_length()
    assert cached == max(wrapped.vtc.report.prompt_after) + LENGTH - 1


@each_family
@pytest.mark.parametrize("options", [{"prompt_lookup_num_tokens": 3}, {"cache_implementation": "static"}], ids=str)
def test_other_ways_of_decoding_equal_greedy(family, wrapped, options):
    if "prompt_lookup_num_tokens" in options and family.layers == "linear":
        return  # refused by transformers: a state cannot be rolled back
    rows = ROWS[:1] if "prompt_lookup_num_tokens" in options else ROWS
    inputs = family.inputs(rows)
    greedy = answer(wrapped, inputs, max_new_tokens=12)
    assert torch.equal(answer(wrapped, inputs, max_new_tokens=12, **options), greedy)


@each_family
def test_text_only_prompts_are_the_stock_model(family):
    model = family.build()
    inputs = family.inputs([[6], [4]])
    stock = answer(model, inputs)
    reduce_tokens(model, keep=0.25)
    assert torch.equal(answer(model, inputs), stock)
    assert model.vtc.report.items == ()


@each_family
def test_a_given_empty_cache_is_filled(family, wrapped):
    inputs = family.inputs(ROWS)
    cache = DynamicCache(config=wrapped.config.get_text_config())
    assert torch.equal(answer(wrapped, inputs, **{CACHE: cache}), answer(wrapped, inputs))
    assert cache.get_seq_length() == max(wrapped.vtc.report.prompt_after) + LENGTH - 1


@each_family
@pytest.mark.parametrize("side", ["left", "right"])
def test_labels_give_the_loss_of_the_full_logits(family, wrapped, side):
    inputs = family.inputs(ROWS, side)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    labels = ids.masked_fill(visual(ids, wrapped) | (mask == 0) | (ids == BOS), -100)
    out = wrapped(**inputs, labels=labels)
    assert out.logits.shape == (*ids.shape, wrapped.config.get_text_config().vocab_size)
    by_hand = torch.nn.functional.cross_entropy(out.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    torch.testing.assert_close(out.loss, by_hand, rtol=1e-5, atol=1e-5)


@each_family
@pytest.mark.parametrize("recipe", ["kcenter", "kcenter-mean"])
def test_gradients_reach_encoder_and_decoder(family, recipe):
    model = reduce_tokens(family.build(), recipe, keep=0.25)
    inputs = family.inputs(ROWS)
    ids = inputs["input_ids"]
    model(**inputs, labels=ids.masked_fill(visual(ids, model) | (inputs["attention_mask"] == 0), -100)).loss.backward()
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    decoder = {id(p) for p in model.get_decoder().parameters()}
    named = dict(model.named_parameters())
    assert any("visual" in n or "vision" in n for n in grads)
    assert any(".layers." in n and id(named[n]) in decoder for n in grads)


@each_family
def test_logits_to_keep_cuts_the_full_logits(family, wrapped):
    inputs = family.inputs(ROWS)
    with torch.no_grad():
        full = wrapped(**inputs).logits
        for wanted in (1, 4, 30):
            torch.testing.assert_close(wrapped(**inputs, logits_to_keep=wanted).logits, full[:, -wanted:])
        places = torch.tensor([0, 5, 9])
        torch.testing.assert_close(wrapped(**inputs, logits_to_keep=places).logits, full[:, places])
        as_tuple = wrapped(**inputs, return_dict=False)
        torch.testing.assert_close(as_tuple[0], full)


@each_family
@pytest.mark.parametrize("positions", ["original", "compact"])
@pytest.mark.parametrize("with_mask", [True, False])
def test_a_loop_over_forward_equals_generate(family, positions, with_mask):
    model = reduce_tokens(family.build(), "kcenter", keep=0.25, positions=positions)
    inputs = family.inputs(ROWS if with_mask else ROWS[1:])
    expected = answer(model, inputs)
    mask = inputs["attention_mask"]
    with torch.no_grad():
        out = model(**inputs, use_cache=True)
        tokens = []
        for _ in range(LENGTH):
            tokens.append(out.logits[:, -1].argmax(-1, keepdim=True))
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            masked = {"attention_mask": mask} if with_mask else {}
            out = model(input_ids=tokens[-1], **{CACHE: out[CACHE]}, use_cache=True, **masked)
    assert torch.equal(torch.cat(tokens, dim=1), expected[:, -LENGTH:])


def hook_count(model) -> int:
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules())


@each_family
def test_restore_takes_everything_off(family):
    model = family.build()
    inputs = family.inputs(ROWS)
    before = answer(model, inputs)  # the first call also installs hooks that transformers keeps for its own recording
    attributes, hooks = set(model.__dict__), hook_count(model)
    reduce_tokens(reduce_tokens(model, family.able("cls"), keep=0.5), "kcenter-mean", keep=0.25)
    assert hook_count(model) > hooks
    restore(model)
    assert set(model.__dict__) == attributes
    assert hook_count(model) == hooks
    assert torch.equal(answer(model, inputs), before)
