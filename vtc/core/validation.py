"""Checks of numbers that a user passes: each error names the argument, its value and what is accepted."""

from __future__ import annotations

import math
import threading
from numbers import Integral, Real


def check_int(name: str, value: object, least: int | None = None, *, expected: str = "") -> int:
    """`value` as a plain int of at least `least`; numpy's ints are ints, a bool is none.

    Args:
        name: the argument, as the caller wrote it.
        expected: what is accepted, where the argument's meaning says more than its bound.

    Raises:
        TypeError: it is no int.
        ValueError: it is below `least`.
    """
    expected = expected or ("an int" if least is None else f"an int of at least {least}")
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}; expected {expected}")
    if least is not None and value < least:
        raise ValueError(f"{name}={value} is below {least}; expected {expected}")
    return int(value)


def check_number(
    name: str, value: object, low: float, high: float = math.inf, *, ends: str = "[]", expected: str = ""
) -> float:
    """`value` as a float between `low` and `high`; an int is a number too, a bool and NaN are none.

    Args:
        name: the argument, as the caller wrote it.
        ends: which ends belong to it, in brackets: "[]" both, "(]" the upper, "[)" the lower, "()" none; infinity
            passes where it is an end that belongs.
        expected: what is accepted, where the argument's meaning says more than its bounds.

    Raises:
        TypeError: it is no number.
        ValueError: it is outside, or NaN.
    """
    expected = expected or f"a number {_span(low, high, ends)}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}; expected {expected}")
    try:
        number = float(value)
    except OverflowError:  # an int of hundreds of digits
        number = math.inf if value > 0 else -math.inf  # type: ignore[operator]  # numbers.Real is not typed
    above = low <= number if ends[0] == "[" else low < number
    below = number <= high if ends[1] == "]" else number < high
    if not (above and below):
        raise ValueError(f"{name}={value} is out of range; expected {expected}")
    return number


def check_share(name: str, value: object, *, of: str) -> float | None:
    """`value` as a float in (0, 1], the share of `of` that is meant, or None; a whole 1 is all of them, not one.

    Raises:
        TypeError: it is no number.
        ValueError: it is outside (0, 1].
    """
    if value is None:
        return None
    return check_number(name, value, 0, 1, ends="(]", expected=f"a share of the {of}, a float in (0, 1], or None")


def is_number(value: object) -> bool:
    """Whether `value` is a number, NaN and infinity too; a bool is none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def _span(low: float, high: float, ends: str) -> str:
    if high == math.inf:
        return f"of at least {low:g}" if ends[0] == "[" else f"above {low:g}"
    return f"in {ends[0]}{low:g}, {high:g}{ends[1]}"


def check_timeout(seconds: object) -> None:
    """Raise TypeError or ValueError unless `seconds` is a time above 0 that a lock can wait."""
    most, expected = threading.TIMEOUT_MAX, "seconds above 0, such as 60, that a clock can count"
    check_number("timeout", seconds, 0, most, ends="(]", expected=expected)
