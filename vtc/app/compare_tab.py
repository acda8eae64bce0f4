"""The tab on which recipes are compared over one question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
import pandas as pd

from vtc.embedded.samples import samples
from vtc.media.images import is_video
from vtc.media.sniffing import SUFFIXES

from .comparing import HEADER, ComparisonRow, compared
from .components import (
    HIDDEN,
    MODEL,
    answer_table,
    busy,
    idle,
    keep_slider,
    longest_slider,
    plainly,
    scroll_to,
    session,
)
from .inference import MediumQuestion
from .state import AppState
from .wording import recipe_choices

AT_FIRST = ("kcenter", "stride", "grid", "resize")
CHARTS = (("visual tokens", "Visual tokens"), ("milliseconds", "Time to first token"))


def charts(rows: Sequence[ComparisonRow]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return chart data: visual tokens, and milliseconds to the first token, of each recipe."""
    names = [row.recipe for row in rows]
    tokens = pd.DataFrame({"recipe": names, "visual tokens": [row.tokens for row in rows]})
    first = [None if row.first is None else row.first * 1e3 for row in rows]
    return tokens, pd.DataFrame({"recipe": names, "milliseconds": first})


class CompareTab:
    """Its events."""

    def __init__(self, state: AppState) -> None:
        self._state = state

    def compare(
        self,
        medium: str | None,
        question: str,
        recipes: list[str],
        keep: float,
        max_new_tokens: int,
        request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:
        """Answer one question about an image or a video by several recipes.

        Args:
            medium: the image or the video.
            question: what is asked.
            recipes: 1 to 12 names from `vtc recipes`.
            keep: the share of the visual tokens to keep, above 0 and at most 1.
            max_new_tokens: longest answer in tokens, 1 to 512.

        Returns:
            A table with a row for all tokens and one for each recipe, and charts of tokens and times.
        """
        with plainly(), self._state.call(session(request, "compare")) as stop:
            video = medium is not None and is_video(medium)
            asked = MediumQuestion(medium, question, "", keep, video, int(max_new_tokens))
            for rows in compared(self._state, asked, recipes, stop):
                yield ([row.cells() for row in rows], *charts(rows))

    def stop(self, request: gr.Request) -> None:
        """Stop the visitor's own comparison."""
        self._state.stop(session(request, "compare"))


def build(state: AppState) -> None:
    """Lay the tab out."""
    tab, names, sample = CompareTab(state), _names(state), samples()[0]
    with gr.Row():
        with gr.Column(min_width=280):
            medium = gr.File(
                str(sample.path), label="Image or video", file_types=["image", "video", *sorted(SUFFIXES)], height=120
            )
            question = gr.Textbox(sample.question, label="Question", lines=1, max_lines=4)
            recipes = gr.Dropdown(
                recipe_choices(names, video=False),
                value=[name for name in AT_FIRST if name in names],
                multiselect=True,
                label="Recipes",
            )
            keep, longest = keep_slider(), longest_slider()
            with gr.Row():
                start = gr.Button("Compare", variant="primary", min_width=100)
                halt = gr.Button("Stop", min_width=100)
        with gr.Column(min_width=280, scale=2):
            table = answer_table(
                HEADER,
                (20, 22, 14, 16, 15, 13),
                label="A row a recipe, after Compare; times of single runs, and at the end medians of warm ones",
                elem_id="compared",
            )
            with gr.Row():
                tokens, times = (_chart(y, title) for y, title in CHARTS)
    running = start.click(busy, None, start, **HIDDEN).then(
        tab.compare,
        [medium, question, recipes, keep, longest],
        [table, tokens, times],
        api_name="compare",
        show_progress_on=table,
        **MODEL,
    )
    start.click(None, js=scroll_to("compared"), **HIDDEN)
    for ended in (running.success, running.failure):
        ended(idle("Compare"), None, start, **HIDDEN)
    halt.click(tab.stop, None, None, cancels=[running], **HIDDEN).then(idle("Compare"), None, start, **HIDDEN)


def _names(state: AppState) -> list[str]:
    """The recipes of both models, those of images first."""
    return list(dict.fromkeys((*state.image_model.images, *state.video_model.videos)))


def _chart(y: str, title: str) -> gr.BarPlot:
    return gr.BarPlot(x="recipe", y=y, title=title, y_lim=[0, None], x_label_angle=-40, min_width=240)
