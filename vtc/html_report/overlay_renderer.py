"""Draws what of a medium was kept, by asking the model again for the one example that is drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vtc.inference.loading import load
from vtc.media.frame_times import on_device
from vtc.media.images import load_image
from vtc.media.sniffing import kind_of
from vtc.media.video_frames import VideoFrames
from vtc.recipes.composition import Recipe
from vtc.video import Sampling
from vtc.viz.contact_sheets import contact_sheet
from vtc.viz.overlays import at_last_layer, caption, draw

from .page_model import Figure

FRAMES, SIDE = 12, 320
"""Frames of a video that is shown without a model, and the pixels of their longer side."""

Medium = Image.Image | VideoFrames


class OverlayRenderer:
    """Draws overlays; each model is loaded once, when the first of its examples is drawn."""

    def __init__(self) -> None:
        self._loaded: dict[str, tuple[Any, Any]] = {}

    def render(self, model: str | None, medium: Medium, question: str, recipe: Recipe | None) -> Figure:
        """The overlay of `recipe` over `medium`, or the medium alone and why there is no more.

        Args:
            model: None: there is none to ask.
            recipe: None: all tokens went on.
        """
        if model is None or recipe is None:
            why = "all tokens" if recipe is None else "kept parts are not drawn: pass --model to draw them"
            return Figure(plain(medium), why)
        try:
            return self._overlay(model, medium, question, recipe)
        except (OSError, ValueError, TypeError) as error:
            return Figure(plain(medium), f"kept parts are not drawn: {error}")

    def _overlay(self, model: str, medium: Medium, question: str, recipe: Recipe) -> Figure:
        from vtc.inference.asking import prompt, report_on
        from vtc.inference.prompting import frames_are_images

        network, processor = self.model(model)
        if isinstance(medium, VideoFrames) and frames_are_images(network):
            recipe = replace(recipe, images_as="frames")
        inputs = prompt(network, processor, medium, question)
        report = report_on(network, inputs, recipe)
        words = caption(report, recipe)
        if isinstance(medium, Image.Image):
            return Figure(draw(medium, processor.image_processor, report, recipe), words, report.after)
        from vtc.video.qa.token_usage import low_res_frames, token_usage

        found = token_usage(medium, report, recipe, low_res_frames(network, inputs, recipe))
        encoded = [unit.encoded for unit in found.units]
        return Figure(contact_sheet(medium, at_last_layer(report)[0], words, encoded=encoded), words, report.after)

    def of_file(
        self, model: str, path: Path, question: str, recipe: Recipe, times: list[float], sampling: Sampling
    ) -> Figure:
        """The overlay over the frames that `recipe` chooses of the video in `path`, sampled by `sampling`.

        Args:
            times: of the frames that the run saw, in seconds; the caption says so where these are others.
        """
        from vtc.inference.asking import report_on
        from vtc.video import prepare

        network, processor = self.model(model)
        found = prepare(path, processor, question, recipe, sampling=sampling)
        if found.recipe is None:
            return Figure(contact_sheet(found.frames, None, "all tokens of the chosen frames"), "all tokens")
        report = report_on(network, on_device(network, found.inputs), found.recipe)
        words = caption(report, found.recipe)
        same = len(times) == len(found.frames) and np.allclose(times, found.frames.seconds, atol=1e-3)
        if times and not same:
            words += "; by the default sampling, which takes other frames than the run did"
        return Figure(contact_sheet(found.frames, at_last_layer(report)[0], words), words, report.after)

    def model(self, name: str) -> tuple[Any, Any]:
        """The model `name` and its processor.

        Raises:
            OSError, ValueError: see `vtc.inference.loading.load`.
        """
        if name not in self._loaded:
            self._loaded[name] = load(name)
        return self._loaded[name]


def plain(medium: Medium) -> Image.Image:
    """The medium as it is: the image, or some frames with their times."""
    return medium if isinstance(medium, Image.Image) else contact_sheet(medium, None, most=FRAMES)


def opened(path: Path, times: list[float]) -> Medium:
    """The image in `path`, or at most 12 frames of the video there, at some of `times` (or evenly, where none are).

    Raises:
        OSError, ValueError: it cannot be read.
    """
    kind = kind_of(path)
    # Frames of a video have times: an animated image that comes without was asked about as an image.
    if kind not in ("video", "animation") or (kind == "animation" and not times):
        return load_image(path)
    from vtc.video import frames, probe

    duration = probe(path).duration
    wanted = [time for time in times if 0 <= time < duration] or [(i + 0.5) * duration / FRAMES for i in range(FRAMES)]
    if len(wanted) > FRAMES:
        wanted = [wanted[int((i + 0.5) * len(wanted) / FRAMES)] for i in range(FRAMES)]
    shown = list(frames(path, seconds=sorted(wanted), resize=SIDE))
    if not shown:
        raise ValueError(f"{path}: none of its frames can be read; fetch the video again")
    seconds = np.array([frame.seconds for frame in shown], dtype=np.float64)
    return VideoFrames(np.stack([frame.pixels for frame in shown]), seconds, float(duration))
