"""Question strategies in lmms-eval: a request about a video is answered in several calls of its backend.

A call is a request of the backend's own protocol with another text, and where a strategy looks at a part of the video
with another video: frames of it, written to a file of their own. What a strategy asks without the video goes to the
model.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vtc.inference.asking import answer
from vtc.inference.prompting import processed
from vtc.media.frame_times import on_device
from vtc.video.qa.strategies import Direct, Strategy

PROCESSORS = ("processor", "_image_processor", "image_processor", "_processor")
"""What backends call their processor."""
KEPT_FORMATS = ("yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le", "nv12")
"""Of pixels, in which a part of a video can be written as it was read."""
DEFAULT_LONGEST = 64
"""Tokens of an answer where neither the strategy nor the task says how many."""

Answer = Callable[[Sequence[Any]], Sequence[Any]]
Message = dict[str, Any]


def by_strategy(generate: Answer, backend: Any, strategy: Strategy) -> Answer:
    """`generate` of a backend, each of whose requests is answered by `strategy`.

    Args:
        generate: the backend's `generate_until`.
        backend: holds `model`, and the processor, for what is asked without the video.
        strategy: `direct` changes nothing.
    """
    if isinstance(strategy, Direct):
        return generate

    def answered(requests: Sequence[Any]) -> Sequence[Any]:
        """The last call's answer to each request, as the backend gives it."""
        found = []
        for request in requests:
            with TemporaryDirectory(prefix="vtc-") as folder:
                asker = HostAsker(generate, backend, request, Path(folder))
                strategy.run(asker, asker.question)  # type: ignore[arg-type]  # an asker by what it does
                found.append(asker.last)
        return found

    return answered


class HostAsker:
    """Asker of a strategy that calls a backend of lmms-eval; see `vtc.video.qa.strategies.Asker`.

    Args:
        generate: the backend's `generate_until`.
        backend: see `by_strategy`.
        request: whose video is asked about, of the simple protocol or of the chat protocol.
        folder: for the parts of the video.

    Raises:
        ValueError: the request holds no video, or more than one.
    """

    def __init__(self, generate: Answer, backend: Any, request: Any, folder: Path) -> None:
        self._generate, self._backend, self._request, self._folder = generate, backend, request, folder
        args = request.args
        self._chat = callable(args[1])
        self._document = backend.task_dict[args[-2]][args[-1]][args[-3]]
        self._frames = _frames(self._media(args[1] if self._chat else args[2]))
        self.last: Any = None

    @property
    def question(self) -> str:
        """Question of the task: the text beside the video."""
        args = self._request.args
        if not self._chat:
            return str(args[0])
        parts = _last_user(args[1](self._document))["content"]
        return "\n".join(part["text"] for part in parts if part["type"] == "text")

    @property
    def units(self) -> int:
        """Frames of the video."""
        return len(self._frames) if isinstance(self._frames, list) else _count(self._frames)

    def ask(
        self, prompt: str, purpose: str, *, units: tuple[int, int] | None = None, max_new_tokens: int | None = None
    ) -> str:
        """See `Asker.ask`."""
        media = None if units is None else self._part(*units)
        args = list(self._request.args)
        if self._chat:
            args[1] = _messages(args[1], prompt, media)
        else:
            args[0] = prompt
            args[2] = args[2] if media is None else lambda document: media
        options = 2 if self._chat else 1
        given = copy.deepcopy(args[options])
        args[options] = given if max_new_tokens is None else {**given, "max_new_tokens": max_new_tokens}
        twin = copy.copy(self._request)
        twin.arguments = tuple(args)
        [self.last] = self._generate([twin])
        return str(getattr(self.last, "text", self.last))

    def ask_blind(self, prompt: str, purpose: str, *, max_new_tokens: int | None = None) -> str:
        """See `Asker.ask_blind`; by the model itself, since not every backend takes a text alone."""
        model = self._backend.model
        inputs = on_device(model, processed(_processor(self._backend), [prompt]))
        return answer(model, _processor(self._backend), inputs, max_new_tokens or DEFAULT_LONGEST)

    def _media(self, give: Callable[[Any], Any]) -> list[Any]:
        if not self._chat:
            return list(give(self._document) or ())
        parts = [part for message in give(self._document) for part in message["content"]]
        return [part["url"] for part in parts if part["type"] in ("image", "video")]

    def _part(self, first: int, end: int) -> list[Any]:
        if isinstance(self._frames, list):
            return self._frames[first:end]
        out = self._folder / f"{first}-{end}.mp4"
        if not out.exists():
            cut(self._frames, first, end, out)
        return [str(out)]


