"""Gemma 4: patches with their places, pooled 3 x 3 into tokens; images and videos, each within a budget of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, ClassVar

import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn.functional import interpolate

from vtc.core.tokens import Layout, VisualTokens
from vtc.encoder import Blocks

from . import cues as signals
from .base import Adapter, Media
from .cues import InputRecorder, first_argument, recording
from .qwen_vl import PIXELS, rotated

PLACES = {"image": "image_position_ids", "video": "video_position_ids"}
FRAMES = "num_frames_per_video"

Grid = tuple[int, int]
"""Height and width in tokens."""
Cues = dict[str, Tensor]


class Gemma4(Adapter):
    """Gemma 4. A token is the mean of 3 x 3 patches of the tower's output, projected; there is no CLS.

    An image comes as patches with the places (x, y) of each, filled up with patches at (-1, -1) to the number that
    the processor's `max_soft_tokens` allows. The grid is read from the places; what fills up is no token. A frame of a
    video is encoded as an image is, and is a unit; frames stand apart in the prompt, each behind its timestamp.

    The tower turns queries and keys by their places and looks at all patches of a frame. The attention cue is the
    attention received in its last layer, averaged over a token's patches.

    Tokens of an image see each other in layers with a sliding window, where the config says so
    (`use_bidirectional_attention`): the model knows them by `mm_token_type_ids`, which are shortened as the ids are.
    """

    classes: ClassVar[tuple[str, ...]] = ("Gemma4ForConditionalGeneration",)
    media_arguments: tuple[str, ...] = (*PIXELS.values(), *PLACES.values(), FRAMES)
    resizable = True
    videos = True
    types_of_all = True

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        if self.model.config.vision_config is None:
            raise ValueError(
                f"vision_config=None: this {type(model).__name__} takes no images, and there is nothing to leave out; "
                "load a checkpoint with a vision tower"
            )

    @property
    def placeholders(self) -> dict[str, int]:
        """See `Adapter.placeholders`."""
        return {"image": int(self.model.config.image_token_id), "video": int(self.model.config.video_token_id)}

    @property
    def _side(self) -> int:
        """Patches along a side of a token."""
        return int(self.model.config.vision_config.pooling_kernel_size)

    @property
    def _patch(self) -> int:
        """Pixels along a side of a patch."""
        return int(self.model.config.vision_config.patch_size)

    def blocks(self, stage: str, *, spread: bool) -> Blocks:
        """See `Adapter.blocks`."""
        raise ValueError(
            f"stage {stage!r} folds tokens inside the vision tower, and that of {type(self.model).__name__} turns keys "
            f"by their places and pools whole blocks of {self._side} x {self._side} patches: no patch may be missing; "
            "use a selector such as 'kcenter'"
        )

    def media(self, inputs: Mapping[str, Any]) -> list[Media]:
        """See `Adapter.media`.

        Pixels are `[images or frames, patches, values]`, places `[images or frames, patches, 2]`; videos of
        transformers 5.18 have an axis of videos in front.
        """
        return [item for modality in PIXELS for item in self._items(inputs, modality)]

    def _items(self, inputs: Mapping[str, Any], modality: str) -> Iterator[Media]:
        pixels, places = inputs.get(PIXELS[modality]), inputs.get(PLACES[modality])
        if pixels is None:
            return
        if places is None:
            raise ValueError(f"{PLACES[modality]} is missing; pass all that the processor returned")
        self._check(modality, pixels, places)
        numbers = [1] * len(pixels) if modality == "image" else self._frame_numbers(inputs, pixels)
        if pixels.ndim == 4:
            pixels, places = pixels.flatten(0, 1), places.flatten(0, 1)
        grids = [self._grid(modality, i, own) for i, own in enumerate(places.cpu())]
        ends = list(accumulate(numbers))
        for start, end in zip([0, *ends], ends, strict=False):
            own = {"pixel_values": pixels[start:end], "position_ids": places[start:end]}
            yield Media(modality, self._layout(modality, grids[start:end]), own)

    def _check(self, modality: str, pixels: Any, places: Any) -> None:
        """Raise where pixels and places are not of one processor call."""
        axes = (3,) if modality == "image" else (3, 4)
        for name, value in ((PIXELS[modality], pixels), (PLACES[modality], places)):
            if not isinstance(value, Tensor) or value.ndim not in axes:
                shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(
                    f"{name} is {shape}; expected a tensor [{modality}s, patches, values]: pass what the processor of "
                    f"{type(self.model).__name__} returned"
                )
        if places.shape != (*pixels.shape[:-1], 2):
            raise ValueError(
                f"{PIXELS[modality]} holds {tuple(pixels.shape[:-1])} patches, {PLACES[modality]} is "
                f"{tuple(places.shape)}; expected the two coordinates of each: pass both of one processor call"
            )

    def _frame_numbers(self, inputs: Mapping[str, Any], pixels: Tensor) -> list[int]:
        """How many frames each video has."""
        if pixels.ndim == 4:
            return [pixels.shape[1]] * len(pixels)
        given = inputs.get(FRAMES)
        if given is None:
            raise ValueError(
                f"{FRAMES} is missing; the frames of all videos come as one row: pass all that the processor returned"
            )
        numbers: list[int] = torch.as_tensor(given).flatten().tolist()
        if sum(numbers) != len(pixels):
            raise ValueError(
                f"{FRAMES}={numbers} counts {sum(numbers)} frames, but pixel_values_videos holds {len(pixels)}; pass "
                "both of one processor call"
            )
        return numbers

    def _grid(self, modality: str, number: int, places: Tensor) -> Grid:
        """The grid of tokens that patches at `places` `[patches, 2]` make."""
        side = self._side
        real = places[(places != -1).all(dim=-1)]
        width, height = (real.max(dim=0).values + 1).tolist() if len(real) else (0, 0)
        whole = self._filled(height, width, len(places)) if height * width == len(real) > 0 else None
        if whole is None or not torch.equal(whole, places.long()) or height % side or width % side:
            raise ValueError(
                f"{PLACES[modality]}: entry {number} has {len(real)} patches up to (x, y) = {(width - 1, height - 1)}; "
                f"expected those of a whole grid in rows, {side} or a multiple of it each way, and (-1, -1) behind "
                "them: pass what the processor returned"
            )
        return height // side, width // side

    @staticmethod
    def _filled(height: int, width: int, patches: int) -> Tensor:
        """The places of a grid `height x width` of patches, filled up: `[patches, 2]`."""
        places = torch.full((max(patches, height * width), 2), -1)
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        places[: height * width] = torch.stack([columns, rows], dim=-1).flatten(0, 1)
        return places

    def _layout(self, modality: str, grids: Sequence[Grid]) -> Layout:
        kind = "image" if modality == "image" else "frame"
        return Layout.join([Layout.of_grid(*grid, kind=kind) for grid in grids])

    def encode(self, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
        """See `Adapter.encode`. Images and frames that are filled up to one length go through the tower together."""
        frames = [frame for item in media for frame in _frames_of(item)]
        lengths = [len(pixels) for pixels, _, _ in frames]
        found: dict[int, tuple[Tensor, Cues]] = {}
        for length in dict.fromkeys(lengths):
            same = [i for i, other in enumerate(lengths) if other == length]
            found.update(zip(same, self._encode([frames[i] for i in same], cues), strict=True))
        waiting = iter([found[i] for i in range(len(frames))])
        return [_joined([next(waiting) for _ in item.layout.grids], item.layout) for item in media]

    def _encode(self, frames: Sequence[tuple[Tensor, Tensor, Grid]], cues: Sequence[str]) -> list[tuple[Tensor, Cues]]:
        """Features and cues of each of some images or frames of one length."""
        pixels, places = torch.stack([frame[0] for frame in frames]), torch.stack([frame[1] for frame in frames])
        with recording() as recorded:
            rows = self.model.base_model.get_image_features(pixels, places, return_dict=True).pooler_output
        grids = [grid for _, _, grid in frames]
        values = {cue: self._cue(cue, recorded, grids) for cue in cues}
        return [(row, {cue: value[i] for cue, value in values.items()}) for i, row in enumerate(rows)]

    def _cue(self, name: str, recorded: Mapping[str, Any], grids: Sequence[Grid]) -> list[Tensor]:
        """The cue of each image or frame of one pass, `[tokens, ...]`."""
        if name == "encoder_features":
            return list(first_argument(recorded["projector"]).split([h * w for h, w in grids]))
        early = name == "early_attention"
        call, attention = recorded["early" if early else "attention"], self._attention(early)
        with torch.no_grad():
            queries, keys = (self._projected(attention, first_argument(call), which) for which in "qk")
        angles = call[1]["position_embeddings"]
        found = []
        for i, (height, width) in enumerate(grids):
            real = height * width * self._side**2
            own = (part[i : i + 1, :real] for part in (queries, keys, *angles))
            values = keys[i, :real].flatten(1) if name == "keys" else self._attended(name, attention, *own)
            found.append(_pooled(values, height, width, self._side))
        return found

    @staticmethod
    def _projected(attention: Any, hidden: Tensor, which: str) -> Tensor:
        """Queries or keys before they are turned, `[frames, patches, heads, dim]`."""
        rows = getattr(attention, f"{which}_proj")(hidden).unflatten(-1, (-1, attention.head_dim))
        normed: Tensor = getattr(attention, f"{which}_norm")(rows)
        return normed

    @staticmethod
    def _attended(name: str, attention: Any, queries: Tensor, keys: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """The attention cue of one frame's patches, `[patches]`; queries and keys are `[1, patches, heads, dim]`."""
        angles = cos[0].float(), sin[0].float()
        queries, keys = (_turned(rows.transpose(1, 2).float(), *angles) for rows in (queries, keys))
        keys = keys.repeat_interleave(attention.num_key_value_groups, dim=1)
        return signals.attention_values(name, queries, keys, float(attention.scaling), has_cls=False)[0]

    def _attention(self, early: bool) -> Any:
        layers = self.model.base_model.vision_tower.encoder.layers
        return layers[(len(layers) - 1) // 2 if early else -1].self_attn

    def input_recorders(self, cues: Sequence[str]) -> list[tuple[nn.Module, InputRecorder]]:
        """See `Adapter.input_recorders`."""
        return signals.input_recorders(
            cues, self._attention, (self.model.base_model.embed_vision, "projector"), has_cls=False
        )

    def resized(self, media: Media, height: int, width: int) -> Media:
        """See `Adapter.resized`. What fills up an image is left out: it costs the tower time."""
        pixels, places = media.inputs["pixel_values"], media.inputs["position_ids"]
        size = (height * self._side, width * self._side)
        shape = [side * self._patch for side in size]
        small = interpolate(self._images(media).float(), size=shape, mode="bicubic", antialias=True)
        patches = rearrange(small, "t c (h p) (w q) -> t (h w) (p q c)", p=self._patch, q=self._patch)
        own = self._filled(*size, patches.shape[1]).to(places).expand(len(patches), -1, -1)
        layout = self._layout(media.modality, [(height, width)] * len(patches))
        return Media(media.modality, layout, {"pixel_values": patches.to(pixels.dtype), "position_ids": own})

    def frames(self, media: Media) -> Tensor:
        """See `Adapter.frames`."""
        return self._images(media)[:, None]

    def with_frames(self, media: Media, chosen: Tensor) -> Media:
        """See `Adapter.with_frames`. Each frame is encoded on its own."""
        own = {name: value[chosen.to(value.device)] for name, value in media.inputs.items()}
        grids = [media.layout.grids[i][1:] for i in chosen.tolist()]
        return Media(media.modality, self._layout(media.modality, grids), own)

    def pixels(self, media: Media) -> Tensor:
        """The item's first frame as the encoder sees it, `[3, H, W]` values."""
        return self._images(media)[0]

    def _images(self, media: Media) -> Tensor:
        """Patches back as images, `[frames, 3, H, W]`: all frames of an item have one size."""
        _, height, width = media.layout.grids[0]
        h, w = height * self._side, width * self._side
        patches = media.inputs["pixel_values"][:, : h * w]
        return rearrange(patches, "t (h w) (p q c) -> t c (h p) (w q)", h=h, w=w, p=self._patch, q=self._patch)


class Gemma4Unified(Gemma4):
    """Gemma 4 without an encoder: a token is a patch of 48 x 48 pixels, projected at its place.

    Nothing looks at anything before the language model, so that there is no attention to tell what matters, nor keys.
    """

    classes = ("Gemma4UnifiedForConditionalGeneration",)

    @property
    def _side(self) -> int:
        return 1

    @property
    def _patch(self) -> int:
        return int(self.model.config.vision_config.model_patch_size)

    def blocks(self, stage: str, *, spread: bool) -> Blocks:
        """See `Adapter.blocks`."""
        raise ValueError(
            f"stage {stage!r} folds tokens inside the vision tower, and {type(self.model).__name__} has none; use a "
            "selector such as 'kcenter'"
        )

    def _cue(self, name: str, recorded: Mapping[str, Any], grids: Sequence[Grid]) -> list[Tensor]:
        rows = first_argument(recorded["projector"])
        return [rows[i, : height * width] for i, (height, width) in enumerate(grids)]

    def input_recorders(self, cues: Sequence[str]) -> list[tuple[nn.Module, InputRecorder]]:
        """See `Adapter.input_recorders`."""
        looking = [cue for cue in cues if cue != "encoder_features"]
        if looking:
            raise ValueError(
                f"cue {looking[0]!r}: {type(self.model).__name__} has no vision tower whose attention or keys could be "
                "read; use a recipe without such cues, such as 'kcenter'"
            )
        inner = self.model.base_model.embed_vision.multimodal_embedder
        return [(inner, InputRecorder("projector")) for _ in cues[:1]]


def _frames_of(media: Media) -> Iterator[tuple[Tensor, Tensor, Grid]]:
    """Pixels, places and grid of an image or of each frame of a video."""
    parts = (media.inputs["pixel_values"], media.inputs["position_ids"], media.layout.grids)
    for pixels, places, (_, height, width) in zip(*parts, strict=True):
        yield pixels, places, (height, width)


def _joined(parts: Sequence[tuple[Tensor, Cues]], layout: Layout) -> VisualTokens:
    """The tokens of an item from its frames' features and cues."""
    names = parts[0][1]
    cues = {name: torch.cat([own[name] for _, own in parts]) for name in names}
    return VisualTokens(torch.cat([rows for rows, _ in parts]), layout, cues)


def _pooled(values: Tensor, height: int, width: int, side: int) -> Tensor:
    """The means of `[patches, ...]` over each token's own, `[tokens, ...]` fp32."""
    return reduce(values.float(), "(h a w b) ... -> (h w) ...", "mean", h=height, w=width, a=side, b=side)


def _turned(rows: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`[B, heads, N, dim]` turned by the angles `[N, dim]` of two axes, each of which has half of the dimensions."""
    parts = (part.chunk(2, dim=-1) for part in (rows, cos, sin))
    return torch.cat([rotated(*part) for part in zip(*parts, strict=True)], dim=-1)
