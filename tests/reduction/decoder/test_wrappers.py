"""Decoder stages among PEFT, accelerate, copies, threads, other wraps and other attention kernels."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, flash_attention_mask
from transformers.modeling_flash_attention_utils import _is_packed_sequence
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tests.checks import (
    check_close,
    check_decoding,
    check_same,
    footprint,
    neighbourhood,
)
from tests.grid import (
    fresh,
    generate,
    steps,
    stock,
)
from tests.reduction.decoder.common import (
    BATCHES,
    SCHEDULES,
    four,
    recipe,
    told,
)
from vtc import (
    Recipe,
    reduce_tokens,
    reduced,
    restore,
)
from vtc.stages import FastV, PyramidDrop

READING = Recipe((FastV(((1, 0.5),)), PyramidDrop(((2, 0.25),))), name="reading")
"""One stage that taps a layer, one that runs a layer's projections ahead of it."""


def configs(model: Any) -> list[int]:
    """Which configuration each attention module holds."""
    return [id(layer.self_attn.config) for layer in model.get_decoder().layers]


def check_model(model: Any, family: Any, bare: Any = None, attention: str = "sdpa") -> None:
    """Greedy decoding is the oracle's. `bare` is the stock model, where its weights are not the family's."""
    inputs = family.inputs(BATCHES["uneven"])
    out = generate(model, inputs)
    inner = getattr(model, "get_base_model", lambda: model)()
    check_decoding(bare or stock(family, attention), told(inner, family, inputs), out.sequences, steps(out))


def lora(model: Any) -> Any:
    """LoRA on the language model alone."""
    peft = pytest.importorskip("peft")
    pattern = r".*language_model.*\.(q_proj|k_proj|v_proj)"
    torch.manual_seed(0)
    return peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=pattern, init_lora_weights=False)).eval()


@pytest.mark.parametrize("order", ["before", "after"])
@four
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_peft(family, order):
    model = (
        reduce_tokens(lora(fresh(family)), READING) if order == "after" else lora(reduce_tokens(fresh(family), READING))
    )
    check_model(model, family, lora(fresh(family)).merge_and_unload())
    inputs = family.inputs(BATCHES["uneven"])
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert all(p.grad.abs().sum() > 0 for n, p in model.named_parameters() if "lora_A" in n and ".0." in n)
    check_model(model.merge_and_unload(), family, lora(fresh(family)).merge_and_unload())


@pytest.mark.parametrize("order", ["before", "after"])
@four
def test_accelerate_dispatch_to_disk(family, order, tmp_path):
    accelerate = pytest.importorskip("accelerate")
    model = fresh(family)
    if order == "before":
        reduce_tokens(model, READING)
    decoder = next(name for name, module in model.named_modules() if module is model.get_decoder())
    names = [name for name, module in model.named_modules() if not any(module.children())]
    spread = {re.sub(rf"^({decoder}\.layers\.\d+)\..*", r"\1", name): "cpu" for name in names}
    spread |= {name: "disk" for name in spread if name.startswith(f"{decoder}.layers.") and not name.endswith(".0")}
    spread |= {name: "cpu" for name, _ in model.named_parameters() if not any(name.startswith(f"{k}.") for k in spread)}
    model = accelerate.dispatch_model(
        model, device_map=spread, offload_dir=tmp_path, main_device="cpu", force_hooks=True
    )
    if order == "after":
        reduce_tokens(model, READING)
    check_model(model, family)


@four
@torch.no_grad()
def test_undo_leaves_nothing_behind(family):
    model, inputs = fresh(family), family.inputs(BATCHES["uneven"])
    want, logits = generate(model, inputs), model(**inputs).logits
    before, held, around = footprint(model), configs(model), neighbourhood(model)
    reduce_tokens(model, READING)
    assert footprint(model) != before
    assert configs(model) != held
    generate(model, inputs)
    assert neighbourhood(model) == around
    reduce_tokens(model, recipe("pyramid"))
    assert configs(model) == held
    generate(model, inputs)
    restore(model)
    assert footprint(model) == before
    assert configs(model) == held
    check_same(steps(generate(model, inputs)), steps(want), "logits of generate")
    check_same(model(**inputs).logits, logits, "logits of forward")


