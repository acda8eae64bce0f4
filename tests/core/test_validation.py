"""Checks of numbers: what each accepts, and that a refusal names argument, value and what is accepted."""

from __future__ import annotations

import math
import re
import threading

import numpy as np
import pytest

from vtc.core.validation import check_int, check_number, check_share, check_timeout, is_number


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_ints_of_numpy_are_plain_afterwards(value):
    assert type(check_int("k", value, 1)) is int


@pytest.mark.parametrize("value", [True, 3.0, "3", None, np.bool_(True), np.float32(3)])
def test_other_types_are_no_ints(value):
    with pytest.raises(TypeError, match=r"k=.*is a \w+; expected an int of at least 1"):
        check_int("k", value, 1)


def test_an_int_below_is_refused_with_the_bound():
    with pytest.raises(ValueError, match="k=0 is below 1; expected frames to choose"):
        check_int("k", 0, 1, expected="frames to choose")
    assert check_int("seed", -5) == -5


@pytest.mark.parametrize(
    ("ends", "inside", "outside"),
    [("[]", (0, 1, 0.5), (-0.1, 1.1)), ("(]", (1, 0.1), (0, 1.1)), ("[)", (0, 0.9), (1,)), ("()", (0.5,), (0, 1))],
)
def test_ends_belong_or_do_not(ends, inside, outside):
    for value in inside:
        found = check_number("share", value, 0, 1, ends=ends)
        assert found == value
        assert type(found) is float
    for value in (*outside, math.nan, math.inf, -math.inf):
        with pytest.raises(
            ValueError, match=re.escape(f"share={value} is out of range; expected a number in {ends[0]}0, 1{ends[1]}")
        ):
            check_number("share", value, 0, 1, ends=ends)


@pytest.mark.parametrize("value", [math.inf, math.nan, -1, 10**400, -(10**400)])
def test_an_open_end_keeps_infinity_out(value):
    with pytest.raises(ValueError, match=f"lead={value}.*of at least 0"):
        check_number("lead", value, 0, ends="[)")


def test_an_end_that_belongs_lets_infinity_pass():
    assert check_number("max_seconds", math.inf, 0, ends="(]") == math.inf
    with pytest.raises(ValueError, match="max_seconds=nan"):
        check_number("max_seconds", math.nan, 0, ends="(]")


@pytest.mark.parametrize("value", [True, "1", None, 1j, [1]])
def test_other_types_are_no_numbers(value):
    with pytest.raises(TypeError, match=r"lead=.*is a \w+"):
        check_number("lead", value, 0)
    assert not is_number(value)


def test_a_whole_share_is_all_of_them():
    assert check_share("share", 1, of="tokens") == 1.0
    assert type(check_share("share", 1, of="tokens")) is float
    assert check_share("share", None, of="tokens") is None
    with pytest.raises(ValueError, match=r"share=0 .*of the tokens"):
        check_share("share", 0, of="tokens")


def test_a_timeout_is_what_a_lock_can_wait():
    check_timeout(threading.TIMEOUT_MAX)
    for value in (0, -1, math.inf, math.nan, threading.TIMEOUT_MAX * 2):
        with pytest.raises(ValueError, match="timeout="):
            check_timeout(value)


def test_numbers_of_every_kind_are_numbers():
    assert all(map(is_number, (0, 1.5, np.float64(2), np.int8(1), math.nan, math.inf)))
