"""One question about one video file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtc.core.budget import Keep
from vtc.recipes.composition import Recipe
from vtc.recipes.video import DEFAULT
from vtc.reduction.report import Report
from vtc.video.keyframes import KeyframeSelector
from vtc.video.reading.sampling import Progress, Sampling

from .preparing import Prepared, Score, prepare
from .strategies import Asker, Call, Strategy
from .strategies import strategy as named_strategy


@dataclass(frozen=True)
class Answer:
    """An answer about a video.

    Attributes:
        text: what the model says.
        prepared: which frames it saw, of which it could have seen.
        calls: every call of the model that the strategy made; the last one gave the answer.
    """

    text: str
    prepared: Prepared
    calls: tuple[Call, ...]

    @property
    def report(self) -> Report | None:
        """Report of the last call; None where nothing was left to do inside the model."""
        return self.calls[-1].report

    @property
    def tokens(self) -> int:
        """Visual tokens that the language model read over all calls."""
        return sum(call.tokens_kept for call in self.calls)

    def __str__(self) -> str:
        spent = sum(call.seconds for call in self.calls)
        lines = [f"{self.text}", f"  {len(self.calls)} calls of the model, {self.tokens} visual tokens, {spent:.3g} s"]
        return "\n".join([*lines, *(f"  {call.purpose}: {call.text}" for call in self.calls[:-1])])


def ask(
    model: Any,
    processor: Any,
    path: str | Path,
    question: str,
    recipe: str | Path | Recipe = DEFAULT,
    *,
    keep: Keep | None = None,
    sampling: Sampling = Sampling(),  # noqa: B008 - frozen
    selector: KeyframeSelector | None = None,
    scores: Score | str | None = None,
    strategy: str | Strategy = "direct",
    max_new_tokens: int = 64,
    progress: Progress | None = None,
    on_call: Callable[[Call], None] | None = None,
) -> Answer:
    """Read a video, choose keyframes before the processor, and answer greedily from the tokens that are kept.

    Args:
        model: a stock model that is not wrapped; it is left so.
        processor, path, question, recipe, keep, sampling, selector, scores: see `prepare`.
        strategy: how the question is asked: a name in `vtc.video.qa.strategies.STRATEGIES` or a strategy. All but
            `direct` call the model several times, about the same frames.
        max_new_tokens: longest answer.
        progress: called with how far reading is, see `prepare`.
        on_call: called with each call of the model when it is done.

    Raises:
        OSError, ValueError: see `prepare`, an unknown strategy, or a model that cannot give what the recipe needs.
    """
    chosen = named_strategy(strategy)
    prepared = prepare(
        path,
        processor,
        question,
        recipe,
        keep=keep,
        sampling=sampling,
        selector=selector,
        scores=scores,
        progress=progress,
        model=model,
    )
    asker = Asker(model, processor, prepared, question, max_new_tokens, on_call)
    text = chosen.run(asker, question)
    return Answer(text, prepared, tuple(asker.calls))
