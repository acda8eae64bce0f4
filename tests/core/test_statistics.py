"""Intervals against a slow oracle, with a negative control and a known difference."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from vtc.bench.cases import Case
from vtc.bench.results import (
    Results,
    gate,
    mutually_separated,
    separated,
)
from vtc.bench.variants import TEXT_ALONE, Variant, variants
from vtc.core.statistics import Interval, intervals
from vtc.recipes.named import recipe

NAN = float("nan")


def slow(values, scene, draws, seed):
    """One column, one draw at a time, each scene's questions copied out as often as it was drawn."""
    scenes = int(scene.max()) + 1
    weights = np.random.default_rng(seed).multinomial(scenes, [1 / scenes] * scenes, size=draws)
    means = []
    for weight in weights:
        drawn = [v for s, times in enumerate(weight) for v in list(values[scene == s]) * times if not np.isnan(v)]
        if drawn:
            means.append(sum(drawn) / len(drawn))
    return np.quantile(means, [0.025, 0.975])


def clustered(scenes=40, seed=0):
    rng = np.random.default_rng(seed)
    scene = np.repeat(np.arange(scenes), rng.integers(1, 5, size=scenes))
    return rng, scene


@pytest.mark.parametrize("missing", [0.0, 0.3, 0.9])
def test_intervals_equal_a_slow_oracle(missing):
    rng, scene = clustered()
    values = rng.normal(size=(len(scene), 3))
    values[rng.random(values.shape) < missing] = NAN
    for k, found in enumerate(intervals(values, scene, draws=200, seed=7)):
        assert (found.low, found.high) == pytest.approx(tuple(slow(values[:, k], scene, 200, 7)), abs=1e-12)
        assert found.mean == pytest.approx(np.nanmean(values[:, k]))


def test_blocks_of_draws_change_nothing_but_memory(monkeypatch):
    rng, scene = clustered()
    values = rng.normal(size=(len(scene), 2))
    whole = intervals(values, scene, draws=300)
    monkeypatch.setattr("vtc.core.statistics.BLOCK", 40 * 7)
    assert intervals(values, scene, draws=300) == whole


def test_the_interval_of_identical_arms_is_zero_exactly():
    rng, scene = clustered()
    score = (rng.random(len(scene)) < 0.7).astype(float)
    (found,) = intervals((score - score)[:, None], scene)
    assert found == Interval(0.0, 0.0, 0.0)
    assert not found.excludes_zero


def test_a_known_difference_is_found_and_none_is_claimed_without_one():
    claims = {0.0: 0, 0.25: 0}
    for seed in range(40):
        rng, scene = clustered(100, seed)
        luck = rng.random(100)[scene]
        for gap in claims:
            a, b = (luck + 0.3 * rng.normal(size=len(scene)) < bound for bound in (0.5 + gap, 0.5))
            (found,) = intervals((a.astype(float) - b)[:, None], scene, draws=400, seed=seed)
            claims[gap] += found.excludes_zero
    assert claims[0.25] == 40
    assert claims[0.0] <= 6  # 2 are expected


def test_questions_of_one_scene_do_not_count_as_independent():
    rng = np.random.default_rng(0)
    score = rng.normal(size=60)
    (few,) = intervals(np.repeat(score, 4)[:, None], np.repeat(np.arange(60), 4))
    (naive,) = intervals(np.repeat(score, 4)[:, None], np.arange(240))
    assert few.high - few.low > 1.6 * (naive.high - naive.low)


def test_where_there_is_nothing_to_tell_from():
    scene = np.array([0, 0, 1])
    nothing, alone = intervals(np.array([[NAN, 1], [NAN, 0], [NAN, NAN]]), scene)
    assert nothing == Interval(None, None, None)
    assert alone == Interval(0.5, None, None)
    assert not alone.excludes_zero
    assert intervals(np.zeros((0, 2)), np.zeros(0, dtype=np.int64)) == [nothing] * 2


@pytest.mark.parametrize("options", [{"draws": 0}, {"level": 0.0}, {"level": 1.0}], ids=str)
def test_bad_settings_are_refused(options):
    with pytest.raises(ValueError, match="{}={};".format(*next(iter(options.items())))):
        intervals(np.zeros((2, 1)), np.array([0, 1]), **options)


def results(rates: dict[str, float], text: float = 0.3, n: int = 400) -> Results:
    """Recipes at keep 0.1 that are right at these rates, of 100 scenes with four questions each."""
    cases = [Case(str(i), str(i // 4), "q", "a", "s", lambda: None) for i in range(n)]
    compared = variants([], [0.1])
    compared += [Variant(name, 0.1, recipe("random", keep=0.1)) for name in rates]
    level = np.random.default_rng(0).random(n)
    exact = {variant.key: (level < rates.get(variant.name, text)).astype(float) for variant in compared}
    scene = np.arange(n) // 4
    return Results(cases, compared, scene, {"exact": exact, "tokens": exact}, {}, {})


def test_pairs_are_separated_where_they_differ_and_only_there():
    found = results({"best": 0.9, "good": 0.7, "same": 0.7, "poor": 0.4})
    pairs = separated(found, 0.1)
    assert set(pairs) == {
        ("best", "good"),
        ("best", "same"),
        ("best", "poor"),
        ("good", "poor"),
        ("same", "poor"),
    }
    assert separated(found, 0.25) == []
    assert mutually_separated(pairs) == ["best", "good", "poor"]


@pytest.mark.parametrize(
    ("rates", "text", "holds"),
    [
        ({"a": 0.9, "b": 0.6, "c": 0.3}, 0.3, True),
        ({"a": 0.9, "b": 0.6, "c": 0.6}, 0.3, False),
        ({"a": 0.9, "b": 0.6, "c": 0.3}, 0.5, False),
    ],
)
def test_the_gate(rates, text, holds):
    found = results(rates, text)
    assert gate(found, separated(found, 0.1))["holds"] is holds
    del found.values["exact"][TEXT_ALONE.key]
    assert gate(found, [])["holds"] is None


def test_the_largest_set_equals_a_search_of_all_subsets():
    rng = np.random.default_rng(1)
    for _ in range(30):
        names = list("abcdefg")
        pairs = [pair for pair in combinations(names, 2) if rng.random() < 0.6]
        whole = [
            len(some)
            for size in range(2, 8)
            for some in combinations(names, size)
            if all(pair in pairs for pair in combinations(some, 2))
        ]
        found = mutually_separated(pairs)
        assert len(found) == max(whole, default=0)
        assert all(pair in pairs or pair[::-1] in pairs for pair in combinations(found, 2))
