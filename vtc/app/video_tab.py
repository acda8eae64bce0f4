"""The tab on which a video is asked about."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from vtc.inference.defaults import VIDEOS
from vtc.video.qa.strategies import STRATEGIES

from .components import (
    COUNTING,
    MODEL,
    Controls,
    ResultPanels,
    plainly,
    session,
)
from .formatting import (
    FIRST_CALL,
    call_notes,
    notes,
    strategy_table,
    table,
)
from .inference import (
    MediumQuestion,
    Pair,
    PreparedQuestion,
    ask,
    prepared,
)
from .renderings import drawn_timeline
from .state import AppState
from .strategy import DIRECT, ask_by_strategy
from .timeline_clicks import ClickableTrack

Shown = tuple[Any, ...]


class VideoTab:
    """Its events; where a click on the timeline leads is kept with each session."""

    def __init__(self, state: AppState) -> None:
        self._state = state

    def count_video(self, video: str | None, recipe: str, keep: float) -> tuple[int | None, int | None]:
        """Count the visual tokens that a recipe keeps of a video, by arithmetic: no model runs.

        Args:
            video: the video.
            recipe: a name from `vtc recipes`.
            keep: the share of the visual tokens to keep, above 0 and at most 1.

        Returns:
            The tokens kept, and all.
        """
        if video is None:
            return None, None
        with plainly():
            found = self._state.count(video, recipe, keep, video=True)
        return found.after, found.before

    def ask_video(
        self,
        video: str | None,
        question: str,
        recipe: str,
        keep: float,
        max_new_tokens: int,
        strategy: str,
        request: gr.Request,
    ) -> Iterator[Shown]:
        """Answer a question about a video twice, from all visual tokens and from those that a recipe keeps.

        Args:
            video: the video.
            question: what is asked.
            recipe: a name from `vtc recipes`.
            keep: the share of the visual tokens to keep, above 0 and at most 1.
            max_new_tokens: longest answer in tokens, 1 to 512.
            strategy: direct, or in several calls of the model: decompose or segment-thought.

        Returns:
            Both answers as they grow, the numbers of both, notes (of a strategy, its calls), and at the end the
            timeline of shots, budgets and keyframes.
        """
        with plainly(), self._state.call(session(request, "video")) as stop:
            asked = prepared(self._state, MediumQuestion(video, question, recipe, keep, True, int(max_new_tokens)))
            for pair in self._pairs(asked, question, strategy, int(max_new_tokens), stop):
                image, track = gr.skip(), gr.skip()
                if pair.short.report is not None:
                    image, track = drawn_timeline(asked, pair.short.report, Path(str(video)).name)
                more = call_notes(pair) if strategy != DIRECT else [FIRST_CALL] if pair.done else []
                numbers = table(pair) if strategy == DIRECT else strategy_table(pair)
                yield pair.full.text, pair.short.text, numbers, notes((*pair.notes, *more), pair), image, track

    def _pairs(
        self, asked: PreparedQuestion, question: str, strategy: str, max_new_tokens: int, stop: threading.Event
    ) -> Iterator[Pair]:
        if strategy == DIRECT:
            return ask(self._state.inference, asked, max_new_tokens, stop)
        return ask_by_strategy(self._state.inference, asked, question, strategy, max_new_tokens, stop)

    def jump(self, track: ClickableTrack | None, event: gr.SelectData) -> Any:
        """Move the player to where a click on the timeline leads."""
        second = None if track is None else track.second(*event.index)
        return gr.skip() if second is None else gr.Video(playback_position=second)

    def stop(self, request: gr.Request) -> str:
        """Stop the visitor's own answer."""
        return "- stopped" if self._state.stop(session(request, "video")) else "- nothing was running"


def build(state: AppState) -> None:
    """Lay the tab out."""
    tab, track = VideoTab(state), gr.State()
    with gr.Row():
        with gr.Column(min_width=280):
            video = gr.Video(label="Video", sources=["upload"], elem_id="player", height=280)
            controls = Controls.made(state.video_model.videos, VIDEOS[1], VIDEOS[2])
            strategy = gr.Dropdown(
                list(STRATEGIES), value=DIRECT, label="Strategy", info="One call of the model, or several"
            )
        with gr.Column(min_width=280, scale=2):
            results = ResultPanels.made()
    gr.Markdown("Shots, keyframes and the budget of each clip. A click moves the player.")
    timeline = gr.Image(
        label="Timeline",
        show_label=False,
        type="pil",
        interactive=False,
        format="png",
        buttons=["download", "fullscreen"],
        elem_id="timeline",
    )
    counted: list[Any] = [video, controls.recipe, controls.keep]
    for changed in counted:
        public = changed is video
        changed.change(
            tab.count_video,
            counted,
            [controls.kept, controls.all],
            api_name="count_video" if public else None,
            api_visibility="public" if public else "private",
            **COUNTING,
        )
    running = gr.on(
        [controls.ask.click, controls.question.submit],
        tab.ask_video,
        [video, controls.question, controls.recipe, controls.keep, controls.longest, strategy],
        [*results.all, timeline, track],
        api_name="ask_video",
        **MODEL,
    )
    timeline.select(tab.jump, track, video, api_visibility="private", show_progress="hidden", queue=False)
    controls.stop.click(
        tab.stop, None, results.notes, cancels=[running], queue=False, api_visibility="private", show_progress="hidden"
    )
