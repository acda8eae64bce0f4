"""What `vtc ask` and `vtc show` do, with an image and with a video."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console

from vtc.core.budget import Keep
from vtc.core.files import is_same_file
from vtc.embedded.samples import sample_path
from vtc.inference.defaults import IMAGES, VIDEO_MODEL, VIDEOS, image_model
from vtc.inference.quiet import quiet
from vtc.media.images import is_video, load_image
from vtc.media.video_frames import VideoFrames
from vtc.recipes.composition import Recipe
from vtc.recipes.named import recipe as named
from vtc.recipes.overrides import changed
from vtc.video.reading.backends import check_backend
from vtc.video.reading.sampling import Sampling
from vtc.video.stages import Keyframes
from vtc.viz.visible_crop import viewed

from .console import (
    comparison_facts,
    note,
    note_view,
    notes,
    print_comparison,
    print_json,
    print_reading,
    shown,
)
from .video_input import VideoInput, Watched, print_picked

SAMPLE = "sample:"
"""What stands before the name of a packaged image."""
OF_VIDEOS = ("fps", "frames", "start", "end", "look", "slack", "track", "reader")


@dataclass(frozen=True)
class Options:
    """What `ask` and `show` have in common; None: the default of images, or that of videos.

    Attributes:
        model, recipe, keep, positions, device, dtype: as the command has them.
        fps, frames, start, end, look, slack, track: of videos alone, see `vtc.video.reading.sampling.Sampling`; a
            `look` of 0 is None there.
        reader: of videos alone: `Sampling.backend`.
        keyframes, scorer, segmenter, features: of videos alone, in place of the recipe's own, see
            `vtc.recipes.overrides.changed`.
        offline: fetch no model that is not on this machine.
    """

    model: str | None = None
    recipe: str | None = None
    keep: Keep | None = None
    positions: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    fps: float | None = None
    frames: int | None = None
    start: float | None = None
    end: float | None = None
    look: float | None = None
    slack: float | None = None
    track: int | None = None
    reader: str | None = None
    keyframes: str | None = None
    scorer: str | None = None
    segmenter: str | None = None
    features: str | None = None
    offline: bool = False

    @classmethod
    def among(cls, given: Mapping[str, Any]) -> Options:
        """Those among the arguments of a command, by their names."""
        return cls(**{field.name: given[field.name] for field in fields(cls)})

    def given(self, *names: str) -> dict[str, Any]:
        """Those of the options `names` that are given."""
        found = {name: getattr(self, name) for name in names}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def of_videos(self) -> dict[str, Any]:
        """Those that are given of the options of videos."""
        return {**self.given(*OF_VIDEOS), **self.changes}

    @property
    def changes(self) -> dict[str, Any]:
        """What is to be changed in the recipe."""
        return self.given("keyframes", "scorer", "segmenter", "features")

    @property
    def sampling(self) -> Sampling:
        """What they make of a video.

        Raises:
            ValueError: one that is out of range.
        """
        given = self.given(*OF_VIDEOS)
        if given.get("look") == 0:
            given["look"] = None
        if "reader" in given:
            given["backend"] = given.pop("reader")
            check_backend(given["backend"])
        return Sampling(**given)


Opened = Image.Image | VideoInput


def ask(path: Path, question: str, options: Options, max_new_tokens: int, as_json: bool = False) -> None:
    """Print the answers about `path` with all tokens and with fewer.

    Raises:
        OSError, ValueError: the file, an option, or what the model cannot do, in one plain line.
    """
    opened = _opened(path, options)
    model, recipe, _ = _defaults(opened, options)
    if isinstance(recipe.input, Keyframes) and recipe.input.refusal is not None:
        ask_by_strategy(path, question, options, "direct", max_new_tokens, as_json)
        return
    from vtc.inference.asking import compare, unknown_words
    from vtc.inference.loading import load

    with quiet():
        network, processor = load(model, device=options.device, dtype=options.dtype)
        medium, watched = _medium(opened, recipe, processor)
        recipe = _fitted(recipe, network, opened)
        _note_words(unknown_words(processor, question), model)
        result = compare(network, processor, medium, question, recipe, max_new_tokens=max_new_tokens)
    if as_json:
        print_json({"medium": str(path), "question": question, "model": model, **comparison_facts(result, recipe)})
        return
    Console().print(shown(f"{path.name}, {model} on {network.device.type}"), highlight=False)
    print_comparison(result, recipe)
    if isinstance(opened, VideoInput) and watched is not None:
        print_reading(watched.report, opened.info)
        print_picked(watched)


def ask_by_strategy(
    path: Path, question: str, options: Options, strategy: str, max_new_tokens: int, as_json: bool = False
) -> None:
    """Print every call of the model that `strategy` makes about a video, and the answer.

    Raises:
        OSError, ValueError: see `ask`, an unknown plan, or an image.
    """
    from vtc.video.qa.strategies import strategy as named_strategy

    chosen = named_strategy(strategy)
    opened = _opened(path, options)
    if not isinstance(opened, VideoInput):
        raise ValueError(f"--plan {strategy} asks about parts of a video, and {path} is an image; leave it away")
    model, recipe, _ = _defaults(opened, options)
    from vtc.inference.asking import unknown_words
    from vtc.inference.loading import load
    from vtc.video import ask

    from .progress import bars

    console = Console()

    def print_call(call: Any) -> None:
        console.print(shown(f"{call.purpose}: {call.text}"), highlight=False)

    with quiet(), bars() as tell:
        network, processor = load(model, device=options.device, dtype=options.dtype)
        _note_words(unknown_words(processor, question), model)
        result = ask(
            network,
            processor,
            path,
            question,
            recipe,
            sampling=opened.sampling,
            strategy=chosen,
            max_new_tokens=max_new_tokens,
            progress=tell,
            on_call=None if as_json else print_call,
        )
    if as_json:
        calls = [{"purpose": call.purpose, "text": call.text, "seconds": call.seconds} for call in result.calls]
        facts = {"medium": str(path), "question": question, "model": model, "recipe": recipe.name, "keep": recipe.keep}
        print_json({**facts, "answer": result.text, "tokens": result.tokens, "calls": calls})
        return
    spent = sum(call.seconds for call in result.calls)
    line = f"{len(result.calls)} calls of the model, {result.tokens} visual tokens, {spent:.3g} s"
    console.print(shown(f"{path.name}, {model} on {network.device.type}: {line}"), highlight=False)


def show(path: Path, out: Path, question: str | None, options: Options) -> None:
    """Draw to `out` what is kept of `path`: over an image, or along the time of a video.

    Raises:
        OSError, ValueError: see `ask`, and an `out` that cannot be written.
    """
    _check_out(out, path)
    opened = _opened(path, options)
    model, recipe, usual = _defaults(opened, options)
    for stage in recipe.stages:
        if stage.refusal is not None:
            raise ValueError(stage.refusal)
    from vtc.inference.asking import prompt, report_on
    from vtc.inference.loading import load

    with quiet():
        network, processor = load(model, device=options.device, dtype=options.dtype)
        medium, watched = _medium(opened, recipe, processor)
        recipe = _fitted(recipe, network, opened)
        inputs = prompt(network, processor, medium, usual if question is None else question)
        report = report_on(network, inputs, recipe)
    if isinstance(medium, VideoFrames):
        from vtc.video.qa.token_usage import low_res_frames, token_usage
        from vtc.viz.timeline import timeline

        video = low_res_frames(network, inputs, recipe)
        found: object = token_usage(medium, report, recipe, video)
        drawn = timeline(viewed(medium, processor), report, recipe, video=video, title=path.name)
    else:
        from vtc.viz.overlays import draw

        found, drawn = report, draw(medium, processor.image_processor, report, recipe)
    drawn.save(out)
    Console().print(shown(f"{found}\ndrawn to {out}"), highlight=False)
    print_picked(watched)


def _opened(path: Path, options: Options) -> Opened:
    """The image, or the video with its stretch checked; nothing is decoded of that but one frame."""
    if str(path).startswith(SAMPLE) and not path.exists():
        path = sample_path(str(path).removeprefix(SAMPLE))
    if not is_video(path):
        if options.of_videos:
            name = next(iter(options.of_videos))
            raise ValueError(f"--{name} is about videos, and {path} is none; leave it away, or pass a video")
        with notes():
            return load_image(path)
    sampling = options.sampling
    video = VideoInput(path, sampling.probe(path), sampling)
    sampling.candidates(video.info)
    if video.info.choice:
        note(f"{path}: {video.info.choice}; --track N reads another")
    if video.info.truncated:
        note(f"{path} is cut short, or its header is wrong; `vtc probe {path}` says more")
    return video


def _defaults(opened: Opened, options: Options) -> tuple[str, Recipe, str]:
    """The model, the recipe and the question of `show`, the options' own or those for this kind of medium."""
    recipe, question = VIDEOS if isinstance(opened, VideoInput) else IMAGES
    chosen = changed(named(options.recipe or recipe, keep=options.keep, positions=options.positions), **options.changes)
    if options.model is not None:
        return options.model, chosen, question
    from vtc.inference.loading import check_target

    check_target(options.device, options.dtype)  # before a model is fetched for nothing
    video = isinstance(opened, VideoInput)
    return VIDEO_MODEL if video else image_model(offline=options.offline, say=note), chosen, question


