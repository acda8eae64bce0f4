"""Later turns on recurrent states, as layers of linear attention keep them: what a state has read stays in it.

Keys can be masked at any time. A state has read padding too, where rows of a batch go on by unlike numbers of tokens or
are padded on the right; on the left of a first turn padding meets an empty state, and leaves it so.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vtc.adapters import Adapter
from vtc.adapters.decoders import has_states

from .cache_metadata import ReducedPromptInfo
from .columns import Columns


def check_read(adapter: Adapter, base: ReducedPromptInfo, columns: Columns) -> None:
    """Raise ValueError where a mask hides tokens that the states of a cache have read.

    Args:
        adapter: of the model.
        base: the note on the cache.
        columns: of the call.
    """
    if not has_states(adapter.decoder):
        return
    check_ends(adapter, base)
    known = base.full_mask(columns.done).to(columns.mask.device).bool()
    hidden = _rows(known & ~columns.mask[:, : columns.done].bool())
    if hidden:
        raise ValueError(
            f"attention_mask hides tokens of rows {hidden} that the cache holds, perhaps behind an early end; the "
            f"recurrent states of {type(adapter.model).__name__} have read them: give the whole conversation without "
            "the cache"
        )


def check_ends(adapter: Adapter, base: ReducedPromptInfo) -> None:
    """Raise ValueError where the states of a cache have read padding behind a row's end."""
    if not (base.padded and has_states(adapter.decoder)):
        return
    ended = _rows(~base.mask[:, -1:].bool())
    if ended:
        raise ValueError(
            f"rows {ended} of the first turn are padded on the right, and the recurrent states of "
            f"{type(adapter.model).__name__} have read the padding: pad on the left, or give the whole conversation "
            "without the cache"
        )


def check_padding(adapter: Adapter, mask: Tensor) -> None:
    """Raise ValueError where padding would come between what the states of a cache have read and new tokens.

    Args:
        adapter: of the model.
        mask: `[B, T]` real tokens of the new columns, shortened.
    """
    if not has_states(adapter.decoder):
        return
    padded = _rows(~mask.bool())
    if padded:
        raise ValueError(
            f"rows {padded} go on from the cache by fewer tokens than others, and the recurrent states of "
            f"{type(adapter.model).__name__} would read the padding: go on with one row at a time, or give the whole "
            "conversation without the cache"
        )


def _rows(marked: Tensor) -> list[int]:
    """The rows of `[B, L]` in which anything is marked."""
    found: list[int] = torch.nonzero(marked.any(dim=1)).flatten().tolist()
    return found
