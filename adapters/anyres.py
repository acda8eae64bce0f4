"""Base of LLaVA-NeXT and LLaVA-OneVision: images as a thumbnail and tiles, as many as fit the image's shape."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.image_processing_utils import select_best_resolution

from vtc.core.tokens import Layout, VisualTokens

from .base import Media
from .cues import recording
from .tiles import Size, Tile, tiled
from .vision_tower import Towered


class AnyRes(Towered):
    """A family whose images come as a thumbnail and tiles, in rows that end in a newline."""

    thumbnails = True

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        if self._tower.passes_cls:
            raise ValueError(
                "vision_feature_select_strategy='full' passes on the class token of this vision tower, and tiles with "
                "one do not fit together; set it to 'default'"
            )
        vision = self.model.config.vision_config
        self._tile = Tile(int(vision.image_size), self._tower.side, int(vision.patch_size))

    def _canvas(self, image: Size) -> Size:
        """Rows and columns of the tiles that the checkpoint has for an image of some pixels."""
        height, width = select_best_resolution(image, self.model.config.image_grid_pinpoints)
        return height // self._tile.size, width // self._tile.size

    def _images(self, inputs: Mapping[str, Any]) -> list[Media]:
        """The images of a request.

        `pixel_values` is `[images, tiles, 3, H, W]`, zeros after an image's own tiles, or all tiles of all images one
        after the other; `image_sizes` is `[images, 2]`.
        """
        pixels = inputs.get("pixel_values")
        if pixels is None:
            return []
        self._check_pixels(pixels)
        self._tower.check(inputs)
        sizes = _sizes(inputs.get("image_sizes"), len(pixels) if pixels.ndim == 5 else None)
        tiles = self._own_tiles(pixels, self._counts(inputs, sizes), sizes)
        given = torch.as_tensor(inputs["image_sizes"])
        return [
            Media("image", self._layout(size, len(own)), {"pixel_values": own, "image_sizes": row})
            for size, own, row in zip(sizes, tiles, given, strict=True)
        ]

    def _check_pixels(self, pixels: Any) -> None:
        if not isinstance(pixels, Tensor) or pixels.ndim not in (4, 5):
            shape = tuple(pixels.shape) if isinstance(pixels, Tensor) else type(pixels).__name__
            raise ValueError(f"pixel_values is {shape}; expected a tensor [images, tiles, channels, height, width]")
        if set(pixels.shape[-2:]) != {self._tile.size}:
            raise ValueError(
                f"pixel_values has tiles of {pixels.shape[-2]} x {pixels.shape[-1]} pixels, and the vision tower takes "
                f"{self._tile.size} x {self._tile.size}; use the checkpoint's own processor"
            )

    def _counts(self, inputs: Mapping[str, Any], sizes: Sequence[Size]) -> list[int]:
        """Return how many tiles each image has, its thumbnail among them."""
        return [1 + math.prod(self._canvas(size)) for size in sizes]

    def _own_tiles(self, pixels: Tensor, counts: Sequence[int], sizes: Sequence[Size]) -> Sequence[Tensor]:
        """Each image's tiles, `[tiles, 3, H, W]`, without those that only fill up the batch."""
        remedy = (
            "pass both from one call of a processor whose image_grid_pinpoints are the model's, "
            f"{self.model.config.image_grid_pinpoints}"
        )
        if pixels.ndim == 4:
            if sum(counts) != len(pixels):
                raise ValueError(
                    f"pixel_values holds {len(pixels)} tiles, but images of image_sizes={[list(s) for s in sizes]} "
                    f"have {counts}; {remedy}"
                )
            return pixels.split(list(counts))
        for i, (count, size) in enumerate(zip(counts, sizes, strict=True)):
            missing = count > pixels.shape[1]
            if missing or bool(pixels[i, count:].any()):
                raise ValueError(
                    f"image_sizes[{i}]={list(size)} makes {count} tiles, the thumbnail among them, but "
                    f"pixel_values[{i}] holds {'fewer' if missing else 'more'}; {remedy}"
                )
        return [own[:count] for own, count in zip(pixels, counts, strict=True)]

    def _layout(self, image: Size, tiles: int) -> Layout:
        """The layout of an image of some pixels that comes as so many tiles, its thumbnail among them."""
        return tiled(self._tile, image, self._canvas(image))

    @abstractmethod
    def _features(self, pixels: Tensor, sizes: Tensor) -> Sequence[Tensor]:
        """The features `[N, D]` of each of some images, from all their tiles `[tiles, 3, H, W]` and `[images, 2]`."""

    @abstractmethod
    def _packed(self, values: Sequence[Tensor], sizes: Tensor) -> Sequence[Tensor]:
        """Signals of each of some images, `[tiles, patches, C]`, as `[M, C]` in the order of its candidates."""

    def _encode_images(self, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
        """Encode images in one pass, those with tiles apart from those without."""
        counts = [len(item.inputs["pixel_values"]) for item in media]
        sizes = torch.stack([item.inputs["image_sizes"] for item in media])
        with recording() as recorded, at_hand(self.model.base_model):
            features = self._features(torch.cat([item.inputs["pixel_values"] for item in media]), sizes)
        values = {}
        for cue in cues:
            signal = self._tower.cue(cue, recorded)
            packed = self._packed((signal if signal.ndim > 2 else signal[..., None]).split(counts), sizes)
            values[cue] = [part if signal.ndim > 2 else part[:, 0] for part in packed]
        return [
            VisualTokens(
                row, item.layout, {cue: with_structural(item.layout, value[i]) for cue, value in values.items()}
            )
            for i, (row, item) in enumerate(zip(features, media, strict=True))
        ]


@contextmanager
def at_hand(module: nn.Module) -> Iterator[None]:
    """Context manager: runs accelerate's hooks of `module`, so that its own parameters are loaded.

    The newline is one of them, and accelerate loads it for `forward` alone.
    """
    hook: Any = getattr(module, "_hf_hook", None)
    if hook is not None:
        hook.pre_forward(module)
    try:
        yield
    finally:
        if hook is not None:
            hook.post_forward(module, None)


def with_structural(layout: Layout, values: Tensor) -> Tensor:
    """`values` of the candidates, `[M, ...]`, with zeros where structural tokens stand: `[N, ...]`."""
    out = values.new_zeros(len(layout), *values.shape[1:])
    out[(~layout.structural).to(values.device)] = values
    return out


def _sizes(given: Any, images: int | None) -> list[Size]:
    """`image_sizes` as numbers."""
    if given is None:
        raise ValueError("image_sizes is missing; pass all that the processor returned")
    sizes = torch.as_tensor(given)
    if images is not None and len(sizes) != images:
        raise ValueError(
            f"image_sizes={sizes.tolist()} describes {len(sizes)} images, but pixel_values holds {images}; pass both "
            "from one processor call"
        )
    if len(sizes) and (sizes.ndim != 2 or sizes.shape[1] != 2 or bool((sizes < 1).any())):
        raise ValueError(f"image_sizes={sizes.tolist()}; expected the height and width in pixels of each image")
    return [(int(height), int(width)) for height, width in sizes.tolist()]
