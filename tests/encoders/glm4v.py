"""GLM-4.1V by hand."""

from __future__ import annotations

from tests.encoders.qwen import QwenEncoder


class GlmEncoder(QwenEncoder):
    """The tower takes each frame as an item of its own."""

    def tower_grids(self, image):
        frames, height, width = self._grid(image).tolist()
        return self._grid(image).new_tensor([[1, height, width]] * frames)

    def watched(self, visual, attention):
        """Keys behind their norm, where there is one (GLM-OCR), and what the convolution at the end is given."""
        more = {"keys": attention.k_norm} if hasattr(attention, "k_norm") else {}
        return {**super().watched(visual, attention), **more, "patches": visual.post_layernorm}

    def keys(self, found):
        return found["keys"].flatten(1) if "keys" in found else super().keys(found)

    def patch_features(self, out, found):
        return found["patches"]
