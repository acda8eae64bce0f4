"""Share validation of input stages: the share of tokens that each leaves by itself."""

from __future__ import annotations

from numbers import Real


def check_share(share: object) -> float | None:
    """`share` as a float in (0, 1], or None.

    Raises:
        TypeError: it is no number.
        ValueError: it is outside (0, 1].
    """
    if share is None:
        return None
    if isinstance(share, bool) or not isinstance(share, Real):
        raise TypeError(f"share={share!r} is a {type(share).__name__}; expected a float in (0, 1], or None")
    found = float(share)
    if not 0 < found <= 1:
        raise ValueError(f"share={share} is outside (0, 1]; expected a share of the tokens, or None")
    return found  # a whole 1 is all tokens, not one
