"""Small models of classes whose images are entries of `pixel_values`, and prompts for them; see `families.odd`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import transformers as hf
from torch import Tensor

from tests.families.common import BOS, END, IMAGE, START, TEXT, VISION, padded, text
from tests.families.odd import SIDE, SMALL, Odd, image, pixtral, plain, sized, written

SAM = dict(
    hidden_size=32,
    output_channels=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    image_size=64,
    patch_size=4,
    mlp_dim=64,
    window_size=4,
    global_attn_indexes=[1],
    downsample_channels=[24, 32],
)
ROUTED = dict(n_routed_experts=4, num_experts_per_tok=2, n_shared_experts=1, n_group=1, topk_group=1)


def fast_vlm() -> object:
    tower = hf.TimmWrapperConfig(
        architecture="fastvit_mci3",
        do_pooling=True,
        hidden_size=64,
        model_args=dict(
            inference_mode=True,
            global_pool="avg",
            layers=(1, 1, 1, 1, 1),
            embed_dims=(8, 8, 16, 32, 32),
            mlp_ratios=(1, 1, 1, 1, 1),
        ),
    )
    return hf.FastVlmConfig(vision_config=tower, text_config=hf.Qwen2Config(**TEXT), image_token_index=IMAGE)


def mistral_large4() -> object:
    words = dict(
        TEXT,
        **ROUTED,
        num_key_value_heads=4,
        kv_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=16,
        head_dim=8,
        moe_intermediate_size=32,
        index_topk=512,
        index_head_dim=16,
        index_n_heads=2,
        q_lora_rank=32,
    )
    return hf.MistralLarge4Config(vision_config=pixtral(), text_config=words, image_token_index=IMAGE)


def unlimited_ocr() -> object:
    tower = dict(VISION, image_size=16, patch_size=4)
    words = dict(TEXT, n_routed_experts=4, num_experts_per_tok=2, n_shared_experts=1, moe_intermediate_size=32)
    words.update(num_key_value_heads=4, sliding_window=512)
    return hf.UnlimitedOcrConfig(
        vision_config=dict(sam_config=SAM, encoder_config=tower), text_config=words, image_token_id=IMAGE
    )


def deepseek_ocr2() -> object:
    tower = {**TEXT, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    words = dict(TEXT, **ROUTED, moe_intermediate_size=32, mlp_layer_types=["dense", "sparse", "sparse"])
    return hf.DeepseekOcr2Config(
        vision_config=dict(sam_config=SAM, encoder_config=tower), text_config=words, image_token_id=IMAGE
    )


def perception_lm() -> object:
    tower = hf.TimmWrapperConfig(
        architecture="vit_pe_core_large_patch14_336",
        model_args=dict(embed_dim=32, depth=2, num_heads=2, img_size=(SIDE, SIDE), patch_size=4, global_pool=""),
        do_pooling=False,
        num_labels=0,
    )
    return hf.PerceptionLMConfig(
        vision_config=tower,
        text_config=hf.LlamaConfig(**TEXT),
        vision_use_cls_token=True,
        projector_pooling_ratio=2,
        image_token_id=IMAGE,
        video_token_id=93,
    )


def step3() -> object:
    words = dict(
        TEXT,
        head_dim=16,
        n_routed_experts=4,
        num_local_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
        share_expert_dim=32,
        layer_types=["full_attention"] * 3,
        sliding_window=512,
        num_sliding_attention_heads=4,
    )
    return hf.Step3p7Config(
        vision_config=dict(SMALL, mlp_ratio=2.0, max_position_embeddings=36), text_config=words, image_token_id=IMAGE
    )


def chameleon() -> object:
    vq = dict(
        embed_dim=8,
        num_embeddings=16,
        latent_channels=8,
        resolution=8,
        base_channels=32,
        channel_multiplier=(1, 1),
        num_res_blocks=1,
    )
    codes = {f"IMGIMG{''.join(chr(65 + int(digit)) for digit in str(i))}Z": 5 + i for i in range(16)}
    return hf.ChameleonConfig(**TEXT, vq_config=vq, vocabulary_map={**codes, "<image>": IMAGE})


def deepseek_hybrid() -> object:
    return hf.DeepseekVLHybridConfig(
        vision_config=dict(SMALL, vision_use_head=False),
        high_res_vision_config=dict(
            {name: value for name, value in SAM.items() if name != "downsample_channels"},
            image_size=96,
            output_channels=16,
        ),
        text_config=hf.LlamaConfig(**TEXT),
        image_token_id=IMAGE,
    )


def with_high_resolution(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Each image once more, larger."""
    out = plain(36)(rows)
    large = torch.stack([image(part, 96) for row in rows for part in row[1::2]])
    return {**out, "high_res_pixel_values": large}


