"""A curve as part of a page: SVG that follows the page's colours, with a key whose entries are HTML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from markupsafe import Markup

from vtc.bench.plot import COLORS, Curve, figure, plot

from .html import cleaned

THEME = {color: f"var(--c{i})" for i, color in enumerate(COLORS[:-1])} | {
    "#000000": "var(--ink)",
    "#808080": "var(--soft)",
    "#b0b0b0": "var(--line)",
}
"""Variables of the page's style for the colours that matplotlib writes."""
INCHES = 7.2, 3.9
NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


@dataclass(frozen=True)
class CurveMarkup:
    """A drawn curve.

    Attributes:
        svg: the chart.
        key: by name, a line and a mark as they are in the chart, as SVG.
    """

    svg: Markup
    key: Mapping[str, Markup]


def draw_svg(curve: Curve) -> CurveMarkup:
    """Draw `curve`; each mark says in words what it stands for.

    Raises:
        ImportError: matplotlib is not installed.
    """
    file = StringIO()
    with figure(*INCHES, text="none") as drawn:
        lines = plot(drawn.subplots(), curve, list(curve.series))
        for number, line in enumerate(lines.values()):
            line.set_gid(f"line-{number}")
        drawn.savefig(file, format="svg", transparent=True, metadata=NO_METADATA)
    svg = _themed(file.getvalue(), f"{curve.y_label} over {curve.x_label}")
    groups = {element.attrib.pop("id", ""): element for element in svg.iter("g")}  # in a page an id stands once
    of_name = {name: groups[f"line-{number}"] for number, name in enumerate(lines)}
    key = {name: _markup(_key(group)) for name, group in of_name.items()}
    for name, points in curve.series.items():
        for mark, point in zip(of_name[name].iter("use"), points, strict=True):
            SubElement(mark, "title").text = f"{name}: {point.y:.1f} % with {point.x:.1f} % of the tokens"
    return CurveMarkup(_markup(svg), key)


def _themed(text: str, title: str) -> Element:
    """The SVG that matplotlib wrote, as it can stand in HTML: its colours are variables, its font is the page's."""
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    for color, variable in THEME.items():
        text = text.replace(color, variable)
    svg = ElementTree.fromstring(text)
    svg.remove(svg[0])  # a style that would be one for the whole page
    for element in svg.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    svg.attrib = {"class": "curve", "role": "img", "viewBox": svg.attrib["viewBox"]}
    svg.insert(0, Element("title"))
    svg[0].text = title
    return svg


def _key(group: Element) -> Element:
    """A line and a mark as in `group`, for the key."""
    svg = Element("svg", {"viewBox": "0 0 40 16", "aria-hidden": "true"})
    for part in group.iter():
        if part.tag == "path" and "id" not in part.attrib:
            SubElement(svg, "path", {"d": "M 0 8 H 40", "style": part.attrib["style"]})
    for mark in list(group.iter("use"))[:1]:
        SubElement(svg, "use", {**mark.attrib, "x": "20", "y": "8"})
    return svg


def _markup(svg: Element) -> Markup:
    return Markup(cleaned(ElementTree.tostring(svg, encoding="unicode")))
