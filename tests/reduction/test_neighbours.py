"""A wrapped model among the tools that people put around models: PEFT, accelerate, compile, copies, threads."""

from __future__ import annotations

import contextvars
import copy
import pickle
import threading

import pytest
import torch
from accelerate import cpu_offload, dispatch_model
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText, CompileConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface

from tests.families import FAMILIES
from tests.families.glm4v import GLM4V
from tests.families.lfm2_vl import LFM2_VL
from tests.reduction.test_generate import (
    ROWS,
    answer,
    each_family,
    hook_count,
)
from vtc import reduce_tokens, reduced, restore


def lora(model):
    # peft does not know the maps of Gemma 4's tower, which clip.
    left = r".*vision_tower.*" if type(model).__name__.startswith("Gemma4") else None
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], exclude_modules=left, init_lora_weights=False)
    torch.manual_seed(0)
    return get_peft_model(model, config)


@each_family
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's use of it, not ours
def test_peft_before_and_after(family):
    inputs = family.inputs(ROWS)
    after = lora(reduce_tokens(family.build(), "kcenter", keep=0.25)).eval()
    before = reduce_tokens(lora(family.build()).eval(), "kcenter", keep=0.25)
    assert torch.equal(answer(after, inputs), answer(before, inputs))
    assert before.vtc.report.after == after.vtc.report.after < after.vtc.report.before
    bare = reduce_tokens(family.build(), "kcenter", keep=0.25)
    with torch.no_grad():
        assert not torch.allclose(bare(**inputs).logits, before(**inputs).logits)
        torch.testing.assert_close(after(**inputs).logits, before(**inputs).logits)
    assert torch.equal(answer(restore(before), inputs), answer(restore(after), inputs))


@each_family
def test_accelerate_dispatch_and_offload(family):
    inputs = family.inputs(ROWS)
    expected = answer(reduce_tokens(family.build(), family.able("cls"), keep=0.25), inputs)
    places = [lambda m: dispatch_model(m, {"": "cpu"}, force_hooks=True), lambda m: cpu_offload(m, "cpu")]
    beside = getattr(family.build().get_decoder(), "embed_tokens_per_layer", None) is not None
    if beside or family in (*GLM4V, LFM2_VL):  # the stock class reads a weight beside its module
        with pytest.raises(RuntimeError, match="meta"):
            answer(places.pop()(family.build()), inputs)
    for place in places:
        model = reduce_tokens(place(family.build()), family.able("cls"), keep=0.25)
        assert torch.equal(answer(model, inputs), expected)
        wrapped_first = place(reduce_tokens(family.build(), family.able("cls"), keep=0.25))
        assert torch.equal(answer(wrapped_first, inputs), expected)


@each_family
@pytest.mark.parametrize("recipe", ["kcenter", "cls-mean"])
def test_bf16(family, recipe):
    inputs = family.inputs(ROWS)
    model = reduce_tokens(family.build().to(torch.bfloat16), family.able(recipe), keep=0.25)
    out = model(**inputs)
    assert out.logits.dtype == torch.bfloat16
    assert answer(model, inputs).shape[1] == inputs["input_ids"].shape[1] + 5


@each_family
def test_compiled_decode_step(family):
    torch._dynamo.reset()  # it gives up on code that was compiled for many models before
    inputs = family.inputs(ROWS)
    model = reduce_tokens(family.build(), "kcenter", keep=0.25)
    config = CompileConfig(backend="eager", fullgraph=True, mode=None)
    config._compile_all_devices = True
    compiled = answer(model, inputs, cache_implementation="static", compile_config=config)
    assert torch.equal(compiled, answer(model, inputs))


@each_family
def test_save_pretrained_saves_the_stock_model(family, tmp_path):
    inputs = family.inputs(ROWS)
    model = family.build()
    before = answer(model, inputs)
    reduce_tokens(model, keep=0.25).save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    assert "vtc" not in loaded.__dict__
    assert torch.equal(answer(loaded, inputs), before)


