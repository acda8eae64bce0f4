"""Base class of adapters: all that `vtc` knows about a model family."""

from __future__ import annotations

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vtc.core.flops import DecoderCost
from vtc.core.tokens import Embedded, Layout, VisualTokens
from vtc.encoder import Blocks

from .cues import InputRecorder
from .decoders import CACHE_NAMES, decoder_of


@dataclass(frozen=True)
class Media:
    """One item (image or video) of a request, before its encoder runs.

    Attributes:
        modality: `image` or `video`.
        layout: the tokens that the stock model would pass on.
        inputs: this item's part of the model's inputs, by argument name.
        parts: where images are the frames of one video: those images, in order; `inputs` is then empty.
        encoded: its tokens, where another model has encoded it already; None where this one will.
    """

    modality: str
    layout: Layout
    inputs: Mapping[str, Tensor]
    parts: tuple[Media, ...] = ()
    encoded: VisualTokens | None = None

    @classmethod
    def video(cls, frames: Sequence[Media]) -> Media:
        """Images as the frames of one video.

        Raises:
            ValueError: an image of several units, such as tiles.
        """
        for i, frame in enumerate(frames):
            if len(frame.layout.grids) != 1:
                raise ValueError(
                    f"image {i} comes as {len(frame.layout.grids)} units ({', '.join(frame.layout.kinds)}), and with "
                    "images_as='frames' each image is one frame: have the processor cut no tiles, or use "
                    "images_as='items'"
                )
        layout = Layout.join([frame.layout for frame in frames])
        kinds = ("frame",) * len(frames)
        return cls(frames[0].modality, replace(layout, kinds=kinds), {}, tuple(frames))

    @property
    def key(self) -> int:
        """A number made from the item's pixels; equal pixels give equal numbers, whatever their dtype and batch."""
        digest = hashlib.blake2b(digest_size=6)
        for part in self.parts:
            digest.update(part.key.to_bytes(6, "big"))
        for name in sorted(self.inputs):
            digest.update(self.inputs[name].detach().float().cpu().contiguous().numpy().tobytes())
        return int.from_bytes(digest.digest(), "big")


