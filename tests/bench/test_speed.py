"""`vtc bench speed`: its clock by hand-made times, and its rows on a tiny model against arithmetic."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch

from vtc.bench.clock import Spread, interleaved
from vtc.bench.ideal import ideal
from vtc.bench.speed import SpeedRow, SpeedTest
from vtc.bench.variants import variants
from vtc.embedded.scene import HELD_OUT, Scene
from vtc.inference.loading import load
from vtc.inference.prompting import inputs
from vtc.recipes.named import recipe


class Clock:
    """Time that passes only in calls."""

    def __init__(self):
        self.now, self.order = 0.0, []

    def __call__(self):
        return self.now

    def call(self, name, *seconds):
        left = iter(seconds)

        def run():
            self.order.append(name)
            self.now += next(left)

        return run


def test_calls_are_taken_in_turns_and_the_first_round_does_not_count():
    clock = Clock()
    calls = {"a": clock.call("a", 90, 1, 2, 3), "b": clock.call("b", 90, 4, 5, 6)}
    assert interleaved(calls, 3, clock=clock) == {"a": [1, 2, 3], "b": [4, 5, 6]}
    assert clock.order == ["a", "b", "b", "a", "a", "b", "b", "a"]


def test_what_is_warm_already_is_not_called_to_warm_up():
    clock = Clock()
    calls = {"a": clock.call("a", 1, 2), "b": clock.call("b", 90, 4, 5)}
    assert interleaved(calls, 2, clock=clock, cold={"b"}) == {"a": [1, 2], "b": [4, 5]}
    assert clock.order == ["b", "b", "a", "a", "b"]


def test_what_a_call_is_made_within_is_not_timed():
    clock, inside = Clock(), []

    @contextmanager
    def within():
        clock.now += 100
        inside.append(True)
        yield
        inside.pop()

    def call():
        clock.now += 1 if inside else 50

    assert interleaved({"a": call}, 2, clock=clock, around={"a": within}) == {"a": [1, 1]}


def test_patience_ends_the_rounds_but_one_is_made():
    clock = Clock()
    assert interleaved({"a": clock.call("a", 50, 7, 8)}, 9, clock=clock, patience=20) == {"a": [7]}


def test_spread():
    assert Spread.of([3, 1, 2, 5, 4]) == Spread(3, 2, 4, 5)


def test_throughput_is_of_whole_answers():
    row = SpeedRow(4, "a", 0.5, first=Spread(1.0, 1, 1, 7), step=Spread(0.1, 0, 0, 7))
    assert row.requests_a_second(11) == pytest.approx(4 / 2.0)
    assert SpeedRow(4, "a", 0.5, refused="it cannot").requests_a_second(11) is None


@pytest.fixture(scope="module")
def tiny():
    return load("tiny-llava", device="cpu")


@pytest.mark.parametrize("batch", [1, 3])
def test_rows_of_a_tiny_model(tiny, batch):
    model, processor = tiny
    scenes = [Scene(HELD_OUT + i) for i in range(batch)]
    given = inputs(
        model, processor, ["what is it?", "what color is the star?", "how many?"][:batch], [s.image for s in scenes]
    )
    chosen = variants([recipe("kcenter"), recipe("globalcom2"), recipe("fastv")], (0.5, 0.25), text_alone=False)
    rows = list(SpeedTest(model, rounds=2, answer=4).rows(given, chosen))
    by = {(row.name, row.keep): row for row in rows}
    full, half, inside = by["full", 1.0], by["kcenter", 0.5], by["fastv", 1.0]
    assert (full.tokens, half.tokens, by["kcenter", 0.25].tokens) == (196 * batch, 98 * batch, 49 * batch)
    assert full.prompt - half.prompt == 98 * batch
    assert full.ideal is not None
    assert half.ideal is not None
    assert inside.ideal is None
    assert inside.over_ideal is None
    assert half.over_ideal.count == half.first.count == 2
    assert half.over_ideal.low <= half.first.high / half.ideal.low
    assert "thumbnail" in by["globalcom2", 0.5].refused
    assert {"encode", "select", "merge", "splice"} <= half.phases.keys()
    assert sum(half.phases.values()) < half.first.high * 1.5
    assert 0 < half.flops < full.flops
    per_token = 2 * 6 * 128 * 4
    assert full.kv_bytes == per_token * full.prompt
    assert half.kv_bytes == per_token * half.prompt
    assert inside.kv_bytes < full.kv_bytes
    assert all(row.peak_bytes is None for row in rows)
    assert all(row.refused or (row.step.median > 0 and row.requests_a_second(4) > 0) for row in rows)


@torch.no_grad()
def test_the_ideal_encodes_and_reads_as_many_embeddings(tiny):
    model, processor = tiny
    given = inputs(
        model, processor, ["what?", "what color is the star?"], [Scene(HELD_OUT).image, Scene(HELD_OUT + 1).image]
    )
    seen = {}
    decoder = model.model.language_model
    hooks = [
        decoder.register_forward_pre_hook(lambda m, args, kwargs: seen.update(kwargs), with_kwargs=True),
        model.model.vision_tower.register_forward_hook(lambda m, args, out: seen.update(tower=out)),
    ]
    try:
        ideal(model, given, (30, 40))()
    finally:
        for hook in hooks:
            hook.remove()
    assert seen["inputs_embeds"].shape == (2, 40, 128)
    assert seen["attention_mask"].sum(1).tolist() == [30, 40]
    assert "tower" in seen
