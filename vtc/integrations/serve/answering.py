"""One answer: from a request and the files of its media to text, counts and a report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from vtc.adapters import find
from vtc.inference.asking import greedy
from vtc.inference.context_window import context_of
from vtc.inference.conversations import ChatTurn, conversation_inputs
from vtc.inference.prompting import frames_are_images
from vtc.media.video_frames import VideoFrames
from vtc.recipes.composition import Recipe
from vtc.reduction.api import reduced
from vtc.reduction.pipeline import ItemCounts
from vtc.reduction.report import Report
from vtc.video.batch.context import PromptLimits
from vtc.video.reading.sampling import Sampling

from .answer_stream import AnswerStream
from .chat_messages import MediumUrl
from .chat_request import ChatRequest
from .errors import RequestError
from .limits import ServerLimits
from .media_reading import read_turns
from .request_recipe import RecipeDefaults


@dataclass(frozen=True)
class ServedModel:
    """The model that a server answers with.

    Attributes:
        name: as requests name it.
        model: a stock model that is not wrapped, and is used by one thread at a time.
        processor: of the model.
        defaults: what is left out where a request does not say.
        limits: of the server.
    """

    name: str
    model: Any
    processor: Any
    defaults: RecipeDefaults
    limits: ServerLimits = field(default_factory=ServerLimits)

    def check(self) -> None:
        """Raise ValueError where the model cannot give what the recipe of `defaults` needs, on images or on videos."""
        recipe = self.defaults.recipe
        if recipe.is_video_recipe and frames_are_images(self.model):
            recipe = replace(recipe, images_as="frames")
        with reduced(self.model, recipe):
            pass

    @property
    def context(self) -> int | None:
        """Tokens of a prompt and its answer at most; None where the configuration does not say."""
        return context_of(self.model)


@dataclass(frozen=True)
class PromptCounts:
    """What was read of a prompt.

    Attributes:
        report: of what was left out.
        keep: of the recipe.
        prompt: tokens that the language model read.
        full: tokens that the stock model would have read.
    """

    report: Report
    keep: float
    prompt: int
    full: int


@dataclass(frozen=True)
class ChatAnswer:
    """An answer that is done.

    Attributes:
        text: without what ended it.
        tokens: generated, the one that ends an answer among them.
        reason: `stop` or `length`.
        counts: of the prompt.
        notes: what ought to be known of how the media were read.
    """

    text: str
    tokens: int
    reason: str
    counts: PromptCounts
    notes: tuple[str, ...] = ()


def answered(
    served: ServedModel,
    request: ChatRequest,
    files: Mapping[MediumUrl, Path],
    ended: Callable[[], bool],
    on_start: Callable[[PromptCounts], None] = lambda counts: None,
    on_text: Callable[[str], None] = lambda piece: None,
) -> ChatAnswer:
    """Answer `request`.

    Args:
        files: its media.
        ended: whether nobody waits for the answer any more; it is then cut short.
        on_start: called with what was read, once the first token is there.
        on_text: called with each piece of the text behind it.

    Raises:
        RequestError: media that cannot be read, a prompt longer than the model takes, or a recipe that it cannot run.
    """
    with ExitStack() as stack:
        with _refusals():
            sampling = Sampling(fps=served.limits.fps, frames=served.limits.frames)
            turns, notes = read_turns(request.messages, files, sampling)
            recipe = _recipe(served, request.recipe, turns)
            inputs = conversation_inputs(served.model, served.processor, turns)
            longest = _room(served, inputs, recipe, request.answer)
            model = stack.enter_context(reduced(served.model, recipe))
        full = int(inputs["input_ids"].shape[1])
        stream = AnswerStream(
            served.processor.tokenizer, request.stop, ended, lambda: on_start(_counts(model, full)), on_text
        )
        _generate(model, request, inputs, longest, stream)
        ends = torch.as_tensor(model.generation_config.eos_token_id or []).flatten().tolist()
        reason = "stop" if stream.matched or stream.tokens[-1] in ends else "length"
        return ChatAnswer(stream.text, len(stream.tokens), reason, _counts(model, full), tuple(notes))


@contextmanager
def _refusals() -> Iterator[None]:
    """What the block refuses is the request's fault."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise RequestError(str(error)) from error


def _recipe(served: ServedModel, recipe: Recipe, turns: list[ChatTurn]) -> Recipe:
    """`recipe`, where the model takes the frames of a video as images for all of those together."""
    media = [part for turn in turns for part in turn.parts if not isinstance(part, str)]
    if not any(isinstance(part, VideoFrames) for part in media) or not frames_are_images(served.model):
        return recipe
    if len(media) > 1:
        raise ValueError(
            f"messages hold {len(media)} media, a video among them, and {served.name} takes the frames of a video as "
            "images; ask about one video alone"
        )
    return replace(recipe, images_as="frames")


def _room(served: ServedModel, inputs: Mapping[str, Any], recipe: Recipe, asked: int) -> int:
    """Tokens that the answer may have.

    Raises:
        RequestError: the prompt leaves no room for one.
    """
    adapter = find(served.model)
    items = adapter.media(inputs) if adapter.has_media(inputs) else []
    if recipe.images_as == "items":
        for item in items:
            ItemCounts.of(recipe, item)  # refuses what the recipe cannot make of an item, before the model is at work
    visual = sum(len(item.layout) for item in items)
    own = inputs["input_ids"].shape[1] - visual
    limits = PromptLimits.of(served.model, served.limits.prompt)
    refusal = limits.refusal(own, visual, recipe)
    if refusal is not None:
        raise RequestError(str(refusal), 400, "context_length_exceeded")
    return limits.longest(own, visual, recipe, asked)


def _generate(model: Any, request: ChatRequest, inputs: Mapping[str, Any], longest: int, stream: AnswerStream) -> None:
    with _drawn(model, request.seed):
        model.generate(
            **inputs,
            max_new_tokens=longest,
            streamer=stream,
            stopping_criteria=[stream.stopping],
            **_sampling(model, request),
        )


def _counts(model: Any, full: int) -> PromptCounts:
    report: Report = model.vtc.report
    short = report.prompt_after[0] if report.prompt_after else full
    return PromptCounts(report, model.vtc.recipe.keep, short, full)


def _sampling(model: Any, request: ChatRequest) -> dict[str, Any]:
    if not request.temperature:
        return greedy(model)
    return {
        "do_sample": True,
        "num_beams": 1,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": 0,
    }


@contextmanager
def _drawn(model: Any, seed: int | None) -> Iterator[None]:
    """Draw from `seed` within the block, and as before behind it; without one, go on drawing."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
