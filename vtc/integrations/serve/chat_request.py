"""The body of `/v1/chat/completions`: what is asked, checked before anything is decoded or loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vtc.core.json_text import loads
from vtc.core.validation import check_int, check_number
from vtc.recipes.composition import Recipe

from .chat_messages import Message, messages_of
from .errors import RequestError
from .limits import ServerLimits
from .request_recipe import CARRIER, KEY, RecipeDefaults, settings_of

KNOWN = (
    *("model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens"),
    *("temperature", "top_p", "seed", "stop", KEY, CARRIER),
)
ANY = ("user", "metadata", "store", "service_tier", "parallel_tool_calls", "safety_identifier", "prompt_cache_key")
"""Fields that change nothing of an answer."""
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
}
"""Fields of which only these values are taken: those that change nothing."""
STOPS, STOP_LENGTH = 4, 200


@dataclass(frozen=True)
class ChatRequest:
    """What a request asks for.

    Attributes:
        messages: the conversation; media are still addresses.
        recipe: what is left out, and `images_as` as for images.
        answer: tokens of the answer at most.
        temperature: 0: greedy.
        top_p: of what is drawn from.
        seed: of drawing; None: none.
        stop: texts before which the answer ends.
        stream: whether it comes in pieces.
        usage: whether a stream ends with the counts.
    """

    messages: tuple[Message, ...]
    recipe: Recipe
    answer: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    usage: bool = False


def read_request(body: bytes, name: str, defaults: RecipeDefaults, limits: ServerLimits) -> ChatRequest:
    """The request that `body` is.

    Args:
        name: of the model that is served.
        defaults: the recipe of a request that names none.

    Raises:
        RequestError: no JSON object, another model, a field that is not known, or a value that is not taken.
    """
    try:
        data = loads(body)
        if not isinstance(data, dict):
            raise ValueError(f"the body is a {type(data).__name__}; expected a JSON object with 'messages'")
        given = {key: value for key, value in data.items() if value is not None}
        _check_model(given.get("model", name), name)
        _check_fields(given)
        return ChatRequest(
            messages=messages_of(given.get("messages"), limits.media),
            recipe=defaults.with_request(settings_of(given)),
            answer=_answer(given, limits.answer),
            temperature=check_number("temperature", given.get("temperature", 0.0), 0, 2),
            top_p=check_number("top_p", given.get("top_p", 1.0), 0, 1, ends="(]"),
            seed=_seed(given.get("seed")),
            stop=_stop(given.get("stop", [])),
            stream=_flag("stream", given.get("stream", False)),
            usage=_usage(given),
        )
    except (ValueError, TypeError, RecursionError) as error:
        raise RequestError(str(error) or "the body is nested too deeply") from error


def _check_model(asked: Any, name: str) -> None:
    if asked != name:
        raise RequestError(
            f"model={asked!r} is not served here; this server answers with {name!r} alone, and loads no other",
            404,
            "model_not_found",
        )


def _check_fields(given: Mapping[str, Any]) -> None:
    for field, value in given.items():
        if field in NEUTRAL:
            if not any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in NEUTRAL[field]):
                accepted = " or ".join(map(repr, NEUTRAL[field]))
                raise ValueError(f"{field}={value!r} is not supported; leave it out, or pass {accepted}")
        elif field not in (*KNOWN, *ANY):
            raise ValueError(f"{field!r} is not supported; this server knows {', '.join((*KNOWN, *NEUTRAL, *ANY))}")


def _answer(given: Mapping[str, Any], longest: int) -> int:
    name = "max_completion_tokens" if "max_completion_tokens" in given else "max_tokens"
    value = check_int(name, given.get(name, longest), 1)
    if value > longest:
        raise ValueError(f"{name}={value}; answers have at most {longest} tokens here (the server's --max-tokens)")
    return value


def _seed(value: Any) -> int | None:
    if value is None:
        return None
    seed = check_int("seed", value, 0)
    if seed >= 1 << 63:
        raise ValueError(f"seed={value} is too large; pass one below 2**63")
    return seed


def _stop(value: Any) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    fits = isinstance(texts, list) and len(texts) <= STOPS
    if not fits or not all(isinstance(text, str) and 0 < len(text) <= STOP_LENGTH for text in texts):
        raise ValueError(
            f"stop={value!r}; expected a text, or a list of at most {STOPS}, each of 1 to {STOP_LENGTH} characters"
        )
    return tuple(texts)


def _usage(given: Mapping[str, Any]) -> bool:
    options = given.get("stream_options", {})
    if not isinstance(options, dict) or set(options) - {"include_usage", "include_obfuscation"}:
        raise ValueError(f'stream_options={options!r}; expected an object such as {{"include_usage": true}}')
    return _flag("include_usage", options.get("include_usage") or False)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}; expected true or false")
    return value
