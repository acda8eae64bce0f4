"""lmms-eval's models with fewer visual tokens: `lmms-eval --model vtc --model_args backend=...,recipe=...,keep=...`.

lmms-eval (0.7) finds it through the entry-point group `lmms_eval.models`. Importing this module needs lmms-eval, which
nothing else of the package does. lmms-eval keys its answer cache (`--use_cache`) on the text of `--model_args`, so
recipe and keep are in the key; a recipe file is named with its hash, since an edited file under an old name would be
answered from the cache of the old one. The version of vtc is not in the key: start a new cache with a new vtc.

The arguments of a request are in that key too, and lmms-eval reads them before the backend answers and again after.
Backends write into them (llava_hf adds each default that a task leaves open), so that an answer is kept under a key
that nothing asks for again. Through vtc a backend gets copies, and the cache hits.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lmms_eval.api.model import lmms
from torch import nn

from vtc.core.budget import Keep
from vtc.core.validation import is_number
from vtc.recipes.named import DEFAULT
from vtc.reduction.api import reduce_tokens
from vtc.video.qa.strategies import strategy as named_strategy

from .lmms_strategies import by_strategy

OURS = ("backend", "recipe", "keep", "recipe_hash", "plan")
DIGITS = 12
PLANNED = "generate_until"
"""The method whose requests hold one question, which a strategy may ask in several calls."""
GENERATE = ("generate_until", "generate_until_multi_round", "generate_visual_cot")


class Vtc(lmms):  # type: ignore[misc]  # lmms-eval is untyped
    """Makes any transformers backend of lmms-eval, wraps the model inside it, and steps aside.

    What lmms-eval gets is the backend itself: its prompts, batches and generation arguments are its own. It is handed
    copies of the requests, for the sake of lmms-eval's cache.
    """

    is_simple = False
    _forced = False

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> Any:
        """The backend that `arg_string` names, its model wrapped.

        Args:
            arg_string: `--model_args`: `backend` (a model name of lmms-eval), `recipe` (default kcenter), `keep` (at
                most 1: a share; 2 or more: a count), `recipe_hash` (of a recipe file), `strategy` (how questions about
                videos are asked, such as decompose; see `vtc.integrations.lmms_strategies`); all others go to the
                backend.
            additional_config: batch size and device, as lmms-eval hands them on.

        Raises:
            TypeError: the backend holds no transformers model.
            ValueError: no backend named, one that is no other model of lmms-eval, a recipe file without its hash, an
                unknown strategy, or what `reduce_tokens` refuses.
        """
        from lmms_eval.models import get_model
        from lmms_eval.utils import simple_parse_args_string

        given = simple_parse_args_string(arg_string)
        name = given.get("backend")
        if not name or name == "vtc":
            raise ValueError(f"backend={name!r}; name a model of lmms-eval, such as backend=llava_hf, in --model_args")
        recipe = str(given.get("recipe", DEFAULT))
        _check_file(recipe, given.get("recipe_hash"))
        strategy = named_strategy(str(given.get("plan", "direct")))
        rest = {key: value for key, value in given.items() if key not in OURS}
        config = {key: value for key, value in (additional_config or {}).items() if value is not None}
        backend = get_model(name, cls._forced)(**{**rest, **config})
        reduce_tokens(_model(backend, name), recipe, keep=_keep(given.get("keep")))
        for method in filter(partial(hasattr, backend), GENERATE):
            setattr(backend, method, _on_copies(getattr(backend, method)))
        if hasattr(backend, PLANNED):
            setattr(backend, PLANNED, by_strategy(getattr(backend, PLANNED), backend, strategy))
        return backend

    def loglikelihood(self, requests: Any) -> Any:
        """Never called: the backend answers."""
        raise NotImplementedError("vtc answers through its backend; make it by create_from_arg_string")

    generate_until = generate_until_multi_round = loglikelihood


class VtcSimple(Vtc):
    """The same for lmms-eval's `--force_simple`: the backend's simple class, where it has two."""

    is_simple = True
    _forced = True


def manifests() -> Any:
    """Return the `ModelManifest` that lmms-eval reads at start: a model `vtc`, simple and chat."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(
        "vtc",
        simple_class_path="vtc.integrations.lmms_eval.VtcSimple",
        chat_class_path="vtc.integrations.lmms_eval.Vtc",
    )


def _on_copies(answer: Callable[..., Any]) -> Callable[..., Any]:
    """`answer` of requests whose generation arguments are copies: what it writes into them, the asker does not see."""

    def answered(requests: Sequence[Any]) -> Any:
        """The backend's answers to copies."""
        return answer([_copied(request) for request in requests])

    return answered


def _copied(request: Any) -> Any:
    """`request` with dictionaries of its own among its arguments, all else shared."""
    twin = copy.copy(request)
    twin.arguments = tuple(copy.deepcopy(part) if isinstance(part, dict) else part for part in request.args)
    return twin


def _keep(value: Any) -> Keep | None:
    """`keep` of `--model_args`, read as `vtc ask --keep` reads it: a whole number of 2 or more is a count."""
    if value is None:
        return None
    if not is_number(value):
        raise ValueError(f"keep={value!r} is no number; pass a share such as 0.25, or a count such as 64")
    return int(value) if value >= 2 and float(value).is_integer() else float(value)


def _check_file(recipe: str, given: Any) -> None:
    """ValueError unless a recipe file, and nothing else, comes with its hash."""
    if not recipe.endswith(".json"):
        if given is not None:
            raise ValueError(f"recipe_hash={given!r} is for recipe files; recipe={recipe!r} is a name: leave it out")
        return
    # The colon keeps lmms-eval from reading a hash of digits as a number.
    found = f"sha256:{hashlib.sha256(Path(recipe).read_bytes()).hexdigest()[:DIGITS]}"
    if given != found:
        raise ValueError(
            f"recipe_hash={given!r}, but recipe={recipe!r} hashes to {found}; add recipe_hash={found} to --model_args, "
            "since they key lmms-eval's answer cache"
        )


def _model(backend: Any, name: str) -> nn.Module:
    """The transformers model inside `backend`; TypeError where it holds none."""
    model = getattr(backend, "model", None)
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"backend={name!r} holds no transformers model (its `model` is a {type(model).__name__}); name one that "
            "runs in this process, such as llava_hf"
        )
    return model
