"""The messages of a request: roles, texts, and the media that they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
MEDIA = {"image_url": "image", "video_url": "video"}
"""Kinds of parts that hold a medium."""


@dataclass(frozen=True)
class MediumUrl:
    """A medium of a message.

    Attributes:
        kind: `image` or `video`.
        url: as it was given: `data:` with base64, or an address.
        place: where it stands, for messages.
    """

    kind: str
    url: str
    place: str


@dataclass(frozen=True)
class Message:
    """A turn, with its texts and media in order."""

    role: str
    parts: tuple[str | MediumUrl, ...]


def messages_of(given: Any, most: int) -> tuple[Message, ...]:
    """The messages of a request, of which the last is the user's.

    Args:
        most: media at most.

    Raises:
        TypeError, ValueError: no list of messages, a role or a part that is not known, or too many media.
    """
    if not isinstance(given, list) or not given:
        raise ValueError("messages: expected a list of at least one message, each with 'role' and 'content'")
    found = tuple(_message(f"messages[{number}]", one) for number, one in enumerate(given))
    media = [part for message in found for part in message.parts if isinstance(part, MediumUrl)]
    if len(media) > most:
        raise ValueError(f"messages hold {len(media)} media, and at most {most} are taken; ask about fewer at a time")
    if found[-1].role != "user":
        raise ValueError(f"the last message is of role {found[-1].role!r}; expected a question of role 'user'")
    if not any(isinstance(part, MediumUrl) or part.strip() for part in found[-1].parts):
        raise ValueError("the last message is empty; ask something")
    return found


def _message(place: str, given: Any) -> Message:
    if not isinstance(given, dict):
        raise TypeError(f"{place} is a {type(given).__name__}; expected an object with 'role' and 'content'")
    role = given.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise ValueError(f"{place}: role={role!r}; expected one of {', '.join(ROLES)}")
    refused = sorted(name for name in ("tool_calls", "function_call", "audio") if given.get(name))
    if refused:
        raise ValueError(f"{place}: {refused[0]!r} is not supported; this server calls no tools and hears nothing")
    content = given.get("content")
    if isinstance(content, str):
        return Message(ROLES[role], (content,))
    if not isinstance(content, list) or not content:
        raise ValueError(f"{place}: content={content!r:.80}; expected a text, or a list of parts")
    return Message(ROLES[role], tuple(_part(f"{place}.content[{number}]", one) for number, one in enumerate(content)))


def _part(place: str, given: Any) -> str | MediumUrl:
    kind = given.get("type") if isinstance(given, dict) else None
    if kind == "text" and isinstance(given.get("text"), str):
        text: str = given["text"]
        return text
    if kind not in MEDIA:
        what = f"a text without 'text': {given!r:.80}" if kind == "text" else f"type={kind!r:.80}"
        raise ValueError(f"{place}: {what}; expected parts of type text, image_url or video_url")
    value = given.get(kind)
    url = value.get("url") if isinstance(value, dict) else value
    if not isinstance(url, str):
        raise ValueError(f'{place}: {kind}={value!r:.80}; expected {{"url": "data:...;base64,..."}}')
    detail = value.get("detail") if isinstance(value, dict) else None
    if detail not in (None, "auto"):
        raise ValueError(
            f"{place}: detail={detail!r:.80} is not supported; leave it out, and pass 'vtc': {{'keep': ...}}"
        )
    return MediumUrl(MEDIA[kind], url, place)
