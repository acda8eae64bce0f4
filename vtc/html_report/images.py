"""Pictures inside the page."""

from __future__ import annotations

import base64
from io import BytesIO

from PIL import Image

LARGEST = 1024
"""Pixels of the longer side above which a picture is scaled down."""
TALLEST = 1600


def data_uri(picture: Image.Image) -> str:
    """`picture` as text that a page can hold: JPEG, at most 1024 pixels wide and 1600 high."""
    scale = min(1.0, LARGEST / picture.width, TALLEST / picture.height)
    if scale < 1:
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    file = BytesIO()
    picture.convert("RGB").save(file, "JPEG", quality=85, subsampling=0, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
