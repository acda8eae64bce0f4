"""Parts that the tabs of the page have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gradio as gr

from .formatting import HEADER
from .inference import LONGEST

MODEL: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1}
"""Of every event that runs a model: one of them is at work at a time."""
COUNTING: dict[str, Any] = {
    "concurrency_id": "count",
    "concurrency_limit": 2,
    "show_progress": "hidden",
    "trigger_mode": "always_last",
}
"""Of events that only count, which need not wait for a model."""
LEGEND = (
    "Left of the handle: what the encoder sees. Right: kept cells are clear inside an outline, dropped ones dimmed; "
    "a cell that was merged is tinted with the colour of the one it went into."
)


@contextmanager
def plainly() -> Iterator[None]:
    """Expected errors of the block reach the visitor as a message, in their own words."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        raise gr.Error(str(error) or type(error).__name__, print_exception=False, duration=None) from error


def session(request: gr.Request, tab: str) -> str:
    """Return the key of a visitor's calls on one tab."""
    return f"{getattr(request, 'session_hash', None)}/{tab}"


@dataclass(frozen=True)
class Controls:
    """Inputs of a question."""

    question: gr.Textbox
    recipe: gr.Dropdown
    keep: gr.Slider
    longest: gr.Slider
    kept: gr.Number
    all: gr.Number
    ask: gr.Button
    stop: gr.Button

    @classmethod
    def made(cls, recipes: Sequence[str], recipe: str, question: str) -> Controls:
        """The controls, laid out one under the other."""
        asked = gr.Textbox(question, label="Question", lines=1, max_lines=4)
        chosen = gr.Dropdown(list(recipes), value=recipe, label="Recipe")
        keep = keep_slider()
        with gr.Row():
            kept = gr.Number(label="Visual tokens kept", interactive=False, min_width=100)
            every = gr.Number(label="of all", interactive=False, min_width=100)
        longest = longest_slider()
        with gr.Row():
            ask = gr.Button("Ask", variant="primary", min_width=100)
            stop = gr.Button("Stop", min_width=100)
        return cls(asked, chosen, keep, longest, kept, every, ask, stop)


def keep_slider() -> gr.Slider:
    """The share of the visual tokens that is kept."""
    return gr.Slider(0.01, 1.0, 0.25, step=0.01, label="Keep", info="Share of the visual tokens")


def longest_slider() -> gr.Slider:
    """The longest answer."""
    return gr.Slider(1, LONGEST, 64, step=1, precision=0, label="Longest answer", info="In tokens")


@dataclass(frozen=True)
class ResultPanels:
    """Outputs of a pair of answers."""

    full: gr.Textbox
    short: gr.Textbox
    numbers: gr.Dataframe
    notes: gr.Markdown

    @classmethod
    def made(cls) -> ResultPanels:
        """Both answers side by side, and their numbers under them."""
        with gr.Row():
            full = gr.Textbox(label="Answer from all tokens", lines=2, interactive=False, min_width=140)
            short = gr.Textbox(label="Answer from the tokens kept", lines=2, interactive=False, min_width=140)
        numbers = gr.Dataframe(
            headers=list(HEADER),
            label="What both took",
            interactive=False,
            wrap=True,
            type="array",
            buttons=[],
            column_widths=["44%", "28%", "28%"],
        )
        return cls(full, short, numbers, gr.Markdown())

    @property
    def all(self) -> list[Any]:
        """The components in the order in which answers are given out."""
        return [self.full, self.short, self.numbers, self.notes]


def uploaded_path(payload: Any) -> str | None:
    """The path of an upload, which gradio has checked to lie among the uploads; its content is judged later.

    In place of a component's own reading of an image, whose errors name folders of the server.
    """
    if payload is None:
        return None
    if payload.path is None:
        raise gr.Error("the upload came without a file; upload it again", print_exception=False)
    return str(payload.path)
