"""The one line: wrap a model, and undo it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

from torch import nn

from vtc.adapters import find
from vtc.core.budget import Keep
from vtc.recipes.named import DEFAULT, RecipeSpec
from vtc.recipes.named import recipe as named

from .handle import Handle

M = TypeVar("M", bound=nn.Module)


def _stock(model: nn.Module) -> nn.Module:
    """The transformers model inside a PEFT model or `torch.compile`; any other model as it is."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model={model!r} is a {type(model).__name__}; expected a transformers vision-language model")
    model = getattr(model, "_orig_mod", model)
    inner = getattr(model, "get_base_model", None)
    found = inner() if callable(inner) else model
    return found if isinstance(found, nn.Module) else model


def reduce_tokens(
    model: M,
    recipe: RecipeSpec = DEFAULT,
    *,
    keep: Keep | None = None,
    positions: str | None = None,
    seed: int | None = None,
    images_as: str | None = None,
) -> M:
    """Make `model` answer from fewer visual tokens, in place, until `restore(model)`.

    Wrapping again replaces the recipe, once the calls that other threads have under way have ended as they began.
    Of the model only this instance changes: no class, no module global, no environment. State lies in two more places:
    importing the decoder engine adds one function, under a name of vtc's own, to transformers' process-wide registry of
    attention functions, and a cache that holds reduced media gets a subclass of its own class, which guards them.

    Args:
        model: a stock transformers vision-language model, bare or inside a PEFT model.
        recipe: a name from `vtc recipes` or of its paper, the path of a recipe file (`.json`) or folder, a `Recipe`, a
            stage such as `KCenter()`, or several: `[KCenter(), Mean()]`.
        keep: a float in (0, 1], the share of each item's candidate tokens that reach the language model, or an int,
            at most that many per item (one below 8 warns: `keep=1` is one token, `keep=1.0` all of them); default:
            the recipe's own.
        positions: `original` (kept tokens keep their coordinates) or `compact` (renumbered); default: the recipe's own.
        seed: for seeded stages; default: the recipe's own.
        images_as: `items`, or `frames` where the images of a prompt are the frames of one video; default: the
            recipe's own.

    Returns:
        The same model, with `model.vtc` for its recipe and the report on the last call; `handle(model)` is that, typed.

    Raises:
        TypeError: an argument of another type.
        ValueError: unknown recipe or model class, or a value out of range. The model is left as it was.
        RuntimeError: called from inside of a call on the wrapped model, such as from a logits processor.
    """
    chosen = named(recipe, keep=keep, positions=positions, seed=seed, images_as=images_as)
    inner = _stock(model)
    handle = Handle(inner, find(inner), chosen)
    handle._check()
    _swap(inner, handle)
    return model


def handle(model: nn.Module) -> Handle:
    """What `reduce_tokens` put on `model` as `model.vtc`, for type checkers and editors.

    Args:
        model: a wrapped model, bare or inside a PEFT model or `torch.compile`.

    Raises:
        TypeError: `model` is no module.
        ValueError: it is not wrapped.
    """
    found = _stock(model).__dict__.get("vtc")
    if not isinstance(found, Handle):
        raise ValueError(f"model={type(model).__name__} is not wrapped; call vtc.reduce_tokens(model) before")
    return found


_SWAPPING = threading.Lock()


def _swap(inner: nn.Module, handle: Handle | None) -> None:
    """Put `handle` in the place of the handle of `inner`, or take that one off, while no call is under way."""
    while True:  # another thread may be quicker: then the calls on what it attached are to be waited for
        before = inner.__dict__.get("vtc")
        with _changing(before), _SWAPPING:
            if inner.__dict__.get("vtc") is before:
                return _replace(inner, handle)


def _changing(handle: object) -> AbstractContextManager[None]:
    """For the block that takes `handle` off: no call is under way. Nothing to wait for where there is none."""
    return handle._changing() if isinstance(handle, Handle) else nullcontext()


def _replace(inner: nn.Module, handle: Handle | None) -> None:
    """Detach the handle of `inner` and attach `handle`; the old one stays if this fails."""
    before = inner.__dict__.get("vtc")
    if isinstance(before, Handle):
        before._detach()
    try:
        if handle is not None:
            handle._attach()
    except Exception:
        if isinstance(before, Handle):
            before._attach()
        raise


def restore(model: M) -> M:
    """Take everything off that `reduce_tokens` put on `model`; a model that is not wrapped stays as it is.

    Waits for the calls that other threads have under way: each ends as it began.

    Raises:
        RuntimeError: called from inside of a call on the model, such as from a logits processor.
    """
    _swap(_stock(model), None)
    return model


@contextmanager
def reduced(
    model: M,
    recipe: RecipeSpec = DEFAULT,
    *,
    keep: Keep | None = None,
    positions: str | None = None,
    seed: int | None = None,
    images_as: str | None = None,
) -> Iterator[M]:
    """`reduce_tokens` for a block; after it the model is as it was before, wrapped or not.

    Blocks on one model must nest: what one found, it puts back, whoever wrapped the model since.
    """
    inner = _stock(model)
    before = inner.__dict__.get("vtc")
    try:
        yield reduce_tokens(model, recipe, keep=keep, positions=positions, seed=seed, images_as=images_as)
    finally:
        _swap(inner, before if isinstance(before, Handle) else None)