def gemma3n() -> object:
    words = dict(
        TEXT,
        head_dim=16,
        num_hidden_layers=4,
        num_kv_shared_layers=1,
        layer_types=["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
        sliding_window=2048,
        vocab_size_per_layer_input=100,
        hidden_size_per_layer_input=8,
        altup_num_inputs=2,
        laurel_rank=8,
        activation_sparsity_pattern=[0.0] * 4,
    )
    audio = dict(hidden_size=32, conf_num_attention_heads=2, conf_num_hidden_layers=1, vocab_offset=98, vocab_size=2)
    tower = dict(channel_multiplier=0.05)
    vision = dict(model_args=tower, vocab_offset=96, vocab_size=2)
    return hf.Gemma3nConfig(
        text_config=words,
        vision_config=vision,
        audio_config=audio,
        image_token_id=IMAGE,
        audio_token_id=93,
        vision_soft_tokens_per_image=256,
    )


def in_tiles(tokens: int, tiles: int = 2) -> Callable:
    """Images `[n, tiles, 3, H, W]`, all tiles of one in one run of placeholders."""

    def inputs(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        out, seeds = written(rows, [START, *[IMAGE] * tokens * tiles, END])
        pixels = [torch.stack([image(100 * t + seed) for t in range(tiles)]) for row in seeds for seed in row]
        return {**out, "pixel_values": torch.stack(pixels)}

    return inputs


def with_local_tiles(whole: int, tile: int, side: int, rows_of: int = 0) -> Callable:
    """Images of `whole` tokens, every other one with two tiles of `tile` tokens side by side before it.

    With `rows_of` tokens a side, tiles and image have a newline behind each row; all but Step's close with a separator.
    """

    def inputs(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        ids, pixels, local, counts = [], [], [], []
        for row in rows:
            line = [BOS]
            for i, part in enumerate(row):
                if i % 2 == 0:
                    line += text(part, 31 * part + i)
                    continue
                tiles = 2 * (part % 2)
                line += [START, *[IMAGE] * (whole + (tile * tiles + rows_of if tiles else 0)), END]
                pixels.append(image(part, side))
                local += [image(100 * t + part, side) for t in range(1, tiles + 1)]
                counts.append(tiles)
            ids.append(line)
        input_ids, mask = padded(ids)
        out = {"input_ids": input_ids, "attention_mask": mask, "pixel_values": torch.stack(pixels)}
        out["num_local_patches"] = counts  # a list, as Unlimited-OCR takes no other
        if local:
            out["pixel_values_local"] = torch.stack(local)
        if rows_of:
            out["patches_grid"] = torch.tensor([[max(count, 1), 1] for count in counts])
        return out

    return inputs


MORE_IMAGES = (
    Odd("FastVlmForConditionalGeneration", fast_vlm, plain(16, side=256)),
    Odd("MistralLarge4ForConditionalGeneration", mistral_large4, sized(2, broken=True)),
    Odd("UnlimitedOcrForConditionalGeneration", unlimited_ocr, with_local_tiles(21, 16, 64, rows_of=4)),
    Odd("DeepseekOcr2ForConditionalGeneration", deepseek_ocr2, with_local_tiles(145, 144, 64)),
    Odd("PerceptionLMForConditionalGeneration", perception_lm, in_tiles(9)),
    Odd("ChameleonForConditionalGeneration", chameleon, plain(16, side=8)),
    Odd("Gemma3nForConditionalGeneration", gemma3n, plain(256, side=128)),
    Odd("DeepseekVLHybridForConditionalGeneration", deepseek_hybrid, with_high_resolution),
    Odd("Step3p7ForConditionalGeneration", step3, with_local_tiles(4, 4, SIDE)),
)