def _medium(opened: Opened, recipe: Recipe, processor: Any) -> tuple[Image.Image | VideoFrames, Watched | None]:
    """What the model is given; says so where its processor shows the encoder less than all of it."""
    if isinstance(opened, Image.Image):
        note_view(opened.size, processor)
        return opened, None
    watched = opened.read(recipe, processor)
    if getattr(processor, "video_processor", None) is None:
        note_view((watched.frames.pixels.shape[2], watched.frames.pixels.shape[1]), processor)
    return watched.frames, watched


def _fitted(recipe: Recipe, model: Any, opened: Opened) -> Recipe:
    """The recipe as it is right for a model to which the frames of a video are images."""
    from vtc.inference.prompting import frames_are_images

    if isinstance(opened, Image.Image) or not frames_are_images(model):
        return recipe
    note(f"{type(model).__name__} takes the frames of a video as images; the recipe treats them as one video")
    return replace(recipe, images_as="frames")


def _check_out(out: Path, source: Path) -> None:
    """Refuse an output file that could not be written, or that is the source, before any model is loaded."""
    if is_same_file(source, out):
        raise ValueError(f"--out {out} is the file that is asked about; write to another")
    if out.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"--out {out}: no image format has the ending {out.suffix!r}; use .png")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"--out {out}: the directory {out.parent} does not exist; make it first")


def _note_words(words: list[str], model: str) -> None:
    if words:
        listed = ", ".join(map(repr, words))
        note(f"{model} has no {listed} among its words and reads an unknown word there; the answers may be off")
