"""Renders a reduction for the page: an image before and after, or the timeline of a video."""

from __future__ import annotations

from PIL import Image

from vtc.media.video_frames import VideoFrames
from vtc.reduction.report import Report
from vtc.video.qa.token_usage import low_res_frames
from vtc.viz.overlays import pair
from vtc.viz.regions import ClickableImage
from vtc.viz.timeline import clickable_timeline
from vtc.viz.visible_crop import viewed

from .inference import PreparedQuestion

Before = tuple[Image.Image, Image.Image]


def before_after(asked: PreparedQuestion, report: Report) -> Before | None:
    """Return the crop that the encoder saw, plain and with marks; None where the crop is not known."""
    medium = asked.opened.medium
    assert isinstance(medium, Image.Image)
    try:
        return pair(medium, asked.loaded.processor.image_processor, report)
    except ValueError:  # a processor whose steps are not known
        return None


def drawn_timeline(asked: PreparedQuestion, report: Report, title: str = "") -> ClickableImage:
    """The timeline of a video, and where a click on it leads."""
    recipe, frames = asked.start.recipe, asked.opened.medium
    assert isinstance(frames, VideoFrames)
    video = low_res_frames(asked.loaded.model, asked.inputs, recipe)
    shown = viewed(frames, asked.loaded.processor)
    return clickable_timeline(shown, report, recipe, video=video, title=title)
