"""Builder of the two tabs on which one medium is asked about; `ImageTab` and `VideoTab` say in what they differ."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import gradio as gr

from vtc.reduction.report import Report

from .components import (
    COUNTING,
    HIDDEN,
    KEEP,
    MODEL,
    answer_panels,
    busy,
    idle,
    keep_slider,
    longest_slider,
    plainly,
    scroll_to,
    session,
)
from .formatting import call_notes, headline, notes, strategy_headline, strategy_table, table, times_note
from .inference import MediumQuestion, PreparedQuestion, ask_and_measure, prepared
from .state import AppState
from .strategy import DIRECT, ask_by_strategy
from .wording import recipe_choices

Counted = tuple[int | None, int | None]
"""Visual tokens kept, and all; None before an upload."""
Shown = tuple[Any, ...]
"""Both answers, their numbers, the notes, and what the tab draws."""


class MediumTab(ABC):
    """A tab's layout and events; a session's own data is in the components alone.

    Attributes:
        kind: "image" or "video".
        defaults: the recipe and the question at first.
        drawings: how many values `drawn` returns.
        count, ask: the functions of the public endpoints `count_KIND` and `ask_KIND`. Each tab has its own, since
            Gradio documents an endpoint by its function's parameters and docstring.
    """

    kind: ClassVar[str]
    defaults: ClassVar[tuple[str, str]]
    drawings: ClassVar[int]
    count: Callable[..., Counted]
    ask: Callable[..., Iterator[Shown]]

    def __init__(self, state: AppState) -> None:
        self._state, self._video = state, self.kind == "video"

    @abstractmethod
    def first(self) -> tuple[str, str]:
        """Return the example that the tab opens with, a path, and the question about it."""

    @abstractmethod
    def upload(self, example: str) -> Any:
        """Lay out what the medium is uploaded to; it shows `example`."""

    def options(self) -> list[Any]:
        """Lay out further inputs of `ask`, under the controls."""
        return []

    @abstractmethod
    def beside(self, medium: Any) -> list[Any]:
        """Lay out drawings under the answers."""

    @abstractmethod
    def examples(self) -> list[tuple[str, str]]:
        """Return packaged media to try, each with a question."""

    @abstractmethod
    def drawn(self, asked: PreparedQuestion, report: Report, path: Path) -> Sequence[Any]:
        """The values of `beside`."""

    def build(self) -> None:
        """Lay the tab out."""
        loaded, recipe_name, (example, asked) = self._state.loaded(self._video), self.defaults[0], self.first()
        before = self.counted(example, recipe_name, KEEP)
        with gr.Row():
            with gr.Column(min_width=280):
                medium = self.upload(example)
                question = gr.Textbox(asked, label="Question", lines=1, max_lines=4)
                with gr.Row():
                    start = gr.Button("Ask", variant="primary", min_width=100)
                    halt = gr.Button("Stop", min_width=100)
                names = loaded.videos if self._video else loaded.images
                listed = recipe_choices(names, self._video)
                recipe, keep = gr.Dropdown(listed, value=recipe_name, label="Recipe"), keep_slider()
                with gr.Row():
                    kept = gr.Number(before[0], label="Visual tokens kept", interactive=False, min_width=100)
                    every = gr.Number(before[1], label="of all", interactive=False, min_width=100)
                longest = longest_slider()
                inputs = [medium, question, recipe, keep, longest, *self.options()]
            with gr.Column(min_width=280, scale=2):
                panels = answer_panels(f"{self.kind}-answers")
                outputs = [*panels, *self.beside(medium)]
        rows = [[path, text] for path, text in self.examples()]
        gr.Examples(rows, [medium, question], label="To try", cache_examples=False)
        for changed in (medium, recipe, keep):
            public: dict[str, Any] = {"api_name": f"count_{self.kind}", "api_visibility": "public"}
            seen = public if changed is medium else {"api_name": None, "api_visibility": "private"}
            changed.change(self.count, [medium, recipe, keep], [kept, every], **seen, **COUNTING)
        running = gr.on([start.click, question.submit], busy, None, start, **HIDDEN).then(
            self.ask, inputs, outputs, api_name=f"ask_{self.kind}", show_progress_on=panels[1], **MODEL
        )
        gr.on([start.click, question.submit], None, js=scroll_to(f"{self.kind}-answers"), **HIDDEN)
        for ended in (running.success, running.failure):
            ended(idle("Ask"), None, start, **HIDDEN)
        halt.click(self.stop, None, panels[-1], cancels=[running], **HIDDEN).then(idle("Ask"), None, start, **HIDDEN)

    def counted(self, path: str | None, recipe: str, keep: float) -> Counted:
        """The body of `count`."""
        if path is None:
            return None, None
        with plainly():
            found = self._state.count(path, recipe, keep, video=self._video)
        return found.after, found.before

    def answered(
        self,
        request: gr.Request,
        path: str | None,
        question: str,
        recipe: str,
        keep: float,
        max_new_tokens: int,
        strategy: str = DIRECT,
    ) -> Iterator[Shown]:
        """The body of `ask`."""
        longest, inference, direct = int(max_new_tokens), self._state.inference, strategy == DIRECT
        with plainly(), self._state.call(session(request, self.kind)) as stop:
            asked = prepared(self._state, MediumQuestion(path, question, recipe, keep, self._video, longest))
            pairs = (
                ask_and_measure(inference, asked, longest, stop)
                if direct
                else ask_by_strategy(inference, asked, question, strategy, longest, stop)
            )
            for pair in pairs:
                report, drawn = pair.short.report, [gr.skip()] * self.drawings
                if report is not None:
                    drawn = [*self.drawn(asked, report, Path(str(path)))]
                more = call_notes(pair) if not direct else [times_note(pair)] if pair.done else []
                numbers = table(pair) if direct else strategy_table(pair)
                gain = headline(pair) if direct else strategy_headline(pair)
                yield pair.full.text, pair.short.text, gain, numbers, notes((*pair.notes, *more), pair), *drawn

    def stop(self, request: gr.Request) -> str:
        """Stop the visitor's own answer."""
        return "- stopped" if self._state.stop(session(request, self.kind)) else "- nothing was running"
