"""Media of a request as a model takes them: within limits, videos by a child process."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

from vtc.inference.conversations import ChatTurn
from vtc.inference.prompting import Medium
from vtc.media.images import is_video, load_image
from vtc.media.sniffing import kind_of
from vtc.video.reading import ReadReport
from vtc.video.reading.sampling import Sampling

from .chat_messages import MediumUrl, Message


def read_turns(
    messages: Iterable[Message], files: Mapping[MediumUrl, Path], sampling: Sampling
) -> tuple[list[ChatTurn], list[str]]:
    """The turns of a conversation with their media decoded, and what ought to be known of how those were read.

    Args:
        files: where each medium lies.
        sampling: of videos: frames in even steps, which the recipe may leave out.

    Raises:
        ValueError: a medium that cannot be read, or is of the other kind; messages name its place, and no file.
    """
    notes: list[str] = []
    turns = []
    for message in messages:
        parts: list[str | Medium] = []
        for part in message.parts:
            parts.append(part if isinstance(part, str) else _read(part, files[part], sampling, notes))
        turns.append(ChatTurn(message.role, tuple(parts)))
    return turns, notes


def _read(medium: MediumUrl, path: Path, sampling: Sampling, notes: list[str]) -> Medium:
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            found, seen = _image(path) if medium.kind == "image" else _video(path, sampling)
    except (ValueError, OSError) as error:
        raise ValueError(_named(str(error), medium, path)) from error
    notes += [_named(text, medium, path) for text in (*(str(one.message) for one in caught), *seen)]
    return found


def _image(path: Path) -> tuple[Medium, list[str]]:
    if kind_of(path) == "video":
        raise ValueError(f"{path} is a video; pass it as a part of type video_url")
    return load_image(path), []


def _video(path: Path, sampling: Sampling) -> tuple[Medium, list[str]]:
    if not is_video(path):
        raise ValueError(
            f"{path} is no video; pass MP4, WebM, MKV, MOV or AVI, or an image as a part of type image_url"
        )
    info = sampling.probe(path)
    frames, report = sampling.read(path, sampling.candidates(info))
    truncated = f"{path} is cut short, or its header is wrong" if info.truncated else ""
    return frames, [text for text in (truncated, info.choice, *_losses(path, report)) if text]


def _losses(path: Path, report: ReadReport) -> list[str]:
    lost, resized = len(report.lost), len(report.resized)
    return [
        f"{path}: {lost} of {report.asked} frames could not be read and are left out" if lost else "",
        f"{path}: {resized} frames have another size and were scaled to that of the first" if resized else "",
        f"{path}: {len(report.damaged)} frames come after damage in the file" if report.damaged else "",
    ]


def _named(text: str, medium: MediumUrl, path: Path) -> str:
    """`text` without the folder on the server."""
    return text.replace(str(path), medium.place)
