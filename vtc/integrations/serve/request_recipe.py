"""The recipe of a request: the server's, with what the request says in its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vtc.core.budget import Keep
from vtc.recipes.composition import Recipe
from vtc.recipes.named import DEFAULT, RecipeSpec
from vtc.recipes.named import recipe as named

from ..recipe_checks import check_runs
from ..request_specs import from_request

KEY, CARRIER = "vtc", "mm_processor_kwargs"
"""Where a request says it: in the field `vtc`, or in an entry `vtc` of what vLLM passes on to processors."""
ENTRIES = ("recipe", "keep", "positions", "seed")


@dataclass(frozen=True)
class RecipeDefaults:
    """The recipe that is used where a request does not say.

    Attributes:
        recipe: with `keep` and `positions`.
        keep, positions: of the server, which hold for recipes that requests name too; None: each recipe's own.
    """

    recipe: Recipe
    keep: Keep | None = None
    positions: str | None = None

    @classmethod
    def of(cls, spec: RecipeSpec = DEFAULT, keep: Keep | None = None, positions: str | None = None) -> RecipeDefaults:
        """The defaults of a server. Raises as `vtc.recipes.named.recipe` does."""
        return cls(named(spec, keep=keep, positions=positions), keep, positions)

    def with_request(self, given: Mapping[str, Any]) -> Recipe:
        """The recipe of a request.

        Args:
            given: what the request says, see `settings_of`.

        Raises:
            TypeError, ValueError: an unknown recipe, or a value that it does not take.
        """
        spec, own = given.get("recipe"), {name: given.get(name) for name in ("keep", "positions", "seed")}
        if own["keep"] is not None and own["keep"] == 1 and not isinstance(own["keep"], bool):
            own["keep"] = 1.0  # JSON of many a language has no other way to write it
        if spec is None:
            return named(self.recipe, **own)
        found, stated = from_request(spec), spec if isinstance(spec, dict) else {}
        if stated and not found.encoder and not found.decoder:
            check_runs(found)
        if own["keep"] is None and stated.get("keep") is None and not found.only_decoder:
            own["keep"] = self.keep
        if own["positions"] is None and stated.get("positions") is None:
            own["positions"] = self.positions
        return named(found, **own)


def settings_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a request says of its recipe; the field `vtc` goes before `mm_processor_kwargs`.

    Raises:
        TypeError, ValueError: what is no object, or entries that are not known.
    """
    carried = _object(CARRIER, body.get(CARRIER))
    others = sorted(set(carried) - {KEY})
    if others:
        raise ValueError(f"{CARRIER} has {others}; only {KEY!r} is taken: how videos are read is the server's to say")
    given = {**_object(f"{CARRIER}.{KEY}", carried.get(KEY)), **_object(KEY, body.get(KEY))}
    unknown = sorted(set(given) - set(ENTRIES))
    if unknown:
        raise ValueError(f"{KEY} has unknown entries {unknown}; expected some of {list(ENTRIES)}")
    return given


def _object(name: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TypeError(f'{name}={value!r}; expected an object such as {{"recipe": "kcenter", "keep": 0.25}}')
    return value
