"""The questions that an embedded model is asked about the drawn world, and when an answer is right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from . import VIEW_OF
from .questions import SceneQuestion
from .scene import Scene
from .video import Video


def exact(given: str, truth: str) -> bool:
    """Exact match, blind to case and outer blanks."""
    return given.strip().lower() == truth.strip().lower()


def asked(
    seeds: Iterable[int], per_scene: int | None = None, name: str = "tiny-llava", shifted: bool = False
) -> Iterator[tuple[Scene, SceneQuestion]]:
    """The questions of each seed's scene as the model `name` is asked them, all or the first `per_scene` of them."""
    for seed in seeds:
        scene = Scene(seed, VIEW_OF[name], shifted)
        for question in scene.questions[:per_scene]:
            yield scene, question


def asked_videos(
    seeds: Iterable[int], per_video: int | None = None, shifted: bool = False
) -> Iterator[tuple[Video, SceneQuestion]]:
    """The questions of each seed's video, all or the first `per_video` of them."""
    for seed in seeds:
        video = Video(seed, shifted)
        for question in video.questions[:per_video]:
            yield video, question
