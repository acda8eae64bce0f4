"""Images inside the page."""

from __future__ import annotations

import base64
from io import BytesIO

from PIL import Image

LARGEST = 1024
"""Pixels of the longer side above which an image is scaled down."""
TALLEST = 1600


def data_uri(image: Image.Image) -> str:
    """`image` as text that a page can hold: JPEG, at most 1024 pixels wide and 1600 high."""
    scale = min(1.0, LARGEST / image.width, TALLEST / image.height)
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS)
    file = BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=85, subsampling=0, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
