"""One question about one video file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtc.ask import answer
from vtc.budget import Keep
from vtc.recipes import Recipe
from vtc.report import Report
from vtc.wrap import reduced

from .keyframes import KeyframeSelector
from .prepared import Prepared, Score, prepare
from .recipes import DEFAULT
from .sampling import Sampling


@dataclass(frozen=True)
class Answer:
    """An answer about a video.

    Attributes:
        text: what the model says.
        prepared: which frames it saw, of which it could have seen.
        report: what was kept of those frames' tokens; None where the recipe left nothing to do inside the model.
    """

    text: str
    prepared: Prepared
    report: Report | None


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
    scores: Score | None = None,
    max_new_tokens: int = 64,
) -> Answer:
    """Reads a video, chooses keyframes before the processor, and answers greedily from the tokens that are kept.

    Args:
        model: a stock model that is not wrapped; it is left so.
        processor, path, question, recipe, keep, sampling, selector, scores: see `prepare`.
        max_new_tokens: longest answer.

    Raises:
        OSError, ValueError: see `prepare`, or a model that cannot give what the recipe needs.
    """
    prepared = prepare(
        path, processor, question, recipe, keep=keep, sampling=sampling, selector=selector, scores=scores
    )
    inputs = dict(prepared.inputs.to(model.device, dtype=model.dtype))  # type: ignore[attr-defined]
    if prepared.recipe is None:
        return Answer(answer(model, processor, inputs, max_new_tokens), prepared, None)
    with reduced(model, prepared.recipe):
        text = answer(model, processor, inputs, max_new_tokens)
        return Answer(text, prepared, model.vtc.report)
