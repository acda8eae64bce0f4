"""What fewer visual tokens save on this machine: time to the first token, decoding, throughput, memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from vtc.adapters import find
from vtc.core.token_recorder import TokenRecorder
from vtc.inference.asking import greedy
from vtc.reduction.api import reduced
from vtc.reduction.report import Report

from .clock import Spread, interleaved
from .ideal import ideal
from .variants import Variant

IDEAL = "ideal"


@dataclass(frozen=True)
class SpeedRow:
    """What one variant takes for a batch of requests.

    Attributes:
        batch: requests that are answered together.
        name, keep: the variant's.
        tokens, prompt: visual tokens, and all, of all prompts as they enter the language model.
        first: seconds until the first token of all: encoder, selection and prefill.
        ideal: of the same number of embeddings with nothing selected; None where that is not known beforehand.
        over_ideal: how many times longer than the ideal of the same round the first token takes; of all rounds.
        step: seconds from token to token.
        phases: seconds of a request's phases, by name: `encode` (signals of the encoder included), `select`, `merge`,
            `splice`; medians.
        flops, kv_bytes: of the prefill in the language model, and of what it caches, by arithmetic.
        peak_bytes: of device memory; None on a CPU.
        refused: why the model does not take the recipe; then nothing was measured.
    """

    batch: int
    name: str
    keep: float | int
    tokens: int = 0
    prompt: int = 0
    first: Spread | None = None
    ideal: Spread | None = None
    over_ideal: Spread | None = None
    step: Spread | None = None
    phases: Mapping[str, float] = field(default_factory=dict)
    flops: int = 0
    kv_bytes: int = 0
    peak_bytes: int | None = None
    refused: str | None = None

    def requests_a_second(self, answer: int) -> float | None:
        """Throughput with answers of `answer` tokens."""
        if self.first is None or self.step is None:
            return None
        return self.batch / (self.first.median + (answer - 1) * self.step.median)


@dataclass
class _Measured:
    """A variant at work on a request: what its calls left behind."""

    variant: Variant
    report: Report | None = None
    phases: dict[str, list[float]] = field(default_factory=dict)
    steps: list[float] = field(default_factory=list)
    peak: int | None = None


class SpeedTest:
    """Times the variants of a recipe on one model; the stock model is left unwrapped.

    Args:
        rounds: timed calls of each kind, taken in turns after one to warm up.
        answer: tokens of a timed answer, its end put off where it would come sooner.
        patience: seconds after which no further round is begun.
        beside_ideal: whether the ideal of each variant is timed too.
    """

    def __init__(
        self,
        model: Any,
        *,
        rounds: int = 7,
        answer: int = 16,
        patience: float = float("inf"),
        beside_ideal: bool = True,
    ) -> None:
        self._model, self._rounds, self._answer, self._patience = model, rounds, answer, patience
        self._beside_ideal = beside_ideal

    def rows(
        self,
        given: Mapping[str, Any],
        variants: Sequence[Variant],
        on_round: Callable[[int], None] = lambda done: None,
    ) -> Iterator[SpeedRow]:
        """The rows of one batch of requests, the stock model's first.

        Args:
            given: the model's inputs, as its processor gives them.
        """
        able, refusals = self._able(given, variants)
        if not able or able[0].variant.recipe is not None:
            raise ValueError(f"the stock model does not take these requests: {refusals[0][1]}")
        measured = {one.variant.key: one for one in able}
        lengths = {key: self._lengths(given, one) for key, one in measured.items()}
        calls: dict[str, Callable[[], object]] = {}
        for key, one in measured.items():
            calls[key] = partial(self._prefill, given, one)
            if self._beside_ideal and lengths[key] is not None:
                calls[f"{IDEAL} {key}"] = ideal(self._model, given, lengths[key] or ())
        around = {key: partial(self._wrapped, one.variant) for key, one in measured.items()}
        settings: dict[str, Any] = {"patience": self._patience, "around": around, "wait": self._wait}
        ideals = calls.keys() - measured.keys()  # the others ran once already
        taken = interleaved(calls, self._rounds, cold=ideals, on_round=on_round, **settings)
        answers = {key: partial(self._decode, given, one) for key, one in measured.items()}
        interleaved(answers, max(1, self._rounds // 2), cold=(), **settings)
        for key, one in measured.items():
            yield self._row(given, one, taken[key], taken.get(f"{IDEAL} {key}"), lengths[key])
        for variant, why in refusals:
            yield SpeedRow(len(given["input_ids"]), variant.name, variant.keep, refused=why)

    def _able(
        self, given: Mapping[str, Any], variants: Sequence[Variant]
    ) -> tuple[list[_Measured], list[tuple[Variant, str]]]:
        """The variants that the model can run on these inputs, run once, and why it cannot run the others."""
        able, refusals = [], []
        for variant in variants:
            one = _Measured(variant)
            try:
                with self._wrapped(variant):
                    self._prefill(given, one)
                one.phases.clear()  # it was cold
                able.append(one)
            except ValueError as error:
                refusals.append((variant, " ".join(str(error).split())))
        return able, refusals

    def _wrapped(self, variant: Variant) -> AbstractContextManager[Any]:
        return nullcontext() if variant.recipe is None else reduced(self._model, variant.recipe)

    @torch.no_grad()
    def _prefill(self, given: Mapping[str, Any], one: _Measured) -> None:
        cuda = self._model.device.type == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats(self._model.device)
        self._model(**given, use_cache=True, logits_to_keep=1)
        if one.variant.recipe is not None:
            one.report = self._model.vtc.report
            for phase, seconds in one.report.seconds.items():
                one.phases.setdefault(phase, []).append(seconds)
        if cuda:
            one.peak = torch.cuda.max_memory_allocated(self._model.device)

    def _decode(self, given: Mapping[str, Any], one: _Measured) -> None:
        recorder = TokenRecorder()
        count = max(2, self._answer)
        self._model.generate(
            **given, max_new_tokens=count, min_new_tokens=count, streamer=_EachStep(recorder), **greedy(self._model)
        )
        assert recorder.next is not None
        one.steps.append(recorder.next)

    def _lengths(self, given: Mapping[str, Any], one: _Measured) -> tuple[int, ...] | None:
        """Tokens of each row's prompt; None where they leave inside the language model."""
        if one.variant.recipe is None:
            return tuple(int(n) for n in _mask(given).sum(1))
        assert one.report is not None
        return None if one.variant.recipe.decoder else one.report.prompt_after

    def _row(
        self,
        given: Mapping[str, Any],
        one: _Measured,
        first: Sequence[float],
        beside: Sequence[float] | None,
        lengths: tuple[int, ...] | None,
    ) -> SpeedRow:
        cost, adapter = find(self._model).cost(), find(self._model)
        prompt = lengths or (one.report.prompt_after if one.report else ())
        placeholders = torch.tensor(sorted(adapter.placeholders.values()), device=given["input_ids"].device)
        tokens = int(torch.isin(given["input_ids"], placeholders).sum()) if one.report is None else one.report.after
        flops = sum(map(cost.prefill_flops, prompt)) if one.report is None else one.report.flops_after
        saved = 0 if one.report is None else one.report.bytes_saved
        whole = sum(cost.cached_bytes(int(n)) for n in _mask(given).sum(1))
        return SpeedRow(
            batch=len(given["input_ids"]),
            name=one.variant.name,
            keep=one.variant.keep,
            tokens=tokens,
            prompt=sum(prompt),
            first=Spread.of(first),
            ideal=None if beside is None else Spread.of(beside),
            over_ideal=None if beside is None else Spread.of([a / b for a, b in zip(first, beside, strict=True)]),
            step=Spread.of(one.steps),
            phases={name: Spread.of(seconds).median for name, seconds in one.phases.items()},
            flops=flops,
            kv_bytes=whole - saved,
            peak_bytes=one.peak,
        )

    def _wait(self) -> None:
        if self._model.device.type == "cuda":
            torch.cuda.synchronize(self._model.device)


class _EachStep:
    """A streamer for batches: tells a recorder when a step came, whatever the rows say."""

    def __init__(self, recorder: TokenRecorder) -> None:
        self._recorder = recorder

    def put(self, value: Any) -> None:
        """See `TokenRecorder.put`."""
        self._recorder.put(value.flatten()[:1])

    def end(self) -> None:
        """See `TokenRecorder.end`."""


def _mask(given: Mapping[str, Any]) -> torch.Tensor:
    mask: torch.Tensor = given.get("attention_mask", torch.ones_like(given["input_ids"]))
    return mask
