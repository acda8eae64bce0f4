"""HY-V4-VL: native resolution, a newline behind each row of tokens (`HYV4VLForConditionalGeneration`)."""

from __future__ import annotations

from vtc.core.tokens import Layout

from .generic import GenericGrid
from .rows import in_rows


class HYV4VL(GenericGrid):
    """HY-V4-VL. Newlines always go on. Of a video each frame is a unit. The encoder gives no cues."""

    classes = ("HYV4VLForConditionalGeneration",)

    def _layout(self, modality: str, frames: int, height: int, width: int) -> Layout:
        kind = "image" if modality == "image" else "frame"
        return Layout.join([in_rows(height // self._merge, width // self._merge, kind=kind)] * frames)
