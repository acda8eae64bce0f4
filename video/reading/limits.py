"""How much of an untrusted file is read before it is refused."""

from __future__ import annotations

from dataclasses import dataclass, fields

from vtc.core.validation import check_int, check_number


@dataclass(frozen=True)
class Limits:
    """Limits on the resources that a video may take.

    Attributes:
        pixels: of one frame, as stored; 8192 x 4320 by default.
        seconds: of the whole video; 6 hours by default.
        frames: of the whole video.
        failures: packets that may fail to decode, and frames that are tried to replace a lost one, before a reading
            is given up.
    """

    pixels: int = 8192 * 4320
    seconds: float = 6 * 3600
    frames: int = 1_000_000
    failures: int = 32

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), 0 if field.name == "failures" else 1
            if field.name != "seconds":
                check_int(field.name, value, least)
            else:
                check_number(field.name, value, least)

    def check(self, path: str, name: str, value: float) -> None:
        """Raise ValueError where `value` is above the limit `name`."""
        allowed = getattr(self, name)
        if value > allowed:
            raise ValueError(
                f"{path} has {value:,.10g} {name}, and at most {allowed:,.10g} are read; if the file is trusted, "
                f"raise the limit: limits=Limits({name}={value:.10g})"
            )
