"""Training data as arrays: scenes drawn once by worker processes, kept on disk, read as often as wanted."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from transformers import PreTrainedTokenizerFast

from tools.train_embedded.hard_examples import hard_questions, hard_video_questions
from tools.train_embedded.labels import FACTS, look_facts, patch_labels
from tools.train_embedded.model_specs import MODEL_SPECS
from tools.train_embedded.model_specs.base import ModelSpec
from tools.train_embedded.tokenizer import build_tokenizer
from vtc.embedded import spec, video_spec
from vtc.embedded.questions import SKILLS, SceneQuestion
from vtc.embedded.scene import Scene
from vtc.embedded.video import Video
from vtc.embedded.video_spec import SKILLS as VIDEO_SKILLS

MAX_QUESTIONS, MAX_WORDS = 24, 18
LABELS = (*SKILLS, *VIDEO_SKILLS)
_CHUNK = 128


@dataclass
class SceneGroup:
    """`n` scenes of one size: `k` looks of `w` x `h` pixels each.

    pixels   uint8 [n, k, h, w, 3]
    patches  uint8 [n, k, patches, fields]  `labels.patch_labels`
    facts    uint8 [n, k, facts]            `labels.look_facts`
    things   int8  [n]                      how many things the scene has
    words    int16 [n, 24, 18]              question, "assistant", ":", answer, "</s>", padded with 0
    answer   int8  [n, 24]                  where in `words` the answer starts; 0: no such question
    skill    int8  [n, 24]                  index in `LABELS`

    A look of a video is two frames: six channels, and the fields of both side by side.
    """

    pixels: np.ndarray
    patches: np.ndarray
    facts: np.ndarray
    things: np.ndarray
    words: np.ndarray
    answer: np.ndarray
    skill: np.ndarray

    def __len__(self) -> int:
        """The number of scenes."""
        return len(self.pixels)

    @property
    def looks(self) -> int:
        """Looks of a scene."""
        return int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        """3 for images, 6 for videos."""
        return int(self.pixels.shape[-1])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a look in pixels."""
        return int(self.pixels.shape[3]), int(self.pixels.shape[2])


Dataset = list[SceneGroup]
_NAMES = [f.name for f in fields(SceneGroup)]


def make_dataset(
    model_spec: ModelSpec, first: int, n: int, workers: int, videos: int = 0, hard: bool = False
) -> Dataset:
    """Draw `n` scenes and so many videos of the seeds from `first` on, `workers` processes at once, grouped by size.

    `hard`: with the questions of `hard_questions`.
    """
    jobs = [
        (model_spec.name, kind, s, min(_CHUNK, first + count - s), hard)
        for kind, count in (("scene", n), ("video", videos))
        for s in range(first, first + count, _CHUNK)
    ]
    if workers <= 1:
        parts = [_chunk(job) for job in jobs]
    else:
        with ProcessPoolExecutor(workers) as pool:
            parts = list(pool.map(_chunk, jobs))
    canvases = sorted({canvas for part in parts for canvas in part})
    return [
        SceneGroup(*(np.concatenate(a) for a in zip(*(p[canvas] for p in parts if canvas in p), strict=True)))
        for canvas in canvases
    ]


def load_dataset(
    folder: Path, model_spec: ModelSpec, first: int, n: int, workers: int, videos: int = 0, hard: bool = False
) -> Dataset:
    """`make_dataset`, kept in `folder` for the next time."""
    world = f"{model_spec.name}-{spec.VERSION}.{video_spec.VERSION}"
    stem = folder / (f"dataset-{world}-{first}-{n}-{videos}" + ("-hard" if hard else ""))
    if not stem.is_dir():
        unfinished = stem.with_suffix(".tmp")
        unfinished.mkdir(parents=True, exist_ok=True)
        for i, group in enumerate(make_dataset(model_spec, first, n, workers, videos, hard)):
            for name in _NAMES:
                np.save(unfinished / f"{i}-{name}.npy", getattr(group, name))
        unfinished.rename(stem)
    groups = len(list(stem.glob("*-pixels.npy")))
    return [SceneGroup(*(np.load(stem / f"{i}-{name}.npy", mmap_mode="r") for name in _NAMES)) for i in range(groups)]


