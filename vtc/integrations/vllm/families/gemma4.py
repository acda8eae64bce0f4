"""Gemma 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

from torch import Tensor

from vtc.adapters import Gemma4, Media
from vtc.adapters.cues import first_argument

from .base import EngineModel, Family


class ServedGemma4(EngineModel):
    """Gemma 4: vLLM's names for the places of patches, and one tensor of rows an image."""

    def get_image_features(self, pixels: Tensor, places: Tensor, **_: Any) -> Any:
        """See transformers' method of that name."""
        return SimpleNamespace(pooler_output=list(self._encode(pixel_values=pixels, pixel_position_ids=places)))


class Gemma4Family(Family, Gemma4):
    """Gemma 4, images. vLLM numbers positions compactly: no M-RoPE.

    Videos are stock vLLM's: their frames stand apart, each behind its time, and how many tokens one keeps is known once
    the encoder has run. Filling all of a video's place with embeddings, as of Qwen3-VL, would take the small models'
    further embeddings of the times away, which are looked up by id.
    """

    served = ServedGemma4
    counted: ClassVar[Mapping[str, str]] = {"image": "pixel_position_ids"}
    sizes = True

    @property
    def given_cues(self) -> frozenset[str]:
        """See `Family.given_cues`. vLLM parts a batch for the tower by free memory: no one call shows all of it."""
        return frozenset({"encoder_features"})

    def items(self, batch: Mapping[str, Any]) -> list[Media]:
        """See `Family.items`. Images of unlike numbers of patches come as lists."""
        pairs = zip(batch["pixel_values"], batch["pixel_position_ids"], strict=True)
        return [
            media
            for pixels, places in pairs
            for media in self.media({"pixel_values": pixels[None], "image_position_ids": places[None]})
        ]

    def _cue(self, name: str, recorded: Mapping[str, Any], grids: Sequence[tuple[int, int]]) -> list[Tensor]:
        (rows,) = first_argument(recorded["projector"])  # of all images, one behind the other
        return list(rows.split([height * width for height, width in grids]))
