"""Gemma 4 with random weights: patches with places, sliding windows, and two kinds of language model.

The large ones let the tokens of an image see each other in layers with a window; their full layers have keys for
values. The small ones do neither, look up a further embedding a layer for each id, and their last layers read the keys
of earlier ones. The unified ones have no vision tower.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    Gemma4TextConfig,
    Gemma4UnifiedConfig,
    Gemma4UnifiedForConditionalGeneration,
)

from tests.families.common import (
    BOS,
    END,
    IMAGE,
    PAD,
    START,
    TEXT,
    VIDEO,
    VISION,
    VOCAB,
    Family,
    Row,
    padded,
    spread,
    text,
)
from tests.families.llava_next import quiet

PATCH, SIDE, MOST = 4, 3, 24
"""Pixels along a side of a patch, patches along that of a token, and tokens that an image is filled up to."""
AUDIO = 94
TOKENS = dict(
    image_token_id=IMAGE,
    video_token_id=VIDEO,
    audio_token_id=AUDIO,
    boi_token_id=START,
    eoi_token_id=END,
    boa_token_id=95,
    eoa_token_index=96,
    tie_word_embeddings=False,
)
HEADS = dict(head_dim=16, global_head_dim=32, sliding_window=8, rms_norm_eps=0.1)
LAYERS = ["sliding_attention", "sliding_attention", "full_attention"]
LARGE = dict(
    **{**TEXT, **HEADS},
    layer_types=LAYERS,
    hidden_size_per_layer_input=0,
    use_bidirectional_attention="vision",
    attention_k_eq_v=True,
    num_global_key_value_heads=1,
)
SMALL = dict(
    **{**TEXT, **HEADS, "num_hidden_layers": 4},
    layer_types=["sliding_attention", "full_attention"] * 2,
    hidden_size_per_layer_input=8,
    vocab_size_per_layer_input=VOCAB,
    num_kv_shared_layers=2,
    use_double_wide_mlp=True,
)
TOWER = dict(**VISION, head_dim=16, num_key_value_heads=1, patch_size=PATCH, position_embedding_size=256)


def gemma4(attention: str = "sdpa", seed: int = 0, *, words: Any = LARGE, audio: Any = None) -> nn.Module:
    config = Gemma4Config(vision_config=TOWER, text_config=Gemma4TextConfig(**words), audio_config=audio, **TOKENS)
    model = spread(Gemma4ForConditionalGeneration._from_config(config, attn_implementation=attention), seed)
    per_layer = getattr(model.get_decoder(), "embed_tokens_per_layer", None)
    if per_layer is not None:
        with torch.no_grad():  # the model looks up the padding's for a placeholder; which id pads then does not matter
            per_layer.weight[[IMAGE, VIDEO, AUDIO]] = per_layer.weight[PAD].clone()
    return silent(model)


small = partial(gemma4, words=SMALL)


def unified(attention: str = "sdpa", seed: int = 0, *, audio: Any = None) -> nn.Module:
    vision = dict(patch_size=PATCH, pooling_kernel_size=SIDE, mm_embed_dim=32, mm_posemb_size=64, output_proj_dims=32)
    words = {name: value for name, value in LARGE.items() if name != "hidden_size_per_layer_input"}
    config = Gemma4UnifiedConfig(vision_config=vision, text_config=words, audio_config=audio, **TOKENS)
    model = Gemma4UnifiedForConditionalGeneration._from_config(config, attn_implementation=attention)
    return silent(spread(model, seed))


def silent(model: nn.Module) -> nn.Module:
    """As `quiet`, of sound too, whose placeholder a stock model would read as padding.

    Products of queries and keys are not scaled: norms are trained to do so, and here they do, or softmaxes were sharp
    enough to cost digits.
    """
    with torch.no_grad():
        model.lm_head.weight[AUDIO] = 0
        for name, weight in model.named_parameters():
            if name.endswith("q_norm.weight"):
                weight /= len(weight) ** 0.5
    return quiet(model)


def gemma4_inputs(rows: Sequence[Row], side: str = "left", *, videos: bool = False, merged: bool = False) -> dict:
    """Prompts as the processor writes them.

    An image is (seed,) with a size made from the seed, or (seed, height, width) in halves of a token; (seed, frames,
    height, width) is a video.

    Args:
        rows: the prompts.
        side: of the padding.
        videos: makes a video of each image.
        merged: whether the patches of a token come as one (unified).
    """
    ids, pixels, places, numbers = [], {IMAGE: [], VIDEO: []}, {IMAGE: [], VIDEO: []}, []
    cut = 1 if merged else SIDE
    for row in rows:
        line = [BOS]
        for i, part in enumerate(row):
            if isinstance(part, int):
                line += text(part, 31 * part + i)
                continue
            frames, h, w = shape_of(part, videos)
            kind = VIDEO if frames else IMAGE
            line += written(kind, frames, h * w)
            generator = torch.Generator().manual_seed(int(part[0]))
            patches = torch.randn(max(frames, 1), h * w * cut**2, 3 * (PATCH * SIDE // cut) ** 2, generator=generator)
            filled = torch.zeros(len(patches), MOST * cut**2, patches.shape[2])
            filled[:, : patches.shape[1]] = patches / 2 + 0.5
            pixels[kind].append(filled)
            places[kind].append(placed(h * cut, w * cut, MOST * cut**2).expand(len(patches), -1, -1))
            numbers += [frames] * (kind == VIDEO)
        ids.append(line)
    input_ids, mask = padded(ids, side)
    types = (input_ids == IMAGE).long() + 2 * (input_ids == VIDEO).long()
    out = dict(input_ids=input_ids, attention_mask=mask, mm_token_type_ids=types)
    if pixels[IMAGE]:
        out |= dict(pixel_values=torch.cat(pixels[IMAGE]), image_position_ids=torch.cat(places[IMAGE]))
    if pixels[VIDEO]:
        out |= dict(pixel_values_videos=torch.cat(pixels[VIDEO]), video_position_ids=torch.cat(places[VIDEO]))
        out["num_frames_per_video"] = torch.tensor(numbers)
    return out


def shape_of(part: Any, videos: bool) -> tuple[int, int, int]:
    """Frames (0 for an image), and height and width in tokens."""
    seed = int(part[0])
    if len(part) == 4:
        return part[1], part[2] // 2, part[3] // 2
    h, w = part[1:] if len(part) > 1 else (4 + 2 * (seed % 3), 8)
    # A video of one token a frame has one frame, so that input stages, which drop none, can be asked for a share of it.
    return (0 if not videos else 1 if h * w == 4 else 1 + seed % 3), h // 2, w // 2


def written(kind: int, frames: int, count: int) -> list[int]:
    """The ids of one item: before each frame of a video its time."""
    if not frames:
        return [START, *[kind] * count, END]
    return [t for f in range(frames) for t in (*text(1 + f % 2, 700 + f), START, *[kind] * count, END)]


def placed(height: int, width: int, most: int) -> Tensor:
    """`[1, most, 2]` the places (x, y) of a grid's patches, and (-1, -1) behind them."""
    real = [(x, y) for y in range(height) for x in range(width)]
    return torch.tensor(real + [(-1, -1)] * (most - len(real)))[None]


GEMMA4 = (
    Family("gemma4", gemma4, gemma4_inputs, resizes=True, layers="sliding"),
    Family("gemma4-video", small, partial(gemma4_inputs, videos=True), resizes=True, videos=True, layers="sliding"),
)
UNIFIED = Family(
    "gemma4-unified", unified, partial(gemma4_inputs, merged=True), cues=False, resizes=True, layers="sliding"
)
