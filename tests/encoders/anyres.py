"""LLaVA-NeXT and LLaVA-OneVision by hand.

What the stock model does to patches on their way to tokens is linear. So one-hot patches go through its own packing:
that tells of each token which patches it is made of, and from there follow its tile, its place and its cues.
"""

from __future__ import annotations

import torch
from einops import reduce
from torch import Tensor
from transformers import LlavaNextImageProcessor
from transformers.image_processing_utils import get_patch_output_size
from transformers.models.llava_next.modeling_llava_next import get_anyres_image_grid_shape, unpad_image

from tests.encoders.base import ReferenceEncoder
from tests.encoders.towers import tower_cues
from vtc import Layout


class AnyResEncoder(ReferenceEncoder):
    """An image is its own tiles and its size."""

    def images(self, inputs):
        counts = [int(tiles.flatten(1).any(dim=1).sum()) for tiles in inputs.get("pixel_values", [])]
        pairs = zip(inputs.get("pixel_values", []), counts, inputs.get("image_sizes", []), strict=True)
        return [{"pixel_values": tiles[:count], "image_sizes": size} for tiles, count, size in pairs]

    def side(self, model):
        return model.config.vision_config.image_size // model.config.vision_config.patch_size

    def pack(self, model, values, image, newline):
        """`[tiles, patches, C]` as the stock model packs them."""
        strategy = model.config.vision_feature_select_strategy
        return model.model.pack_image_features([values], image["image_sizes"][None], strategy, newline)[0][0]

    def patches(self, model, image) -> tuple[Tensor, Tensor]:
        """`[N, tiles * patches]` the weight of each patch in each token, and `[N]` which tokens are newlines."""
        tiles, patches = len(image["pixel_values"]), self.side(model) ** 2
        ones = torch.eye(tiles * patches, dtype=torch.float64).reshape(tiles, patches, -1)
        flags = torch.cat([ones, torch.zeros(tiles, patches, 1)], dim=-1)
        newline = torch.zeros(tiles * patches + 1, dtype=torch.float64)
        newline[-1] = 1
        packed = self.pack(model, flags, image, newline)
        return packed[:, :-1], packed[:, -1] == 1

    def grid(self, model, image):
        config = model.config
        size = image["image_sizes"].tolist()
        return get_anyres_image_grid_shape(size, config.image_grid_pinpoints, config.vision_config.image_size)

    def layout(self, model, image):
        weights, newline = self.patches(model, image)
        side, (_, columns) = self.side(model), self.grid(model, image)
        index = torch.arange(weights.shape[1])
        tile, row, column = index // side**2 - 1, index // side % side, index % side
        # Where each token's middle lies on the raster over the tiles, in patches.
        y, x = (weights @ (n.double() + 0.5) for n in (tile // columns * side + row, tile % columns * side + column))
        thumbnail = weights[:, : side**2].sum(dim=1) > 0.5
        names = []
        for i in range(len(weights)):
            if newline[i]:
                names.append(names[-1])
            elif thumbnail[i]:
                names.append((-1, 0))
            else:
                names.append((int(y[i].round(decimals=6) // side), int(x[i].round(decimals=6) // side)))
        units = sorted(set(names))
        own = [[i for i in range(len(names)) if names[i] == unit and not newline[i]] for unit in units]
        cell, grids = torch.full((len(names), 3), -1), []
        for unit, tokens in zip(units, own, strict=True):
            ys, xs = (
                ([i // side for i in range(side**2)], [i % side for i in range(side**2)])
                if unit == (-1, 0)
                else (y[tokens].tolist(), x[tokens].tolist())
            )
            down, across = (sorted({round(v, 6) for v in values}) for values in (ys, xs))
            grids.append((1, len(down), len(across)))
            for i, a, b in zip(tokens, ys, xs, strict=True):
                cell[i] = torch.tensor([0, down.index(round(a, 6)), across.index(round(b, 6))])
        boxes = [self.box(model, image, unit, y[tokens], x[tokens]) for unit, tokens in zip(units, own, strict=True)]
        return Layout(
            unit=torch.tensor([units.index(name) for name in names]),
            cell=cell,
            structural=newline,
            grids=tuple(grids),
            kinds=("thumbnail", *["tile"] * (len(units) - 1)),
            boxes=tuple(boxes),
        )

    def box(self, model, image, unit, y, x):
        """The part of the image, by the pixels that the stock image processor puts where the tokens look."""
        vision, side = model.config.vision_config, self.side(model)
        if unit == (-1, 0):
            share = side * vision.patch_size / vision.image_size
            return (0.0, 0.0, share, share)
        rows, columns = self.grid(model, image)
        size, canvas = image["image_sizes"].tolist(), (rows * vision.image_size, columns * vision.image_size)
        fitted = get_patch_output_size(torch.empty(3, *size), canvas, "channels_first")
        left, top, *_ = LlavaNextImageProcessor()._get_padding_size(fitted, canvas)
        cut = unpad_image(torch.empty(1, rows * side, columns * side), size).shape[1:]
        edges = []
        axes = zip((y, x), unit, (top, left), fitted, cut, self.shown(model, *cut), strict=True)
        for values, number, first, length, patches, tokens in axes:
            half = patches / tokens / 2
            for edge in (float(values.min()) - half, float(values.max()) + half):
                pixel = number * vision.image_size + (edge - number * side) * vision.patch_size
                edges.append((pixel - first) / length)
        return (edges[0], edges[2], edges[1], edges[3])

    def shown(self, model, height, width):
        """Rows and columns of the raster as the language model gets it."""
        return height, width

    @torch.no_grad()
    def features(self, model, image):
        return model.model.get_image_features(image["pixel_values"], image["image_sizes"][None]).pooler_output[0]

    def cues(self, model, image):
        weights = self.patches(model, image)[0].float()
        found = tower_cues(model, image["pixel_values"])
        flat = {name: values.flatten(0, 1) for name, values in found.items()}
        return {name: torch.tensordot(weights, values, dims=1) for name, values in flat.items()}

    def painted(self, model, item, place):
        """The patches that make up most of token `place`: (tile, row, column) of each."""
        weights, side = self.patches(model, item.inputs)[0][place], self.side(model)
        most = torch.nonzero(weights > 0.99 * weights.max()).flatten().tolist()
        return [(i // side**2, i // side % side, i % side) for i in most]


class OnevisionEncoder(AnyResEncoder):
    """Images before videos; images without tiles too."""

    def images(self, inputs):
        videos = [{"pixel_values": video} for video in inputs.get("pixel_values_videos", [])]
        return super().images(inputs) + videos

    def modality(self, image):
        return "image" if "image_sizes" in image else "video"

    def frames(self, model, image):
        return image["pixel_values"][:, None]

    def some(self, image, units):
        return {"pixel_values": image["pixel_values"][units]}

    def pack(self, model, values, image, newline):
        if self.modality(image) == "video":
            tokens = model.model.apply_pooling(values).flatten(0, 1)
            return torch.cat([tokens, newline[None]])
        ratio = model.config.vision_aspect_ratio
        return model.model.pack_image_features([values], image["image_sizes"][None], newline, ratio)[0][0]

    def shown(self, model, height, width):
        most = int(model.config.vision_aspect_ratio.split("_")[-1]) * self.side(model) ** 2
        ratio = (height * width / most) ** 0.5
        return (height, width) if ratio <= 1.1 else (int(height // ratio), int(width // ratio))

    def layout(self, model, image):
        side = self.side(model)
        if self.modality(image) == "video":
            frames, pooled = len(image["pixel_values"]), (side + 1) // 2
            return self.plain(frames, pooled, "frame", (0.0, 0.0, 1.0, 1.0))
        if len(image["pixel_values"]) > 1:
            return super().layout(model, image)
        height, width = image["image_sizes"].tolist()
        most = max(height, width)
        top, left = (most - height) // 2, (most - width) // 2
        box = (-top / height, -left / width, (most - top) / height, (most - left) / width)
        return self.plain(1, side, "image", box)

    def plain(self, units, side, kind, box):
        frame = Layout.of_grid(side, side)
        return Layout(
            unit=torch.tensor([u for u in range(units) for _ in range(side**2)] + [units - 1]),
            cell=torch.cat([frame.cell] * units + [torch.full((1, 3), -1)]),
            structural=torch.arange(units * side**2 + 1) == units * side**2,
            grids=((1, side, side),) * units,
            kinds=(kind,) * units,
            boxes=(box,) * units,
        )

    @torch.no_grad()
    def features(self, model, image):
        if self.modality(image) == "video":
            return model.model.get_video_features(image["pixel_values"][None]).pooler_output[0]
        tiles, size = image["pixel_values"], image["image_sizes"]
        if len(tiles) > 1:
            return model.model.get_image_features(tiles, size[None]).pooler_output[0]
        # Shown beside itself: a sample of one image would get tiles.
        pair = torch.stack([tiles, tiles]), torch.stack([size, size])
        return model.model.get_image_features(*pair, batch_num_images=torch.tensor([2])).pooler_output[0]


class NextVideoEncoder(ReferenceEncoder):
    """Videos of LLaVA-NeXT-Video, frame by frame."""

    def images(self, inputs):
        return [{"pixel_values": video} for video in inputs.get("pixel_values_videos", [])]

    def modality(self, image):
        return "video"

    def frames(self, model, image):
        return image["pixel_values"][:, None]

    def some(self, image, units):
        return {"pixel_values": image["pixel_values"][units]}

    def layout(self, model, image):
        return Layout.join([Layout.of_grid(2, 2, kind="frame")] * len(image["pixel_values"]))

    @torch.no_grad()
    def features(self, model, image):
        frames = [model.model.get_video_features(frame[None, None]).pooler_output[0] for frame in image["pixel_values"]]
        return torch.cat(frames)

    def cues(self, model, image):
        found = tower_cues(model, image["pixel_values"])
        ways = "n (h a w b) ... -> (n h w) ..."
        return {name: reduce(values, ways, "mean", h=2, w=2, a=2, b=2) for name, values in found.items()}

    def painted(self, model, item, place):
        """The patches of token `place`: (frame, row, column) of each."""
        frame, row, column = place // 4, place % 4 // 2, place % 2
        return [(frame, 2 * row + a, 2 * column + b) for a in range(2) for b in range(2)]
