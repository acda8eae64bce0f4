"""Defaults of the commands and the page."""

from __future__ import annotations

from vtc.recipes.video import DEFAULT

IMAGES = ("tiny-llava", "kcenter", "what is in the picture?")
VIDEOS = ("tiny-qwen", DEFAULT, "what happens in the video?")
"""The model, the recipe and (for `show`) the question where none is named."""
