"""How stages and recipes become known by name, those of other distributions too."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from typing import TypeVar, overload

from vtc.core.registry import BUILT_IN, Registry
from vtc.stages import STAGES, Stage

from .aliases import ALIASES
from .composition import Recipe

Made = Recipe | Stage | Sequence[Stage]
"""What a recipe is made of: stages, or a recipe whose `keep` and `positions` are its own."""
Maker = Callable[[], Made]
M = TypeVar("M", bound=Maker)
T = TypeVar("T", bound=Stage)

RECIPES: Registry[Maker] = Registry("recipe", plugins=True, built_in=BUILT_IN, listing="`vtc recipes --all`")
"""What makes each named recipe."""
ALONE = ("input", "encoder", "select", "decoder")
"""Kinds of stages that drop tokens by themselves, so that one of them is a recipe."""


@dataclass(frozen=True, eq=False, repr=False)
class _Fixed:
    """The recipe that was given. Equal to another of the same stages: where a notebook's cell runs again, their
    classes are new ones."""

    recipe: Recipe

    def __call__(self) -> Recipe:
        return self.recipe

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Fixed) and self.recipe.to_dict() == other.recipe.to_dict()

    def __hash__(self) -> int:
        return hash(self.recipe.name)

    def __repr__(self) -> str:
        return f"a recipe of {' and '.join(stage.label for stage in self.recipe.stages)}"


@dataclass(frozen=True, repr=False)
class _Alone:
    """A registered stage with its default parameters."""

    label: str

    def __repr__(self) -> str:
        return f"the stage {self.label}"

    def __call__(self) -> Stage:
        return STAGES.get(self.label)()


def register_stage(stage: type[T]) -> type[T]:
    """Make a stage class known by name to recipes and recipe files; a decorator above `@dataclass`, or a call.

    A selector, a decoder, an encoder or an input stage that needs no parameters is also a recipe by its `name`.

    Args:
        stage: a dataclass that derives from `Selector`, `Merger`, `Allocator`, `DecoderStage`, ...; see
            `vtc.stages.base`.

    Returns:
        The class.

    Raises:
        TypeError: it is no such class, or no dataclass yet.
        ValueError: its name is taken, by a stage of its kind or by a recipe.
    """
    if not isinstance(stage, type) or not issubclass(stage, Stage):
        raise TypeError(f"stage={stage!r} is no stage class; derive it from Selector, Merger, ... of vtc.stages")
    if inspect.isabstract(stage) or not isinstance(getattr(stage, "name", None), str):
        raise TypeError(f"stage={stage!r} lacks a `name` or a method; see the abstract methods of {stage.__base__!r}")
    if not is_dataclass(stage):
        raise TypeError(f"stage={stage!r} is no dataclass; put @dataclass(frozen=True) below @register_stage")
    STAGES.add(f"{stage.kind}/{stage.name}", stage)
    register_alone(stage)
    return stage


def register_alone(stage: type[Stage], name: str | None = None) -> None:
    """Make a registered stage a recipe, where it drops something by itself and needs no parameters."""
    needed = any(f.default is MISSING and f.default_factory is MISSING for f in fields(stage) if f.init)  # type: ignore[arg-type]
    if stage.kind in ALONE and not needed:
        _add(name or stage.name, _Alone(f"{stage.kind}/{stage.name}"))


@overload
def register_recipe(name: str, stages: Made, *, aliases: Iterable[str] = ()) -> Recipe: ...
@overload
def register_recipe(name: str, stages: None = None, *, aliases: Iterable[str] = ()) -> Callable[[M], M]: ...
def register_recipe(name: str, stages: Made | None = None, *, aliases: Iterable[str] = ()) -> Recipe | Callable[[M], M]:
    """Make a composition of stages known by name; a call with stages, or a decorator of a function that gives them.

    ```python
    register_recipe("mine", [KCenter(), Mean()])

    @register_recipe("mine-late")
    def late():
        return Recipe((KCenter(), FastV()), keep=0.5)
    ```

    Args:
        name: how callers and `vtc recipes` name it.
        stages: a stage, some, or a `Recipe`, whose `keep`, `positions`, `seed` and `images_as` are then the defaults.
        aliases: further names.

    Returns:
        The recipe; or the decorator, which gives its function back. The function runs each time the name is looked up.

    Raises:
        TypeError, ValueError: a name that is taken, or stages that make no recipe.
    """
    if callable(name):
        raise TypeError(f"name={name!r} is a function; put the recipe's name in parentheses: @register_recipe('mine')")
    if stages is None:

        def decorate(maker: M) -> M:
            if not callable(maker):
                raise TypeError(f"maker={maker!r} is no function; decorate one that returns stages")
            _add(name, maker, aliases)
            return maker

        return decorate
    made = composed(stages, name)
    _add(name, _Fixed(made), aliases)
    return made


def _add(name: str, maker: Maker, aliases: Iterable[str] = ()) -> None:
    RECIPES.add(name, maker)
    for alias in (*ALIASES.get(name, ()), *aliases):
        RECIPES.alias(alias, name)


def composed(made: Made, name: str | None = None) -> Recipe:
    """The recipe of stages, called `name`, or by their names where there is none.

    Raises:
        TypeError: `made` is none of these, such as a stage class in place of a stage.
        ValueError: stages that do not go together.
    """
    if isinstance(made, Recipe):
        return made if name is None else replace(made, name=name)
    if isinstance(made, type) and issubclass(made, Stage):
        raise TypeError(f"recipe={made.__name__} is a class; pass a stage, {made.__name__}()")
    stages = (made,) if isinstance(made, Stage) else made
    if isinstance(stages, str) or not isinstance(stages, Sequence):
        raise TypeError(f"recipe={made!r} is a {type(made).__name__}; expected stages such as KCenter(), or a Recipe")
    recipe = Recipe(tuple(stages))
    return replace(recipe, name=name if name is not None else "+".join(stage.name for stage in recipe.stages))
