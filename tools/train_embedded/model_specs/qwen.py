"""tiny-qwen: Qwen2.5-VL; images at their own size up to 192 x 192, 16 x 16 pixels a visual token; windows, M-RoPE."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from tools.train_embedded.model_specs.base import (
    HEADS,
    PATCH,
    WIDTH,
    Look,
    ModelSpec,
    greedy,
    text_config,
)
from tools.train_embedded.tokenizer import build_tokenizer, chat_template, vocabulary
from vtc.embedded.scene import Scene
from vtc.embedded.video import Video
from vtc.embedded.video_spec import PIXELS

MERGE, FRAMES = 2, 2
CELL = PATCH * MERGE
LEAST, MOST = 64 * 64, 192 * 192
WINDOW = 96
SECTIONS = [4, 6, 6]  # of the 16 frequencies of a head: time, rows, columns
# Rows and columns get the lowest frequencies; with a base of 10,000 twelve columns would turn them by 0.04 radians.
TEXT_BASE = 100.0
NAMES = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
_OFFSETS = (
    ((1, 0), (-1, 0), (0, 1), (0, -1)),
    ((1, 1), (-1, 1), (1, -1), (-1, -1)),
    ((2, 0), (-2, 0), (0, 2), (0, -2)),
)


class TinyQwen(ModelSpec):
    """See the module."""

    name, view, merge = "tiny-qwen", "native", MERGE
    before, after = ("<|vision_start|>",), ("<|vision_end|>",)
    vision_prefixes = ("model.visual",)
    videos = True

    def build_model(self) -> Qwen2_5_VLForConditionalGeneration:
        """Five blocks, the third and the last see the whole image, the others windows of 96 pixels."""
        ids = vocabulary()
        vision = {
            "depth": 5,
            "hidden_size": WIDTH,
            "out_hidden_size": WIDTH,
            "intermediate_size": 3 * WIDTH,
            "num_heads": HEADS,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": FRAMES,
            "window_size": WINDOW,
            "fullatt_block_indexes": [2, 4],
            "tokens_per_second": 1,
        }
        rope = {"rope_type": "default", "rope_theta": TEXT_BASE, "mrope_section": SECTIONS}
        config = Qwen2_5_VLConfig(
            vision_config=vision,
            text_config={**text_config(), "rope_parameters": rope},
            image_token_id=ids["<|image_pad|>"],
            video_token_id=ids["<|video_pad|>"],
            vision_start_token_id=ids["<|vision_start|>"],
            vision_end_token_id=ids["<|vision_end|>"],
            tie_word_embeddings=False,
        )
        model = Qwen2_5_VLForConditionalGeneration(config)
        model.generation_config = greedy()
        return model

    def build_processor(self) -> Qwen2_5_VLProcessor:
        """Images keep their size within the limits, in steps of 16 pixels."""
        options: dict[str, Any] = {
            "patch_size": PATCH,
            "merge_size": MERGE,
            "temporal_patch_size": FRAMES,
            "size": {"shortest_edge": LEAST, "longest_edge": MOST},
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
        }
        slots = "<|vision_start|><|image_pad|><|vision_end|>", "<|vision_start|><|video_pad|><|vision_end|>"
        return Qwen2_5_VLProcessor(
            Qwen2VLImageProcessor(**options),
            build_tokenizer(**NAMES),
            Qwen2VLVideoProcessor(**options, cap_pixels_per_frame=False),
            chat_template=chat_template(*slots),
        )

    def canvas(self, scene: Scene) -> tuple[int, int]:
        """As the processor resizes it."""
        width, height = scene.size()
        rows, columns = smart_resize(height, width, CELL, LEAST, MOST)
        return columns, rows

    def looks(self, scene: Scene) -> list[Look]:
        """The whole image."""
        return [((0.0, 0.0, scene.width, scene.height), self.canvas(scene))]

    @torch.no_grad()
    def prepare(self, model: Any) -> None:
        """Let each head of the first blocks look at one neighbour: its rotary positions are turned by that offset."""
        tower = model.model.visual
        nn.init.normal_(tower.patch_embed.proj.weight, std=0.12)
        at = tower.rotary_pos_emb.compute_axial_rope_parameters(tower.config)[0]
        size, n = WIDTH // HEADS, len(at)
        strength = torch.tensor([6.5, 5.0, 3.5, 2.0] + [0.0] * (n - 4))[:n] * 1.6
        for block, offsets in zip(tower.blocks, _OFFSETS, strict=False):
            query, key, _ = block.attn.qkv.bias.view(3, HEADS, size).unbind(0)
            for head, (across, down) in enumerate(offsets):
                for axis, step in enumerate((down, across)):
                    pair = slice(axis * n, axis * n + n), slice(size // 2 + axis * n, size // 2 + axis * n + n)
                    query[head, pair[0]], query[head, pair[1]] = (
                        strength * (at * step).cos(),
                        strength * (at * step).sin(),
                    )
                    key[head, pair[0]], key[head, pair[1]] = strength, 0.0
            block.attn.qkv.weight[: 2 * WIDTH].mul_(0.3)
            nn.init.normal_(block.attn.qkv.weight[2 * WIDTH :], std=WIDTH**-0.5)
            nn.init.normal_(block.attn.proj.weight, std=WIDTH**-0.5)

    def encode(self, model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Images `[n, 3, h, w]` go in twice, as the two frames of a still video; a video's look is `[n, 6, h, w]`."""
        n, _, height, width = pixels.shape
        rows, columns = height // CELL, width // CELL
        cut = pixels.view(n, -1, 3, rows, MERGE, PATCH, columns, MERGE, PATCH).expand(-1, FRAMES, *[-1] * 7)
        patches = cut.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(n * rows * columns * MERGE**2, -1)
        grid = torch.tensor([[1, rows * MERGE, columns * MERGE]] * n, device=pixels.device)
        tower = model.model.visual
        out = tower(patches, grid_thw=grid)
        order = window_order(rows, columns).to(pixels.device)
        states = out.last_hidden_state.view(n, rows * columns, MERGE**2, -1)[:, order.argsort()]
        states = states.view(n, rows, columns, MERGE, MERGE, -1).permute(0, 1, 3, 2, 4, 5)
        return out.pooler_output.view(n, rows * columns, -1), states.reshape(n, rows * columns * MERGE**2, -1)

    def video_looks(self, video: Video) -> list[Look]:
        """Two frames at once, at the size that videos are drawn for."""
        return [((0.0, 0.0, video.width, video.height), (PIXELS, PIXELS))] * (video.frames // FRAMES)

    def summary(self, model: Any, hidden: Tensor) -> None:
        """There is no class token."""
        return

    def patch_states(self, hidden: Tensor) -> Tensor:
        """Taught too, as tiny-internvl's."""
        return hidden

    def tower(self, model: Any) -> nn.Module:
        """Qwen's ViT with its merger."""
        return model.model.visual  # type: ignore[no-any-return]

    def positions(
        self, steps: Tensor, blocks: tuple[int, int], images: int, size: tuple[int, int], looks: int
    ) -> Tensor:
        """M-RoPE, `[3, b, s]`: a look has one time, over rows and columns; text goes on behind the longer of those.

        The looks of a video are a second apart, which is one position: the slowest of the four frequencies of time
        turns by less than half a circle over eight of them. Text that follows does not wait for the video's end.
        """
        b, s = steps.shape
        rows, columns = size[1] // CELL, size[0] // CELL
        cells = rows * columns
        each = looks * cells + len(self.before) + len(self.after)
        lead = s - math.prod(blocks) - images * each
        place = torch.zeros(3, b, s, dtype=steps.dtype)
        place[:, :, :lead] = steps[:, :lead].cumsum(1) - steps[:, :1]
        at, last = lead, place[0, :, lead - 1]
        for _ in range(images):
            place[:, :, at] = start = last + steps[:, at]
            first, end = at + 1, at + 1 + looks * cells
            down = steps[:, first : first + rows].cumsum(1) + start[:, None]
            across = steps[:, first + rows : first + rows + columns].cumsum(1) + start[:, None]
            down, across = (x - x[:, :1] + (start + steps[:, first])[:, None] for x in (down, across))
            wait = steps[:, first : first + looks]
            time = down[:, :1] + wait.cumsum(1) - wait[:, :1]
            place[0, :, first:end] = time[:, :, None].expand(b, looks, cells).flatten(1)
            place[1, :, first:end] = down[:, :, None].expand(b, rows, columns).flatten(1).repeat(1, looks)
            place[2, :, first:end] = across[:, None].expand(b, rows, columns).flatten(1).repeat(1, looks)
            place[:, :, end] = last = torch.maximum(down[:, -1], across[:, -1]) + steps[:, end]
            at = end + 1
        text = steps[:, at:].view(b, *blocks).cumsum(2) + last[:, None, None]
        place[:, :, at:] = text.flatten(1)
        return place.long()


def window_order(rows: int, columns: int) -> Tensor:
    """The order in which the tower lines up the tokens of a grid: window by window, row by row."""
    side = WINDOW // CELL
    grid = torch.arange(rows * columns).view(rows, columns)
    return torch.cat([part.flatten() for band in grid.split(side) for part in band.split(side, 1)])
