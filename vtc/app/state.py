"""The models behind a page, and what is held between questions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vtc.check.runner import runnable
from vtc.core.tokens import Layout
from vtc.inference.asking import prompt
from vtc.inference.defaults import VIDEO_MODEL, image_model
from vtc.inference.loading import check_target, load
from vtc.inference.prompting import frames_are_images
from vtc.inference.quiet import quiet
from vtc.recipes.composition import Recipe
from vtc.recipes.named import named_recipes

from .media import (
    OpenMedium,
    RecentCache,
    looks_further,
    open_image,
    open_video,
    stamp,
)
from .streaming import InferenceLock
from .token_count import (
    Count,
    chosen,
    count,
    layouts,
)

PROBE = "?"
"""What is asked where only the places of visual tokens matter."""


@dataclass(frozen=True)
class LoadedModel:
    """A model that answers on the page.

    Attributes:
        name: as the command has it.
        model, processor: the model, not wrapped, and its processor.
        images, videos: the names of recipes that it can run on either.
        video: whether it takes the frames of a video as images.
    """

    name: str
    model: Any
    processor: Any
    images: tuple[str, ...]
    videos: tuple[str, ...]
    video: bool

    @classmethod
    def load(cls, name: str, device: str = "auto", dtype: str = "auto") -> LoadedModel:
        """Load a model by name.

        Raises:
            OSError, ValueError: see `vtc.inference.loading.load`.
        """
        with quiet():
            model, processor = load(name, device=device, dtype=dtype)
        able, _ = runnable(model, list(named_recipes()))
        video = frames_are_images(model)
        still = tuple(one.name for one in able if not one.is_video_recipe)
        moving = tuple(_able_on_videos(model)) if video else tuple(one.name for one in able)
        return cls(name, model, processor, still, moving, video)


def _able_on_videos(model: Any) -> Iterator[str]:
    """The recipes that `model` can run where the images of a row are the frames of a video."""
    from dataclasses import replace

    able, _ = runnable(model, [replace(one, images_as="frames") for one in named_recipes()])
    return (one.name for one in able)


@dataclass(frozen=True)
class AppState:
    """Models, media and running calls of one page.

    Attributes:
        image_model, video_model: the models that answer about images and about videos; they may be one.
        inference: lock and encoder outputs that all answers of the process share.
        calls: stop events of the running calls, by session, so that a visitor can stop his own.
    """

    image_model: LoadedModel
    video_model: LoadedModel
    inference: InferenceLock = field(default_factory=InferenceLock)
    calls: dict[str, threading.Event] = field(default_factory=dict)
    _opened: RecentCache = field(default_factory=RecentCache)
    _placed: RecentCache = field(default_factory=lambda: RecentCache(32))

    @classmethod
    def load(
        cls,
        model: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        *,
        offline: bool = False,
        say: Callable[[str], None] = lambda line: None,
    ) -> AppState:
        """Load `model`, or embedded ones: one for images, and one that was trained on videos.

        Args:
            offline, say: of the one for images, see `vtc.inference.defaults.image_model`.

        Raises:
            OSError, ValueError: see `vtc.inference.loading.load`.
        """
        if model is not None:
            loaded = LoadedModel.load(model, device, dtype)
            return cls(loaded, loaded)
        check_target(device, dtype)  # before a model is fetched for nothing
        name = image_model(offline=offline, say=say)
        return cls(LoadedModel.load(name, device, dtype), LoadedModel.load(VIDEO_MODEL, device, dtype))

    def loaded(self, video: bool) -> LoadedModel:
        """The model for images or for videos."""
        return self.video_model if video else self.image_model

    def recipe(self, name: str, keep: float, *, video: bool) -> Recipe:
        """The recipe of a visitor, see `vtc.app.token_count.chosen`.

        Raises:
            ValueError: an unknown recipe or `keep`, or one that this model cannot run.
        """
        loaded = self.loaded(video)
        found = chosen(name, keep, frames_are_images=video and loaded.video)
        able = loaded.videos if video else loaded.images
        if name not in able:
            kind = "videos" if video else "images"
            raise ValueError(f"recipe={name!r}: {loaded.name} cannot run it on {kind}; it can run {', '.join(able)}")
        return found

    def open(self, path: str | Path | None, recipe: Recipe, *, video: bool) -> OpenMedium:
        """The medium in `path`, held from an earlier question or opened.

        Raises:
            OSError, ValueError: none was uploaded, or it cannot be read.
        """
        if path is None:
            raise ValueError(f"no {'video' if video else 'image'} was given; upload one first")
        if not video:
            return self._open((stamp(path), "image"), lambda: open_image(path), path)
        processor = self.video_model.processor
        choice = str(recipe.input) if self._further(path, recipe) else "candidates"
        return self._open((stamp(path), "video", choice), lambda: open_video(path, recipe, processor), path)

    def _further(self, path: str | Path, recipe: Recipe) -> bool:
        key = (stamp(path), "further", str(recipe.input))
        found: bool = self._placed.get(key, lambda: _hiding(path, lambda: looks_further(path, recipe)))
        return found

    def _open(self, key: Any, make: Any, path: str | Path) -> OpenMedium:
        found: OpenMedium = self._opened.get(key, lambda: _hiding(path, make))
        return found

    def layouts(self, path: str | Path | None, recipe: Recipe, *, video: bool) -> tuple[Layout, ...]:
        """Return where the visual tokens of the medium in `path` stand.

        Raises:
            OSError, ValueError: see `open`.
        """
        opened = self.open(path, recipe, video=video)
        loaded = self.loaded(video)
        key = (id(opened), loaded.name)
        _, found = self._placed.get(key, lambda: (opened, self._layouts(loaded, opened, video)))
        return tuple(found)

    @staticmethod
    def _layouts(loaded: LoadedModel, opened: OpenMedium, video: bool) -> Sequence[Layout]:
        inputs = prompt(loaded.model, loaded.processor, opened.medium, PROBE)
        return layouts(loaded.model, inputs, video=video and loaded.video)

    def count(self, path: str | Path | None, name: str, keep: float, *, video: bool) -> Count:
        """Return how many visual tokens the recipe `name` keeps of the medium in `path`. No model runs.

        Raises:
            OSError, ValueError: see `recipe` and `open`, or a `keep` that is too small for the medium.
        """
        recipe = self.recipe(name, keep, video=video)
        return count(recipe, self.layouts(path, recipe, video=video))

    @contextmanager
    def call(self, session: str) -> Iterator[threading.Event]:
        """A call of `session`; the event stops it."""
        event = threading.Event()
        self.calls[session] = event
        try:
            yield event
        finally:
            if self.calls.get(session) is event:
                del self.calls[session]

    def stop(self, session: str) -> bool:
        """Stop the call of `session`; answers whether there was one."""
        event = self.calls.get(session)
        if event is not None:
            event.set()
        return event is not None


def _hiding(path: str | Path, make: Any) -> Any:
    """Call `make`; its errors name the file alone, not the folder on the server."""
    try:
        return make()
    except (OSError, ValueError) as error:
        raise ValueError(str(error).replace(str(path), Path(path).name)) from error
