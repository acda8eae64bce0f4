"""tiny-llava: LLaVA-1.5 with a CLIP tower; any image becomes 112 x 112 pixels, 196 visual tokens."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
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
from tools.train_embedded.tokenizer import build_tokenizer, chat_template, vocabulary
from vtc.embedded.scene import Scene


def vision_config(side: int) -> CLIPVisionConfig:
    """A tower of square images of `side` pixels."""
    return CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=6,
        num_attention_heads=HEADS,
        image_size=side,
        patch_size=PATCH,
        hidden_act="gelu",
        projection_dim=WIDTH,
    )


class TinyLlava(ModelSpec):
    """See the module."""

    name, view, merge = "tiny-llava", "square", 1
    vision_prefixes = ("model.vision_tower", "model.multi_modal_projector")
    side = 112

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.side // PATCH

    def build_model(self) -> LlavaForConditionalGeneration:
        """196 visual tokens from the layer before the last, as LLaVA-1.5 takes them."""
        config = LlavaConfig(
            vision_config=vision_config(self.side),
            text_config=LlamaConfig(**text_config()),
            image_token_index=vocabulary()["<image>"],
            image_seq_length=self.grid * self.grid,
            projector_hidden_act="gelu",
            vision_feature_select_strategy="default",
            vision_feature_layer=-2,
            tie_word_embeddings=False,
        )
        model = LlavaForConditionalGeneration(config)
        model.generation_config = greedy()
        return model

    def build_processor(self) -> LlavaProcessor:
        """Any image is resized to a square without a crop, so nothing is cut off."""
        images = CLIPImageProcessor(
            size={"height": self.side, "width": self.side},
            do_center_crop=False,
            image_mean=[0.5, 0.5, 0.5],
            image_std=[0.5, 0.5, 0.5],
        )
        return LlavaProcessor(
            image_processor=images,
            tokenizer=build_tokenizer(),
            patch_size=PATCH,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
            image_token="<image>",
            chat_template=chat_template("<image>\n"),
        )

    def canvas(self, scene: Scene) -> tuple[int, int]:
        """One square for every image."""
        return self.side, self.side

    def looks(self, scene: Scene) -> list[Look]:
        """The whole image."""
        return [((0.0, 0.0, scene.width, scene.height), (self.side, self.side))]

    @torch.no_grad()
    def prepare(self, model: Any) -> None:
        """Sine positions and neighbourhoods in the first layers."""
        tower = model.model.vision_tower
        embeddings = tower.embeddings
        embeddings.position_embedding.weight.zero_()
        embeddings.position_embedding.weight[1:, -POSITION_WIDTH:] = sine_positions(self.grid)
        nn.init.normal_(embeddings.patch_embedding.weight, std=0.05)
        embeddings.patch_embedding.weight[-POSITION_WIDTH:] = 0
        embeddings.class_embedding.zero_()
        embeddings.class_embedding[:-POSITION_WIDTH].normal_()
        parts = [layer.self_attn for layer in tower.encoder.layers]
        look_around([(a.q_proj, a.k_proj, a.v_proj, a.out_proj) for a in parts], HEADS, self.grid)

    def encode(self, model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The last layer, which no visual token uses, is left out."""
        tower = model.model.vision_tower
        hidden = tower.pre_layrnorm(tower.embeddings(pixels))
        for layer in tower.encoder.layers[:-1]:
            hidden = layer(hidden, None)
        return model.model.multi_modal_projector(hidden[:, 1:]), hidden

    def summary(self, model: Any, hidden: Tensor) -> Tensor:
        """The class token after the last layer."""
        tower = model.model.vision_tower
        return tower.post_layernorm(tower.encoder.layers[-1](hidden, None)[:, 0])  # type: ignore[no-any-return]

    def tower(self, model: Any) -> nn.Module:
        """CLIP's."""
        return model.model.vision_tower  # type: ignore[no-any-return]
