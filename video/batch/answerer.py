"""Answers the questions of one medium with a model that is loaded once: encode once, ask many."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from vtc.inference.loading import load
from vtc.inference.prompting import processed
from vtc.recipes.composition import Recipe
from vtc.reduction.api import reduced
from vtc.reduction.report import Report
from vtc.video.qa.placeholders import placeholders
from vtc.video.qa.strategies import Direct
from vtc.video.qa.strategies import strategy as named_strategy

from .alike import alike, size_class
from .attempts import (
    MEDIUM,
    ROWS,
    Begun,
    NoAttempts,
    medium_name,
)
from .columns import STAGES
from .config import Job
from .context import PromptLimits
from .loading import LoadedMedium, open_group, refused
from .matching.choices import prompt_of
from .prompts import Prompts, with_system_prompt
from .questions import Group, Question
from .rows import Row, RowMaker, Seen
from .shared_prefix import (
    BatchGeneration,
    Prefix,
    ask_whole,
    go_on,
    read_prefix,
    shareable,
)
from .strategy_answers import ask_by_strategy

Once = Callable[[], AbstractContextManager[None]]
"""Makes a block whose calls encode a medium once."""


class Answerer:
    """A model at work on a job.

    Args:
        job: what to answer by.

    Raises:
        OSError, ValueError: a model that cannot be loaded, or that cannot give what the recipe needs.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.model, self.processor = load(job.model, device=job.device, dtype=job.dtype)
        self._make = RowMaker(job, ("vtc-vlm", "torch", "transformers", "av"))
        self._batch = job.batch
        self._strategy = named_strategy(job.strategy)
        self._limits = PromptLimits.of(self.model, job.max_prompt)

    def open(self, group: Group, *, frames: int | None = None, processor: Any = None) -> LoadedMedium:
        """The medium of `group`, read; see `open_group`. `processor`: a copy, where another thread than the model's
        reads."""
        model = self.model if self.job.reads_by_model else None
        return open_group(group, self.job, processor or self.processor, frames, model)

    def spare_processor(self) -> Any:
        """A copy of the processor, for a thread that reads ahead."""
        return copy.deepcopy(self.processor)

    def answer(
        self,
        group: Group,
        *,
        skip: Collection[str] = (),
        opened: Callable[[], LoadedMedium] | None = None,
        stop: Callable[[], bool] = lambda: False,
        attempts: Begun | None = None,
    ) -> Iterator[Row]:
        """One row for each question of `group`, as soon as it is answered. What goes wrong is a row with an `error`.

        Args:
            group: about one medium.
            skip: ids that are answered already.
            opened: gives the medium, or raises what kept it from being read; None: it is read here.
            stop: asked before each batch; where it is true, no further one is begun.
            attempts: records what is begun, and knows what killed an earlier process.
        """
        attempts = attempts or NoAttempts()
        left = {q.id: q for q in group.questions if q.id not in skip}
        for question in list(left.values()):
            if error := refused(question, self.processor) or attempts.refused(question.id):
                del left[question.id]
                yield self.failed(question, error)
        frames: int | None = None
        note = ""
        while left:
            ready: LoadedMedium | None = None
            asked = list(left.values())
            try:
                if opened is not None and frames is None:
                    ready = opened()
                else:
                    with attempts.during([medium_name(group.first)], MEDIUM):
                        ready = self.open(group, frames=frames)
                ready = replace(ready, note=_joined(note, ready.note))
                for row in self._rows(asked, ready, stop, attempts):
                    del left[row["id"]]
                    yield row
                return
            except Exception as error:  # a bad medium raises anything at all, and never ends the job
                if stop():  # Ctrl-C reaches the children that decode as well: what they die of is no error of a medium
                    return
                fewer = self._fewer(error, group, frames)
                if fewer is None:
                    if ready is None or is_out_of_memory(error) or len(asked) == 1:
                        yield from (self.failed(question, error) for question in left.values())
                    else:
                        yield from self._apart(left.values(), _share(ready, len(asked)), stop, attempts)
                    return
                frames, note = fewer, f"memory did not suffice: read again with {fewer} frames at most"

    def _apart(
        self, questions: Iterable[Question], opened: LoadedMedium, stop: Callable[[], bool], attempts: Begun
    ) -> Iterator[Row]:
        """Each question by itself, so that one that the model cannot take costs no other its answer."""
        for question in questions:
            if stop():
                return
            try:
                yield from list(self._rows([question], opened, stop, attempts))
            except Exception as error:
                if not stop():
                    yield self.failed(question, error)

    def _fewer(self, error: Exception, group: Group, frames: int | None) -> int | None:
        """Return how many frames to try next, where that is allowed and may help."""
        now = self.job.frames if frames is None else frames
        if not is_out_of_memory(error):
            return None
        _free()
        return now // 2 if self.job.allow_fewer_frames and not group.first.image and now > 1 else None

    def _rows(
        self, questions: Sequence[Question], opened: LoadedMedium, stop: Callable[[], bool], attempts: Begun
    ) -> Iterator[Row]:
        """Rows of questions with different system messages have no prefix in common."""
        apart: dict[str | None, list[Question]] = {}
        for question in questions:
            apart.setdefault(question.system, []).append(question)
        read = {name: value / len(questions) for name, value in opened.seconds.items()}
        direct = isinstance(self._strategy, Direct)
        with (
            self._wrapped(opened) if direct else nullcontext(nullcontext) as once
        ):  # a strategy wraps each of its calls
            for system, some in apart.items():
                try:
                    asker = with_system_prompt(self.processor, system)
                except ValueError as error:
                    yield from (self.failed(question, error) for question in some)
                    continue
                asked = [prompt_of(question, self.job.choices == "listed") for question in some]
                made = opened.prompt if system == opened.system else asked[0]
                inputs = opened.inputs if system == opened.system else processed(asker, [made], [opened.medium])
                prompts = Prompts.of(asker, made, asked, opened.medium, inputs)
                if direct:
                    yield from self._rows_with_system(some, prompts, opened, read, once, stop, attempts)
                else:
                    yield from self._planned(some, asked, asker, prompts, opened, read, stop, attempts)

    @contextmanager
    def _wrapped(self, opened: LoadedMedium) -> Iterator[Once]:
        """The model at work by the recipe. Calls within `once` encode the medium once, whatever is made of it then."""
        if opened.recipe is None:
            yield nullcontext
            return
        with reduced(self.model, opened.recipe):
            yield partial(self.model.vtc.encode_once, self.model.vtc.feature_cache())

    def _rows_with_system(
        self,
        questions: Sequence[Question],
        prompts: Prompts,
        opened: LoadedMedium,
        read: dict[str, float],
        once: Once,
        stop: Callable[[], bool],
        attempts: Begun,
    ) -> Iterator[Row]:
        visual = placeholders(self.processor, prompts.inputs)
        fitting, errors = self._fitting(prompts, visual, opened.recipe)
        yield from (self.failed(questions[i], error) for i, error in errors)
        if not fitting:
            return
        ids = [question.id for question in questions]
        one_for_all = shareable(opened.recipe, visual)
        prefix: Prefix | None = None
        if one_for_all:
            with once(), attempts.during([medium_name(questions[0])], MEDIUM):
                prefix = self._alone(lambda: read_prefix(self.model, prompts))
        shared = {name: value / len(questions) for name, value in (prefix.seconds if prefix else {}).items()}
        todo = sorted(fitting, key=lambda i: size_class(len(prompts.tails[i])))
        while todo and not stop():
            some = todo[: self._batch]
            lengths, alone = [len(prompts.tails[i]) for i in some], [attempts.alone(ids[i]) for i in some]
            next_ones = some[: alike(lengths, alone)]
            # not around the rows: who takes them may do so in turn with others
            with once(), attempts.during([ids[i] for i in next_ones], ROWS):
                text = prompts.prefix - visual + max(len(prompts.tails[i]) for i in next_ones)
                longest = self._limits.longest(text, visual, opened.recipe, self.job.max_new_tokens)
                generation, report, count = self._some(prompts, prefix, next_ones, longest)
            if not shared:  # the first has encoded for all
                shared = {"encode": generation.seconds.pop("encode") / len(questions)}
            own = {name: value / count for name, value in generation.seconds.items()}
            seconds = {name: sum(part.get(name, 0.0) for part in (read, shared, own)) for name in STAGES}
            tokens = _tokens(self.processor, prompts, opened, report)
            for place, text_generated in zip(todo[:count], generation.texts, strict=True):
                yield self._row(questions[place], text_generated, opened, tokens, seconds)
            todo = todo[count:]

    def _planned(
        self,
        questions: Sequence[Question],
        asked: Sequence[str],
        asker: Any,
        prompts: Prompts,
        opened: LoadedMedium,
        read: dict[str, float],
        stop: Callable[[], bool],
        attempts: Begun,
    ) -> Iterator[Row]:
        """Rows of questions that are asked by a strategy, one after the other; an error of one is no other's."""
        visual = placeholders(self.processor, prompts.inputs)
        fitting, errors = self._fitting(prompts, visual, opened.recipe)
        yield from (self.failed(questions[i], error) for i, error in errors)
        for i in fitting:
            if stop():
                return
            own = prompts.prefix - visual + len(prompts.tails[i])
            longest = self._limits.longest(own, visual, opened.recipe, self.job.max_new_tokens)
            ask = partial(ask_by_strategy, self._strategy, self.model, asker, opened, prompts, i, asked[i], longest)
            with attempts.during([questions[i].id], ROWS):
                found = self._alone(ask)
            seconds = {name: {**read, **found.seconds}.get(name) for name in STAGES}
            more = {"plan": self._strategy.name, "calls": found.rows}
            yield self._row(questions[i], found.text, opened, found.tokens, seconds, more)

    def _fitting(
        self, prompts: Prompts, visual: int, recipe: Recipe | None
    ) -> tuple[list[int], list[tuple[int, ValueError]]]:
        """The prompts that the model can take, and why it cannot take the others: none of their tensors is made."""
        fitting, errors = [], []
        for i, tail in enumerate(prompts.tails):
            error = self._limits.refusal(prompts.prefix - visual + len(tail), visual, recipe)
            if error is None:
                fitting.append(i)
            else:
                errors.append((i, error))
        return fitting, errors

    def _some(
        self, prompts: Prompts, prefix: Prefix | None, todo: list[int], longest: int
    ) -> tuple[BatchGeneration, Report | None, int]:
        """Answers to as many of `todo` as memory has room for, the report, and how many those are."""
        if prefix is None:
            generation, report = self._alone(lambda: ask_whole(self.model, self.processor, prompts, todo[0], longest))
            return generation, report, 1
        while True:
            count = prefix.batch_size([len(prompts.tails[i]) for i in todo[: self._batch]], longest)
            ask = _asking(self.model, self.processor, prompts, prefix, todo[:count], longest)
            try:
                return (self._alone(ask) if count == 1 else ask()), prefix.report, count
            except Exception as error:
                if not is_out_of_memory(error) or count == 1:
                    raise
            _free()
            self._batch = max(1, count // 2)

    def _alone(self, run: Callable[[], Any]) -> Any:
        """Call `run`; where memory does not suffice, once more after freeing what can be freed."""
        try:
            return run()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        _free()
        return run()

    def _row(
        self,
        question: Question,
        text: str,
        opened: LoadedMedium,
        tokens: tuple[int, int],
        seconds: Mapping[str, float | None],
        more: Mapping[str, Any] | None = None,
    ) -> Row:
        times = getattr(opened.medium, "seconds", ())
        return self._make.answered(question, text, Seen(times, opened.stamp, opened.note), tokens, seconds, more)

    def failed(self, question: Question, error: BaseException) -> Row:
        """A row without an answer, which is not the right one where that is known; what it took was not measured."""
        return self._make.failed(question, error, "OutOfMemoryError" if is_out_of_memory(error) else None)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error` says that memory did not suffice, of a GPU or of the machine."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _asking(
    model: Any, processor: Any, prompts: Prompts, prefix: Prefix, rows: list[int], longest: int
) -> Callable[[], BatchGeneration]:
    return lambda: go_on(model, processor, prompts, prefix, rows, longest)


def _tokens(processor: Any, prompts: Prompts, opened: LoadedMedium, report: Report | None) -> tuple[int, int]:
    """Visual tokens that the stock model would have read, and those that this one does, structural ones among both."""
    if report is None or not report.items:
        before = kept = placeholders(processor, prompts.inputs)
    else:
        kept = sum(item.after + item.structural for item in report.items)
        before = sum(item.before + item.structural for item in report.items)
    return max(opened.tokens or 0, before), kept


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _share(opened: LoadedMedium, count: int) -> LoadedMedium:
    """As much of what the reading took as one of `count` questions has to answer for."""
    return replace(opened, seconds={name: value / count for name, value in opened.seconds.items()})


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
