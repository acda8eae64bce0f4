"""Recipes as JSON, in files and folders; files of earlier schemas are read by a table of old names."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtc.core.json_text import loads
from vtc.core.registry import nearest
from vtc.stages import STAGES, Stage

if TYPE_CHECKING:
    from .composition import Recipe

SCHEMA = 2
FILE = "recipe.json"
"""The recipe's file in a folder."""
ENTRIES = ("stages", "keep", "positions", "seed", "images_as", "name")
OLD_ENTRIES = {"pictures": "images_as"}
"""Entries of schema 1 by their names of now."""
OLD_STAGES = {"allocate/whole": "allocate/joint"}
"""Stages of schema 1 by their names of now."""


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """See `Recipe.to_dict`."""
    stages = [{"stage": stage.label, **stage.parameters()} for stage in recipe.stages]
    return {
        "schema": SCHEMA,
        "name": recipe.name,
        "stages": stages,
        "keep": recipe.keep,
        "positions": recipe.positions,
        "seed": recipe.seed,
        "images_as": recipe.images_as,
    }


def arguments(data: object) -> dict[str, Any]:
    """The arguments of `Recipe` that what `to_dict` wrote stands for.

    Raises:
        ValueError: an unknown schema, entry, stage or parameter.
    """
    if not isinstance(data, dict) or data.get("schema") not in (1, SCHEMA):
        found = data.get("schema") if isinstance(data, dict) else data
        raise ValueError(f"recipe has schema {found!r}; this version reads schemas 1 and {SCHEMA}")
    old = data["schema"] == 1
    names = OLD_ENTRIES if old else {}
    given: dict[str, Any] = {names.get(str(key), str(key)): value for key, value in data.items() if key != "schema"}
    unknown = set(given) - set(ENTRIES)
    if unknown:
        raise ValueError(f"recipe has unknown entries {sorted(unknown)}; expected {list(ENTRIES)}")
    stages = given.get("stages", ())
    if not isinstance(stages, list | tuple):
        raise ValueError(f"recipe has stages={stages!r}; expected a list of stages")
    return {**given, "stages": tuple(_stage(entry, old) for entry in stages)}


def _stage(entry: Any, old: bool) -> Stage:
    """The stage that an entry of `stages` stands for."""
    if not isinstance(entry, dict):
        raise ValueError(
            f'recipe has {entry!r} among its stages; expected an object such as {{"stage": "select/kcenter"}}'
        )
    parameters = dict(entry)
    name = str(parameters.pop("stage", None))
    stage = STAGES.get(OLD_STAGES.get(name, name) if old else name)
    known = [field.name for field in fields(stage)]  # type: ignore[arg-type]
    for parameter in parameters:
        if parameter not in known:
            raise ValueError(
                f"stage {entry['stage']!r} has no parameter {parameter!r}{nearest(parameter, known)}; it has {known}"
            )
    return stage(**parameters)


def check_loadable(recipe: Recipe) -> None:
    """Raise ValueError for a stage that a file could not name, or whose parameters it would not bring back."""
    for stage in recipe.stages:
        if stage.label not in STAGES or STAGES.get(stage.label) is not type(stage):
            raise ValueError(
                f"stages holds {stage!r}, and {stage.label!r} is not registered as its name, so that the file could "
                f"not be loaded; call vtc.register_stage({type(stage).__name__}) before"
            )
        written = json.dumps({"stage": stage.label, **stage.parameters()})
        if _stage(json.loads(written), old=False) != stage:
            raise ValueError(
                f"stages holds {stage!r}, which {written} does not bring back; make its parameters dataclass fields "
                "that JSON can hold"
            )


def save(recipe: Recipe, path: str | Path) -> None:
    """See `Recipe.save`."""
    check_loadable(recipe)
    Path(path).write_text(json.dumps(recipe.to_dict(), indent=2) + "\n", encoding="utf-8")


def read(path: str | Path) -> dict[str, Any]:
    """What stands in a recipe file. See `Recipe.load`."""
    try:
        data: dict[str, Any] = loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"recipe={str(path)!r}: no such file; pass the path of a recipe file, or a name from `vtc recipes`"
        ) from None
    except ValueError as error:
        raise ValueError(f"{path} is no recipe file: {error}") from error
    return data


def save_pretrained(recipe: Recipe, folder: str | Path) -> None:
    """See `Recipe.save_pretrained`."""
    check_loadable(recipe)
    Path(folder).mkdir(parents=True, exist_ok=True)
    save(recipe, file_in(folder))


def file_in(folder: str | Path) -> Path:
    """The recipe's file in a folder."""
    return Path(folder) / FILE
