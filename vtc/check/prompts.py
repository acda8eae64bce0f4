"""The prompts of `vtc check`: packaged images, written by a model's own processor and chat template."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vtc.adapters import find
from vtc.embedded.samples import samples
from vtc.media.frame_times import on_device
from vtc.media.images import load_image

from .context import CheckPrompt

PHOTOGRAPH = Path(__file__).parents[1] / "embedded" / "photographs" / "cat.jpg"
Part = str | Image.Image | np.ndarray
"""A piece of a prompt: text, an image, or a video `[frames, H, W, 3]`."""


def makers(model: Any, processor: Any) -> dict[str, Sequence[Callable[[], CheckPrompt]]]:
    """By name, the ways to build each case; a processor that cannot do one raises when it is called.

    Raises:
        ValueError: a processor that takes no images, or has no chat template.
    """
    _check(processor)
    cat = load_image(PHOTOGRAPH)
    scenes = [load_image(path) for path in dict.fromkeys(sample.path for sample in samples())]
    one: list[Part] = [cat, "what is in the picture?"]
    two: list[Part] = [scenes[0], "this was the first image; here is another:", scenes[1], "what has changed?"]
    unlike: list[list[Part]] = [[scenes[2], "where is the square?"], [scenes[3], "and", cat, "how many are there?"]]
    write = partial(_inputs, model, processor)
    found: dict[str, Sequence[Callable[[], CheckPrompt]]] = {
        "one image": [lambda: CheckPrompt("one image", write([one]))],
        "two images": [lambda: CheckPrompt("two images", write([two]))],
        "batch": [
            lambda: _batch(write, "batch", [*unlike, ["what color is the star?"]], (2, 1, 0)),
            lambda: _batch(write, "batch without a row of text only", unlike, (1, 0)),
        ],
    }
    if "video" in find(model).placeholders and getattr(processor, "video_processor", None) is not None:
        video: list[Part] = [np.stack([np.asarray(scene) for scene in scenes]), "what happens?"]
        metadata = {"fps": 1.0, "total_num_frames": 4, "duration": 4.0, "frames_indices": [0, 1, 2, 3]}
        options: list[dict[str, Any]] = [
            {"do_sample_frames": False, "video_metadata": [[metadata]]},
            {"do_sample_frames": False},
            {},
        ]
        found["video"] = [partial(_video, write, video, option) for option in options]
    return found


def _check(processor: Any) -> None:
    name = type(processor).__name__
    if getattr(processor, "tokenizer", None) is None or getattr(processor, "image_processor", None) is None:
        raise ValueError(
            f"the checkpoint's processor is a {name}, which does not take text and images together; save the "
            "model's processor beside it (processor.save_pretrained)"
        )
    if getattr(processor, "chat_template", None) is None:
        raise ValueError(
            f"the checkpoint's {name} has no chat template, by which the prompts of a check are written; set "
            "processor.chat_template and save it beside the model (processor.save_pretrained)"
        )


def _video(write: Callable[..., Mapping[str, Any]], parts: list[Part], options: Mapping[str, Any]) -> CheckPrompt:
    return CheckPrompt("video", write([parts], **options))


def _batch(
    write: Callable[..., Mapping[str, Any]], name: str, rows: Sequence[list[Part]], order: tuple[int, ...]
) -> CheckPrompt:
    alone = tuple(write([row]) for row in rows)
    return CheckPrompt(name, write(rows), alone, write([rows[i] for i in order]), order)


def _inputs(model: Any, processor: Any, rows: Sequence[Sequence[Part]], **options: Any) -> Mapping[str, Any]:
    """The model's inputs for some prompts, padded left."""
    with _padding_left(processor.tokenizer, len(rows)):
        inputs = processor.apply_chat_template(
            [[{"role": "user", "content": [_entry(part) for part in row]}] for row in rows],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={**options, **({"padding": True} if len(rows) > 1 else {})},
        )
    return on_device(model, inputs)


def _entry(part: Part) -> dict[str, Any]:
    kind = "text" if isinstance(part, str) else "image" if isinstance(part, Image.Image) else "video"
    return {"type": kind, kind: part}


@contextmanager
def _padding_left(tokenizer: Any, rows: int) -> Iterator[None]:
    """Pad left inside the block, as generation needs, where there is more than one row."""
    before = tokenizer.padding_side
    tokenizer.padding_side = "left" if rows > 1 else before
    try:
        yield
    finally:
        tokenizer.padding_side = before
