"""How much a frame has to do with a question, as a number: what question-aware keyframes are chosen by."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from .frame_features import fitting_pixels

Score = Callable[[NDArray[np.uint8], str], float]
"""How much a frame, uint8 `[H, W, 3]`, has to do with a question; the higher the more, on any scale."""
ScoreFrames = Callable[[NDArray[np.uint8]], Sequence[float]]
"""The same of several frames, uint8 `[N, H, W, 3]`, for a question that is known."""
MODEL, CLIP = "model", "clip:"
NAMES = "'model' (the model's own image tokens beside its word embeddings) or 'clip:FOLDER' (a CLIP or SigLIP model)"
BATCH = 8
"""Frames that go through an encoder at once."""


def check_scorer(name: object) -> str:
    """`name`, if it is one that `scorer` takes.

    Raises:
        TypeError, ValueError: it is none.
    """
    if not isinstance(name, str):
        raise TypeError(f"scorer={name!r} is a {type(name).__name__}; expected {NAMES}")
    if name != MODEL and not (name.startswith(CLIP) and name != CLIP):
        raise ValueError(f"scorer={name!r}; expected {NAMES}")
    return name


class FrameScorer(ABC):
    """Scores frames for a question."""

    @abstractmethod
    def score(self, frames: NDArray[np.uint8], question: str) -> list[float]:
        """One number for each of `frames` `[N, H, W, 3]`, the higher the more it has to do with `question`."""


def scorer(name: str, model: Any = None, processor: Any = None) -> FrameScorer:
    """The scorer called `name`.

    Args:
        name: `model`: `ModelScorer`; `clip:FOLDER`: `ClipScorer` of a model in that folder.
        model, processor: for `model`.

    Raises:
        TypeError, ValueError: another name, `model` without a model, or a folder that holds none.
    """
    check_scorer(name)
    if name != MODEL:
        return _clip(name.removeprefix(CLIP))
    if model is None or processor is None:
        raise ValueError("scorer='model' compares the model's own tokens; pass the model, as vtc.video.ask does")
    return ModelScorer(model, processor)


def for_question(given: FrameScorer | Score, question: str) -> ScoreFrames:
    """`given` for one question; a plain function is asked frame by frame."""
    if isinstance(given, FrameScorer):
        return partial(given.score, question=question)
    return lambda frames: [given(frame, question) for frame in frames]


class ModelScorer(FrameScorer):
    """The largest cosine of one of a frame's visual tokens to an embedding of a word of the question.

    Tokens are those that the language model would read, of the frame shrunk to 224 pixels, less the frame's mean token;
    word embeddings are less the mean of all that the model has: both kinds share a large part that says nothing. It
    costs no further model. Nothing in training asks a token to resemble the embedding of a word for what it shows, and
    on the embedded models it hardly does.

    Args:
        model, processor: as `vtc.inference.loading.load` gives them.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self._model, self._processor = model, processor

    def score(self, frames: NDArray[np.uint8], question: str) -> list[float]:
        """See `FrameScorer.score`."""
        words = self._words(question)
        found: list[float] = []
        for at in range(0, len(frames), BATCH):
            for rows in self._tokens(frames[at : at + BATCH]):
                centred = normalize(rows - rows.mean(dim=0), dim=1)
                found.append(float((centred @ words.T).max()))
        return found

    @torch.inference_mode()
    def _tokens(self, frames: NDArray[np.uint8]) -> list[Tensor]:
        """`[n, D]` fp32 of each frame."""
        from vtc.adapters import find  # loads transformers' models, and scorers are named before any is asked for

        adapter = find(self._model)
        images = [fitting_pixels(frame, 224) for frame in frames]
        inputs = self._processor(text=self._processor.image_token * len(images), images=images, return_tensors="pt").to(
            self._model.device
        )
        encoded = adapter.encode(adapter.media(inputs), ())
        return [tokens.features[~tokens.layout.structural.to(tokens.features.device)].float() for tokens in encoded]

    @torch.inference_mode()
    def _words(self, question: str) -> Tensor:
        """`[W, D]` unit rows."""
        ids = self._processor.tokenizer(question, add_special_tokens=False, return_tensors="pt")["input_ids"][0]
        table = self._model.get_input_embeddings()
        rows = table(ids.unique().to(table.weight.device)).float()
        return normalize(rows - table.weight.float().mean(dim=0), dim=1)


class ClipScorer(FrameScorer):
    """The cosine of a frame and the question by a model that was trained to put both into one space.

    Args:
        folder: a CLIP or SigLIP model as `save_pretrained` writes it, with its processor. Nothing is downloaded.

    Raises:
        ValueError: it holds none.
    """

    def __init__(self, folder: str) -> None:
        from transformers import AutoModel, AutoProcessor

        if not Path(folder).is_dir():
            raise ValueError(
                f"scorer='clip:{folder}': no such folder; save a CLIP or SigLIP model and its processor there"
            )
        self._processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        self._model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
        if not hasattr(self._model, "get_text_features") or not hasattr(self._model, "get_image_features"):
            raise ValueError(
                f"scorer='clip:{folder}': a {type(self._model).__name__} has no text and image features in one space; "
                "take a CLIPModel or a SiglipModel"
            )

    @torch.inference_mode()
    def score(self, frames: NDArray[np.uint8], question: str) -> list[float]:
        """See `FrameScorer.score`. A question that is longer than the model reads is cut."""
        text = self._processor.tokenizer(question, truncation=True, padding="max_length", return_tensors="pt")
        asked = normalize(_rows(self._model.get_text_features(**text)), dim=1)
        found: list[float] = []
        for at in range(0, len(frames), BATCH):
            images = [Image.fromarray(frame) for frame in frames[at : at + BATCH]]
            pixels = self._processor.image_processor(images=images, return_tensors="pt")
            shown = normalize(_rows(self._model.get_image_features(**pixels)), dim=1)
            found += (shown @ asked.T).flatten().tolist()
        return found


@lru_cache(maxsize=1)
def _clip(folder: str) -> ClipScorer:
    # Always the same for one folder: reading its weights for every question would take longer than scoring.
    return ClipScorer(folder)


def _rows(output: Any) -> Tensor:
    """`[N, D]` fp32 of what a model's `get_..._features` gives: a tensor, or since transformers 5 an output."""
    rows: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return rows.float()
