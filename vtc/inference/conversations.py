"""Conversations of several turns as a model takes them, by its processor's own chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError
from PIL import Image

from vtc.media.frame_times import on_device, state_times
from vtc.media.video_frames import VideoFrames

from .prompting import Medium


@dataclass(frozen=True)
class ChatTurn:
    """What one side says.

    Attributes:
        role: `system`, `user` or `assistant`.
        parts: texts and media, in order.
    """

    role: str
    parts: tuple[str | Medium, ...]


def conversation_inputs(model: Any, processor: Any, turns: Sequence[ChatTurn]) -> Mapping[str, Any]:
    """The model's inputs for the turn that comes after `turns`, on its device and in its dtype.

    No frame is left out. A processor that takes no videos gets the frames as images. Times are those of the frames
    that are shown (`vtc.media.frame_times`).

    Raises:
        ValueError: a text that holds a placeholder of media, a chat template that leaves a turn out or refuses the
            order of turns, a processor without one, or a medium that it refuses.
    """
    _check_placeholders(processor, turns)
    messages = [{"role": turn.role, "content": _content(processor, turn)} for turn in turns]
    videos = [part for turn in turns for part in turn.parts if isinstance(part, VideoFrames)]
    options: dict[str, Any] = {}
    if videos and getattr(processor, "video_processor", None) is not None:
        options = {"do_sample_frames": False, "video_metadata": [[video.metadata() for video in videos]]}
    try:
        _check_rendered(processor, messages)
        made = processor.apply_chat_template(
            [messages],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs=options,
        )
    except TemplateError as error:
        raise ValueError(f"messages: the model's chat template refuses them: {error}") from error
    state_times(made, videos)
    return on_device(model, made)


def _content(processor: Any, turn: ChatTurn) -> list[dict[str, Any]]:
    """The parts of a turn as chat templates take them."""
    found: list[dict[str, Any]] = []
    for part in turn.parts:
        if isinstance(part, str):
            found.append({"type": "text", "text": part})
        elif isinstance(part, Image.Image):
            found.append({"type": "image", "image": part})
        elif getattr(processor, "video_processor", None) is None:
            found += [{"type": "image", "image": Image.fromarray(frame)} for frame in part.pixels]
        else:
            found.append({"type": "video", "video": part.pixels})
    return found


def _check_placeholders(processor: Any, turns: Sequence[ChatTurn]) -> None:
    """Refuse texts that would read as a medium that nobody passed."""
    tokens = [getattr(processor, f"{kind}_token", None) for kind in ("image", "video")]
    for number, turn in enumerate(turns):
        for text in turn.parts:
            if not isinstance(text, str):
                continue
            for token in tokens:
                if isinstance(token, str) and token in text:
                    raise ValueError(f"messages[{number}] holds {token!r}, which stands for a medium; leave it out")


def _check_rendered(processor: Any, messages: list[dict[str, Any]]) -> None:
    """Refuse turns that the chat template would silently leave out. It may cut the thoughts off earlier answers."""
    text = str(processor.apply_chat_template([messages], add_generation_prompt=True, tokenize=False)[0])
    for number, message in enumerate(messages):
        for part in message["content"]:
            own = part.get("text", "").strip()
            if own not in text and not (message["role"] == "assistant" and "</think>" in own):
                raise ValueError(
                    f"messages[{number}], of role {message['role']!r}: the model's chat template leaves its text out; "
                    "put it into a turn of the user"
                )
