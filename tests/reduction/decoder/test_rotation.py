"""FEATHER undoes rotary positions of halves; models that turn neighbours are refused it."""

from __future__ import annotations

import pytest
import torch

from tests.checks import footprint
from tests.families.glm4v import GLM4V, GLM_OTHERS
from tests.families.odd import ODD
from tests.grid import stock
from tests.reduction.decoder.common import every_full
from vtc import reduce_tokens
from vtc.reduction.decoder.rope_check import _turns_halves

PAIRED = [family for family in (*GLM4V, *GLM_OTHERS) if family.pairs == "neighbours"]
HALVES = [odd for odd in ODD if odd.name.startswith(("Pali", "Deepseek", "Paddle", "LightOn", "Vip"))]


@pytest.mark.parametrize("family", PAIRED, ids=lambda family: family.name)
def test_neighbours_are_refused(family):
    model = family.build()
    before = footprint(model)
    with pytest.raises(ValueError, match=r"'feather' .*rotary positions.* \w+Attention .*'fastv'"):
        reduce_tokens(model, "feather")
    assert footprint(model) == before
    reduce_tokens(model, "fastv")


@every_full
def test_halves_are_known(family):
    assert _turns_halves(stock(family).get_decoder().layers[0].self_attn)


@pytest.mark.parametrize("odd", HALVES, ids=lambda odd: odd.name)
def test_halves_of_further_models_are_known(odd):
    assert _turns_halves(odd.build().get_decoder().layers[0].self_attn)


def test_glm_with_experts_turns_halves():
    (model,) = (family.build() for family in GLM_OTHERS if family not in PAIRED)
    reduce_tokens(model, "feather")


def test_attention_of_an_unknown_make():
    class Plain(torch.nn.Module):
        def forward(self, hidden_states):
            return hidden_states

    assert not _turns_halves(Plain())
