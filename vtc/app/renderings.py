"""Renders a reduction for the page: an image before and after, or the timeline of a video."""

from __future__ import annotations

from PIL import Image

from vtc.media.video_frames import VideoFrames
from vtc.reduction.report import Report
from vtc.video.qa.token_usage import low_res_frames, token_usage
from vtc.viz.overlays import pair
from vtc.viz.timeline import timeline
from vtc.viz.visible_crop import viewed

from .inference import PreparedQuestion
from .timeline_clicks import ClickableTrack

Before = tuple[Image.Image, Image.Image]


def before_after(asked: PreparedQuestion, report: Report) -> Before | None:
    """Return the crop that the encoder saw, plain and with marks; None where the crop is not known."""
    medium = asked.opened.medium
    assert isinstance(medium, Image.Image)
    try:
        return pair(medium, asked.loaded.processor.image_processor, report)
    except ValueError:  # a processor whose steps are not known
        return None


def drawn_timeline(asked: PreparedQuestion, report: Report, title: str = "") -> tuple[Image.Image, ClickableTrack]:
    """The timeline of a video, and where a click on it leads."""
    recipe, frames = asked.start.recipe, asked.opened.medium
    assert isinstance(frames, VideoFrames)
    video = low_res_frames(asked.loaded.model, asked.inputs, recipe)
    shown = viewed(frames, asked.loaded.processor)
    found = token_usage(shown, report, recipe, video)
    image = timeline(shown, report, recipe, video=video, title=title)
    return image, ClickableTrack.of(found, shown.pixels.shape[1] / shown.pixels.shape[2])
