"""The chart of many recipes: which are drawn, and a legend that is whole."""

from __future__ import annotations

import pytest

from vtc.bench.plot import ALWAYS, Curve, Point, best


def curve(scores: dict[str, list[tuple[float, float]]]) -> Curve:
    return Curve.of([(name, Point(x, y)) for name, own in scores.items() for x, y in own], "x", "y")


def test_the_default_and_the_baselines_are_drawn_and_then_the_best():
    shares = (5, 10, 25, 50)
    scores = {f"r{i}": [(x, 50 + i) for x in shares] for i in range(20)}
    scores |= {name: [(x, 10) for x in shares] for name in ALWAYS}
    assert best([curve(scores)]) == ["r15", "r16", "r17", "r18", "r19", *ALWAYS]
    assert best([curve({"a": [(5, 1)], "b": [(5, 2)]})]) == ["a", "b"]


def test_a_recipe_counts_where_it_was_measured_and_on_the_line_between():
    few = {"one point": [(80, 99)], "at 25": [(25, 60)], "around 25": [(20, 60), (32, 60)], "all": [(5, 20), (50, 20)]}
    assert best([curve(few)], most=3) == ["at 25", "around 25", "all"]
    assert best([curve({"low": [(80, 30)], "high": [(80, 40)]})], most=1) == ["high"]


def test_of_several_panels_those_are_drawn_that_are_good_in_all():
    one = {"a": [(10, 90)], "b": [(10, 60)], "c": [(10, 50)]}
    other = {"a": [(10, 10)], "b": [(10, 60)], "c": [(10, 20)]}
    assert best([curve(one), curve(other)], most=2) == ["a", "b"]
    assert curve(one).only(["b"]).series.keys() == {"b"}


@pytest.mark.parametrize("models", [1, 3])
def test_the_legend_is_inside_the_image(tmp_path, models):
    from matplotlib.figure import Figure

    from vtc.bench import plot

    seen = []
    save = Figure.savefig

    def kept(self, *args, **options):
        save(self, *args, **options)
        box = self.legends[0].get_window_extent()
        seen.append((box.y0 >= 0, box.y1 <= self.bbox.y1, box.x1 <= self.bbox.x1))

    names = [f"a-recipe-with-a-long-name-{i}" for i in range(30)]
    arms = [
        {"recipe": name, "keep": keep, "status": "measured", "n": 9, "layers": 100 * keep, "exact": {"mean": keep}}
        for name in names
        for keep in (0.1, 0.5)
    ]
    full = {"recipe": "full", "keep": 1.0, "status": "measured", "n": 9, "layers": 100.0, "exact": {"mean": 0.9}}
    made = [{"name": f"m{i}", "failed": None, "metric": "exact", "arms": [full, *arms]} for i in range(models)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", kept)
        plot.draw({"models": made}, tmp_path / "curve")
    assert seen == [(True, True, True)] * 2
