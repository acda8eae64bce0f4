"""Training data as arrays: scenes drawn once by worker processes, kept on disk, read as often as wanted."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from transformers import PreTrainedTokenizerFast

from vtc.tiny.build import GRID, PATCH, SIDE, build_tokenizer
from vtc.tiny.labels import patch_labels, scene_labels
from vtc.tiny.questions import SKILLS
from vtc.tiny.world import Scene

MAX_QUESTIONS, MAX_WORDS = 24, 16
_CHUNK = 256


@dataclass
class Bank:
    """`n` scenes as arrays.

    pixels   uint8 [n, 96, 96, 3]
    patches  uint8 [n, 144, fields]        `labels.patch_labels`
    pairs    uint8 [n, 48]                 `labels.scene_labels`
    words    int16 [n, 24, 16]             question, "assistant", ":", answer, "</s>", padded with 0
    answer   int8  [n, 24]                 where in `words` the answer starts; 0: no such question
    skill    int8  [n, 24]                 index in `SKILLS`
    """

    pixels: np.ndarray
    patches: np.ndarray
    pairs: np.ndarray
    words: np.ndarray
    answer: np.ndarray
    skill: np.ndarray

    def __len__(self) -> int:
        """The number of scenes."""
        return len(self.pixels)


def make_bank(first: int, n: int, workers: int) -> Bank:
    """Draw the scenes of seeds `first` to `first + n - 1`, `workers` processes at once."""
    starts = range(first, first + n, _CHUNK)
    jobs = [(s, min(_CHUNK, first + n - s)) for s in starts]
    if workers <= 1:
        parts = [_chunk(job) for job in jobs]
    else:
        with ProcessPoolExecutor(workers) as pool:
            parts = list(pool.map(_chunk, jobs))
    return Bank(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def load_bank(folder: Path, first: int, n: int, workers: int) -> Bank:
    """`make_bank`, kept in `folder` for the next time."""
    stem = folder / f"bank-{first}-{n}"
    names = list(Bank.__dataclass_fields__)
    if not stem.is_dir():
        bank = make_bank(first, n, workers)
        unfinished = stem.with_suffix(".tmp")
        unfinished.mkdir(parents=True, exist_ok=True)
        for name in names:
            np.save(unfinished / f"{name}.npy", getattr(bank, name))
        unfinished.rename(stem)
    return Bank(*(np.load(stem / f"{name}.npy", mmap_mode="r") for name in names))


def _chunk(job: tuple[int, int]) -> tuple[np.ndarray, ...]:
    cv2.setNumThreads(1)
    tokenizer = build_tokenizer()
    rows = [_scene_arrays(Scene(seed), tokenizer) for seed in range(job[0], job[0] + job[1])]
    return tuple(np.stack(column) for column in zip(*rows, strict=True))


def _scene_arrays(scene: Scene, tokenizer: PreTrainedTokenizerFast) -> tuple[np.ndarray, ...]:
    # Half with the processor's own resampling, half with area averages: other libraries resize a little differently.
    resample = Image.Resampling.BICUBIC if scene.seed % 2 else Image.Resampling.BOX
    pixels = np.asarray(scene.image.resize((SIDE, SIDE), resample))
    words = np.zeros((MAX_QUESTIONS, MAX_WORDS), np.int16)
    answer, skill = np.zeros(MAX_QUESTIONS, np.int8), np.zeros(MAX_QUESTIONS, np.int8)
    for i, q in enumerate(scene.questions[:MAX_QUESTIONS]):
        asked = tokenizer(f"{q.question} assistant:", add_special_tokens=False).input_ids
        whole = asked + tokenizer(f"{q.answer}</s>", add_special_tokens=False).input_ids
        words[i, : len(whole)] = whole
        answer[i], skill[i] = len(asked), SKILLS.index(q.skill)
    return pixels, patch_labels(scene, GRID, PATCH), scene_labels(scene), words, answer, skill
