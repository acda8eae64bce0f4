"""Defaults of the commands and the page."""

from __future__ import annotations

from collections.abc import Callable

from vtc.core.cache_folder import fault
from vtc.embedded import small_llava
from vtc.recipes.video import DEFAULT

from .quiet import quiet

IMAGES = ("kcenter", "what is in the picture?")
VIDEOS = (DEFAULT, "what happens in the video?")
"""The recipe and (for `show`) the question where none is named."""
VIDEO_MODEL = "tiny-qwen"
PACKAGED_IMAGE_MODEL = "tiny-llava"


def image_model(*, offline: bool = False, say: Callable[[str], None] = lambda line: None) -> str:
    """The model that answers about images where none is named.

    It is `small-llava`, which is fetched if it is not there yet, and `tiny-llava` where that cannot be.

    Args:
        offline: fetch nothing; so it is too where the environment says `HF_HUB_OFFLINE`.
        say: called with what is being fetched, and why `tiny-llava` answers in its place.
    """
    from huggingface_hub.constants import HF_HUB_OFFLINE

    try:
        wrong = fault(small_llava.place())
        if wrong is None:
            return small_llava.NAME
        damaged = small_llava.place().is_dir()
        if offline or HF_HUB_OFFLINE:
            why = wrong if damaged else "is not here"
            say(f"{PACKAGED_IMAGE_MODEL} answers: {small_llava.NAME} {why}, and nothing is to be fetched")
            return PACKAGED_IMAGE_MODEL
        if damaged:
            say(f"{small_llava.NAME} {wrong}")
        with quiet():
            small_llava.fetch(on_progress=lambda doing: say(f"{small_llava.NAME}, once: {doing}"))
    except (OSError, ValueError, ImportError) as error:
        say(f"{PACKAGED_IMAGE_MODEL} answers, since {small_llava.NAME} could not be fetched: {error}")
        return PACKAGED_IMAGE_MODEL
    return small_llava.NAME
