"""The attention that stages are shown, beside what the stock model's eager attention computes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch

from tests.checks import check_close
from tests.families import LLAVA, visual
from tests.families.odd import ODD
from tests.reduction.decoder.common import ByLot
from vtc import Recipe, reduce_tokens
from vtc.reduction.decoder import apply_cut
from vtc.stages import Feather, SparseVLM, ToDRE

PALIGEMMA = next(odd for odd in ODD if odd.name.startswith("PaliGemma"))


@dataclass(frozen=True)
class Watching(SparseVLM):
    """Notes what it is shown."""

    schedule: Any = ((2, 0.5),)
    found: list = field(default_factory=list)

    def keep(self, tokens, count, cut):
        self.found.append(tokens.shown)
        return torch.arange(count)


@dataclass(frozen=True)
class WatchingAll(Watching):
    reads = ToDRE.reads


@dataclass(frozen=True)
class WatchingLast(Watching):
    reads = Feather.reads


@torch.no_grad()
def pali(stage: Any) -> tuple[Any, Any, list[int], list[int]]:
    """What `stage` was shown, the layer's own weights, and the columns of the image and of the text behind it."""
    inputs = PALIGEMMA.inputs([[3, 1, 6]])
    model = PALIGEMMA.build()
    want = model(**inputs, output_attentions=True).attentions[1][0]
    reduce_tokens(model, Recipe((stage,)))(**inputs)
    own = visual(inputs["input_ids"], model)[0].nonzero().flatten().tolist()
    return stage.found[0], want, own, list(range(own[-1] + 1, inputs["input_ids"].shape[1]))


def test_text_that_sees_what_comes_behind_it():
    shown, want, own, behind = pali(Watching())
    check_close(shown.to_own(), want[:, behind][:, :, own], "attention of the text")


def test_a_image_that_sees_the_text_behind_it():
    shown, want, own, behind = pali(WatchingAll())
    part = torch.cat([part for _, part in shown.blocks()], dim=1)[:, shown.words :]
    check_close(part[..., shown.text][..., -len(behind) :], want[:, own][:, :, behind], "attention of the image")
    assert float(want[:, own][:, :, behind].sum(dim=-1).mean()) > 0.02


def test_without_the_layers_mask_the_text_is_shown_otherwise(monkeypatch):
    """A control."""
    attention = apply_cut._attention
    monkeypatch.setattr(
        apply_cut, "_attention", lambda step, seen, *args: attention(step, replace(seen, mask=None), *args)
    )
    shown, want, own, behind = pali(Watching())
    assert float((shown.to_own() - want[:, behind][:, :, own]).abs().max()) > 1e-2


@pytest.mark.parametrize("seed", range(3))
@torch.no_grad()
def test_a_prompt_that_ends_with_a_image_of_which_the_end_left(seed):
    inputs, stage, caught = LLAVA.inputs([[3, (1, 12, 4)]]), WatchingLast(), {}
    model = reduce_tokens(LLAVA.build(), Recipe((ByLot(((1, 0.6),), seed=seed), stage)))
    attention = model.get_decoder().layers[1].self_attn
    for name in ("q_proj", "k_proj"):
        getattr(attention, name).register_forward_hook(lambda _, args, out, n=name: caught.__setitem__(n, out[0]))
    model(**inputs)
    heads = (caught[name].unflatten(-1, (-1, attention.head_dim)).transpose(0, 1) for name in ("q_proj", "k_proj"))
    query, key = heads
    key, own = key.repeat_interleave(len(query) // len(key), dim=0), stage.found[0].own
    want = (query[:, -1:] @ key[:, own].transpose(1, 2) * attention.scaling).softmax(dim=-1)
    check_close(stage.found[0].without_rotation(), want, "attention without positions")
    assert bool(stage.found[0].visible.all())
