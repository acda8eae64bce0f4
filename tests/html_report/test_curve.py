"""The curve of a page: where its points lie, how its lines differ, and that it is part of the page and nothing else."""

from __future__ import annotations

import re

import pytest

from tests.pages import Page
from vtc.bench.plot import Curve, Point
from vtc.html_report.curve import THEME, draw_svg
from vtc.html_report.page_model import Section, laid_out


def drawn(points, levels=(), x_label="x <axis> $x$", y_label="y & axis") -> Page:
    curve = Curve.of(points, x_label, y_label, dict(levels))
    return Page.of(laid_out("title", (), [Section("one", curve=curve)]))


def marks(found: Page) -> list[tuple[float, float]]:
    """Where the marks lie that say what they stand for, from left to right."""
    follows = zip(found.tags, found.tags[1:], strict=False)
    return [
        (float(held["x"]), float(held["y"]))
        for (name, held), (next_, _) in follows
        if (name, next_) == ("use", "title")
    ]


def keys(found: Page) -> list[tuple[str, ...]]:
    """The looks of each entry of the key."""
    starts = [i for i, (name, _) in enumerate(found.tags) if name == "li"]
    ends = [*starts[1:], len(found.tags)]
    looks = []
    for start, end in zip(starts, ends, strict=True):
        own = [held for name, held in found.tags[start:end] if name in ("path", "use")]
        looks.append(tuple(f"{held.get('style')} {held.get('href')}" for held in own))
    return looks


def test_points_lie_where_they_should():
    """Twice the share is always as far; ten percent of the score is always as high."""
    found = drawn([("a", Point(x, y)) for x, y in ((50, 90), (12.5, 50), (25, 70))])
    (x0, y0), (x1, y1), (x2, y2) = marks(found)
    assert 0 < x0 < x1 < x2
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.01)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.01)
    assert y0 > y2
    said = re.findall(r"a: ([\d.]+) % with ([\d.]+) % of the tokens", found.text)
    assert said == [("50.0", "12.5"), ("70.0", "25.0"), ("90.0", "50.0")]
    assert "y & axis over x <axis> $x$" in found.text
    assert found.text.count("x <axis> $x$") == 2  # and along the axis


@pytest.mark.parametrize("count", [1, 7, 45])
def test_series_differ_in_colour_dashes_or_mark(count):
    found = drawn([(f"r{i}", Point(x, i)) for i in range(count) for x in (10, 20)])
    looks = keys(found)
    assert len(looks) == count
    assert len(set(looks)) == count
    assert len(marks(found)) == 2 * count
    assert all(f"r{i}" in found.texts for i in range(count))


def test_bounds_and_levels_are_drawn_and_stay_inside():
    found = drawn([("a", Point(1, 100, 2, 100)), ("a", Point(100, 0, 0, 99))], {"all tokens": 100, "text alone": 0})
    (chart,) = (held for name, held in found.tags if held.get("class") == "curve")
    _, _, width, height = map(float, chart["viewbox"].split())
    paths = [held["d"] for name, held in found.tags if name == "path" and held.get("clip-path")]
    places = [tuple(map(float, place)) for path in paths for place in re.findall(r"[ML] ([\d.-]+) ([\d.-]+)", path)]
    assert all(0 <= x <= width and 0 <= y <= height for x, y in [*places, *marks(found)])
    assert sum("stroke-opacity: 0.35" in (held.get("style") or "") for name, held in found.tags) == 2
    assert len(set(keys(found))) == found.count("li") == 3
    assert {"a", "all tokens", "text alone"} <= set(found.texts)


def test_without_tokens_there_is_no_curve():
    assert drawn([("a", Point(0.0, 50.0))]).count("svg") == 0
    assert drawn([], {"a": 3}).count("svg") == 0
    assert drawn([("a", Point(50.0, 50.0))]).count("svg") == 2


def test_names_are_words_and_colours_are_those_of_the_page():
    evil = '</svg><script>x</script>"$\\frac{1}$\x00\ud800&amp;'
    found = drawn([(evil, Point(10, 20))])
    assert found.asks_for() == []
    assert '</svg><script>x</script>"$\\frac{1}$\ufffd\ufffd&amp;: 20.0 % with' in found.text
    styles = " ".join(held.get("style") or "" for _, held in found.tags)
    assert set(re.findall(r"var\(--\w+\)", styles)) >= {"var(--c0)", "var(--ink)", "var(--line)"}
    assert not re.search(r"#[0-9a-f]{3}", styles)
    assert "font-family" not in styles


def test_every_colour_is_one_of_the_page_in_light_and_dark():
    page = laid_out("title", (), ())
    light, dark = page.split("prefers-color-scheme: dark")
    for variable in THEME.values():
        name = variable.removeprefix("var(").removesuffix(")")
        assert f"{name}: #" in light
        assert f"{name}: #" in dark.partition("* {")[0]


def test_the_same_points_give_the_same_curve_whose_parts_stand_once():
    curve = Curve.of([("a", Point(10, 20)), ("b", Point(30, 40))], "x", "y")
    assert draw_svg(curve) == draw_svg(curve)
    svg = draw_svg(curve).svg
    ids = re.findall(r'id="(\w+)"', svg)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)(\w+)', svg)) == set(ids)
    assert "<style" not in svg
    assert "metadata" not in svg