class Adapter(ABC):
    """All that `vtc` knows about one model family. It acts on one model and keeps no state between calls."""

    classes: ClassVar[tuple[str, ...]]
    """Names of the transformers classes it serves."""
    media_arguments: tuple[str, ...]
    """Arguments of the model that describe media and are consumed by `encode`."""
    thumbnails: ClassVar[bool] = False
    """Whether images come as tiles beside a thumbnail of the whole."""
    resizable: ClassVar[bool] = False
    """Whether `resized` works, so that a stage can change the size that is encoded."""
    videos: ClassVar[bool] = False
    """Whether it takes videos of which `with_frames` can leave frames out."""
    axes: int = 1
    """Axes of the position ids: 1, or 3 (t, h, w) with M-RoPE."""
    token_arguments: ClassVar[Mapping[str, int]] = {
        "token_type_ids": 0,
        "mm_token_type_ids": 0,
        "moe_mm_token_type_ids": 0,
        "labels": -100,
    }
    """Arguments with one integer per token of the prompt, and what stands in them for padding and for later text."""
    types_of_all: bool = False
    """Whether token types are read by column of all that was seen, so that those in a cache must be among them."""

    @classmethod
    def serves(cls, model: Any) -> bool:
        """Return whether this family's adapter fits `model`: by its class or one that it inherits from."""
        return any(base.__name__ in cls.classes for base in type(model).__mro__)

    def __init__(self, model: nn.Module) -> None:
        self.model: Any = model

    @property
    def decoder(self) -> Any:
        """The language model's module with the layers."""
        return decoder_of(self.model)

    @property
    def doubt(self) -> str:
        """Hint added to an error about ids and pixels that do not fit, where the fault may lie with the adapter."""
        return "; pass ids and pixels of one processor call"

    @property
    def audio_arguments(self) -> tuple[str, ...]:
        """Arguments that the model's audio encoder takes, which may be as long as the prompt by chance."""
        encode = getattr(self.model.base_model, "get_audio_features", None)
        return tuple(inspect.signature(encode).parameters) if callable(encode) else ()

    @property
    def filler(self) -> int:
        """An id for padded slots: never a placeholder."""
        pad = getattr(self.model.config.get_text_config(), "pad_token_id", None)
        taken = set(self.placeholders.values())
        return next(i for i in (pad, 0, 1, 2, 3) if isinstance(i, int) and i >= 0 and i not in taken)

    def has_media(self, inputs: Mapping[str, Any]) -> bool:
        """Return whether `inputs` hold pixels. Other media arguments stay with `generate` for all of its steps."""
        return any(inputs.get(name) is not None for name in self.media_arguments if name.startswith("pixel_values"))

    @property
    @abstractmethod
    def placeholders(self) -> dict[str, int]:
        """The placeholder id of each modality in the prompt."""

    @abstractmethod
    def media(self, inputs: Mapping[str, Any]) -> list[Media]:
        """The items of a request, images before videos, each in prompt order.

        Args:
            inputs: the model's keyword arguments; `input_ids` and `attention_mask` hold no columns that a cache does.

        Raises:
            ValueError: media that this family cannot take.
        """

    @abstractmethod
    def encode(self, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
        """Encode the items with the model's own `get_*_features`, once, and the asked cues beside them."""

    def resized(self, media: Media, height: int, width: int) -> Media:
        """The item with its pixels scaled so that each frame encodes to `height x width` tokens; see `resizable`."""
        raise NotImplementedError

    def pixels(self, media: Media) -> Tensor:
        """The first image that the encoder sees of the item, `[3, H, W]` normalised values.

        Raises:
            ValueError: the family's pixels are no images (patches, say).
        """
        pixels = media.inputs["pixel_values"]
        if pixels.ndim < 3:
            raise ValueError(
                f"pixel_values {tuple(pixels.shape)} of {type(self.model).__name__} are no images that could be "
                "compared; use a recipe that leaves no frames out, such as 'kcenter'"
            )
        return pixels.reshape(-1, *pixels.shape[-3:])[0]

    def frames(self, media: Media) -> Tensor:
        """Pixels of a video as the encoder sees them, `[T, F, 3, H, W]`: T units of F frames each; see `videos`."""
        raise NotImplementedError

    def with_frames(self, media: Media, chosen: Tensor) -> Media:
        """A video with the units `chosen` `[k]` alone. The encoder gives their tokens as if all were there."""
        raise NotImplementedError

    @abstractmethod
    def input_recorders(self, cues: Sequence[str]) -> list[tuple[nn.Module, InputRecorder]]:
        """The modules to listen to, so that `cues` can be computed.

        Raises:
            ValueError: this model cannot give a cue.
        """

    def listen(self, cues: Sequence[str]) -> list[RemovableHandle]:
        """Install the input recorders for `cues`; they do nothing outside of `encode`."""
        return [module.register_forward_pre_hook(tap, with_kwargs=True) for module, tap in self.input_recorders(cues)]

    def blocks(self, stage: str, *, spread: bool) -> Blocks:
        """The blocks of the vision tower, up to the one whose output is the feature, for an encoder stage.

        Args:
            stage: its label, for errors.
            spread: whether it gives survivors back to all their cells at the tower's end.

        Raises:
            ValueError: tokens cannot be folded in this tower, or the count behind it cannot change.
        """
        raise ValueError(
            f"stage {stage!r} folds tokens inside the vision tower, and how that of {type(self.model).__name__} is "
            "built is not known; use a selector such as 'kcenter'"
        )

    def positions(self, ids: Tensor, mask: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Position ids of the unreduced prompt, `[B, L]` or `[axes, B, L]`, as the stock `generate` makes them.

        Args:
            ids, mask: `[B, L]` prompt ids and attention mask.
            inputs: the model's other arguments.
        """
        known = {name: inputs[name] for name in inputs if name not in ("input_ids", *CACHE_NAMES)}
        positions: Tensor = self.model._prepare_position_ids_for_generation(ids, {**known, "attention_mask": mask})
        return positions.expand(*positions.shape[:-2], *ids.shape)

    def check_positions(self, inputs: Mapping[str, Any]) -> None:
        """Refuse a `forward` whose media the stock model could not place either.

        Raises:
            ValueError: M-RoPE models need `mm_token_type_ids`. Without them most stock classes raise, and Qwen2.5-VL
                reads images as lines of text, without a word.
        """
        rule = getattr(self.model.base_model, "compute_3d_position_ids", None)
        needed = "mm_token_type_ids"
        if rule is None or inputs.get(needed) is not None or inputs.get("position_ids") is not None:
            return
        if needed in inspect.signature(rule).parameters:
            raise ValueError(
                f"{needed} is missing: {type(self.model).__name__} tells by it which tokens have places in an image; "
                "pass all that the processor returned (older ones: return_mm_token_type_ids=True), or position_ids"
            )

    def text_positions(self, start: Tensor, mask: Tensor) -> Tensor:
        """Positions of text that follows the media, in the shape that `positions` has.

        Args:
            start: `[B]` the position of the first token.
            mask: `[B, T]` 1 for real tokens.
        """
        positions = (start[:, None] + mask.long().cumsum(-1) - 1).clamp_min(0)
        # With M-RoPE a first row counts text, and text stands at the same place on all axes.
        return positions if self.axes == 1 else positions.expand(1 + self.axes, -1, -1)

    def outputs(self, embedded: Mapping[str, Sequence[Embedded]]) -> dict[str, BaseModelOutputWithPooling]:
        """Return the outputs of each modality's items as the model's `mm_encoder_outputs` takes them."""
        return {modality: self.output(modality, items) for modality, items in embedded.items()}

    def output(self, modality: str, items: Sequence[Embedded]) -> BaseModelOutputWithPooling:
        """One modality's part of `outputs`: a list with one tensor per item, which most models concatenate."""
        # The field is declared a tensor, but models give and take a list.
        rows: Any = [item.features for item in items]
        return BaseModelOutputWithPooling(pooler_output=rows)

    def note_container(self, pooled: Any) -> None:  # noqa: B027 (most families take a list whatever they gave)
        """Set how the encoder class packs its features, for outputs that another model computed."""

    def pack_like(self, other: Adapter) -> None:  # noqa: B027 (as above)
        """Pack features as `other`, which serves the same model and has encoded, has seen its class do."""

    def cost(self) -> DecoderCost:
        """Return the cost of the language model's prefill."""
        return DecoderCost.of(self.decoder, torch.empty(0, dtype=self.model.dtype).element_size())