Shape = tuple[int, ...]


def _chunk(job: tuple[str, str, int, int, bool]) -> dict[Shape, tuple[np.ndarray, ...]]:
    cv2.setNumThreads(1)
    name, kind, first, n, hard = job
    model_spec, tokenizer = MODEL_SPECS[name], build_tokenizer()
    rows: dict[Shape, list[tuple[np.ndarray, ...]]] = {}
    for seed in range(first, first + n):
        if kind == "video":
            arrays = _video_arrays(model_spec, Video(seed), tokenizer, hard)
        else:
            arrays = _arrays(model_spec, Scene(seed, model_spec.view), tokenizer, hard)
        rows.setdefault(arrays[0].shape, []).append(arrays)
    return {canvas: tuple(np.stack(column) for column in zip(*some, strict=True)) for canvas, some in rows.items()}


def _arrays(
    model_spec: ModelSpec, scene: Scene, tokenizer: PreTrainedTokenizerFast, hard: bool
) -> tuple[np.ndarray, ...]:
    looks = model_spec.looks(scene)
    return (
        look_pixels(model_spec, scene),
        np.stack([patch_labels(scene, look) for look in looks]),
        np.stack([look_facts(scene, look) for look in looks]),
        np.array(len(scene.things), np.int8),
        *_question_arrays(hard_questions(scene, MAX_QUESTIONS) if hard else scene.questions, tokenizer),
    )


def _video_arrays(
    model_spec: ModelSpec, video: Video, tokenizer: PreTrainedTokenizerFast, hard: bool
) -> tuple[np.ndarray, ...]:
    looks = model_spec.video_looks(video)
    frames = video_pixels(model_spec, video)
    labels = [patch_labels(video.state(i), looks[i // 2]) for i in range(video.frames)]
    return (
        np.concatenate([frames[::2], frames[1::2]], -1),
        np.stack([np.concatenate(labels[i : i + 2], -1) for i in range(0, video.frames, 2)]),
        np.zeros((len(looks), FACTS), np.uint8),  # models that see videos have no class token
        np.array(len(video.actors), np.int8),
        *_question_arrays(hard_video_questions(video, MAX_QUESTIONS) if hard else video.questions, tokenizer),
    )


def video_pixels(model_spec: ModelSpec, video: Video) -> np.ndarray:
    """The frames of `video` as the tower sees them, uint8 `[frames, h, w, 3]`, drawn at the size they are scored at."""
    return video.pixels(model_spec.video_looks(video)[0][1][0])


def _question_arrays(questions: list[SceneQuestion], tokenizer: PreTrainedTokenizerFast) -> tuple[np.ndarray, ...]:
    words = np.zeros((MAX_QUESTIONS, MAX_WORDS), np.int16)
    answer, skill = np.zeros(MAX_QUESTIONS, np.int8), np.zeros(MAX_QUESTIONS, np.int8)
    for i, q in enumerate(questions[:MAX_QUESTIONS]):
        asked = tokenizer(f"{q.question} assistant:", add_special_tokens=False).input_ids
        whole = asked + tokenizer(f"{q.answer}</s>", add_special_tokens=False).input_ids
        words[i, : len(whole)] = whole
        answer[i], skill[i] = len(asked), LABELS.index(q.skill)
    return words, answer, skill


def look_pixels(model_spec: ModelSpec, scene: Scene) -> np.ndarray:
    """Return the pixels of all looks, uint8 `[looks, h, w, 3]`.

    Half with the processor's own resampling, half with area averages: other libraries resize a little differently.
    """
    resample = Image.Resampling.BICUBIC if scene.seed % 2 else Image.Resampling.BOX
    width, height = model_spec.canvas(scene)
    whole = scene.image.resize((width, height), resample)
    out = []
    for (left, top, right, bottom), (w, h) in model_spec.looks(scene):
        x, y = round(left / scene.width * width), round(top / scene.height * height)
        box = (x, y, round(right / scene.width * width), round(bottom / scene.height * height))
        part = whole.crop(box)
        # A thumbnail is shrunk from the image itself, as the processor does.
        out.append(np.asarray(part if part.size == (w, h) else scene.image.resize((w, h), resample)))
    return np.stack(out)
