"""tiny-internvl: tiles of 96 x 96 pixels beside a thumbnail, 36 visual tokens each; a ViT with a class token."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    InternVLVisionConfig,
    Qwen2Config,
)

from tools.train_embedded.model_specs.base import (
    HEADS,
    PATCH,
    WIDTH,
    Look,
    ModelSpec,
    greedy,
    text_config,
)
from tools.train_embedded.model_specs.start import POSITION_WIDTH, look_around, sine_positions
from tools.train_embedded.model_specs.weight_transfer import copy_clip_tower
from tools.train_embedded.tokenizer import build_tokenizer, chat_template, vocabulary
from vtc.embedded.scene import Scene

TILE = 96
GRID = TILE // PATCH
MOST = 6  # tiles
TOKENS = (GRID // 2) ** 2
NAMES = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<|video_pad|>",
}


class TinyInternVL(ModelSpec):
    """See the module. A square image is cut into 2 x 2 tiles, one of 3 to 2 into six."""

    name, view, merge = "tiny-internvl", "native", 2
    before, after = ("<img>",), ("</img>",)
    vision_prefixes = ("model.vision_tower", "model.multi_modal_projector")

    def build_model(self) -> InternVLForConditionalGeneration:
        """Pixel shuffle makes 36 visual tokens of the 144 patches of a tile."""
        vision = InternVLVisionConfig(
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=5,
            num_attention_heads=HEADS,
            attention_bias=True,
            image_size=TILE,
            patch_size=PATCH,
            layer_scale_init_value=1.0,
        )
        config = InternVLConfig(
            vision_config=vision,
            text_config=Qwen2Config(**text_config()),
            image_token_id=vocabulary()["<IMG_CONTEXT>"],
            image_seq_length=TOKENS,
            tie_word_embeddings=False,
        )
        model = InternVLForConditionalGeneration(config)
        model.generation_config = greedy()
        return model

    def build_processor(self) -> InternVLProcessor:
        """At most six tiles, and a thumbnail where there is more than one."""
        size = {"height": TILE, "width": TILE}
        normal: dict[str, Any] = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
        return InternVLProcessor(
            image_processor=GotOcr2ImageProcessor(size=size, max_patches=MOST, crop_to_patches=True, **normal),
            tokenizer=build_tokenizer(**NAMES),
            video_processor=InternVLVideoProcessor(size=size, **normal),
            image_seq_length=TOKENS,
            chat_template=chat_template("<IMG_CONTEXT>\n", "<|video_pad|>\n"),
        )

    def canvas(self, scene: Scene) -> tuple[int, int]:
        """Two tiles by two, three by two or two by three."""
        return (3 if scene.aspect > 1 else 2) * TILE, (3 if scene.aspect < 1 else 2) * TILE

    def looks(self, scene: Scene) -> list[Look]:
        """The tiles row by row, then the thumbnail."""
        width, height = self.canvas(scene)
        columns, rows = width // TILE, height // TILE
        w, h = scene.width / columns, scene.height / rows
        boxes = [(c * w, r * h, (c + 1) * w, (r + 1) * h) for r in range(rows) for c in range(columns)]
        return [(box, (TILE, TILE)) for box in (*boxes, (0.0, 0.0, scene.width, scene.height))]

    @torch.no_grad()
    def prepare(self, model: Any) -> None:
        """Sine positions and neighbourhoods in the first layers."""
        tower = model.model.vision_tower
        embeddings = tower.embeddings
        embeddings.position_embeddings.zero_()
        embeddings.position_embeddings[0, 1:, -POSITION_WIDTH:] = sine_positions(GRID)
        projection = embeddings.patch_embeddings.projection
        nn.init.normal_(projection.weight, std=0.12)  # no norm follows the embeddings
        projection.weight[-POSITION_WIDTH:] = 0
        embeddings.cls_token.zero_()
        embeddings.cls_token[..., :-POSITION_WIDTH].normal_()
        parts = [layer.attention for layer in tower.encoder.layer]
        look_around([(a.q_proj, a.k_proj, a.v_proj, a.projection_layer) for a in parts], HEADS, GRID)

    def start_vision_from(self, model: Any, other: ModelSpec, trained: Any) -> None:
        """From tiny-llava's."""
        if other.name != "tiny-llava":
            super().start_vision_from(model, other, trained)
        copy_clip_tower(other.tower(trained), self.tower(model))

    def encode(self, model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Tower, pixel shuffle and projector by their own modules."""
        tower = model.model.vision_tower
        hidden = tower.encoder(tower.embeddings(pixels)).last_hidden_state
        hidden = tower.layernorm(hidden)
        n = len(hidden)
        square = model.model.pixel_shuffle(hidden[:, 1:].reshape(n, GRID, GRID, -1), scale_factor=0.5)
        return model.model.multi_modal_projector(square.reshape(n, TOKENS, -1)), hidden

    def summary(self, model: Any, hidden: Tensor) -> Tensor:
        """The class token."""
        return hidden[:, 0]

    def patch_states(self, hidden: Tensor) -> Tensor:
        """Taught too: a token holds four patches, which is too little room for the tower to learn through it alone."""
        return hidden[:, 1:]

    def tower(self, model: Any) -> nn.Module:
        """InternVL's ViT."""
        return model.model.vision_tower  # type: ignore[no-any-return]
