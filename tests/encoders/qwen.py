"""Qwen-VL by hand."""

from __future__ import annotations

import torch
from einops import rearrange, reduce
from torch.nn.functional import interpolate

from tests.encoders.base import Outputs, ReferenceEncoder, Softmaxes
from tests.families.common import IMAGE, VIDEO
from vtc import Layout

GRIDS = {"image": "image_grid_thw", "video": "video_grid_thw"}
PIXELS = {"image": "pixel_values", "video": "pixel_values_videos"}


class QwenEncoder(ReferenceEncoder):
    """Images before videos, each with its patches and its grid."""

    def images(self, inputs):
        found = []
        for kind in GRIDS:
            if PIXELS[kind] in inputs:
                grids = inputs[GRIDS[kind]]
                parts = inputs[PIXELS[kind]].split(grids.prod(-1).tolist())
                found += [{GRIDS[kind]: g, "pixel_values": p} for p, g in zip(parts, grids, strict=True)]
        videos = [image for image in found if self.modality(image) == "video"]
        for video, seconds in zip(videos, inputs.get("second_per_grid_ts", ()), strict=False):
            video["seconds"] = seconds
        return found

    def modality(self, image):
        return next(kind for kind, name in GRIDS.items() if name in image)

    def content(self, image):
        return {"grid_thw": self._grid(image), "pixel_values": image["pixel_values"]}

    def _grid(self, image):
        return image[GRIDS[self.modality(image)]]

    def layout(self, model, image):
        frames, height, width = self._grid(image).tolist()
        if self.modality(image) == "image":
            return Layout.of_grid(height // 2, width // 2, frames=frames)
        count = height * width // 4
        frame = Layout.of_grid(height // 2, width // 2)
        return Layout(
            unit=torch.arange(frames).repeat_interleave(count),
            cell=frame.cell.repeat(frames, 1),
            structural=torch.zeros(frames * count, dtype=torch.bool),
            grids=frame.grids * frames,
            kinds=("frame",) * frames,
        )

    @torch.no_grad()
    def _encoded(self, model, image):
        encode = getattr(model.model, f"get_{self.modality(image)}_features")
        return encode(image["pixel_values"], self._grid(image)[None])

    def features(self, model, image):
        return self._encoded(model, image).pooler_output[0]

    def planes(self, model, image):
        return [plane[0] for plane in getattr(self._encoded(model, image), "deepstack_features", ())]

    def layers(self, model):
        """The numbers of the layers that `early_attention` and `attention` look at."""
        last = model.config.vision_config.depth - 1
        return last // 2, last

    def order(self, merged, pooled):
        """Where each row of the merger stands among the features."""
        return torch.arange(len(pooled))

    def tower_grids(self, image):
        return self._grid(image)[None]

    def watched(self, visual, attention):
        return {"qkv": attention.qkv, "merger": visual.merger}

    def keys(self, found):
        return found["qkv"].chunk(3, dim=-1)[1]

    def patch_features(self, out, found):
        return out.last_hidden_state

    @torch.no_grad()
    def cues(self, model, image):
        visual, (early, last) = model.model.visual, self.layers(model)
        attentions = {"early": visual.blocks[early].attn, "last": visual.blocks[last].attn}
        maps, hooks = {}, []
        with Softmaxes() as soft, Outputs(**self.watched(visual, attentions["last"])) as found:
            for name, attention in attentions.items():
                # One map a frame is taken inside.
                hooks.append(attention.register_forward_pre_hook(lambda *_: soft.maps.clear()))
                note = lambda *_, name=name: maps.__setitem__(name, list(soft.maps))  # noqa: E731
                hooks.append(attention.register_forward_hook(note))
            out = visual(image["pixel_values"], self.tower_grids(image))
        for hook in hooks:
            hook.remove()
        place = self.order(found["merger"], out.pooler_output)
        received = {name: torch.cat([m[0].mean(dim=0).mean(dim=0) for m in frames]) for name, frames in maps.items()}
        patches = {
            "received_attention": received["last"],
            "early_attention": received["early"],
            "attention_logits": received["last"].log(),
            "keys": self.keys(found),
            "encoder_features": self.patch_features(out, found),
        }
        cues = {}
        for name, values in patches.items():
            tokens = reduce(values, "(n four) ... -> n ...", "mean", four=4)
            cues[name] = torch.empty_like(tokens).index_copy(0, place, tokens)
        return {**cues, "attention": cues["received_attention"]}

    def frames(self, model, image):
        frames, h, w = self._grid(image).tolist()
        p = model.config.vision_config.patch_size
        return rearrange(
            image["pixel_values"],
            "(t h w a b) (c d p q) -> t d c (h a p) (w b q)",
            t=frames, h=h // 2, w=w // 2, a=2, b=2, c=3, d=2, p=p, q=p,
        )  # fmt: skip

    def some(self, image, units):
        frames, height, width = self._grid(image).tolist()
        patches = [image["pixel_values"].chunk(frames)[unit] for unit in units]
        return {"video_grid_thw": torch.tensor([len(units), height, width]), "pixel_values": torch.cat(patches)}

    def smaller(self, model, image, height, width):
        frames, p = int(self._grid(image)[0]), model.config.vision_config.patch_size
        video = self.frames(model, image).flatten(0, 1)
        small = interpolate(video, (height * 2 * p, width * 2 * p), mode="bicubic", antialias=True)
        patches = rearrange(
            small, "(t d) c (h a p) (w b q) -> (t h w a b) (c d p q)", t=frames, a=2, b=2, d=2, p=p, q=p
        )
        grid = torch.tensor([frames, height * 2, width * 2])
        return {GRIDS[self.modality(image)]: grid, "pixel_values": patches}

    def positions(self, model, ids, images):
        line = torch.tensor([ids])
        if not images:
            return torch.arange(len(ids)).expand(3, -1)
        types = (line == IMAGE).int() + 2 * (line == VIDEO).int()
        grids = {
            name: torch.stack([self._grid(p) for p in images if self.modality(p) == kind])
            for kind, name in GRIDS.items()
            if any(self.modality(p) == kind for p in images)
        }
        seconds = [image["seconds"] for image in images if "seconds" in image]
        more = {"second_per_grid_ts": torch.stack(seconds)} if seconds else {}
        return model.model.get_rope_index(line, types, **grids, **more)[0][:, 0]


class Qwen25Encoder(QwenEncoder):
    def layers(self, model):
        full = model.config.vision_config.fullatt_block_indexes
        return full[0], full[-1]

    def order(self, merged, pooled):
        # The merger works in window order, the features are in raster order.
        return (merged[:, None] == pooled[None]).all(dim=-1).long().argmax(dim=1)
