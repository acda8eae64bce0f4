"""VLMEvalKit, from fewer visual tokens: one line before its `run.py` starts.

    from vlmeval.config import supported_VLM
    from vtc.integrations.vlmevalkit import register

    name = register(supported_VLM, "Qwen2.5-VL-7B-Instruct", "kcenter", keep=0.25)

VLMEvalKit makes its models from a table of factories and keeps predictions in a folder by the model's name, which
`--reuse` goes on with. So a model of fewer tokens has an entry of its own, and a hash of the recipe in its name. This
module imports nothing of VLMEvalKit.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, MutableMapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from vtc.core.budget import Keep
from vtc.recipes.composition import Recipe
from vtc.recipes.named import DEFAULT
from vtc.recipes.named import recipe as named
from vtc.reduction.api import reduce_tokens

Factory = Callable[..., Any]
DIGITS = 8


def reduced(factory: Factory, recipe: str | Path | Recipe = DEFAULT, *, keep: Keep | None = None) -> Factory:
    """A factory of the models that `factory` makes, each with the transformers model inside it wrapped.

    Args:
        factory: what makes a model of VLMEvalKit: a class of `vlmeval.vlm`, or an entry of `supported_VLM`.
        recipe: as `vtc.reduce_tokens` takes it. Read now: a file that changes later changes nothing.
        keep: as `vtc.reduce_tokens` takes it.

    Returns:
        A factory that takes what `factory` takes. It raises TypeError where the model holds no transformers model, and
        ValueError where vtc does not know its class.

    Raises:
        TypeError: an argument of another type.
        ValueError: unknown recipe, or a value out of range.
    """
    if not callable(factory):
        raise TypeError(
            f"factory={factory!r} cannot be called; pass a class of vlmeval.vlm or an entry of supported_VLM"
        )
    return partial(_make, factory, named(recipe, keep=keep))


def register(
    models: MutableMapping[str, Factory],
    name: str,
    recipe: str | Path | Recipe = DEFAULT,
    *,
    keep: Keep | None = None,
) -> str:
    """Add `models[name]` from fewer tokens to `models`, and return the name for `--model`.

    Args:
        models: `vlmeval.config.supported_VLM`.
        name: a name in it. VLMEvalKit reads some settings off a model's name, so the new name starts with it.
        recipe: as `vtc.reduce_tokens` takes it.
        keep: as `vtc.reduce_tokens` takes it.

    Returns:
        Such as `Qwen2.5-VL-7B-Instruct-kcenter-0.25-d4d4b063`. Other recipes and other parameters have other names.

    Raises:
        TypeError: an argument of another type.
        ValueError: no such model, unknown recipe, or a value out of range.
    """
    if name not in models:
        raise ValueError(f"name={name!r} is no model of VLMEvalKit; `vlmutil mlist all` names them")
    chosen = named(recipe, keep=keep)
    content = json.dumps(chosen.to_dict(), sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:DIGITS]
    new = "-".join([name, re.sub(r"[^\w.+-]", "_", chosen.name), str(chosen.keep), digest])
    models[new] = reduced(models[name], chosen)
    return new


def _make(factory: Factory, recipe: Recipe, *args: Any, **kwargs: Any) -> Any:
    """The model of VLMEvalKit that `factory` makes, from fewer tokens."""
    made = factory(*args, **kwargs)
    model = getattr(made, "model", None)
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"a {type(made).__name__} of VLMEvalKit holds no transformers model (its `model` is a "
            f"{type(model).__name__}); take one that runs in this process, with use_vllm=False and use_lmdeploy=False"
        )
    reduce_tokens(model, recipe)
    return made
