"""The language model of `small-llava` from a GGUF file: a tiny one of the same kind."""

from __future__ import annotations

import gguf
import numpy as np
import torch

from vtc.embedded.small_llava.language_model import FILE, from_gguf

WIDTH, MLP, LAYERS = 64, 96, 2
WORDS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "a", "b", "ab", "Ġ", "Ċ")


def write(path) -> dict[str, np.ndarray]:
    """A Llama of two layers, its large matrices in Q4_1; returns the weights as they were."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(8192)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(MLP)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e5)
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(list(WORDS))
    writer.add_token_types([3, 3, 3, 1, 1, 1, 1, 1])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    rng = np.random.default_rng(0)
    shapes = {"token_embd": (len(WORDS), WIDTH), "output_norm": (WIDTH,)}
    for i in range(LAYERS):
        shapes |= {f"blk.{i}.{name}": (WIDTH,) for name in ("attn_norm", "ffn_norm")}
        shapes |= {f"blk.{i}.attn_q": (WIDTH, WIDTH), f"blk.{i}.attn_output": (WIDTH, WIDTH)}
        shapes |= {f"blk.{i}.attn_k": (WIDTH // 2, WIDTH), f"blk.{i}.attn_v": (WIDTH // 2, WIDTH)}
        shapes |= {
            f"blk.{i}.ffn_gate": (MLP, WIDTH),
            f"blk.{i}.ffn_up": (MLP, WIDTH),
            f"blk.{i}.ffn_down": (WIDTH, MLP),
        }
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    for name, value in weights.items():
        if value.ndim == 2 and name != "token_embd":
            quantized = gguf.quants.quantize(value, gguf.GGMLQuantizationType.Q4_1)
            writer.add_tensor(f"{name}.weight", quantized, raw_dtype=gguf.GGMLQuantizationType.Q4_1)
        else:
            writer.add_tensor(f"{name}.weight", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights


def test_a_quantized_file_is_read_as_float32_with_its_tokenizer(tmp_path):
    written = write(tmp_path / FILE)
    found = from_gguf(tmp_path)
    assert {value.dtype for value in found.weights.values()} == {torch.float32}
    torch.testing.assert_close(found.weights["embed_tokens.weight"], torch.from_numpy(written["token_embd"]))
    down = found.weights["layers.1.mlp.down_proj.weight"]
    expected = gguf.quants.quantize(written["blk.1.ffn_down"], gguf.GGMLQuantizationType.Q4_1)
    exact = gguf.quants.dequantize(expected, gguf.GGMLQuantizationType.Q4_1)
    torch.testing.assert_close(down, torch.from_numpy(exact), atol=1e-6, rtol=1e-6)
    assert found.tokenizer("ab", add_special_tokens=False).input_ids == [5]
    assert found.tokenizer.eos_token == "<|im_end|>"
