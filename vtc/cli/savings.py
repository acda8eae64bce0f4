"""What a recipe saves on this machine, before and after, whichever way it goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vtc.bench.speed import SpeedRow, SpeedTest
from vtc.bench.variants import variants
from vtc.embedded.scene import HELD_OUT, Scene
from vtc.inference.prompting import inputs
from vtc.recipes.composition import Recipe

BATCH = 16
ROUNDS, PATIENCE = 3, 12.0
ANSWER = 8
QUESTION = "what is in the picture?"
CLEAR = 1.05
"""How many times faster counts as a gain: less is within what a run differs by."""


@dataclass(frozen=True)
class Saving:
    """One line of the box: what is counted or timed, before and after.

    Attributes:
        what: in words.
        before, after: in `unit`.
        faster: whether it is time, which becomes faster, and no amount, which becomes fewer.
    """

    what: str
    before: float
    after: float
    unit: str
    faster: bool = False

    @property
    def times(self) -> float:
        """How many times fewer, or faster; below 1 it became more, or slower."""
        return self.before / self.after

    def cells(self) -> tuple[str, str, str, str]:
        """The line as text."""
        if self.faster and 1 / CLEAR < self.times < CLEAR:
            return self.what, *self._values(), "as fast"
        words = ("faster", "slower") if self.faster else ("fewer", "more")
        times = f"{self.times:.1f} x {words[0]}" if self.times >= 1 else f"{1 / self.times:.1f} x {words[1]}"
        return self.what, *self._values(), times

    def _values(self) -> tuple[str, str]:
        return f"{self.before:,.4g} {self.unit}".strip(), f"{self.after:,.4g} {self.unit}".strip()


def savings(model: Any, processor: Any, recipe: Recipe) -> tuple[Saving, ...]:
    """Measured on drawn images: one request, and a batch of `BATCH`."""
    one, many = (_rows(model, processor, recipe, batch) for batch in (1, BATCH))
    return tuple(_of(one, many))


def _rows(model: Any, processor: Any, recipe: Recipe, batch: int) -> tuple[SpeedRow, SpeedRow]:
    given = inputs(model, processor, [QUESTION] * batch, [Scene(HELD_OUT + i).image for i in range(batch)])
    test = SpeedTest(model, rounds=ROUNDS, answer=ANSWER, patience=PATIENCE, beside_ideal=False)
    chosen = variants([recipe], (recipe.keep,), text_alone=False)
    full, kept = test.rows(given, chosen)
    return full, kept


def _of(one: Sequence[SpeedRow], many: Sequence[SpeedRow]) -> Iterator[Saving]:
    full, kept = one
    yield Saving("visual tokens of an image", full.tokens, kept.tokens, "")
    yield Saving("prefill of the language model", full.flops / 1e9, kept.flops / 1e9, "GFLOP")
    yield Saving("KV cache", full.kv_bytes / 2**20, kept.kv_bytes / 2**20, "MiB")
    for (before, after), batch in ((one, ""), (many, f", batch of {BATCH}")):
        assert before.first is not None
        assert after.first is not None
        yield Saving(f"time to the first token{batch}", before.first.median * 1e3, after.first.median * 1e3, "ms", True)
    rates = [row.requests_a_second(ANSWER) or 0.0 for row in many]
    yield Saving(f"time of a request, batch of {BATCH}", 1e3 / rates[0], 1e3 / rates[1], "ms", True)


def why(found: Sequence[Saving]) -> str:
    """One sentence on what the lines say, where they say that time was not saved."""
    times = [one for one in found if one.faster]
    slow = [one for one in times if one.times < CLEAR]
    if not slow:
        return ""
    where = "anywhere" if len(slow) == len(times) else f"in {', '.join(one.what for one in slow)}"
    return (
        f"No gain {where}: encoding, selecting and the fixed cost of a call take as long as the tokens that the "
        "language model is spared, which is so of small models and short prompts."
    )
