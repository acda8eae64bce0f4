"""Any other class with the `mm_encoder_outputs` seam: what can be done without knowing the family."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vtc.core.tokens import Embedded, Layout, VisualTokens
from vtc.encoder import Blocks

from .base import Adapter, Media
from .cues import InputRecorder
from .decoders import decoder_of
from .placeholders import arranged, partition
from .qwen3_vl import Qwen3VL
from .vit_blocks import blocks_of

SEAM = "mm_encoder_outputs"
GRID = "image_grid_thw"
USUAL = frozenset(field.name for field in fields(BaseModelOutputWithPooling))
"""What an encoder may answer besides its features and go without in `mm_encoder_outputs`."""
UNREAD = ("last_hidden_state", "hidden_states", "attentions", "image_tokens", "embedding_loss")
"""Ends of the names of what encoders answer besides, of further towers and of codebooks, and no model reads."""
OWN = "an adapter of its own (about 100 lines, see CONTRIBUTING.md)"


def missing(model: Any) -> str | None:
    """Return what `model` lacks for the adapters of this file; None if nothing."""
    if not callable(getattr(model, "generate", None)) or not hasattr(model, "base_model"):
        return "it has no `generate`"
    if list(_arguments(type(model).generate))[:2] != ["inputs", "generation_config"]:
        return "its `generate` is not that of transformers"
    if not any(SEAM in _arguments(part.forward) for part in (model, model.base_model)):
        return f"its forward takes no `{SEAM}`"
    if _encoder(model, "image") is None:
        return "it has no `get_image_features`"
    if _image_token(model) is None:
        return "its config has no `image_token_id`"
    if getattr(model.config, "is_encoder_decoder", False):
        return "its language model is an encoder with a decoder"
    if not hasattr(decoder_of(model), "layers"):
        return "its decoder has no `layers`"
    if not {"pixel_values", "kwargs"} & set(inspect.signature(model.forward).parameters):
        return "its forward takes no `pixel_values`"
    if GRID not in _arguments(_encoder(model, "image")):
        return None
    needed = [name for name in _needed(_encoder(model, "image")) if name not in ("pixel_values", GRID)]
    if needed:
        return f"its `get_image_features` needs {', '.join(needed)}"
    if _merge_size(model) is None:
        return "its vision_config has no `spatial_merge_size`, `merge_size` or `merge_kernel_size`"
    return None


class Generic(Adapter):
    """Images that are the entries of `pixel_values`, each encoded on its own.

    Nothing is known of the family, and so an item is one entry: where a processor cuts an image into tiles, each tile
    is an item, and `keep` is a share of each. The encoder gives no cues. Videos are refused.

    Tensors are `[images, 3, H, W]`, cropped to `image_sizes` where the encoder takes these, or
    `[rows, images, 3, H, W]`, filled up with images of zeros. All tensors that the encoder takes besides are cut
    along. Which placeholders are whose is read from the prompt, see `placeholders.partition`.
    """

    classes: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def serves(cls, model: Any) -> bool:
        """See `Adapter.serves`."""
        return super().serves(model) if cls.classes else missing(model) is None

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.media_arguments = media_arguments(model)
        self.axes = 3 if hasattr(self.model.base_model, "get_rope_index") else 1
        # Whether the class's pooled features are a list. A fact of the class, though only a first answer shows it.
        self._listed = True

    @property
    def doubt(self) -> str:
        """See `Adapter.doubt`."""
        return _doubt(self.model)

    @property
    def placeholders(self) -> dict[str, int]:
        """See `Adapter.placeholders`."""
        token = _image_token(self.model)
        assert token is not None
        return {"image": token}

    def media(self, inputs: Mapping[str, Any]) -> list[Media]:
        """See `Adapter.media`."""
        self._refuse(inputs)
        if inputs.get("pixel_values") is None:
            return []
        ids = inputs.get("input_ids")
        if not isinstance(ids, Tensor):
            raise ValueError(f"input_ids={ids!r}: the prompt tells images apart; pass all that the processor returned")
        entries = self._entries(inputs)
        sizes = [(entry["pixel_values"].shape[-2], entry["pixel_values"].shape[-1]) for entry in entries]
        lines = partition(ids, self.placeholders["image"], sizes)
        return [
            Media("image", arranged(own, *size), entry) for own, size, entry in zip(lines, sizes, entries, strict=True)
        ]

    def _refuse(self, inputs: Mapping[str, Any]) -> None:
        """Raise where `inputs` hold media that `_entries` would pass by."""
        name = type(self.model).__name__
        taken = _arguments(_encoder(self.model, "image"))
        for argument in self.media_arguments:
            value = inputs.get(argument)
            if value is None or argument == "pixel_values":
                continue
            if argument not in taken:
                raise ValueError(
                    f"{argument}: the generic adapter takes images as pixel_values and no videos; give frames as "
                    f"images, or {name} needs {OWN}"
                )
            known = (getattr(self.model.config, argument, None), taken[argument].default)
            if not isinstance(value, Tensor | np.ndarray | list | tuple) and value not in known:
                raise ValueError(
                    f"{argument}={value!r} differs from the model's; set it in model.config instead, or leave it out"
                )

    def _entries(self, inputs: Mapping[str, Any]) -> list[dict[str, Tensor]]:
        """The encoder's tensors for each image; one of five axes keeps the axis of images, of length 1."""
        pixels = inputs["pixel_values"]
        if not isinstance(pixels, Tensor) or pixels.ndim not in (4, 5):
            shape = tuple(pixels.shape) if isinstance(pixels, Tensor) else type(pixels).__name__
            raise ValueError(
                f"pixel_values is {shape}; expected a tensor [images, channels, height, width] or [rows, images, "
                f"channels, height, width]; for any other, {type(self.model).__name__} needs {OWN}"
            )
        lead = pixels.shape[: pixels.ndim - 3]
        values = dict(self._tensors(inputs))
        for name, value in values.items():
            if value.shape[: len(lead)] != lead or (name == "image_sizes" and value.shape != (*lead, 2)):
                raise ValueError(
                    f"pixel_values holds {' x '.join(map(str, lead))} images, {name} is {tuple(value.shape)}; "
                    f"expected one entry for each image{self.doubt}"
                )
        if len(lead) == 2:
            values = {name: value.flatten(0, 1)[:, None] for name, value in values.items()}
            # The stock models drop images of zeros, though never all.
            real = values["pixel_values"].flatten(1).any(dim=1)
            real[0] |= ~real.any()
            values = {name: value[real.to(value.device)] for name, value in values.items()}
        return [
            self._cropped({name: value[i] for name, value in values.items()})
            for i in range(len(values["pixel_values"]))
        ]

    def _cropped(self, entry: dict[str, Tensor]) -> dict[str, Tensor]:
        """The entry without the padding that unlike neighbours brought it."""
        if "image_sizes" in entry:
            height, width = entry["image_sizes"].tolist()
            entry["pixel_values"] = entry["pixel_values"][..., :height, :width]
        return entry

    def _tensors(self, inputs: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
        """Return the arguments of `inputs` that the encoder takes."""
        encoder = _encoder(self.model, "image")
        for name in _needed(encoder):
            if inputs.get(name) is None:
                raise ValueError(f"{name} is missing; pass all that the processor returned")
        for name in _arguments(encoder):
            value = inputs.get(name)
            if isinstance(value, np.ndarray) or (
                isinstance(value, list | tuple) and getattr(self.model.config, name, None) != value
            ):
                value = torch.as_tensor(value)
            if isinstance(value, Tensor):
                yield name, value

    def encode(self, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
        """See `Adapter.encode`. Images of one shape go through the encoder together."""
        found: dict[int, VisualTokens] = {}
        shapes = [sorted((name, tuple(value.shape)) for name, value in item.inputs.items()) for item in media]
        for i, shape in enumerate(shapes):
            if i not in found:
                group = [j for j, other in enumerate(shapes) if other == shape]
                found.update(zip(group, self._encode([media[j] for j in group]), strict=True))
        return [found[i] for i in range(len(media))]

    def _encode(self, media: Sequence[Media]) -> list[VisualTokens]:
        if len(media) == 1 and len(media[0].layout) == 1:
            # Mistral 3 squeezes the axis of a lone token away, so it is given a twin.
            return self._encode([media[0], media[0]])[:1]
        inputs = {name: torch.stack([item.inputs[name] for item in media]) for name in media[0].inputs}
        output = _encoder(self.model, "image")(**inputs, return_dict=True)
        pooled = _pooled(output, type(self.model).__name__)
        self.note_container(pooled)
        parts = [part.reshape(-1, part.shape[-1]) for part in pooled]
        if len(parts) != len(media):
            rows = torch.cat(parts)
            parts = list(rows.split(max(len(rows) // len(media), 1)))
        self._check_counts(media, parts)
        return [VisualTokens(part, item.layout) for part, item in zip(parts, media, strict=True)]

    def _check_counts(self, media: Sequence[Media], parts: Sequence[Tensor]) -> None:
        """Raise where the encoder gives other numbers of tokens than the prompt has places for."""
        for item, part in zip(media, parts, strict=False):
            if len(part) != len(item.layout) or len(parts) != len(media):
                shape = tuple(item.inputs["pixel_values"].shape[-2:])
                raise ValueError(
                    f"an image of {shape} pixels is encoded to {len(part)} tokens, but input_ids hold "
                    f"{len(item.layout)} placeholders (id {self.placeholders['image']}) for it{self.doubt}"
                )

    def note_container(self, pooled: Any) -> None:
        """See `Adapter.note_container`."""
        self._listed = not isinstance(pooled, Tensor)

    def pack_like(self, other: Adapter) -> None:
        """See `Adapter.pack_like`."""
        assert isinstance(other, Generic), "one model has adapters of one class"
        self._listed = other._listed

    def output(self, modality: str, items: Sequence[Embedded]) -> BaseModelOutputWithPooling:
        """See `Adapter.output`.

        The container is the one that the class's encoder gave: models that concatenate take a list only, the others a
        tensor only, and of a tensor they look at the rows alone. transformers itself keeps the same rule where it cuts
        features for a prefill in chunks.
        """
        if self._listed:
            return super().output(modality, items)
        # Blocks of one token: SmolVLM of transformers 5.18 shares the blocks among the rows.
        return BaseModelOutputWithPooling(pooler_output=torch.cat([item.features for item in items])[:, None])

    def input_recorders(self, cues: Sequence[str]) -> list[tuple[nn.Module, InputRecorder]]:
        """See `Adapter.input_recorders`."""
        return _no_recorders(self.model, cues)

    def blocks(self, stage: str, *, spread: bool) -> Blocks:
        """See `Adapter.blocks`. What the model makes of its tower's output is not known: it must get all of it."""
        tower = getattr(self.model.base_model, "vision_tower", None)
        if tower is None or getattr(self.model.config, "vision_feature_layer", -1) != -1:
            return super().blocks(stage, spread=spread)
        found = blocks_of(tower)
        if not spread:
            raise ValueError(
                f"stage {stage!r} would change how many tokens the tower of {type(self.model).__name__} gives, and the "
                "generic adapter does not know what is made of them; have it spread, with a share of its own: "
                "Recipe((ToMe(share=0.5, spread=True), KCenter()))"
            )
        return found


class GenericGrid(Qwen3VL):
    """Images and videos that come as patches, with their grids (t, h, w) beside them, as Qwen-VL's do.

    Recognised by an encoder that takes `image_grid_thw`. The encoder gives no cues.
    """

    classes: ClassVar[tuple[str, ...]] = ()
    resizable = False
    videos = False

    @classmethod
    def serves(cls, model: Any) -> bool:
        """See `Adapter.serves`."""
        if cls.classes:
            return super().serves(model)
        return missing(model) is None and GRID in _arguments(_encoder(model, "image"))

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.media_arguments = media_arguments(model)
        self.axes = 3 if hasattr(self.model.base_model, "get_rope_index") else 1

        self._merges = _merge_size(model)

    @property
    def _merge(self) -> int:
        assert self._merges is not None
        return self._merges

    @property
    def doubt(self) -> str:
        """See `Adapter.doubt`."""
        return _doubt(self.model)

    @property
    def placeholders(self) -> dict[str, int]:
        """See `Adapter.placeholders`. Videos only where they have a placeholder and an encoder."""
        image, video = _image_token(self.model), _token(self.model, "video")
        assert image is not None
        if video is None or video == image or _encoder(self.model, "video") is None:
            return {"image": image}
        return {"image": image, "video": video}

    def _layout(self, modality: str, frames: int, height: int, width: int) -> Layout:
        vision = self.model.config.vision_config
        if hasattr(vision, "merge_kernel_size"):  # Kimi averages an item over its frames
            frames = 1
        elif modality == "video":  # ERNIE merges neighbouring frames
            frames //= int(getattr(vision, "temporal_merge_size", None) or 1)
        return super()._layout(modality, frames, height, width)

    def media(self, inputs: Mapping[str, Any]) -> list[Media]:
        """See `Adapter.media`."""
        if inputs.get("pixel_values_videos") is not None and "video" not in self.placeholders:
            raise ValueError(
                f"pixel_values_videos: the generic adapter cannot tell videos of {type(self.model).__name__} from "
                f"images; give frames as images, or it needs {OWN}"
            )
        return super().media(inputs)

    def _encode(self, media: Sequence[Media], modality: str, cues: Sequence[str]) -> list[VisualTokens]:
        pixels = torch.cat([item.inputs["pixel_values"] for item in media])
        grids = torch.stack([item.inputs["grid_thw"] for item in media])
        output = _encoder(self.model, modality)(pixels, grids, return_dict=True)
        name, counts = type(self.model).__name__, [len(item.layout) for item in media]
        rows, *planes = (
            torch.cat([part.reshape(-1, part.shape[-1]) for part in parts])
            for parts in (_pooled(output, name, "deepstack_features"), *(_planes(output)))
        )
        if len(rows) != sum(counts):
            raise ValueError(
                f"grids {grids.tolist()} are encoded to {len(rows)} tokens, expected {sum(counts)}; {name} needs {OWN}"
            )
        split = [plane.split(counts) for plane in planes]
        return [
            VisualTokens(row, item.layout, planes=tuple(plane[i] for plane in split))
            for i, (row, item) in enumerate(zip(rows.split(counts), media, strict=True))
        ]

    def output(self, modality: str, items: Sequence[Embedded]) -> BaseModelOutputWithPooling:
        """See `Adapter.output`."""
        return super().output(modality, items) if items[0].planes else Adapter.output(self, modality, items)

    def input_recorders(self, cues: Sequence[str]) -> list[tuple[nn.Module, InputRecorder]]:
        """See `Adapter.input_recorders`."""
        return _no_recorders(self.model, cues)


def _merge_size(model: Any) -> int | None:
    """Return how many patches along a side make a token; None where the config does not say so."""
    vision = model.config.vision_config
    for name in ("spatial_merge_size", "merge_size", "merge_kernel_size"):
        value = getattr(vision, name, None)
        if isinstance(value, list | tuple) and len(set(value)) == 1:
            value = value[0]
        if isinstance(value, int):
            return value
    return None


def media_arguments(model: Any) -> tuple[str, ...]:
    """Arguments of `model` that its encoders take, and those of its `forward` that carry pixels or videos."""
    encoders = [encoder for kind in ("image", "video") if (encoder := _encoder(model, kind)) is not None]
    taken = [name for encoder in encoders for name in _arguments(encoder)]
    marks = ("pixel_values", "video", "per_grid")
    taken += [name for name in _arguments(model.forward) if any(mark in name for mark in marks)]
    return tuple(dict.fromkeys(taken))


def _arguments(function: Any) -> dict[str, inspect.Parameter]:
    """The named parameters of a function."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {n: p for n, p in inspect.signature(function).parameters.items() if p.kind in named and n != "self"}


def _needed(function: Any) -> list[str]:
    return [name for name, p in _arguments(function).items() if p.default is inspect.Parameter.empty]


def _encoder(model: Any, modality: str) -> Any:
    """`get_*_features` of the base model, whose parameters are named, or else of the model itself."""
    name = f"get_{modality}_features"
    return getattr(model.base_model, name, None) or getattr(model, name, None)


def _doubt(model: Any) -> str:
    return f"; either they are not of one processor call, or {type(model).__name__} needs {OWN}"


def _token(model: Any, modality: str) -> int | None:
    found = (getattr(model.config, f"{modality}_token_{word}", None) for word in ("id", "index"))
    return next((token for token in found if isinstance(token, int)), None)


def _image_token(model: Any) -> int | None:
    return _token(model, "image")


def _no_recorders(model: Any, cues: Sequence[str]) -> list[tuple[nn.Module, InputRecorder]]:
    if cues:
        raise ValueError(
            f"cue {cues[0]!r}: the generic adapter knows nothing of the encoder of {type(model).__name__}; use a "
            f"recipe without cues, such as 'kcenter', or the model needs {OWN}"
        )
    return []


def _pooled(output: Any, name: str, *more: str) -> Any:
    """The features of an encoder's answer, if they are all that the model needs of it."""
    pooled = getattr(output, "pooler_output", None)
    if pooled is None:
        raise ValueError(f"get_image_features of {name} answers no `pooler_output`; it needs {OWN}")
    known = (*USUAL, *more)
    besides = sorted(k for k, v in output.items() if v is not None and k not in known and not k.endswith(UNREAD))
    if besides:
        raise ValueError(f"get_image_features of {name} answers {', '.join(besides)} beside features; it needs {OWN}")
    return pooled


def _planes(output: Any) -> Sequence[Any]:
    return getattr(output, "deepstack_features", None) or ()
