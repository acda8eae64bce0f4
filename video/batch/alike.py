"""Which questions go on together: those that are alike in length, since each is padded to the longest."""

from __future__ import annotations

from collections.abc import Sequence

BATCH_TOKENS = 1 << 14
"""Tokens of questions that go on together at most, padding included."""
SHORT = 64
"""Tokens of a question up to which padding costs next to nothing beside a medium's own."""


def size_class(length: int) -> int:
    """A class of questions that may go on together: up to `SHORT` tokens all, then those of which none is twice as
    long as another.
    """
    return max(0, (length - 1) // SHORT).bit_length()


def alike(lengths: Sequence[int], alone: Sequence[bool]) -> int:
    """Return how many of the next questions go on together, at least one.

    One long question among short ones would make all of them as long, in time and in memory.

    Args:
        lengths: tokens of each, in order.
        alone: which of them go on by themselves.
    """
    count, longest = 1, lengths[0]
    for length, by_itself in zip(lengths[1:], alone[1:], strict=True):
        longest = max(longest, length)
        apart = alone[0] or by_itself or size_class(length) != size_class(lengths[0])
        if apart or longest * (count + 1) > BATCH_TOKENS:
            break
        count += 1
    return count
