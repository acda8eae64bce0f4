"""Metadata kept on a KV cache, so that follow-up turns can continue a reduced prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vtc.adapters.decoders import CACHE_NAMES

from .guarded_cache import guard
from .prompt import PromptMap


def cache_among(arguments: Mapping[str, Any]) -> Any:
    """The key-value cache among the arguments of a call, by either of its names; None where there is none."""
    return next((arguments[name] for name in CACHE_NAMES if arguments.get(name) is not None), None)


@dataclass(frozen=True)
class ReducedPromptInfo:
    """The note that stands on a cache as `cache.vtc`.

    Attributes:
        splice: how the prompt in the cache was shortened.
        mask: `[B, L]` bool, real tokens of the unreduced prompt.
        delta: `[B]` what to add to the number of real tokens before a later token to get its position.
        padded: whether any row of the shortened prompt holds padding.
    """

    splice: PromptMap
    mask: Tensor
    delta: Tensor
    padded: bool

    @staticmethod
    def of(cache: Any) -> ReducedPromptInfo | None:
        """The note on `cache`; None where there is none. The note on a cache that was emptied since is removed.

        Raises:
            ValueError: the cache was cropped into the prompt that the note is about.
        """
        note: ReducedPromptInfo | None = getattr(cache, "vtc", None)
        if note is None:
            return None
        held = int(cache.get_seq_length())
        if held == 0:
            del cache.vtc
            return None
        if held < note.splice.short_length:
            raise ValueError(
                f"the cache holds {held} tokens, fewer than the {note.splice.short_length} of its shortened "
                "prompt; a cache of reduced media can be cropped down to that, not below: start the conversation again"
            )
        return note

    def attach(self, cache: Any) -> None:
        """Leaves the note on `cache`. Copies and pickles of the cache carry it along."""
        cache.vtc = self
        guard(cache)

    def expand(self, rows: int, device: torch.device) -> ReducedPromptInfo:
        """The note for a cache that was repeated to `rows` rows.

        Raises:
            ValueError: the rows are no multiple of the note's.
        """
        times = rows // len(self.delta)
        if times * len(self.delta) != rows:
            raise ValueError(
                f"the cache holds {len(self.delta)} rows, input_ids {rows}; pass one row of ids for each row of "
                "the cache (after beam search: as many as there were beams)"
            )
        mask, delta = (x.repeat_interleave(times, dim=0).to(device) for x in (self.mask, self.delta))
        return ReducedPromptInfo(self.splice.expand(rows).to(device), mask, delta, self.padded)

    def rows(self, pick: Callable[[Tensor], Tensor]) -> ReducedPromptInfo:
        """The note for a cache whose rows were changed by `pick`."""
        parts = (self.splice.columns, self.splice.mask, self.splice.nearest)
        return ReducedPromptInfo(PromptMap(*map(pick, parts)), pick(self.mask), pick(self.delta), self.padded)

    def tail(self, cache: Any) -> int:
        """Tokens that `cache` holds after the prompt."""
        return int(cache.get_seq_length()) - self.splice.short_length

    def grown(self, cache: Any) -> PromptMap:
        """The map of all that `cache` holds by now: the prompt and what was generated after it."""
        return join(self.splice, None, tail=self.tail(cache))

    def full_mask(self, length: int) -> Tensor:
        """The unreduced mask of a sequence of `length` columns, `[B, length]` int64, all real after the prompt."""
        return full_mask(self.mask, length)


def full_mask(mask: Tensor, length: int) -> Tensor:
    """`mask` `[B, L]` followed by ones up to `length` columns, int64."""
    return torch.cat([mask, mask.new_ones(len(mask), length - mask.shape[1])], dim=1).long()


def join(prefix: PromptMap | None, suffix: PromptMap | None, *, tail: int = 0) -> PromptMap:
    """`prefix`, then `tail` columns kept as they are, then `suffix`."""
    if prefix is None:
        assert suffix is not None
        return suffix
    run = torch.arange(tail, device=prefix.columns.device).expand(len(prefix.columns), -1)
    full, short = prefix.full_length, prefix.short_length
    parts = [(prefix.columns, prefix.mask, prefix.nearest), (run + full, torch.ones_like(run).bool(), run + short)]
    if suffix is not None:
        full, short = full + tail, short + tail
        parts.append(((suffix.columns + full) * suffix.mask, suffix.mask, suffix.nearest + short))
    return PromptMap(*(torch.cat(tensors, dim=1) for tensors in zip(*parts, strict=True)))