def _frames(media: list[Any]) -> list[Any] | str:
    """The video of a request: its path, or its frames."""
    if len(media) == 1 and isinstance(media[0], (str, Path)):
        return str(media[0])
    if len(media) > 1 and not any(isinstance(one, (str, Path)) for one in media):
        return media
    raise ValueError(
        f"a strategy asks about one video, and a request of this task holds {len(media)} images or videos; leave "
        "plan out of --model_args"
    )


def _last_user(messages: Sequence[Message]) -> Message:
    return next(message for message in reversed(messages) if message["role"] == "user")


def _messages(give: Callable[..., Any], prompt: str, media: list[Any] | None) -> Callable[..., Any]:
    """Return a task's messages with `prompt` in place of the last text, and `media` in place of the video."""

    def given(*document: Any, **options: Any) -> Any:
        """The messages, changed in copies."""
        messages = [dict(message) for message in give(*document, **options)]
        last = _last_user(messages)
        kept = [part for part in last["content"] if part["type"] != "text"]
        if media is not None:
            kind = "video" if isinstance(media[0], str) else "image"
            kept = [{"type": kind, "url": one} for one in media]
        last["content"] = [*kept, {"type": "text", "text": prompt}]
        return messages

    return given


def _processor(backend: Any) -> Any:
    for name in PROCESSORS:
        found = getattr(backend, name, None)
        if hasattr(found, "tokenizer") and hasattr(found, "apply_chat_template"):
            return found
    raise ValueError(
        f"a {type(backend).__name__} of lmms-eval holds no processor with a chat template, by which plan=decompose "
        "asks without the video; use plan=segment-thought, or another backend"
    )


def _count(path: str) -> int:
    """Frames of a video, by its packets."""
    import av

    with av.open(path) as source:
        stream = source.streams.video[0]
        return sum(1 for packet in source.demux(stream) if packet.size)


def cut(path: str | Path, first: int, end: int, out: Path) -> None:
    """Write the frames `first` to `end`, that one left out, of a video to `out`, without loss of what it shows.

    By plain calls of PyAV, which are the same in the versions that lmms-eval asks for and in those that `vtc` reads by.

    Raises:
        OSError: `path` cannot be read.
        ValueError: it has no such frames.
    """
    import av

    count = 0
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        stream = source.streams.video[0]
        rate, written = Fraction(stream.average_rate or 25), None
        for number, frame in enumerate(source.decode(stream)):
            if number >= end:
                break
            if number < first:
                continue
            if written is None:
                written = _written(target, frame, stream.codec_context, rate)
            fresh = frame if frame.format.name == written.pix_fmt else frame.reformat(format=written.pix_fmt)
            fresh.pts, fresh.time_base = count, 1 / rate
            count += 1
            target.mux(written.encode(fresh))
        if written is None:
            raise ValueError(f"{path} has no frames {first} to {end}")
        target.mux(written.encode())


def _written(target: Any, frame: Any, source: Any, rate: Fraction) -> Any:
    """A stream of `target` for frames like `frame`: in their own format and with their colours' tags, so that nothing
    is converted; in RGB where the encoder does not take that format.
    """
    own = frame.format.name in KEPT_FORMATS
    made = target.add_stream("libx264" if own else "libx264rgb", rate=rate, options={"qp": "0"})
    made.width, made.height, made.pix_fmt = frame.width, frame.height, frame.format.name if own else "rgb24"
    for name in ("color_range", "colorspace", "color_primaries", "color_trc") if own else ():
        setattr(made.codec_context, name, getattr(source, name))
    return made
