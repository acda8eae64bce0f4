"""One question about one image or video, answered with all visual tokens and with fewer."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

from vtc.core.token_recorder import TokenRecorder
from vtc.recipes.composition import Recipe
from vtc.reduction.api import reduced
from vtc.reduction.report import Report

from .context_window import context_of
from .prompting import Medium, inputs

ROUNDS, PATIENCE = 5, 20.0
"""Timed runs of either kind, and the seconds after which no further round is begun."""
STEPS = 8
"""Tokens of a timed run after its first."""


class Seconds(NamedTuple):
    """Latency of an answer: from the call of `generate` to its first token, and from token to token."""

    first: float
    next: float


@dataclass(frozen=True)
class Comparison:
    """Two answers to one question.

    Attributes:
        full, short: the answers with all visual tokens, and with those that the recipe keeps.
        report: on the reduced prompt; its seconds are those of the last run.
        seconds_full, seconds_short: medians of the time to the first token, which holds the encoder and the selection,
            and of that from token to token; None where nothing was timed.
        rounds: timed runs of either kind, taken in turns after both answers as a warm-up.
    """

    full: str
    short: str
    report: Report
    seconds_full: Seconds | None = None
    seconds_short: Seconds | None = None
    rounds: int = 0


def prompt(model: Any, processor: Any, medium: Medium, question: str) -> Mapping[str, Any]:
    """The model's inputs for `question` about an image or a video's frames, by the processor's own chat template.

    Raises:
        ValueError: an empty question, a processor without a chat template, or an image that it refuses.
    """
    if not question.strip():
        raise ValueError(f"question={question!r} is empty; ask something about what is shown")
    return inputs(model, processor, [question], [medium])


def unknown_words(processor: Any, question: str) -> list[str]:
    """The words of `question` that the tokenizer reads as its unknown token, in order and once each."""
    tokenizer = processor.tokenizer
    if tokenizer.unk_token_id is None:
        return []
    words = dict.fromkeys(re.findall(r"\w+|[^\w\s]", question))
    return [w for w in words if tokenizer.unk_token_id in tokenizer(w, add_special_tokens=False)["input_ids"]]


def answer(model: Any, processor: Any, inputs: Mapping[str, Any], max_new_tokens: int = 64) -> str:
    """The model's greedy answer, which is no longer than the model's context, whatever is asked for."""
    max_new_tokens = min(max_new_tokens, context_of(model) or max_new_tokens)
    out = model.generate(**inputs, max_new_tokens=max_new_tokens, **greedy(model))
    text: str = processor.tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return text.strip()


def greedy(model: Any) -> dict[str, Any]:
    """Greedy decoding, with the sampling settings of the checkpoint unset so that nothing warns of them."""
    unset = {name: None for name in ("temperature", "top_p", "top_k") if getattr(model.generation_config, name, None)}
    return {"do_sample": False, "num_beams": 1, **unset}


def timed(model: Any, inputs: Mapping[str, Any]) -> Seconds:
    """Return how long an answer of `1 + STEPS` tokens takes, its end put off where it would come sooner."""
    recorder, count = TokenRecorder(), 1 + STEPS
    model.generate(**inputs, max_new_tokens=count, min_new_tokens=count, streamer=recorder, **greedy(model))
    assert recorder.first is not None
    assert recorder.next is not None
    return Seconds(recorder.first, recorder.next)


def compare(
    model: Any,
    processor: Any,
    medium: Medium,
    question: str,
    recipe: Recipe,
    *,
    max_new_tokens: int = 64,
    rounds: int = ROUNDS,
) -> Comparison:
    """Answer with all tokens and by `recipe`, and time both.

    Args:
        model: a stock model that is not wrapped; it is left so.
        rounds: timed runs of either kind; fewer are made once they have taken 20 seconds, 0 times nothing.

    Raises:
        ValueError: see `prompt`, or a model that cannot give what the recipe needs.
    """
    given = prompt(model, processor, medium, question)
    full = answer(model, processor, given, max_new_tokens)
    with reduced(model, recipe):
        short = answer(model, processor, given, max_new_tokens)
        report: Report = model.vtc.report
    times: list[tuple[Seconds, Seconds]] = []
    begun = time.perf_counter()
    while len(times) < rounds and (not times or time.perf_counter() - begun < PATIENCE):
        plain = timed(model, given)
        with reduced(model, recipe):
            times.append((plain, timed(model, given)))
            report = model.vtc.report
    if not times:
        return Comparison(full, short, report)
    before, after = (Seconds(*map(median, zip(*kind, strict=True))) for kind in zip(*times, strict=True))
    return Comparison(full, short, report, before, after, len(times))


def report_on(model: Any, inputs: Mapping[str, Any], recipe: Recipe) -> Report:
    """The report on `inputs` by `recipe`, without an answer."""
    with reduced(model, recipe):
        model.generate(**inputs, max_new_tokens=1, **greedy(model))
        report: Report = model.vtc.report
    return report
