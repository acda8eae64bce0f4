"""The vLLM side of `agreement`, in a process of its own: reads job.json of a folder and writes found.json there."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from .agreement import kept_of

ENGINE = {"max_model_len": 8192, "max_num_seqs": 4, "enforce_eager": True, "seed": 0}
CPU_SHARE = 0.4
"""Of a CPU's memory that an engine wants free before it starts; vLLM's own 0.92 is for an idle machine."""


def main() -> None:
    """Answer every request by every recipe, one after the other, and write what was kept of it."""
    import vllm

    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text())
    shared = {} if torch.cuda.is_available() else {"gpu_memory_utilization": CPU_SHARE}
    settings = {**ENGINE, **shared, "dtype": job["dtype"], **job["engine_args"]}
    overrides = {**settings.pop("hf_overrides", {}), "vtc": {"keep": 1.0}}
    try:
        llm = vllm.LLM(model=job["model"], hf_overrides=overrides, **settings)
    except ValueError as error:  # most often a context that is longer than the model's: its own then
        if "max_model_len" in job["engine_args"] or "max_model_len" not in str(error):
            raise
        llm = vllm.LLM(model=job["model"], hf_overrides=overrides, **{**settings, "max_model_len": None})
    kept = llm.apply_model(_recording)[0]
    found = [_by_recipe(vllm, llm, kept, job, folder, spec) for spec in job["recipes"]]
    (folder / "found.json").write_text(json.dumps({"version": vllm.__version__, "recipes": found}))


def _recording(model: Any) -> list[list[int]]:
    """The tokens that are kept of each item from now on."""
    if getattr(model, "_vtc", None) is None:
        raise TypeError(f"{type(model).__name__} is served by stock vLLM: vtc does not know this architecture there")
    kept: list[list[int]] = []
    stock = model.rows

    def rows(item: Any, batch: Any, index: int) -> Any:
        kept.append(item.reduction.anchor.tolist())
        return stock(item, batch, index)

    model.rows = rows
    return kept


def _by_recipe(vllm: Any, llm: Any, kept: list[list[int]], job: Any, folder: Path, spec: Any) -> list[Any] | str:
    """What each image gives by one recipe, or why the engine refuses it."""
    params = vllm.SamplingParams(max_tokens=job["longest"], temperature=0)
    found = []
    for i, text in enumerate(job["texts"]):
        own = {"vtc": {"recipe": spec}}
        request = {"prompt": text, "multi_modal_data": {"image": Image.open(folder / f"{i}.png")}}
        kept.clear()
        try:
            (out,) = llm.generate([{**request, "mm_processor_kwargs": own}], params, use_tqdm=False)
        except ValueError as error:
            return str(error)
        length = len(out.prompt_token_ids)
        found.append({"anchor": kept_of(kept), "length": length, "text": out.outputs[0].text.strip()})
    return found
