"""One model's answers to a batch of questions, by every variant."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vtc.check.runner import require
from vtc.embedded.exam import exact
from vtc.inference.prompting import Medium, inputs
from vtc.reduction.api import reduced

from .cases import Case
from .decode import (
    Decoded,
    decode,
    divergence,
    logits_along,
    visual_tokens,
)
from .journal import BenchRow
from .variants import FULL, NONE, Variant

LONGEST = 300
"""Characters of an error that are kept."""


@dataclass(frozen=True)
class Batch:
    """Some cases as the model takes them, and the full model's answers."""

    cases: Sequence[Case]
    images: Sequence[Medium]
    given: Mapping[str, Any]
    full: Decoded


class Evaluator:
    """Answers cases with a loaded stock model, which is left unwrapped.

    Attributes:
        refused: rows of the variants that the model does not take.
    """

    def __init__(self, name: str, model: Any, processor: Any, variants: Sequence[Variant], limit: int) -> None:
        """`name` is the model's in the rows, `limit` the longest answer in tokens."""
        self._name, self._model, self._processor, self._limit = name, model, processor, limit
        self.refused: list[BenchRow] = []
        self._variants: list[Variant] = []
        for variant in variants:
            try:
                if variant.recipe is not None:
                    require(model, variant.recipe)
                self._variants.append(variant)
            except ValueError as error:
                self.refused.append(BenchRow(name, variant.name, variant.keep, "", refused=_plain(error)))

    def rows(self, cases: Sequence[Case], done: Collection[tuple[str, str, str]] = ()) -> Iterator[BenchRow]:
        """The rows of `cases` whose keys are not in `done`, variant by variant.

        A batch is always answered whole, so that a run that goes on rounds as one that was never stopped. A case that
        cannot be read or answered gives a row with its error.
        """
        due = [
            variant
            for variant in self._variants
            if any((self._name, variant.key, case.id) not in done for case in cases)
        ]
        if due:
            rows = self._readable(cases, due)
            yield from (row for row in rows if row.key not in done)

    def _readable(self, cases: Sequence[Case], variants: Sequence[Variant]) -> Iterator[BenchRow]:
        ready, images = [], []
        for case in cases:
            try:
                images.append(case.image())
                ready.append(case)
            except (OSError, ValueError) as error:
                yield from (self._failed(case, variant, error) for variant in variants)
        if ready:
            yield from self._answers(ready, images, variants)

    def _answers(
        self, cases: Sequence[Case], images: Sequence[Medium], variants: Sequence[Variant]
    ) -> Iterator[BenchRow]:
        try:
            given = inputs(self._model, self._processor, [case.question for case in cases], images)
            if 0 in visual_tokens(self._model, given["input_ids"]):
                # A chat template passes over kinds of media that it does not know.
                raise ValueError("the prompt holds no placeholder of the image or video; the model does not take it")
            batch = Batch(cases, images, given, decode(self._model, self._processor, given, self._limit))
        except Exception as error:  # processors and models raise anything at all on what they do not take
            yield from self._singly(cases, images, variants, error)
            return
        for variant in variants:
            try:
                rows = self._variant_rows(batch, variant)
            except Exception as error:
                yield from self._singly(cases, images, [variant], error)
            else:
                yield from rows

    def _singly(
        self, cases: Sequence[Case], images: Sequence[Medium], variants: Sequence[Variant], error: Exception
    ) -> Iterator[BenchRow]:
        """One by one, so that a case which breaks its batch costs the others nothing."""
        if len(cases) == 1:
            yield from (self._failed(cases[0], variant, error) for variant in variants)
            return
        for case, image in zip(cases, images, strict=True):
            yield from self._answers([case], [image], variants)

    def _failed(self, case: Case, variant: Variant, error: Exception) -> BenchRow:
        return BenchRow(self._name, variant.name, variant.keep, case.id, error=_plain(error))

    def _variant_rows(self, batch: Batch, variant: Variant) -> list[BenchRow]:
        if variant.name == FULL:
            tokens = visual_tokens(self._model, batch.given["input_ids"])
            alike = [divergence(logits, logits) for logits in batch.full.logits]  # 0, unless they are no numbers
            return self._judged(batch, variant, batch.full, tokens, tokens, alike)
        if variant.name == NONE:
            given = inputs(self._model, self._processor, [case.question for case in batch.cases], None)
            short = decode(self._model, self._processor, given, self._limit)
            none = [0] * len(batch.cases)
            return self._judged(batch, variant, short, none, none, self._divergences(batch, short, None))
        with reduced(self._model, variant.recipe):  # type: ignore[arg-type]
            short = decode(self._model, self._processor, batch.given, self._limit)
            report, tokens = self._model.vtc.report, [0] * len(batch.cases)
            for item in report.items:
                tokens[item.row] += item.after + item.structural
            layers = tokens if report.decoder is None else report.decoder.mean_by_row
            return self._judged(batch, variant, short, tokens, layers, self._divergences(batch, short, batch.images))

    def _divergences(self, batch: Batch, short: Decoded, images: Sequence[Medium] | None) -> list[float]:
        """KL of each row along the full model's answer. Where both say the same, the free run went along it already."""
        full = batch.full
        other = [row for row in range(len(batch.cases)) if not short.says(row, full)]
        forced: dict[int, torch.Tensor] = {}
        if other:
            questions = [batch.cases[row].question for row in other]
            seen = None if images is None else [images[row] for row in other]
            longest = max(full.lengths[row] for row in other)
            given = inputs(self._model, self._processor, questions, seen)
            logits = logits_along(self._model, given, full.tokens[other, :longest])
            forced = dict(zip(other, logits, strict=True))
        return [
            divergence(full.logits[row, :length], forced.get(row, short.logits[row])[:length])
            for row, length in enumerate(full.lengths)
        ]

    def _judged(
        self,
        batch: Batch,
        variant: Variant,
        answers: Decoded,
        tokens: Sequence[int],
        layers: Sequence[float],
        kl: Sequence[float],
    ) -> list[BenchRow]:
        rows = []
        for i, case in enumerate(batch.cases):
            text = answers.texts[i]
            right = None if case.answer is None else exact(text, case.answer)
            agree = exact(text, batch.full.texts[i])
            shown = tokens[i], float(layers[i])
            rows.append(BenchRow(self._name, variant.name, variant.keep, case.id, text, *shown, agree, right, kl[i]))
        return rows


def _plain(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
