"""Servers of vLLM for `vtc bench serve`, stock and with vtc, and a checkpoint of a real language model's shape."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vtc import embedded
from vtc.core.ports import free_port

from .serve_load import until_up

PATIENCE = 600.0
"""Seconds that a server may take to start."""
SHAPE = "qwen2.5-vl-0.5b"
"""The language model of Qwen2.5 0.5B, weights random, behind a tower that costs 4 % of its prefill, as CLIP does before
the 7 B of LLaVA-1.5 (Qwen2.5-VL's costs nearly as much as its language model, which no choice of tokens spares)."""
PATCH, MERGE = 8, 2
LARGEST = 4 << 20
"""Pixels of an image that the shape's processor takes as it is."""


def vllm_command() -> str:
    """The `vllm` beside this Python, or on the path.

    Raises:
        ImportError: there is none.
    """
    beside = Path(sys.executable).with_name("vllm")
    found = str(beside) if beside.is_file() else shutil.which("vllm")
    if found is None:
        raise ImportError("no `vllm` command is installed; pip install 'vtc-vlm[vllm]' (docs/serving.md)")
    return found


@contextmanager
def served(model: str, vtc: Mapping[str, Any] | None, arguments: Mapping[str, Any], log: Path) -> Iterator[str]:
    """A server on this machine alone; yields its address, and ends it.

    Args:
        model: a directory or a hub id.
        vtc: the engine's recipe; None: stock vLLM.
        arguments: further ones of `vllm serve`, by name without dashes; True is a flag.
        log: takes what it prints.

    Raises:
        OSError: it ended before it was up, with the last error that it printed.
    """
    port = free_port("127.0.0.1", 0)
    given = [part for name, value in arguments.items() for part in _argument(name, value)]
    ours = [] if vtc is None else ["--hf-overrides", json.dumps({"vtc": dict(vtc)}), "--trust-request-mm-kwargs"]
    line = [vllm_command(), "serve", model, "--host", "127.0.0.1", "--port", str(port), *given, *ours]
    with log.open("w") as out:
        child = subprocess.Popen(line, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            url = f"http://127.0.0.1:{port}"
            if not until_up(url, lambda: child.poll() is not None, PATIENCE):
                raise OSError(f"`{' '.join(line[:3])}` did not start: {_reason(log)}")
            yield url
        finally:
            child.terminate()
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _reason(log: Path) -> str:
    """The last error that a server printed, or its last line, and where a copy of all of it lies."""
    printed = log.read_text(errors="replace").strip().splitlines() or ["it printed nothing"]
    number, kept = tempfile.mkstemp(prefix="vtc-server-", suffix=".log")
    os.close(number)
    shutil.copyfile(log, kept)  # the log's own folder goes with the caller
    found = next((line.strip() for line in reversed(printed) if "rror" in line), printed[-1])
    return f"{found} (all of it: {kept})"


def _argument(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    return [flag, json.dumps(value) if isinstance(value, (dict, list)) else str(value)]


def write_shape(folder: Path, layers: int) -> None:
    """Write the checkpoint of `SHAPE`, with `layers` of its 24 layers and the words of `tiny-qwen`."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    source = Path(embedded.path("tiny-qwen"))
    text = {
        "vocab_size": 208,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": layers,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 8, 8]},
    }
    vision = {
        "depth": 4,
        "hidden_size": 160,
        "intermediate_size": 640,
        "num_heads": 5,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": 2,
        "window_size": 8 * PATCH * MERGE,
        "out_hidden_size": 896,
        "fullatt_block_indexes": [3],
    }
    tokens: dict[str, Any] = {
        "image_token_id": 10,
        "video_token_id": 11,
        "vision_start_token_id": 8,
        "vision_end_token_id": 9,
    }
    torch.manual_seed(0)
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **tokens)
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copyfile(source / name, folder / name)
    settings = json.loads((source / "processor_config.json").read_text())
    for part in ("image_processor", "video_processor"):
        settings[part]["size"] = {"shortest_edge": (PATCH * MERGE) ** 2, "longest_edge": LARGEST}
    (folder / "processor_config.json").write_text(json.dumps(settings))
