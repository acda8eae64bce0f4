"""What the page says of models and recipes, a line each."""

from __future__ import annotations

from collections.abc import Sequence

from vtc.recipes.named import ESSENTIAL, recipe

KNOWS = {
    "small-llava": "drawn scenes (shapes, colors, places, counts, what plates say) and plain English; no photographs",
    "tiny-llava": "drawn scenes alone: shapes, colors, places, counts, what plates say",
    "tiny-internvl": "drawn scenes alone: shapes, colors, places, counts, what plates say",
    "tiny-qwen": "drawn scenes and videos alone: what is there, what comes, goes, moves and changes",
}
"""What the models that come with vtc were trained on."""
FIRST = {False: ("kcenter", "kcenter-mean", "todre"), True: ("video", "dycoke", "kcenter")}
"""The recipes that stand first, of images and of videos."""


def heading(image_model: str, video_model: str) -> str:
    """Which model answers about what, and what it knows."""
    if image_model == video_model:
        return _model(image_model, "answers")
    return f"{_model(image_model, 'answers about images')} {_model(video_model, 'about videos')}"


def _model(name: str, does: str) -> str:
    known = KNOWS.get(name)
    return f"**{name}** {does}" + (f"; it knows {known}." if known else ".")


def recipe_choices(names: Sequence[str], video: bool) -> list[tuple[str, str]]:
    """Labels and values of a list of recipes: those to know first, then the others, each with what it is for."""
    first = [name for name in (*FIRST[video], *ESSENTIAL) if name in names]
    ordered = dict.fromkeys([*first, *names])
    return [(f"{name}: {use}" if (use := _use(name)) else name, name) for name in ordered]


def _use(name: str) -> str:
    if name in ESSENTIAL:
        return ESSENTIAL[name]
    return ", ".join(dict.fromkeys(stage.signal for stage in recipe(name).stages if stage.signal))
