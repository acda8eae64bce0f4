"""A whole speed test: a model, requests for it, and the variants, batch by batch."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from typing import Any

import torch

from vtc.core.budget import Keep
from vtc.core.machine import machine
from vtc.inference.loading import DTYPES, load
from vtc.inference.prompting import inputs
from vtc.media.video_frames import VideoFrames
from vtc.recipes.composition import Recipe

from .architectures import architecture, build
from .config import versions
from .speed import SpeedRow, SpeedTest
from .speed_tables import document
from .variants import variants

QUESTION = "what is in the picture?"
ATTENTION = ("sdpa", "eager", "flash_attention_2")


@dataclass(frozen=True)
class SpeedConfig:
    """What is timed.

    Attributes:
        model, arch: a model by name, or an architecture with random weights; one of both.
        layers: of the language model of `arch` at most; None: as many as memory holds.
        image_tokens: of the largest image of `arch`, where it takes images of any size; None: as its card has it.
        recipes, keeps, batches: every recipe at every keep for every batch.
        images, frames: of one request; with `frames` a video of so many is asked about in place of images.
        rounds, answer, patience: see `SpeedTest`.
        attn: the attention kernel; None: the model's own choice.
    """

    recipes: Sequence[Recipe]
    keeps: Sequence[Keep]
    model: str | None = None
    arch: str | None = None
    layers: int | None = None
    image_tokens: int | None = None
    batches: Sequence[int] = (1, 4)
    images: int = 1
    frames: int | None = None
    rounds: int = 7
    answer: int = 16
    patience: float = 120.0
    device: str = "auto"
    dtype: str = "auto"
    attn: str | None = None

    def __post_init__(self) -> None:
        for name in ("images", "frames", "rounds", "answer", "image_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} {value}; expected a whole number of at least 1")
        if not self.batches or min(self.batches) < 1:
            raise ValueError(f"--batch {','.join(map(str, self.batches))}; expected whole numbers of at least 1")
        if self.attn not in (None, *ATTENTION):
            raise ValueError(f"--attn {self.attn!r}; expected one of {', '.join(ATTENTION)}")
        if (self.model is None) == (self.arch is None):
            raise ValueError("--model names a model, --arch an architecture with random weights; pass one of them")
        for option, value in (("--layers", self.layers), ("--image-tokens", self.image_tokens)):
            if value is not None and self.arch is None:
                raise ValueError(f"{option} {value}: a model is timed as it is; pass --arch, or leave it out")
        if self.arch is not None:
            architecture(self.arch)
            if self.frames is not None:
                raise ValueError(
                    f"--frames: requests for --arch {self.arch} are about images; pass --model, or --images"
                )


Requests = Callable[[int], Mapping[str, Any]]


def run(
    config: SpeedConfig, threads: int | None = None, on_progress: Callable[[str], None] = lambda doing: None
) -> dict[str, Any]:
    """The document of a speed test, see `speed_tables.document`.

    Args:
        threads: of torch; None: as they are.

    Raises:
        OSError, ValueError: the model cannot be loaded or built, or takes no such requests.
    """
    with _threads(threads):
        on_progress("loading")
        model, requests, shape = _model(config)
        if config.attn is not None:
            model.set_attn_implementation(config.attn)
        test = SpeedTest(model, rounds=config.rounds, answer=config.answer, patience=config.patience)
        chosen = variants(config.recipes, config.keeps, text_alone=False)
        rows: list[SpeedRow] = []
        left_out = None
        for batch in config.batches:
            on_progress(f"batch of {batch}")
            given = requests(batch)
            on_round = partial(_tell_round, on_progress, batch, config.rounds + 1)
            try:
                rows += test.rows(given, chosen, on_round)
            except RuntimeError as error:  # what was measured is kept
                if not rows or "memory" not in str(error):
                    raise
                left_out = f"batch of {batch} and what follows: out of memory"
                break
        about = {
            "model": config.model or config.arch,
            "shape": shape,
            "device": str(model.device),
            "dtype": str(model.dtype).removeprefix("torch."),
            "attn": model.config._attn_implementation,
            "images": config.images,
            "frames": config.frames,
            "rounds": config.rounds,
            "left_out": left_out,
            "machine": machine(str(model.device)),
            "versions": versions(),
            "date": datetime.date.today().isoformat(),
        }
        return document(rows, about, config.answer)


def _tell_round(on_progress: Callable[[str], None], batch: int, rounds: int, done: int) -> None:
    on_progress(f"batch of {batch}, round {done} of {rounds}")


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)


def _model(config: SpeedConfig) -> tuple[Any, Requests, str]:
    """The model, what makes a batch of requests for it, and its shape in words."""
    if config.arch is not None:
        device = ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
        dtype = torch.bfloat16 if config.dtype == "auto" else getattr(torch, _dtype(config.dtype))
        model, remark = build(config.arch, device, dtype, layers=config.layers)
        made = architecture(config.arch)
        shape = f"random weights, {_parameters(model)}{', ' if remark else ''}{remark}"
        return model, lambda batch: made.requests(model, batch, config.images, config.image_tokens), shape
    assert config.model is not None
    model, processor = load(config.model, device=config.device, dtype=config.dtype)
    return model, lambda batch: _given(model, processor, batch, config), _parameters(model)


def _dtype(name: str) -> str:
    if name not in DTYPES:
        raise ValueError(f"dtype={name!r}; expected one of {', '.join(DTYPES)}")
    return name


def _parameters(model: Any) -> str:
    count = sum({id(p): p.numel() for p in model.parameters()}.values())
    return f"{count / 1e9:.2f} B parameters" if count >= 1e9 else f"{count / 1e6:.0f} M parameters"


def _given(model: Any, processor: Any, batch: int, config: SpeedConfig) -> Mapping[str, Any]:
    """Inputs about drawn images, or drawn videos; of several images of a request the question is the last's."""
    from vtc.embedded.scene import HELD_OUT, Scene
    from vtc.embedded.video import Video

    if config.frames is not None:
        videos = (Video(HELD_OUT + i) for i in range(batch))
        media = [VideoFrames.regular(_frames(video.pixels(SIDE), config.frames), video.fps) for video in videos]
        return inputs(model, processor, [QUESTION] * batch, media)
    if config.images == 1:
        drawn = [Scene(HELD_OUT + i).image for i in range(batch)]
        return inputs(model, processor, [QUESTION] * batch, drawn)
    return _several(model, processor, batch, config.images)


SIDE = 112
"""Pixels of a drawn video, a side."""


def _frames(pixels: Any, count: int) -> Any:
    import numpy as np

    return np.stack(list(islice(cycle(pixels), count)))


def _several(model: Any, processor: Any, batch: int, images: int) -> Mapping[str, Any]:
    from vtc.embedded.scene import HELD_OUT, Scene
    from vtc.media.frame_times import on_device

    chats = [
        [
            {
                "role": "user",
                "content": [
                    *({"type": "image", "image": Scene(HELD_OUT + row * images + i).image} for i in range(images)),
                    {"type": "text", "text": QUESTION},
                ],
            }
        ]
        for row in range(batch)
    ]
    made = processor.apply_chat_template(
        chats,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True} if batch > 1 else {},
    )
    return on_device(model, made)
