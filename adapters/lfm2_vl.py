"""LFM2-VL: images of any shape as patches, or cut into tiles beside a thumbnail; 2 x 2 patches a token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from einops import rearrange, reduce
from torch import Tensor, nn

from vtc.core.tokens import Layout, VisualTokens
from vtc.encoder import Blocks

from . import cues as signals
from .base import Adapter, Media
from .cues import InputRecorder, first_argument, recording, split_heads
from .placeholders import runs

SHAPES, MASK = "spatial_shapes", "pixel_attention_mask"
MARKS = 10
"""The vocabulary has marks for so many rows of tiles, and so many columns."""
THUMBNAIL = MARKS * MARKS + 1
"""How far behind the placeholder the mark of a thumbnail stands in the vocabulary."""
Shape = tuple[int, int]


@dataclass(frozen=True)
class Entry:
    """A run of placeholders that belongs to one entry of `pixel_values`.

    Attributes:
        mark: how far behind the placeholder the token before the run stands in the vocabulary.
        joined: whether that token alone parts the run from the one before it.
    """

    mark: int
    joined: bool


class Lfm2VL(Adapter):
    """LFM2-VL and LFM2.5-VL. The tower is SigLIP 2 at native resolution, without CLS.

    An entry of `pixel_values` is an image or one of its tiles. Tiles are known by the marks before them: the processor
    writes `<|img_row_1_col_1|>` to `<|img_row_10_col_10|>`, whose ids follow that of the placeholder, and then
    `<|img_thumbnail|>`. Where it was told to write none (`use_image_special_tokens=False`), or the vocabulary is
    another, each tile is an item of its own: `keep` is then a share of each.

    Cues of the patches are averaged over a token's own. The language model has layers of short convolutions, whose
    states let no token be taken out later, so decoder stages are refused.
    """

    classes: ClassVar[tuple[str, ...]] = ("Lfm2VlForConditionalGeneration",)
    media_arguments: tuple[str, ...] = ("pixel_values", SHAPES, MASK)
    thumbnails = True

    @property
    def placeholders(self) -> dict[str, int]:
        """See `Adapter.placeholders`."""
        return {"image": int(self.model.config.image_token_id)}

    @property
    def _factor(self) -> int:
        """Patches along a side of a token."""
        return int(self.model.config.downsample_factor)

    def blocks(self, stage: str, *, spread: bool) -> Blocks:
        """See `Adapter.blocks`."""
        raise ValueError(
            f"stage {stage!r} folds tokens inside the vision tower, and {type(self.model).__name__} makes each token "
            f"of a block of {self._factor} x {self._factor} patches in their places: no patch may be missing; use a "
            "selector such as 'kcenter'"
        )

    def media(self, inputs: Mapping[str, Any]) -> list[Media]:
        """See `Adapter.media`. Pixels are `[images and tiles, patches, values]`, filled up behind each one's own."""
        pixels = inputs.get("pixel_values")
        if pixels is None:
            return []
        ids = inputs.get("input_ids")
        if not isinstance(ids, Tensor) or ids.ndim != 2:
            raise ValueError(
                "input_ids are missing; tiles are known by the marks before their placeholders: pass input_ids "
                "[batch, length] together with pixel_values"
            )
        self._check(pixels, inputs.get(SHAPES), inputs.get(MASK))
        own = {name: inputs[name] for name in self.media_arguments}
        sizes: list[Shape] = [(h // self._factor, w // self._factor) for h, w in own[SHAPES].tolist()]
        entries = _entries(ids, self.placeholders["image"], [h * w for h, w in sizes])
        found, start = [], 0
        while start < len(sizes):
            layout = _tiled(entries[start:], sizes[start:]) if entries else None
            layout = layout or Layout.of_grid(*sizes[start])
            end = start + len(layout.grids)
            found.append(Media("image", layout, {name: value[start:end] for name, value in own.items()}))
            start = end
        return found

    def _check(self, pixels: Any, shapes: Any, mask: Any) -> None:
        """Raise where pixels, shapes and mask are not of one processor call."""
        for name, value, axes in (("pixel_values", pixels, 3), (SHAPES, shapes, 2), (MASK, mask, 2)):
            if value is None:
                raise ValueError(f"{name} is missing; pass all that the processor returned")
            if not isinstance(value, Tensor) or value.ndim != axes:
                shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(
                    f"{name} is {shape}; expected a tensor of {axes} axes, one entry for each image or tile: pass what "
                    f"the processor of {type(self.model).__name__} returned"
                )
        patches = shapes.prod(-1).tolist() if shapes.shape == (len(pixels), 2) else []
        own = mask.sum(-1).tolist() if mask.shape == pixels.shape[:2] else []
        if not patches or patches != own or min(shapes.flatten().tolist()) < self._factor:
            raise ValueError(
                f"pixel_values holds {tuple(pixels.shape[:2])} patches, {SHAPES} is {shapes.tolist()}, and {MASK} "
                f"{tuple(mask.shape)} shows {own or 'others'}; expected the height and width of each entry, at least "
                f"{self._factor}, and as many patches shown: pass all of one processor call"
            )

    def encode(self, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
        """See `Adapter.encode`. Entries that are filled up to one length go through the tower together."""
        lengths = [item.inputs["pixel_values"].shape[1] for item in media]
        found: dict[int, VisualTokens] = {}
        for length in dict.fromkeys(lengths):
            same = [i for i, other in enumerate(lengths) if other == length]
            found.update(zip(same, self._encode([media[i] for i in same], cues), strict=True))
        return [found[i] for i in range(len(media))]

    def _encode(self, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
        inputs = {name: torch.cat([item.inputs[name] for item in media]) for name in self.media_arguments}
        with recording() as recorded:
            rows = self.model.base_model.get_image_features(**inputs, return_dict=True).pooler_output
        shapes: list[Shape] = [(h, w) for h, w in inputs[SHAPES].tolist()]
        counts = [len(item.layout) for item in media]
        values = {cue: torch.cat(self._cue(cue, recorded, shapes)).split(counts) for cue in cues}
        return [
            VisualTokens(own, item.layout, {cue: value[i] for cue, value in values.items()})
            for i, (own, item) in enumerate(zip(torch.cat(list(rows)).split(counts), media, strict=True))
        ]

    def _cue(self, name: str, recorded: Mapping[str, Any], shapes: Sequence[Shape]) -> list[Tensor]:
        """The cue of each entry of one pass, `[tokens, ...]`."""
        with torch.no_grad():
            patches = self._patch_cue(name, recorded, shapes)
        return [self._pooled(values, *shape) for values, shape in zip(patches, shapes, strict=True)]

    def _patch_cue(self, name: str, recorded: Mapping[str, Any], shapes: Sequence[Shape]) -> list[Tensor]:
        """The cue of each entry's own patches, `[patches, ...]`."""
        counts = [height * width for height, width in shapes]
        if name == "encoder_features":
            rows = self._norm(first_argument(recorded["norm"]))
            return [row[:count] for row, count in zip(rows, counts, strict=True)]
        early = name == "early_attention"
        attention, hidden = self._attention(early), first_argument(recorded["early" if early else "attention"])
        keys = attention.k_proj(hidden)
        if name == "keys":
            return [row[:count] for row, count in zip(keys, counts, strict=True)]
        queries, heads, scale = attention.q_proj(hidden), int(attention.num_heads), float(attention.scale)
        found = []
        for i, count in enumerate(counts):
            asking, asked = (split_heads(part[i : i + 1, :count], heads) for part in (queries, keys))
            found.append(signals.attention_values(name, asking, asked, scale, has_cls=False)[0])
        return found

    def _pooled(self, values: Tensor, height: int, width: int) -> Tensor:
        """The means of `[patches, ...]` over each token's own, `[tokens, ...]` fp32; a last odd line makes none."""
        side = self._factor
        whole = values.float().unflatten(0, (height, width))[: height // side * side, : width // side * side]
        return reduce(whole, "(h a) (w b) ... -> (h w) ...", "mean", a=side, b=side)

    def _module(self, name: str) -> Any:
        """The first part of the tower that is called so."""
        return next(m for n, m in self.model.base_model.vision_tower.named_modules() if n.endswith(name))

    @property
    def _norm(self) -> Any:
        return self._module("post_layernorm")

    def _attention(self, early: bool) -> Any:
        layers = self._module("encoder.layers")
        return layers[(len(layers) - 1) // 2 if early else -1].self_attn

    def input_recorders(self, cues: Sequence[str]) -> list[tuple[nn.Module, InputRecorder]]:
        """See `Adapter.input_recorders`."""
        return signals.input_recorders(cues, self._attention, (self._norm, "norm"), has_cls=False)

    def pixels(self, media: Media) -> Tensor:
        """The item's first entry as the encoder sees it, `[3, H, W]` normalised values."""
        height, width = media.inputs[SHAPES][0].tolist()
        patches = media.inputs["pixel_values"][0, : height * width]
        side = int(self.model.config.vision_config.patch_size)
        return rearrange(patches, "(h w) (p q c) -> c (h p) (w q)", h=height, w=width, p=side, q=side)


def _entries(ids: Tensor, token: int, counts: Sequence[int]) -> list[Entry]:
    """The runs of placeholders of `ids`, if they are those of entries with `counts` tokens; else none."""
    rows = ids.tolist()
    found = runs(rows, token)
    if [run.length for run in found] != list(counts):
        return []
    ends = [(run.row, run.start + run.length) for run in found]
    return [
        Entry(
            rows[run.row][run.start - 1] - token if run.start else 0,
            (run.row, run.start - 1) in ends[max(i - 1, 0) : i],
        )
        for i, run in enumerate(found)
    ]


def _tiled(entries: Sequence[Entry], sizes: Sequence[Shape]) -> Layout | None:
    """The layout of the image that the first of `entries` opens, if that is a tile."""
    count = next((i for i, entry in enumerate(entries) if i and not entry.joined), len(entries))
    marks = [entry.mark for entry in entries[:count]]
    whole = len(marks) > 1 and marks[-1] == THUMBNAIL
    tiles = marks[:-1] if whole else marks
    columns = sum(1 <= mark <= MARKS for mark in tiles)
    rows = len(tiles) // max(columns, 1)
    places = [(row, column) for row in range(rows) for column in range(columns)]
    if tiles != [1 + MARKS * row + column for row, column in places] or len(set(sizes[: len(tiles)])) > 1:
        return None
    parts = [
        Layout.of_grid(*size, kind="tile", box=(y / rows, x / columns, (y + 1) / rows, (x + 1) / columns))
        for (y, x), size in zip(places, sizes, strict=False)
    ]
    return Layout.join([*parts, Layout.of_grid(*sizes[len(tiles)], kind="thumbnail")] if whole else parts)
