"""InternVL by hand."""

from __future__ import annotations

from itertools import groupby

import torch
from einops import rearrange, reduce
from torch.nn.functional import interpolate

from tests.encoders.base import ReferenceEncoder
from tests.encoders.towers import tower_cues
from vtc import Layout

IMAGE = 90
"""The placeholder of the small models: images are told apart by the prompt alone."""


class InternVLEncoder(ReferenceEncoder):
    """An image is its own tiles."""

    def images(self, inputs):
        rows = [groupby(row, lambda token: token == IMAGE) for row in inputs["input_ids"].tolist()]
        runs = [len(list(run)) for row in rows for placeholder, run in row if placeholder]
        return [{"pixel_values": p} for p in inputs["pixel_values"].split([n // 4 for n in runs])] if runs else []

    def grid(self, tiles):
        """Rows and columns: of all mosaics, the one most like the thumbnail."""
        count, found = len(tiles) - 1, []
        for rows in range(1, count + 1):
            if count % rows == 0:
                mosaic = rearrange(tiles[:-1], "(r c) n h w -> n (r h) (c w)", r=rows)
                small = interpolate(mosaic[None], tiles.shape[-2:], mode="area")[0]
                found.append((float((small - tiles[-1]).abs().mean()), rows, count // rows))
        return min(found)[1:]

    def layout(self, model, image):
        tiles = image["pixel_values"]
        if len(tiles) == 1:
            return Layout.of_grid(2, 2)
        rows, columns = self.grid(tiles)
        cell = Layout.of_grid(2, 2).cell
        places = [(n // columns, n % columns) for n in range(len(tiles) - 1)]
        boxes = [(y / rows, x / columns, (y + 1) / rows, (x + 1) / columns) for y, x in places]
        return Layout(
            unit=torch.arange(len(tiles)).repeat_interleave(4),
            cell=cell.repeat(len(tiles), 1),
            structural=torch.zeros(4 * len(tiles), dtype=torch.bool),
            grids=((1, 2, 2),) * len(tiles),
            kinds=("tile",) * (len(tiles) - 1) + ("thumbnail",),
            boxes=(*boxes, (0.0, 0.0, 1.0, 1.0)),
        )

    @torch.no_grad()
    def features(self, model, image):
        return model.model.get_image_features(image["pixel_values"]).pooler_output.flatten(0, 1)

    def cues(self, model, image):
        found = {}
        for name, values in tower_cues(model, image["pixel_values"]).items():
            if name == "encoder_features":
                found[name] = rearrange(values, "n (h p w q) c -> (n h w) (p q c)", h=2, w=2, p=2, q=2)
            else:
                found[name] = reduce(values, "n (h p w q) ... -> (n h w) ...", "mean", h=2, w=2, p=2, q=2)
        return found

    def painted(self, model, item, place):
        """The patches of token `place`: (tile, row, column) of each."""
        tile, row, column = place // 4, place % 4 // 2, place % 2
        return [(tile, 2 * row + p, 2 * column + q) for p in range(2) for q in range(2)]