@each_family
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"])
@pytest.mark.parametrize("recipe", ["kcenter", "cls"])
def test_copies_work_on_their_own(family, duplicate, recipe):
    inputs = family.inputs(ROWS)
    model = reduce_tokens(family.build(), family.able(recipe), keep=0.25)
    # Before the first call: after it a stock model cannot be pickled, because of hooks that transformers leaves on it.
    twin = duplicate(model)
    assert twin.vtc is not model.vtc
    assert twin.vtc.model is twin
    expected = answer(model, inputs)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    assert torch.equal(answer(twin, inputs), expected)
    hooks = hook_count(twin)
    restore(model)
    assert hook_count(twin) == hooks
    assert answer(twin, inputs).tolist() == expected.tolist()
    restore(twin)
    assert "generate" not in twin.__dict__
    assert hook_count(twin) < hooks


@each_family
def test_two_threads_do_not_meet(family):
    model = reduce_tokens(family.build(), family.able("cls"), keep=0.25)
    prompts = [family.inputs([[3, (1,), 5]]), family.inputs([[2, (2,), 2, (3,), 4]])]
    expected = [answer(model, p).tolist() for p in prompts]
    wrong: list[object] = []

    def work(i):
        for _ in range(5):
            out = answer(model, prompts[i]).tolist()
            if out != expected[i] or len(model.vtc.report.items) != i + 1:
                wrong.append((i, out))

    threads = [threading.Thread(target=work, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_reports_stay_in_their_context():
    family = FAMILIES[0]
    model = reduce_tokens(family.build(), keep=0.25)

    def ask(rows):
        answer(model, family.inputs(rows))
        return len(model.vtc.report.items)

    with pytest.raises(LookupError, match="since it was wrapped"):
        contextvars.Context().run(lambda: model.vtc.report)
    assert contextvars.Context().run(ask, ROWS) == 3
    assert ask(ROWS[:1]) == 1
    twin = reduce_tokens(family.build(), keep=0.5)
    answer(twin, family.inputs(ROWS))
    assert len(model.vtc.report.items) == 1


@each_family
def test_the_block_form_puts_back_what_was(family):
    inputs = family.inputs(ROWS)
    model = family.build()
    stock = answer(model, inputs)
    hooks = hook_count(model)
    with reduced(model, "stride", keep=0.5) as inner:
        assert inner is model
        half = answer(model, inputs)
        with pytest.raises(ZeroDivisionError), reduced(model, family.able("cls"), keep=0.25):
            raise ZeroDivisionError
        assert torch.equal(answer(model, inputs), half)
    assert hook_count(model) == hooks
    assert torch.equal(answer(model, inputs), stock)


@each_family
def test_flash_attention_never_sees_gaps_in_positions(family, monkeypatch):
    """Flash attention reads position gaps of a single row as packed sequences; the layers must not be given any."""
    seen = []

    def probe(module, query, key, value, attention_mask, **kwargs):
        seen.append(kwargs.get("position_ids"))
        return ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, attention_mask, **kwargs)

    AttentionInterface.register("flash_probe", probe)
    model = family.build()
    if not model._supports_flash_attn:
        return
    inputs = family.inputs([[3, (1,), 5]])
    expected = answer(reduce_tokens(model, "stride", keep=0.25), inputs)
    restore(model)
    try:
        decoder = model.get_decoder()
        for module in decoder.modules():
            if hasattr(module, "config"):
                monkeypatch.setattr(module.config, "_attn_implementation_internal", "flash_probe", raising=False)
        assert torch.equal(answer(reduce_tokens(model, "stride", keep=0.25), inputs), expected)
        assert seen
        assert all(positions is None for positions in seen)
        monkeypatch.undo()
        with pytest.raises(ValueError, match="after wrapping"):
            answer(model, inputs)
    finally:
        ALL_ATTENTION_FUNCTIONS._local_mapping.pop("flash_probe", None)
        ALL_ATTENTION_FUNCTIONS._global_mapping.pop("flash_probe", None)
