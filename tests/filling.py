"""Water-filling in fractions, slowly: what shares are compared with."""

from __future__ import annotations

from fractions import Fraction
from math import floor


def exact_parts(weights, total, low, high):
    """Slow oracle: the level found by walking over all its break points, in fractions. Some weight is above 0."""
    w = [Fraction(x) for x in weights]

    def at(level):
        return [min(max(level * x, a), b) for x, a, b in zip(w, low, high, strict=True)]

    knots = sorted({Fraction(bound) / x for x, a, b in zip(w, low, high, strict=True) if x for bound in (a, b)})
    below = Fraction(0)
    for knot in knots:
        if sum(at(knot)) >= total:
            rise = sum(at(knot)) - sum(at(below))
            return at(below + (knot - below) * Fraction(total - sum(at(below))) / rise) if rise else at(knot)
        below = knot
    # All that weigh something are full: the others share the rest alike.
    rest = [x == 0 for x in w]
    fixed = sum(b for b, zero in zip(high, rest, strict=True) if not zero)
    zeros = iter(
        exact_parts(
            [1] * sum(rest), total - fixed, *([v for v, z in zip(vs, rest, strict=True) if z] for vs in (low, high))
        )
    )
    return [next(zeros) if zero else Fraction(b) for zero, b in zip(rest, high, strict=True)]


def filled(weights, total, low, high):
    """The exact parts, rounded by largest remainder; ties to the lower index."""
    parts = exact_parts(weights if any(weights) else [1] * len(weights), total, low, high)
    counts = [floor(part) for part in parts]
    for i in sorted(range(len(parts)), key=lambda i: (counts[i] - parts[i], i))[: total - sum(counts)]:
        counts[i] += 1
    return counts