@four
def test_wrapping_again_replaces(family):
    model = reduce_tokens(fresh(family), READING)
    generate(model, family.inputs(BATCHES["one"]))
    once, held = footprint(model), configs(model)
    reduce_tokens(model, recipe("layer-0"))
    check_model(model, family)
    assert list(model.vtc.report.decoder.kept) == [0]
    reduce_tokens(model, READING)
    assert footprint(model) == once
    assert [a != b for a, b in zip(configs(model), configs(stock(family)), strict=True)] == [True] * len(held)
    check_model(model, family)


@four
def test_a_block_puts_back_what_was(family):
    model = reduce_tokens(fresh(family), READING)
    with reduced(model, recipe("withdraw")):
        check_model(model, family)
        assert list(model.vtc.report.decoder.kept) == [2]
    check_model(model, family)
    assert list(model.vtc.report.decoder.kept) == [1, 2]


@pytest.mark.parametrize("chosen", [READING, recipe("adaptive"), recipe("layer-0")], ids=lambda r: r.name)
@four
def test_the_kernel_may_change_after_wrapping(family, chosen):
    model = reduce_tokens(fresh(family), chosen)
    for attention in ("eager", "sdpa"):
        model.set_attn_implementation(attention)
        check_model(model, family, attention=attention)
    restore(model)
    assert {layer.self_attn.config._attn_implementation for layer in model.get_decoder().layers} == {"sdpa"}


@four
def test_what_is_saved_is_the_stock_model(family, tmp_path):
    model = reduce_tokens(fresh(family), READING)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path).eval()
    assert "vtc" not in (tmp_path / "config.json").read_text()
    check_close(
        steps(generate(loaded, family.inputs(BATCHES["one"]))),
        steps(generate(stock(family), family.inputs(BATCHES["one"]))),
        "logits",
    )


def flash_rows(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, scaling: float, **kwargs: Any
) -> tuple[Tensor, None]:
    """What flash attention computes: padding taken out by a mask of keys, causal from the last query backwards."""
    assert not _is_packed_sequence(kwargs.get("position_ids"), len(query)), "it would cut the rows at gaps"
    count, keys = query.shape[2], key.shape[2]
    assert attention_mask is None or attention_mask.shape == (len(query), keys)
    groups = module.num_key_value_groups
    key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    out = torch.zeros_like(query)
    for r in range(len(query)):
        real = torch.ones(keys).bool() if attention_mask is None else attention_mask[r].bool()
        rows = torch.arange(1) if count == 1 else real[-count:].nonzero()[:, 0]
        scores = query[r][:, rows] @ key[r][:, real].transpose(1, 2) * scaling
        q, k = scores.shape[1:]
        seen = torch.arange(k) <= torch.arange(q)[:, None] + k - q
        out[r][:, rows] = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1) @ value[r][:, real]
    return out.transpose(1, 2).contiguous(), None


@pytest.fixture
def flash():
    """A kernel named as flash attention is, with its masks."""
    ALL_ATTENTION_FUNCTIONS.register("flash_rows", flash_rows)
    ALL_MASK_ATTENTION_FUNCTIONS.register("flash_rows", flash_attention_mask)
    yield "flash_rows"
    for registry in (ALL_ATTENTION_FUNCTIONS, ALL_MASK_ATTENTION_FUNCTIONS):
        registry._global_mapping.pop("flash_rows", None)
        registry._local_mapping.pop("flash_rows", None)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("schedule", [*SCHEDULES, "reading"])
@four
def test_masks_of_flash_attention(family, schedule, batch, flash):
    model, inputs = fresh(family), family.inputs(BATCHES[batch])
    model.get_decoder().config._attn_implementation_internal = flash
    reduce_tokens(model, READING if schedule == "reading" else recipe(schedule))
    out = generate(model, inputs)
    check_decoding(stock(family), told(model, family, inputs), out.sequences, steps(out))
