"""Gemma 4 by hand: one image or video at a time, without what fills it up."""

from __future__ import annotations

import torch
from einops import rearrange, reduce
from torch.nn.functional import interpolate

from tests.encoders.base import Outputs, ReferenceEncoder, Softmaxes
from vtc import Layout

PIXELS = {"image": "pixel_values", "video": "pixel_values_videos"}
PLACES = {"image": "image_position_ids", "video": "video_position_ids"}


class Gemma4Encoder(ReferenceEncoder):
    """Images before videos."""

    side = 3
    """Patches along a side of a token."""

    def images(self, inputs):
        found = []
        for kind in PIXELS:
            if PIXELS[kind] in inputs:
                pixels, places = inputs[PIXELS[kind]], inputs[PLACES[kind]]
                numbers = inputs["num_frames_per_video"].tolist() if kind == "video" else [1] * len(pixels)
                parts = zip(pixels.split(numbers), places.split(numbers), strict=True)
                found += [{"pixel_values": p, PLACES[kind]: q} for p, q in parts]
        return found

    def modality(self, image):
        return next(kind for kind, name in PLACES.items() if name in image)

    def content(self, image):
        return {"position_ids": self._places(image), "pixel_values": image["pixel_values"]}

    def _places(self, image):
        return image[PLACES[self.modality(image)]]

    def _patches(self, image):
        """Height and width in patches."""
        width, height = (self._places(image)[0].amax(dim=0) + 1).tolist()
        return height, width

    def grid(self, image):
        height, width = self._patches(image)
        return height // self.side, width // self.side

    def layout(self, model, image):
        frames, (height, width) = len(image["pixel_values"]), self.grid(image)
        cells = [(0, y, x) for y in range(height) for x in range(width)]
        return Layout(
            unit=torch.tensor([f for f in range(frames) for _ in cells]),
            cell=torch.tensor(cells * frames),
            structural=torch.zeros(frames * len(cells), dtype=torch.bool),
            grids=((1, height, width),) * frames,
            kinds=("image" if self.modality(image) == "image" else "frame",) * frames,
        )

    @torch.no_grad()
    def features(self, model, image):
        pixels, places = image["pixel_values"], self._places(image)
        if self.modality(image) == "image":
            return torch.cat(model.model.get_image_features(pixels, places).pooler_output)
        numbers = torch.tensor([len(pixels)])
        return model.model.get_video_features(pixels, places, num_frames_per_video=numbers).pooler_output[0]

    def cues(self, model, image):
        found = [self._frame_cues(model, image, frame) for frame in range(len(image["pixel_values"]))]
        return {name: torch.cat([cues[name] for cues in found]) for name in found[0]}

    @torch.no_grad()
    def _frame_cues(self, model, image, frame):
        height, width = self._patches(image)
        pixels, places = (part[[frame], : height * width] for part in (image["pixel_values"], self._places(image)))
        tower, last = model.model.vision_tower, model.config.vision_config.num_hidden_layers - 1
        keys = tower.encoder.layers[last].self_attn.k_norm
        with Softmaxes() as soft, Outputs(keys=keys) as found:
            rows = tower(pixels, places).last_hidden_state
        assert len(soft.maps) == last + 1
        late, early = (soft.maps[layer][0].mean(dim=0).mean(dim=0) for layer in (last, last // 2))
        patches = {
            "received_attention": late,
            "attention": late,
            "early_attention": early,
            "attention_logits": late.log(),
            "keys": found["keys"][0].flatten(1),
        }
        size = dict(h=height // 3, w=width // 3, a=3, b=3)
        cues = {name: reduce(v, "(h a w b) ... -> (h w) ...", "mean", **size) for name, v in patches.items()}
        return {**cues, "encoder_features": rows}

    def frames(self, model, image):
        height, width = self._patches(image)
        side = int((image["pixel_values"].shape[-1] / 3) ** 0.5)
        frames = []
        for patches in image["pixel_values"]:
            canvas = torch.empty(3, height * side, width * side)
            for n in range(height * width):
                y, x = side * (n // width), side * (n % width)
                canvas[:, y : y + side, x : x + side] = patches[n].view(side, side, 3).permute(2, 0, 1)
            frames.append(canvas)
        return torch.stack(frames)[:, None]

    def some(self, image, units):
        return {name: value[units] for name, value in image.items()}

    def smaller(self, model, image, height, width):
        video = self.frames(model, image)[:, 0]
        side = int((image["pixel_values"].shape[-1] / 3) ** 0.5)
        h, w = height * self.side, width * self.side
        small = interpolate(video, (h * side, w * side), mode="bicubic", antialias=True)
        patches = rearrange(small, "t c (h p) (w q) -> t (h w) (p q c)", p=side, q=side)
        places = torch.tensor([(x, y) for y in range(h) for x in range(w)]).expand(len(video), -1, -1)
        return {"pixel_values": patches, PLACES[self.modality(image)]: places}

    def painted(self, model, item, place):
        """The patches of one token of an item: a frame, and their numbers in it."""
        unit, (_, row, column) = int(item.layout.unit[place]), item.layout.cell[place].tolist()
        width = item.layout.grids[unit][2] * self.side
        spread = range(self.side)
        return unit, [(row * self.side + y) * width + column * self.side + x for y in spread for x in spread]


class Gemma4UnifiedEncoder(Gemma4Encoder):
    """A patch is a token."""

    side = 1

    def cues(self, model, image):
        return {}
