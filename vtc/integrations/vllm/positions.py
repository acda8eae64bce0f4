"""M-RoPE positions: text stays where the full prompt put it, and kept tokens keep their coordinates.

Which tokens are kept is known once the encoder has run, so that positions are made in two parts. Those of text, and the
first position of each item, follow from the items' grids when a request comes: no cache that lets the encoder be passed
by can make them wrong. A token's offset from there travels with its embedding, as further columns, and is added where
embeddings enter the model.

vLLM's own pruning (EVS) carries whole positions as columns in the dtype of the embeddings, where bfloat16 rounds
integers above 256. Four digits of base 256 an axis are exact in any float of 16 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .settings import KEY

AXES, BASE = 3, 256
DIGITS = 4
COLUMNS = DIGITS * AXES


def with_offsets(rows: Tensor, offsets: Tensor) -> Tensor:
    """`rows` `[K, D]` with `offsets` `[K, 3]` (t, h, w) from their item's first position behind them: `[K, D + 12]`.

    Args:
        rows: on any device.
        offsets: on the CPU, so that the device is not waited for.

    Raises:
        ValueError: an offset that the digits cannot hold.
    """
    if len(offsets) and not 0 <= int(offsets.min()) <= int(offsets.max()) < BASE**DIGITS:
        raise ValueError(f"offsets from {int(offsets.min())} to {int(offsets.max())}; expected 0 to {BASE**DIGITS - 1}")
    digits = torch.cat([offsets // BASE**place % BASE for place in range(DIGITS)], dim=1)
    return torch.cat([rows, digits.to(rows)], dim=1)


def parted(rows: Tensor) -> tuple[Tensor, Tensor]:
    """What `with_offsets` was given: rows `[K, D]` and offsets `[K, 3]` int64."""
    digits = rows[:, -COLUMNS:].long().split(AXES, dim=1)
    return rows[:, :-COLUMNS], sum(
        (digit * BASE**place for place, digit in enumerate(digits)), torch.zeros_like(digits[0])
    )


class OriginalPositions:
    """Mixin ahead of a model class of vLLM with M-RoPE. The class says `full_item` and `row_width`."""

    _offsets: tuple[Tensor, Tensor] | None = None

    def full_item(self, tokens: list[int], feature: Any) -> list[int]:
        """The unreduced tokens of an item, by what stays on the CPU.

        Args:
            tokens: its tokens in the shortened prompt.
            feature: vLLM's `MultiModalFeatureSpec` of it.
        """
        raise NotImplementedError

    @property
    def row_width(self) -> int:
        """Columns of an item's rows as the stock model gives them."""
        raise NotImplementedError

    def get_mrope_input_positions(self, input_tokens: Sequence[int], mm_features: Sequence[Any]) -> tuple[Tensor, int]:
        """See vLLM's `SupportsMRoPE`: stock positions of the full prompt, with kept tokens at their item's first."""
        if not any(_is_ours(feature) for feature in mm_features):
            return super().get_mrope_input_positions(input_tokens, mm_features)  # type: ignore[misc, no-any-return]
        full, columns, features = self._full_prompt(list(input_tokens), mm_features)
        positions, delta = super().get_mrope_input_positions(full, features)  # type: ignore[misc]
        return positions[:, columns], delta + len(full) - len(input_tokens)

    def _full_prompt(self, tokens: list[int], features: Sequence[Any]) -> tuple[list[int], Tensor, list[Any]]:
        """The unreduced prompt, the column in it of each token there is, and the items at their places in it."""
        full: list[int] = []
        columns: list[Tensor] = []
        moved, at = [], 0
        for feature in sorted(features, key=lambda feature: feature.mm_position.offset):
            place, ours = feature.mm_position, _is_ours(feature)
            start, count = _span(place) if ours else (place.offset, place.length)
            columns.append(torch.arange(len(full), len(full) + start - at))
            full += tokens[at:start]
            own = tokens[start : start + count]
            whole = self.full_item(own, feature) if ours else own
            stock = torch.arange(len(full), len(full) + count)
            columns.append(torch.full_like(stock, len(full)) if ours else stock)
            moved_place = {"offset": len(full), **({"length": len(whole), "is_embed": None} if ours else {})}
            moved.append(replace(feature, mm_position=replace(place, **moved_place)))
            full += whole
            at = start + count
        columns.append(torch.arange(len(full), len(full) + len(tokens) - at))
        return full + tokens[at:], torch.cat(columns), moved

    def embed_input_ids(
        self, input_ids: Tensor, multimodal_embeddings: Any = None, *, is_multimodal: Tensor | None = None
    ) -> Tensor:
        """See vLLM's `SupportsMultiModal`: takes the offsets off the rows, for the `forward` of the same step."""
        self._offsets = None
        if multimodal_embeddings is not None and any(self._has_offsets(rows) for rows in multimodal_embeddings):
            pairs = [
                # Items that were not reduced come without columns, and stand where they stand.
                parted(rows) if self._has_offsets(rows) else (rows, rows.new_zeros(len(rows), AXES).long())
                for rows in multimodal_embeddings
            ]
            self._offsets = (is_multimodal, torch.cat([offsets for _, offsets in pairs]))  # type: ignore[assignment]
            multimodal_embeddings = [rows for rows, _ in pairs]
        embedded: Tensor = super().embed_input_ids(  # type: ignore[misc]
            input_ids, multimodal_embeddings, is_multimodal=is_multimodal
        )
        return embedded

    def _has_offsets(self, rows: Tensor) -> bool:
        return rows.shape[-1] == self.row_width + COLUMNS

    def forward(self, input_ids: Tensor | None, positions: Tensor, *args: Any, **kwargs: Any) -> Any:
        """The stock forward, at positions that kept tokens' offsets were added to."""
        found, self._offsets = self._offsets, None
        if found is not None:
            # In place: the runner's buffer, which it fills for each step, may be bound to a captured graph.
            columns = torch.nonzero(found[0]).flatten().to(positions.device)
            positions[:, columns] += found[1].T.to(positions)
        return super().forward(input_ids, positions, *args, **kwargs)  # type: ignore[misc]


def _is_ours(feature: Any) -> bool:
    """Whether an item is reduced."""
    return feature.data is not None and f"{KEY}_{feature.modality}" in feature.data


def _span(place: Any) -> tuple[int, int]:
    """Where an item's embeddings start and how many there are; around them may be text of its own, not between."""
    if place.is_embed is None:
        return place.offset, place.length
    return place.offset + int(place.is_embed.int().argmax()), int(place.is_embed.sum())
