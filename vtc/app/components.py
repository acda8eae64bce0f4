"""Parts that the tabs of the page have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
HIDDEN: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
"""Of events that only the page itself has, and that wait for nothing."""
KEEP = 0.25
"""Where the slider stands at first."""
LEGEND = (
    "After Ask, left of the handle: what the encoder sees. Right: kept cells are clear inside an outline, dropped ones "
    "dimmed; a cell that was merged is tinted with the colour of the one it went into."
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


def busy() -> gr.Button:
    """A button whose event is at work: it says so, and takes no second click."""
    return gr.Button("Answering ...", interactive=False)


def idle(name: str) -> Callable[[], gr.Button]:
    """What gives that button its name back when the event has ended."""
    return lambda: gr.Button(name, interactive=True)


def scroll_to(name: str) -> str:
    """JavaScript that shows the part of the page called `name`, which on a phone stands under all that is set."""
    return (
        f"() => {{const part = document.querySelector('#{name}'); "
        "if (part.getBoundingClientRect().bottom > innerHeight) part.scrollIntoView({behavior: 'smooth'})}"
    )


def answer_table(headers: Sequence[str], widths: Sequence[int], **more: Any) -> gr.Dataframe:
    """A table that is only read, as wide as its place, its columns so many percent each."""
    return gr.Dataframe(
        headers=list(headers),
        interactive=False,
        wrap=True,
        type="array",
        buttons=[],
        column_widths=[f"{width}%" for width in widths],
        elem_classes="vtc-table",
        **more,
    )


def keep_slider() -> gr.Slider:
    """The share of the visual tokens that is kept."""
    return gr.Slider(0.01, 1.0, KEEP, step=0.01, label="Keep", info="Share of the visual tokens")


def longest_slider() -> gr.Slider:
    """The longest answer."""
    return gr.Slider(1, LONGEST, 64, step=1, precision=0, label="Longest answer", info="Tokens, each about a word")


def answer_panels(name: str) -> list[Any]:
    """Both answers side by side, found by `name`, what was saved, all numbers folded under it, and the notes."""
    waits: dict[str, Any] = {"lines": 2, "interactive": False, "min_width": 140}
    with gr.Row(elem_id=name):
        full = gr.Textbox(label="Answer from all tokens", placeholder="appears after Ask", **waits)
        short = gr.Textbox(label="Answer from the tokens kept", placeholder="appears after Ask", **waits)
    gain = gr.Markdown(elem_classes="vtc-gain")
    with gr.Accordion("All numbers", open=False):
        numbers = answer_table(HEADER, (44, 28, 28), show_label=False)
    return [full, short, gain, numbers, gr.Markdown()]


def uploaded_path(payload: Any) -> str | None:
    """The path of an upload, which gradio has checked to lie among the uploads; its content is judged later.

    In place of a component's own reading of an image, whose errors name folders of the server.
    """
    if payload is None:
        return None
    if payload.path is None:
        raise gr.Error("the upload came without a file; upload it again", print_exception=False)
    return str(payload.path)
