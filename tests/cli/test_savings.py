"""The box of `vtc demo`: truthful whichever way the times go."""

from __future__ import annotations

import pytest

from vtc.cli.savings import BATCH, Saving, savings, why
from vtc.inference.loading import load
from vtc.recipes.named import recipe


@pytest.mark.parametrize(
    ("saving", "cells"),
    [
        (Saving("tokens", 256, 64, ""), ("tokens", "256", "64", "4.0 x fewer")),
        (Saving("tokens", 64, 96, ""), ("tokens", "64", "96", "1.5 x more")),
        (Saving("time", 100.0, 40.0, "ms", True), ("time", "100 ms", "40 ms", "2.5 x faster")),
        (Saving("time", 20.0, 30.0, "ms", True), ("time", "20 ms", "30 ms", "1.5 x slower")),
        (Saving("time", 20.0, 20.5, "ms", True), ("time", "20 ms", "20.5 ms", "as fast")),
    ],
)
def test_a_line(saving, cells):
    assert saving.cells() == cells


def test_what_is_no_gain_is_explained():
    faster, slower = Saving("one", 2.0, 1.0, "ms", True), Saving("many", 1.0, 2.0, "ms", True)
    assert why([Saving("tokens", 9, 3, ""), faster]) == ""
    assert why([faster, slower]).startswith("No gain in many:")
    assert why([slower]).startswith("No gain anywhere:")


def test_of_a_tiny_model():
    model, processor = load("tiny-llava", device="cpu")
    found = savings(model, processor, recipe("kcenter", keep=0.5))
    assert (found[0].before, found[0].after) == (196, 98)
    assert found[1].times == pytest.approx(2, abs=0.3)
    assert [one.faster for one in found] == [False] * 3 + [True] * 3
    assert all(one.before > 0 and one.after > 0 for one in found)
    assert sum(f"batch of {BATCH}" in one.what for one in found) == 2
