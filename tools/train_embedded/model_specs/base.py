"""Interface between the training code and one embedded model: its looks at a scene, its parts, its tower."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel, ProcessorMixin

from tools.train_embedded.packed_positions import in_a_row
from tools.train_embedded.tokenizer import vocabulary
from vtc.embedded.objects import Box
from vtc.embedded.scene import Scene
from vtc.embedded.video import Video

PATCH = 8
WIDTH, TEXT_LAYERS, HEADS, TEXT_MLP = 128, 6, 4, 384

# What a tower sees of a scene: a window in units, and the size in pixels (width, height) it is shown at.
Look = tuple[Box, tuple[int, int]]


class ModelSpec(ABC):
    """One embedded model. An image is one or more *looks* of one size: the whole, or tiles and a thumbnail."""

    name: str
    view: str
    merge: int  # patches to a visual token, along each side
    before: tuple[str, ...] = ()  # structural tokens around an image's visual tokens
    after: tuple[str, ...] = ()
    vision_prefixes: tuple[str, ...]  # names that the parameters of tower and projector start with
    videos: bool = False  # whether it is trained on videos too
    language_prefixes: tuple[str, ...] = ("model.language_model", "lm_head")

    @abstractmethod
    def build_model(self) -> PreTrainedModel:
        """The stock model with random weights."""

    @abstractmethod
    def build_processor(self) -> ProcessorMixin:
        """Its stock processor."""

    @abstractmethod
    def looks(self, scene: Scene) -> list[Look]:
        """Return the looks at `scene`, in the order of the model's inputs; all of one size in pixels."""

    def video_looks(self, video: Video) -> list[Look]:
        """Return the looks at `video`, frames in pairs. ValueError for a model that is not trained on videos."""
        raise ValueError(f"{self.name} is not trained on videos")

    @abstractmethod
    def canvas(self, scene: Scene) -> tuple[int, int]:
        """The size in pixels (width, height) that the processor gives the whole image before it is cut."""

    @abstractmethod
    def prepare(self, model: nn.Module) -> None:
        """Give a new tower a start from which it learns quickly."""

    def start_vision_from(self, model: Any, other: "ModelSpec", trained: Any) -> None:
        """Start the tower of `model` from that of `trained`, a model of the spec `other`. ValueError if it cannot."""
        raise ValueError(f"the tower of {self.name} cannot start from that of {other.name}")

    @abstractmethod
    def encode(self, model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Visual tokens `[n, t, width]` and the last hidden states of the tower `[n, s, d]` of looks `[n, 3, h, w]`."""

    def positions(
        self, steps: Tensor, blocks: tuple[int, int], images: int, size: tuple[int, int], looks: int
    ) -> Tensor:
        """The positions of a packed sequence from its `steps` `[b, s]`; `blocks` as in `places.in_a_row`.

        `images`: how many (or videos) stand before the blocks, each of `looks` looks of `size` pixels.
        """
        return in_a_row(steps, blocks)

    @abstractmethod
    def summary(self, model: Any, hidden: Tensor) -> Tensor | None:
        """Return the summary of a whole look, `[n, d]` (its class token), or None."""

    def patch_states(self, hidden: Tensor) -> Tensor | None:
        """The hidden state of each patch `[n, patches, d]`, row by row, where a token stands for several; else None."""
        return None

    @abstractmethod
    def tower(self, model: Any) -> nn.Module:
        """The vision tower."""

    def language_model(self, model: Any) -> nn.Module:
        """The language model without its head."""
        return model.model.language_model  # type: ignore[no-any-return]

    def tokens(self, size: tuple[int, int]) -> int:
        """Return how many visual tokens a look of `size` pixels has."""
        return (size[0] // PATCH // self.merge) * (size[1] // PATCH // self.merge)

    def by_token(self, patches: Tensor, size: tuple[int, int]) -> Tensor:
        """Labels `[n, patches, f]`, row by row, as `[n, t, merge * merge, f]`: the patches of each token."""
        m, columns, rows = self.merge, size[0] // PATCH, size[1] // PATCH
        grid = patches.view(len(patches), rows // m, m, columns // m, m, patches.shape[-1])
        return grid.permute(0, 1, 3, 2, 4, 5).reshape(len(patches), -1, m * m, patches.shape[-1])

    def save(self, weights: dict[str, Tensor], directory: Path) -> None:
        """Write `directory` as `from_pretrained` takes it: `weights` as float16, loaded and run as float32."""
        model = self.build_model()
        model.load_state_dict(weights)
        model.half().save_pretrained(directory)
        config = model.config
        for part in (config, config.text_config, config.vision_config):
            part.dtype = torch.float32
        config.save_pretrained(directory)
        self.build_processor().save_pretrained(directory)


def text_config() -> dict[str, Any]:
    """The language model's size, for any decoder class."""
    return {
        "vocab_size": -(-len(vocabulary()) // 16) * 16,
        "hidden_size": WIDTH,
        "intermediate_size": TEXT_MLP,
        "num_hidden_layers": TEXT_LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "max_position_embeddings": 8192,
        "initializer_range": 0.05,
        "tie_word_embeddings": False,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def greedy() -> GenerationConfig:
    """Short greedy answers."""
    return GenerationConfig(do_sample=False, max_new_tokens=16, pad_token_id=0, bos_token_id=1, eos_token_id=2)
