"""Selection on a GPU: how often the host waits for it does not grow with what is picked, nor with the items."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.stages.pretended_gpu import GPU, OnGpu, pretended_gpu
from tests.stages.test_maxmin import draw
from vtc.core.tokens import Layout, VisualTokens
from vtc.recipes.named import recipe

RECIPES = ("kcenter", "todre", "cls", "random", "stride")


def items(count):
    """Items of different sizes, their features and attention on the GPU."""
    made = []
    for i in range(count):
        side = 8 + i
        features = draw("white", side * side, 12, i).as_subclass(OnGpu)
        attention = torch.rand(side * side, generator=torch.Generator().manual_seed(i)).as_subclass(OnGpu)
        made.append(VisualTokens(features, Layout.of_grid(side, side), {"attention": attention}, key=i))
    return made


def on_host(tensor):
    return tensor.as_subclass(torch.Tensor)


def waits(name, count, keep):
    one = recipe(name)
    given = items(count)
    with pretended_gpu() as gpu:
        assert given[0].features.device == GPU
        reductions = one.reduce_each(given, [int(len(tokens) * keep) for tokens in given])
    assert all(isinstance(reduction.anchor, OnGpu) for reduction in reductions)
    return gpu.waits, reductions


@pytest.mark.parametrize("name", RECIPES)
def test_the_host_waits_once_whatever_is_picked(name):
    few, many = waits(name, 2, 0.1)[0], waits(name, 6, 0.6)[0]
    assert few == many == ["__bool__"]  # of the check that a selector kept what was due


@pytest.mark.parametrize("name", RECIPES)
def test_a_gpu_keeps_what_the_host_keeps(name):
    here = [
        replace(own, features=on_host(own.features), cues={"attention": on_host(own.cues["attention"])})
        for own in items(4)
    ]
    expected = recipe(name).reduce_each(here, [len(tokens) // 3 for tokens in here])
    _, found = waits(name, 4, 1 / 3)
    for one, other in zip(found, expected, strict=True):
        assert one.anchor.tolist() == other.anchor.tolist()


def test_waits_are_counted():
    with pretended_gpu() as gpu:
        there = torch.arange(4.0).as_subclass(OnGpu)
        assert (there + 1).device == there[:2].device == torch.zeros(2, device=there.device).device == GPU
        (there > 2).any().item()
        there[there > 1]
        there.cpu() + 1
        torch.nonzero(there)
        int(there[0])
    assert gpu.waits == ["item", "__getitem__", "cpu", "nonzero", "__int__"]
