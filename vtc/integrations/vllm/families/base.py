"""What the plugin knows of a family: its items, in the processor's output and in a worker's batch alike, and how the
adapter finds in vLLM's modules what it looks for in those of transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vtc.adapters import Media
from vtc.adapters.cues import NAMES
from vtc.recipes.composition import Recipe
from vtc.reduction.pipeline import encoder_cues
from vtc.stages import Resizer

Encode = Callable[..., Any]
"""A stock model's `embed_multimodal`."""


class GeometryOnly:
    """A config in a model's place: all that layouts and counts need, in the API server, which has no model."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @property
    def base_model(self) -> GeometryOnly:
        """The object itself, where an adapter looks for towers once it encodes."""
        return self


class EngineModel(GeometryOnly):
    """A model of vLLM as an adapter asks for one: its config, its towers by their names, its encoder."""

    def __init__(self, model: nn.Module, encode: Encode) -> None:
        super().__init__(model.config)
        self._model, self._encode = model, encode

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_model"], name)


class Family:
    """Mixin ahead of an adapter: how its items come in vLLM.

    Attributes:
        served: what stands in for the model.
        counted: the modalities that are reduced, and for each a field of which every item has one entry.
        mixed: of these, those whose placeholders have text between them, which the model class embeds too.
        sizes: whether the vision tower takes images of any size, so that an input stage may resize them.
        apart: the field that says how many tiles an item has, where each has a run of placeholders of its own. Tiles
            are then what `items` gives, and `keep` is a share of each.
    """

    served: ClassVar[type[EngineModel]]
    counted: ClassVar[Mapping[str, str]]
    mixed: ClassVar[frozenset[str]] = frozenset()
    sizes: ClassVar[bool] = False
    apart: ClassVar[str | None] = None

    @property
    def given_cues(self) -> frozenset[str]:
        """The cues that the vision tower gives. By default all but those of a class token."""
        return frozenset(NAMES) - {"cls_attention"}

    def items(self, batch: Mapping[str, Any]) -> list[Media]:
        """The items of a batch of one modality, by the stock model's names."""
        return self.media({name: value for name, value in batch.items() if name in self.media_arguments})  # type: ignore[attr-defined, no-any-return]

    def joined(self, rows: Sequence[Tensor], batch: Mapping[str, Any]) -> list[Tensor]:
        """The rows of `items` as vLLM knows items: those of an item's tiles one behind the other."""
        if self.apart is None:
            return list(rows)
        left = iter(rows)
        return [torch.cat([next(left) for _ in range(count)]) for count in batch[self.apart].tolist()]

    def check_recipe(self, recipe: Recipe) -> None:
        """Refuse what the family cannot do in vLLM.

        Raises:
            ValueError: with the reason.
        """
        if isinstance(recipe.input, Resizer) and not self.sizes:
            raise ValueError(
                f"recipe {recipe.name!r} cannot be served by vLLM on this model: its vision tower takes images of one "
                "size there; use a selector such as 'kcenter'"
            )
        missing = sorted(set(encoder_cues(recipe)) - self.given_cues)
        if missing:
            raise ValueError(
                f"recipe {recipe.name!r} cannot be served by vLLM on this model: it reads {missing}, which its vision "
                "tower does not give; use a recipe that needs no cues, such as 'kcenter'"
            )
