"""LFM2-VL by hand: one tile at a time, without what fills it up."""

from __future__ import annotations

import torch
from einops import reduce

from tests.encoders.base import Outputs, ReferenceEncoder, Softmaxes
from tests.families.lfm2_vl import CLOSE, FIRST, IMAGE, OPEN, WHOLE
from vtc import Layout


class Lfm2Encoder(ReferenceEncoder):
    """An image is what stands between its first and its last token."""

    def images(self, inputs):
        found, done = [], 0
        for row in inputs["input_ids"].tolist():
            for start in (i for i, token in enumerate(row) if token == OPEN):
                line = row[start + 1 : row.index(CLOSE, start)]
                marks = [token for token in line if token != IMAGE]
                end = done + max(len(marks), 1)
                image = {name: value[done:end] for name, value in inputs.items() if name in self.NAMES}
                found.append({**image, "marks": torch.tensor(marks)})
                done = end
        return found

    NAMES = ("pixel_values", "spatial_shapes", "pixel_attention_mask")

    def content(self, image):
        return {name: image[name] for name in self.NAMES}

    def layout(self, model, image):
        sizes = [(h // 2, w // 2) for h, w in image["spatial_shapes"].tolist()]
        marks = image["marks"].tolist()
        if not marks:
            return Layout.of_grid(*sizes[0])
        assert marks[-1] == WHOLE
        places = [divmod(mark - FIRST, 10) for mark in marks[:-1]]
        rows, columns = (max(axis) + 1 for axis in zip(*places, strict=True))
        boxes = [(y / rows, x / columns, (y + 1) / rows, (x + 1) / columns) for y, x in places]
        cells = [(0, y, x) for h, w in sizes for y in range(h) for x in range(w)]
        return Layout(
            unit=torch.tensor([n for n, (h, w) in enumerate(sizes) for _ in range(h * w)]),
            cell=torch.tensor(cells),
            structural=torch.zeros(len(cells), dtype=torch.bool),
            grids=tuple((1, h, w) for h, w in sizes),
            kinds=("tile",) * len(places) + ("thumbnail",),
            boxes=(*boxes, (0.0, 0.0, 1.0, 1.0)),
        )

    def entries(self, image):
        """Each entry alone, without padding."""
        for pixels, shape in zip(image["pixel_values"], image["spatial_shapes"], strict=True):
            count = int(shape.prod())
            yield pixels[None, :count], torch.ones(1, count, dtype=torch.int32), shape[None]

    @torch.no_grad()
    def features(self, model, image):
        encode = model.model.get_image_features
        return torch.cat([encode(p, s, m).pooler_output[0] for p, m, s in self.entries(image)])

    @torch.no_grad()
    def cues(self, model, image):
        tower, found = model.model.vision_tower, []
        layers = next(m for n, m in tower.named_modules() if n.endswith("encoder.layers"))
        last = len(layers) - 1
        for pixels, mask, shape in self.entries(image):
            with Softmaxes() as soft, Outputs(keys=layers[last].self_attn.k_proj) as outputs:
                rows = tower(pixel_values=pixels, pixel_attention_mask=mask, spatial_shapes=shape).last_hidden_state
            late, early = (soft.maps[layer][0].mean(dim=0).mean(dim=0) for layer in (last, last // 2))
            patches = {
                "received_attention": late,
                "attention": late,
                "early_attention": early,
                "attention_logits": late.log(),
                "keys": outputs["keys"][0],
                "encoder_features": rows[0],
            }
            h, w = (shape[0] // 2).tolist()
            found.append(
                {n: reduce(v, "(h a w b) ... -> (h w) ...", "mean", h=h, w=w, a=2, b=2) for n, v in patches.items()}
            )
        return {name: torch.cat([own[name] for own in found]) for name in found[0]}

    def painted(self, model, item, place):
        """The patches of one token of an item: an entry, and their numbers in it."""
        unit, (_, row, column) = int(item.layout.unit[place]), item.layout.cell[place].tolist()
        width = int(item.inputs["spatial_shapes"][unit, 1])
        return unit, [(2 * row + y) * width + 2 * column + x for y in range(2) for x in range(2)]
