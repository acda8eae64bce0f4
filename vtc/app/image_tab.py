"""The tab on which an image is asked about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from vtc.embedded.samples import samples
from vtc.inference.defaults import IMAGES
from vtc.reduction.report import Report

from .components import LEGEND, uploaded_path
from .inference import PreparedQuestion
from .medium_tab import Counted, MediumTab, Shown
from .renderings import before_after


class ImageTab(MediumTab):
    """It draws the image before and after, and has images to try."""

    kind, defaults, drawings = "image", IMAGES, 1

    def count_image(self, image: str | None, recipe: str, keep: float) -> Counted:
        """Count the visual tokens that a recipe keeps of an image, by arithmetic: no model runs.

        Args:
            image: the image.
            recipe: a name from `vtc recipes`.
            keep: the share of the visual tokens to keep, above 0 and at most 1.

        Returns:
            The tokens kept, and all.
        """
        return self.counted(image, recipe, keep)

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
            Both answers as they grow, what was saved in a line, the numbers of both, notes, and at the end the
            image before and after.
        """
        yield from self.answered(request, image, question, recipe, keep, max_new_tokens)

    count, ask = count_image, ask_image

    def first(self) -> tuple[str, str]:
        """The first packaged image."""
        sample = samples()[0]
        return str(sample.path), sample.question

    def upload(self, example: str) -> Any:
        """An image, which is read as a path."""
        image = gr.Image(example, type="filepath", image_mode=None, label="Image", sources=["upload", "clipboard"])
        image.preprocess = uploaded_path  # type: ignore[method-assign]  # see there
        return image

    def beside(self, medium: Any) -> list[Any]:
        """The image before and after."""
        overlay = gr.ImageSlider(label="Before and after", type="pil", interactive=False, format="png")
        gr.Markdown(LEGEND)
        return [overlay]

    def examples(self) -> list[tuple[str, str]]:
        """The packaged images, each with its first question."""
        first = {str(sample.path): sample.question for sample in reversed(samples())}
        return [*reversed(first.items())]

    def drawn(self, asked: PreparedQuestion, report: Report, path: Path) -> tuple[Any]:
        """The image before and after."""
        return (before_after(asked, report),)
