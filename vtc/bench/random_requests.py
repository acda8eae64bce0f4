"""Requests of random pixels for models that are built without a processor: uneven images in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

TEXT = 24
"""Tokens before and behind the media of a prompt."""


class Requests(Protocol):
    """Makes the inputs of a model for a batch about so many images each.

    The first image is the largest; where a model takes images of several sizes those after it differ, as in use.

    Args:
        tokens: of the first image, about so many. ValueError where the model has sizes of its own.
    """

    def __call__(self, model: Any, batch: int, images: int, tokens: int | None = None) -> dict[str, Tensor]:
        """See the class."""
        ...


def llava(model: Any, batch: int, images: int, tokens: int | None = None) -> dict[str, Tensor]:
    """Images of 336 x 336 pixels, the only size there is."""
    _own_sizes(tokens)
    count = batch * images
    return _sent(model, [576] * count, images, pixel_values=torch.randn(count, 3, 336, 336))


TILED = ((672, 672), (336, 672), (672, 336), (336, 1008))
"""Height and width of images, without a margin when they are cut into tiles."""


def llava_next(model: Any, batch: int, images: int, tokens: int | None = None) -> dict[str, Tensor]:
    """Images of up to four tiles, their rows ended by newlines, and a thumbnail."""
    _own_sizes(tokens)
    sizes = _cycled(TILED, batch * images)
    counts = [576 + (height // 14) * (width // 14 + 1) for height, width in sizes]
    pixels = torch.zeros(len(sizes), 5, 3, 336, 336)
    for image, (height, width) in zip(pixels, sizes, strict=True):
        image[: 1 + height * width // 336**2].normal_()
    return _sent(model, counts, images, pixel_values=pixels, image_sizes=torch.tensor(sizes))


def qwen(largest: int) -> Requests:
    """Makes requests about images of at most `largest` visual tokens, where no other number is asked for."""

    def requests(model: Any, batch: int, images: int, tokens: int | None = None) -> dict[str, Tensor]:
        """See `Requests`."""
        vision = model.config.vision_config
        merge, patch = vision.spatial_merge_size, vision.patch_size
        side = 2 * merge * round((tokens or largest) ** 0.5 / 2)  # even, as images of half a side come too
        shapes = ((side, side), (side, side // 2), (side // 2, side), (side // 2, side // 2))
        grids = _cycled(shapes, batch * images)
        patches = sum(height * width for height, width in grids)
        return _sent(
            model,
            [height * width // merge**2 for height, width in grids],
            images,
            typed=True,
            pixel_values=torch.randn(patches, 3 * vision.temporal_patch_size * patch * patch),
            image_grid_thw=torch.tensor([[1, *grid] for grid in grids]),
        )

    return requests


def gemma4(model: Any, batch: int, images: int, tokens: int | None = None) -> dict[str, Tensor]:
    """Images of at most 256 visual tokens, or of as many as are asked for, of even sides, filled up to one length."""
    vision = model.config.vision_config
    side, pool = 2 * int((tokens or 256) ** 0.5 / 2), vision.pooling_kernel_size
    if not side:
        raise ValueError(f"--image-tokens {tokens}: images of Gemma 4 are 2 x 2 tokens and more here; give 4 or more")
    grids = _cycled(((side, side), (side, side // 2), (side // 2, side), (side // 2, side // 2)), batch * images)
    places = torch.full((len(grids), (side * pool) ** 2, 2), -1)
    for own, (height, width) in zip(places, grids, strict=True):
        axes = torch.meshgrid(torch.arange(width * pool), torch.arange(height * pool), indexing="xy")
        own[: height * width * pool**2] = torch.stack(axes, dim=-1).flatten(0, 1)
    return _sent(
        model,
        [height * width for height, width in grids],
        images,
        typed=True,
        pixel_values=torch.rand(*places.shape[:2], 3 * vision.patch_size**2),
        image_position_ids=places,
    )


def internvl(model: Any, batch: int, images: int, tokens: int | None = None) -> dict[str, Tensor]:
    """Images of up to four tiles and a thumbnail."""
    _own_sizes(tokens)
    tiles = _cycled((5, 3, 4, 1), batch * images)
    return _sent(model, [256 * n for n in tiles], images, pixel_values=torch.randn(sum(tiles), 3, 448, 448))


def _own_sizes(tokens: int | None) -> None:
    if tokens is not None:
        raise ValueError(
            f"--image-tokens {tokens}: this architecture has sizes of its own; Qwen's and Gemma 4's take any"
        )


def _cycled(sizes: Sequence[Any], count: int) -> list[Any]:
    return [sizes[i % len(sizes)] for i in range(count)]


def _sent(model: Any, tokens: Sequence[int], images: int, typed: bool = False, **media: Tensor) -> dict[str, Tensor]:
    """The inputs on the model's device, pixels in its dtype.

    Args:
        tokens: of each image, a prompt's images following each other.
        images: of a prompt.
        typed: whether the model wants to be told which tokens are of images.
    """
    rows = [_prompt(model, tokens[start : start + images]) for start in range(0, len(tokens), images)]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_side="left", padding_value=1)
    lengths = torch.tensor([[len(row)] for row in rows])
    mask = (torch.arange(ids.shape[1]) >= ids.shape[1] - lengths).long()
    made = {"input_ids": ids, "attention_mask": mask, **media}
    if typed:
        made["mm_token_type_ids"] = (ids == model.config.image_token_id).int()
    return {
        name: value.to(model.device, model.dtype) if value.is_floating_point() else value.to(model.device)
        for name, value in made.items()
    }


def _prompt(model: Any, tokens: Sequence[int]) -> Tensor:
    """A prompt `[L]`: text, a run of placeholders for each image with a word behind it, text."""
    generator = torch.Generator().manual_seed(0)

    def text(count: int) -> Tensor:
        return torch.randint(10, 1000, (count,), generator=generator)

    parts = [text(TEXT)]
    for count in tokens:
        parts += [torch.full((count,), model.config.image_token_id), text(1)]
    return torch.cat([*parts, text(TEXT)])
