"""The tab on which an image is asked about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from vtc.embedded.samples import samples
from vtc.inference.defaults import IMAGES

from .components import (
    COUNTING,
    LEGEND,
    MODEL,
    Controls,
    ResultPanels,
    plainly,
    session,
    uploaded_path,
)
from .formatting import FIRST_CALL, notes, table
from .inference import MediumQuestion, ask, prepared
from .renderings import before_after
from .state import AppState

Shown = tuple[Any, ...]


class ImageTab:
    """Its events; a session's own data is in the components alone."""

    def __init__(self, state: AppState) -> None:
        self._state = state

    def count_image(self, image: str | None, recipe: str, keep: float) -> tuple[int | None, int | None]:
        """Count the visual tokens that a recipe keeps of an image, by arithmetic: no model runs.

        Args:
            image: the image.
            recipe: a name from `vtc recipes`.
            keep: the share of the visual tokens to keep, above 0 and at most 1.

        Returns:
            The tokens kept, and all.
        """
        if image is None:
            return None, None
        with plainly():
            found = self._state.count(image, recipe, keep, video=False)
        return found.after, found.before

    def ask_image(
        self,
        image: str | None,
        question: str,
        recipe: str,
        keep: float,
        max_new_tokens: int,
        request: gr.Request,
    ) -> Iterator[Shown]:
        """Answer a question about an image twice, from all visual tokens and from those that a recipe keeps.

        Args:
            image: the image.
            question: what is asked.
            recipe: a name from `vtc recipes`.
            keep: the share of the visual tokens to keep, above 0 and at most 1.
            max_new_tokens: longest answer in tokens, 1 to 512.

        Returns:
            Both answers as they grow, the numbers of both, notes, and at the end the image before and after.
        """
        with plainly(), self._state.call(session(request, "image")) as stop:
            asked = prepared(self._state, MediumQuestion(image, question, recipe, keep, False, int(max_new_tokens)))
            for pair in ask(self._state.inference, asked, int(max_new_tokens), stop):
                report = pair.short.report
                overlay = gr.skip() if report is None else before_after(asked, report)
                notes_text = notes((*pair.notes, FIRST_CALL) if pair.done else pair.notes, pair)
                yield pair.full.text, pair.short.text, table(pair), notes_text, overlay

    def stop(self, request: gr.Request) -> str:
        """Stop the visitor's own answer."""
        return "- stopped" if self._state.stop(session(request, "image")) else "- nothing was running"


def build(state: AppState) -> None:
    """Lay the tab out."""
    tab = ImageTab(state)
    with gr.Row():
        with gr.Column(min_width=280):
            image = gr.Image(type="filepath", image_mode=None, label="Image", sources=["upload", "clipboard"])
            image.preprocess = uploaded_path  # type: ignore[method-assign]  # see there
            controls = Controls.made(state.image_model.images, IMAGES[1], IMAGES[2])
        with gr.Column(min_width=280, scale=2):
            results = ResultPanels.made()
            overlay = gr.ImageSlider(label="Before and after", type="pil", interactive=False, format="png")
            gr.Markdown(LEGEND)
    gr.Examples([[str(path)] for path in _examples()], [image], label="Images to try", cache_examples=False)
    counted: list[Any] = [image, controls.recipe, controls.keep]
    for changed in counted:
        public = changed is image
        changed.change(
            tab.count_image,
            counted,
            [controls.kept, controls.all],
            api_name="count_image" if public else None,
            api_visibility="public" if public else "private",
            **COUNTING,
        )
    asked = [image, controls.question, controls.recipe, controls.keep, controls.longest]
    running = gr.on(
        [controls.ask.click, controls.question.submit],
        tab.ask_image,
        asked,
        [*results.all, overlay],
        api_name="ask_image",
        **MODEL,
    )
    controls.stop.click(
        tab.stop, None, results.notes, cancels=[running], queue=False, api_visibility="private", show_progress="hidden"
    )


def _examples() -> list[Any]:
    """The packaged images."""
    return list(dict.fromkeys(sample.path for sample in samples()))
