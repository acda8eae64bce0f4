"""Qwen2-VL and Qwen2.5-VL: native resolution, 2 x 2 patches a token, M-RoPE; images and videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers.vision_utils import get_vision_window_index

from vtc.core.tokens import Layout, VisualTokens
from vtc.encoder import Blocks

from . import cues as signals
from .base import Adapter, Media
from .cues import (
    InputRecorder,
    first_argument,
    recording,
    split_heads,
)

PIXELS = {"image": "pixel_values", "video": "pixel_values_videos"}
GRIDS = {"image": "image_grid_thw", "video": "video_grid_thw"}


class Qwen2VL(Adapter):
    """Qwen2-VL. A token is the merger's output for 2 x 2 patches; there is no CLS.

    The encoder takes two frames of a video together; each such pair is a unit, called frame. The attention cue is the
    attention received in the layer before the merger, within a frame, averaged over the token's patches.
    """

    classes: ClassVar[tuple[str, ...]] = ("Qwen2VLForConditionalGeneration",)
    media_arguments: tuple[str, ...] = (
        "pixel_values",
        "image_grid_thw",
        "pixel_values_videos",
        "video_grid_thw",
        "second_per_grid_ts",
    )
    resizable = True
    videos = True
    axes = 3

    @property
    def placeholders(self) -> dict[str, int]:
        """See `Adapter.placeholders`."""
        return {"image": int(self.model.config.image_token_id), "video": int(self.model.config.video_token_id)}

    @property
    def _visual(self) -> Any:
        return self.model.base_model.visual

    @property
    def _merge(self) -> int:
        return int(self.model.config.vision_config.spatial_merge_size)

    def blocks(self, stage: str, *, spread: bool) -> Blocks:
        """See `Adapter.blocks`."""
        raise ValueError(
            f"stage {stage!r} folds tokens inside the vision tower, and that of {type(self.model).__name__} turns keys "
            "by their places, cuts attention at lengths known beforehand, and hands whole blocks of patches to its "
            "merger: no patch may be missing; use a selector such as 'kcenter'"
        )

    def media(self, inputs: Mapping[str, Any]) -> list[Media]:
        """See `Adapter.media`. Pixels are `[patches, values]`, grids `[items, 3]` in patches."""
        return [item for modality in PIXELS for item in self._items(inputs, modality)]

    def _items(self, inputs: Mapping[str, Any], modality: str) -> list[Media]:
        pixels, grids = inputs.get(PIXELS[modality]), inputs.get(GRIDS[modality])
        if pixels is None:
            return []
        if grids is None:
            raise ValueError(f"{GRIDS[modality]} is missing; pass all that the processor returned")
        if not isinstance(grids, Tensor) or grids.ndim != 2 or grids.shape[1] != 3:
            shape = tuple(grids.shape) if isinstance(grids, Tensor) else grids
            raise ValueError(f"{GRIDS[modality]} is {shape}; expected a tensor [items, 3] of (t, h, w) in patches")
        counts = grids.prod(-1).tolist()
        if sum(counts) != len(pixels):
            raise ValueError(
                f"{GRIDS[modality]} {grids.tolist()} describes {sum(counts)} patches, but {PIXELS[modality]} holds "
                f"{len(pixels)}"
            )
        parts = zip(pixels.split(counts), grids, grids.tolist(), strict=True)
        return [
            Media(modality, self._layout(modality, *shape), {"pixel_values": patches, "grid_thw": grid})
            for patches, grid, shape in parts
        ]

    def _layout(self, modality: str, frames: int, height: int, width: int) -> Layout:
        size = (height // self._merge, width // self._merge)
        if modality == "image":
            return Layout.of_grid(*size, frames=frames)
        return Layout.join([Layout.of_grid(*size, kind="frame")] * frames)

    def encode(self, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
        """See `Adapter.encode`. All images go through the tower in one pass, and so do all videos."""
        tokens: dict[int, VisualTokens] = {}
        for modality in PIXELS:
            places = [i for i, item in enumerate(media) if item.modality == modality]
            if places:
                encoded = self._encode([media[i] for i in places], modality, cues)
                tokens.update(zip(places, encoded, strict=True))
        return [tokens[i] for i in range(len(media))]

    def _encode(self, media: Sequence[Media], modality: str, cues: Sequence[str]) -> list[VisualTokens]:
        pixels = torch.cat([item.inputs["pixel_values"] for item in media])
        grids = torch.stack([item.inputs["grid_thw"] for item in media])
        with recording() as recorded:
            output = getattr(self.model.base_model, f"get_{modality}_features")(pixels, grids, return_dict=True)
        counts = [len(item.layout) for item in media]
        values = {cue: self._cue(cue, recorded, grids).split(counts) for cue in cues}
        planes = [torch.cat(list(plane)).split(counts) for plane in getattr(output, "deepstack_features", None) or ()]
        return [
            VisualTokens(
                row,
                item.layout,
                {cue: value[i] for cue, value in values.items()},
                planes=tuple(plane[i] for plane in planes),
            )
            for i, (row, item) in enumerate(zip(output.pooler_output, media, strict=True))
        ]

    def _cue(self, name: str, recorded: Mapping[str, Any], grids: Tensor) -> Tensor:
        """The cue for all tokens of one pass, `[tokens, ...]`, in the order of the features."""
        return self._patch_cue(name, recorded, grids).unflatten(0, (-1, self._merge**2)).float().mean(dim=1)

    def _patch_cue(self, name: str, recorded: Mapping[str, Any], grids: Tensor) -> Tensor:
        """The cue for all patches, in the tower's own order."""
        if name == "encoder_features":
            return first_argument(recorded["merger"]).flatten(0, -2)
        early = name == "early_attention"
        call, attention = recorded["early" if early else "attention"], self._attention(early)
        with torch.no_grad():
            queries, keys = self._queries_and_keys(attention, first_argument(call))
        if name == "keys":
            return keys
        heads, scale = self._heads_and_scale(attention)
        queries, keys = (split_heads(rows[None], heads) for rows in (queries, keys))
        cos, sin = (angles.float() for angles in self._angles(call[1]))
        queries, keys = (rotated(rows.float(), cos, sin) for rows in (queries, keys))
        # Where all patches of a frame see each other, whatever the kernel wants their lengths to be.
        lengths = [height * width for frames, height, width in grids.tolist() for _ in range(frames)]
        parts = zip(queries.split(lengths, dim=2), keys.split(lengths, dim=2), strict=True)
        return torch.cat([signals.attention_values(name, q, k, scale, has_cls=False)[0] for q, k in parts])

    def _queries_and_keys(self, attention: Any, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys of a layer's input, before positions are turned in: each `[patches, heads * dim]`."""
        queries, keys, _ = attention.qkv(hidden).chunk(3, dim=-1)
        return queries, keys

    def _heads_and_scale(self, attention: Any) -> tuple[int, float]:
        """The heads of a layer's attention, and what it scales products by."""
        return int(attention.num_heads), float(attention.scaling)

    def _angles(self, arguments: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Cosines and sines that a layer's attention was given, each `[patches, dim]`."""
        cos, sin = arguments["position_embeddings"]
        return cos, sin

    def _attention(self, early: bool) -> Any:
        blocks = self._visual.blocks
        return blocks[(len(blocks) - 1) // 2 if early else -1].attn

    def input_recorders(self, cues: Sequence[str]) -> list[tuple[nn.Module, InputRecorder]]:
        """See `Adapter.input_recorders`."""
        return signals.input_recorders(cues, self._attention, (self._visual.merger, "merger"), has_cls=False)

    def resized(self, media: Media, height: int, width: int) -> Media:
        """See `Adapter.resized`."""
        vision = self.model.config.vision_config
        size = (height * self._merge * vision.patch_size, width * self._merge * vision.patch_size)
        patches, grid = media.inputs["pixel_values"], media.inputs["grid_thw"]
        small = interpolate(self._unpatch(media).float(), size=size, mode="bicubic", antialias=True)
        shape = [int(grid[0]), height * self._merge, width * self._merge]
        inputs = {"pixel_values": self._patch(small).to(patches.dtype), "grid_thw": torch.tensor(shape).to(grid)}
        return replace(media, layout=self._layout(media.modality, *shape), inputs=inputs)

    def frames(self, media: Media) -> Tensor:
        """See `Adapter.frames`."""
        return self._unpatch(media).unflatten(0, (int(media.inputs["grid_thw"][0]), -1))

    def with_frames(self, media: Media, chosen: Tensor) -> Media:
        """See `Adapter.with_frames`. The encoder attends within one unit only."""
        grid, patches = media.inputs["grid_thw"], media.inputs["pixel_values"]
        frames, height, width = grid.tolist()
        shape = [len(chosen), height, width]
        some = patches.unflatten(0, (frames, -1))[chosen.to(patches.device)].flatten(0, 1)
        inputs = {"pixel_values": some, "grid_thw": torch.tensor(shape).to(grid)}
        return replace(media, layout=self._layout(media.modality, *shape), inputs=inputs)

    def pixels(self, media: Media) -> Tensor:
        """The item's first frame as the encoder sees it, `[3, H, W]` normalised values."""
        return self._unpatch(media)[0]

    def _unpatch(self, media: Media) -> Tensor:
        """Patches back as images, `[frames, 3, H, W]`; a frame is repeated where the encoder takes two at once."""
        vision, merge = self.model.config.vision_config, self._merge
        t, h, w = media.inputs["grid_thw"].tolist()
        p, depth = vision.patch_size, vision.temporal_patch_size
        return rearrange(
            media.inputs["pixel_values"],
            "(t hm wm mh mw) (c d ph pw) -> (t d) c (hm mh ph) (wm mw pw)",
            t=t,
            hm=h // merge,
            wm=w // merge,
            mh=merge,
            mw=merge,
            c=vision.in_channels,
            d=depth,
            ph=p,
            pw=p,
        )

    def _patch(self, frames: Tensor) -> Tensor:
        """Images `[frames, 3, H, W]` as patches in the processor's order, `[patches, values]`."""
        vision, merge = self.model.config.vision_config, self._merge
        p, depth = vision.patch_size, vision.temporal_patch_size
        return rearrange(
            frames,
            "(t d) c (hm mh ph) (wm mw pw) -> (t hm wm mh mw) (c d ph pw)",
            d=depth,
            mh=merge,
            mw=merge,
            ph=p,
            pw=p,
        )


class Qwen25VL(Qwen2VL):
    """Qwen2.5-VL: all but some layers look at windows only; the attention cues come from those that look at a frame."""

    classes = ("Qwen2_5_VLForConditionalGeneration",)

    def _cue(self, name: str, recorded: Mapping[str, Any], grids: Tensor) -> Tensor:
        vision = self.model.config.vision_config
        order, _ = get_vision_window_index(grids.cpu(), self._merge, vision.window_size, vision.patch_size)
        tokens = super()._cue(name, recorded, grids)
        return tokens[torch.argsort(order).to(tokens.device)]

    def _attention(self, early: bool) -> Any:
        # Attention within a window says nothing about the image as a whole.
        full = sorted(self.model.config.vision_config.fullatt_block_indexes)
        last = full[-1]
        early_one = min(full, key=lambda block: (abs(block - last // 2), block))
        return self._visual.blocks[early_one if early else last].attn


def rotated(rows: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of `[B, heads, N, dim]` by `[N, dim]` angles (halves convention)."""
    first, second = rows.chunk(2, dim=-1)
    return rows * cos + torch.cat([-second, first], dim=-1) * sin
