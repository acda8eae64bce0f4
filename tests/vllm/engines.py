"""Engines of vLLM on the embedded models, prompts for them, and what they were given and answered."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from vtc import embedded
from vtc.embedded.questions import SceneQuestion
from vtc.embedded.scene import HELD_OUT, Scene

SETTINGS = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": 1024,
    "limit_mm_per_prompt": {"image": 2},
    "max_num_seqs": 8,
    "gpu_memory_utilization": 0.3,  # of the memory of the CPU: others run beside it
    "seed": 0,
}


def nightly_but(names: Iterable[str], every: Collection[str]) -> list[Any]:
    """Parameters of which `every` are tried at each change; the others run no mechanism that these do not."""
    return [name if name in every else pytest.param(name, marks=pytest.mark.nightly) for name in names]


def with_older_names(source: Path, folder: Path) -> str:
    """A checkpoint by the names of weights that vLLM knows without the plugin: those of transformers before 5.23."""
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = load_file(folder / "model.safetensors")
    tower = "vision_tower."
    older = {
        name.replace(tower, f"{tower}vision_model.") if f"{tower}vision_model" not in name else name: value
        for name, value in weights.items()
    }
    save_file(older, folder / "model.safetensors", {"format": "pt"})
    return str(folder)


def processor_of(place: str) -> Any:
    """The processor of an embedded model or a folder."""
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(place if "/" in place else embedded.path(place))


def engine(name: str, vtc: dict[str, Any] | None, **settings: Any) -> Any:
    """An engine of vLLM on an embedded model or a folder, with `vtc` in its overrides unless it is None."""
    from vllm import LLM

    overrides = {**settings.pop("hf_overrides", {}), **({} if vtc is None else {"vtc": vtc})}
    place = name if "/" in name else str(embedded.path(name))
    return LLM(model=place, hf_overrides=overrides, **{**SETTINGS, **settings})


def closed(llm: Any) -> None:
    """End an engine within its process, so that another one can start there."""
    from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

    llm.llm_engine.engine_core.shutdown()
    del llm
    with contextlib.suppress(Exception):
        cleanup_dist_env_and_memory()


def module_of(model: Any) -> str:
    """Where the class of a model is from. Another process finds it by its name."""
    return type(model).__module__


def asked(count: int) -> list[tuple[Scene, SceneQuestion]]:
    """Questions about drawn images that no training saw, up to five an image."""
    pairs: list[tuple[Scene, SceneQuestion]] = []
    number = HELD_OUT
    while len(pairs) < count:
        scene = Scene(number)
        pairs += [(scene, question) for question in scene.questions[:5]]
        number += 1
    return pairs[:count]


def text_of(processor: Any, kinds: Sequence[str], question: str) -> str:
    """A prompt by the processor's own chat template, with a placeholder for each of `kinds`."""
    content = [*({"type": kind} for kind in kinds), {"type": "text", "text": question}]
    made: str = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    return made


def about(processor: Any, image: Any, question: str, vtc: dict[str, Any] | None = None) -> dict[str, Any]:
    """A request about one image as `LLM.generate` takes it."""
    own = {} if vtc is None else {"mm_processor_kwargs": {"vtc": vtc}}
    return {"prompt": text_of(processor, ["image"], question), "multi_modal_data": {"image": image}, **own}


def answers(llm: Any, requests: Sequence[dict[str, Any]], tokens: int = 8, **sampling: Any) -> list[Any]:
    """Greedy answers, in order."""
    from vllm import SamplingParams

    params = SamplingParams(max_tokens=tokens, temperature=0, **sampling)
    return list(llm.generate(list(requests), params, use_tqdm=False))


@contextlib.contextmanager
def recorded(monkeypatch: Any, module: Any) -> Iterator[list[Any]]:
    """What `reduce_media` gave, each call's items, where `module` calls it."""
    real, calls = module.reduce_media, []

    def record(*args: Any, **kwargs: Any) -> Any:
        calls.append(real(*args, **kwargs))
        return calls[-1]

    with monkeypatch.context() as patch:
        patch.setattr(module, "reduce_media", record)
        yield calls


def first_layer_positions(llm: Any) -> list[torch.Tensor]:
    """The positions that the first decoder layer is given from now on, a tensor each step."""
    seen: list[torch.Tensor] = []

    def watch(model: Any) -> None:
        layer = model.language_model.model.layers[0]
        layer.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append(kwargs.get("positions", args[0] if args else None).clone()),
            with_kwargs=True,
        )

    llm.apply_model(watch)
    return seen


def drawn_videos(count: int, frames: int = 8) -> list[tuple[Any, list[SceneQuestion]]]:
    """Frames of drawn videos that no training saw, each with up to three questions."""
    from vtc.embedded.video import HELD_OUT as FIRST
    from vtc.embedded.video import Video
    from vtc.embedded.video_spec import PIXELS
    from vtc.media.video_frames import VideoFrames

    found = []
    for number in range(FIRST, FIRST + count):
        video = Video(number)
        pixels = video.pixels(PIXELS)
        step = max(1, len(pixels) // frames)
        found.append((VideoFrames.regular(pixels[::step][:frames], video.fps / step), list(video.questions[:3])))
    return found


def about_video(processor: Any, frames: Any, question: str, vtc: dict[str, Any]) -> dict[str, Any]:
    """A request about frames that are all to be read, with their times."""
    metadata = {**frames.metadata(), "do_sample_frames": False}
    return {
        "prompt": text_of(processor, ["video"], question),
        "multi_modal_data": {"video": [(frames.pixels, metadata)]},
        "mm_processor_kwargs": {"vtc": vtc},
    }
