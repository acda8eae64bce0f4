"""The tab on which a file of questions is answered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr

from vtc.embedded.samples import QUESTIONS, sample_media
from vtc.inference.defaults import VIDEOS
from vtc.media.sniffing import SUFFIXES

from .batches import (
    ANSWERS,
    ENDINGS,
    HEADER,
    batch,
    gathered,
)
from .components import (
    HIDDEN,
    MODEL,
    answer_table,
    busy,
    idle,
    keep_slider,
    longest_slider,
    plainly,
    session,
)
from .formatting import plain
from .inference import LONGEST
from .state import AppState
from .wording import recipe_choices

HOW = (
    'A question a line: `{"id": "1", "video": "video.mp4", "question": "what happens?"}`, or `"image"` in place of '
    "`video`. Media are named by the file names of what is uploaded beside it; nothing else is read."
)


class BatchTab:
    """Its events; uploads and answers are gone from the server's folders when a batch has ended."""

    def __init__(self, state: AppState) -> None:
        self._state = state

    def batch(
        self,
        questions: str | None,
        media: list[str] | None,
        recipe: str,
        keep: float,
        max_new_tokens: int,
        request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:
        """Answer a file of questions about images and videos from the visual tokens that a recipe keeps.

        Args:
            questions: a JSONL or CSV file: id, question, and video or image by file name.
            media: the images and videos that it names.
            recipe: a name from `vtc recipes`.
            keep: the share of the visual tokens to keep, above 0 and at most 1.
            max_new_tokens: longest answer in tokens, 1 to 512.

        Returns:
            How far it is, the answers so far, and at the end the file of answers, a JSON object a line.
        """
        with plainly(), self._state.call(session(request, "batch")) as stop, TemporaryDirectory() as folder:
            if not 1 <= max_new_tokens <= LONGEST:
                raise ValueError(f"max_new_tokens={max_new_tokens}; expected 1 to {LONGEST}")
            gathered_at = gathered(Path(folder), questions, media or [])
            yield "loading", [], None
            options: dict[str, Any] = {"recipe": recipe, "keep": keep, "max_new_tokens": int(max_new_tokens)}
            for update in batch(self._state, gathered_at, stop, **options):
                rows = [list(row) for row in update.rows]
                if update.summary is None:
                    yield f"{update.done} of {update.total} questions answered", rows, gr.skip()
                else:
                    yield _lines(str(update.summary)), rows, str(Path(folder) / ANSWERS)

    def stop(self, request: gr.Request) -> None:
        """End the visitor's own batch behind the row in hand; what was answered can be downloaded."""
        self._state.stop(session(request, "batch"))


def _lines(text: str) -> str:
    return "\n".join(
        f"- {plain(line)}" for line in text.replace("; the same command goes on from here", "").splitlines()
    )


def build(state: AppState) -> None:
    """Lay the tab out."""
    tab = BatchTab(state)
    with gr.Row():
        with gr.Column(min_width=280):
            gr.Markdown(f"{HOW} All are answered by {state.video_model.name}.")
            questions = gr.File(
                str(QUESTIONS), label="Questions", file_types=list(ENDINGS), height=140, elem_id="questions"
            )
            media = gr.File(
                [str(path) for path in sample_media()],
                label="Images and videos",
                file_types=["image", "video", *sorted(SUFFIXES)],
                file_count="multiple",
                height=180,
                elem_id="media",
            )
        with gr.Column(min_width=280):
            listed = recipe_choices(state.video_model.videos, video=True)
            recipe = gr.Dropdown(listed, value=VIDEOS[0], label="Recipe")
            keep, longest = keep_slider(), longest_slider()
            with gr.Row():
                start = gr.Button("Start", variant="primary", min_width=100)
                halt = gr.Button("Stop", min_width=100)
            status = gr.Markdown(elem_id="batch-state")
            answers = gr.File(label="Answers", interactive=False, elem_id="answers")
    table = answer_table(HEADER, (22, 38, 22, 18), label="A row a question, after Start", elem_id="batch-rows")
    outputs = [status, table, answers]
    running = start.click(busy, None, start, **HIDDEN).then(
        tab.batch,
        [questions, media, recipe, keep, longest],
        outputs,
        api_name="batch",
        show_progress_on=status,
        **MODEL,
    )
    for ended in (running.success, running.failure):
        ended(idle("Start"), None, start, **HIDDEN)
    halt.click(tab.stop, None, None, **HIDDEN)
