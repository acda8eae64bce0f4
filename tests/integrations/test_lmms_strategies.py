"""Plans through a backend of lmms-eval: what it is asked, in both protocols, and answers as of plain calls."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.video.videos import write
from vtc import reduce_tokens, restore
from vtc.embedded.video import VALIDATION, Video
from vtc.inference.asking import answer
from vtc.inference.loading import load
from vtc.inference.prompting import inputs
from vtc.integrations.lmms_strategies import by_strategy, cut
from vtc.media.video_frames import VideoFrames
from vtc.video import frames, probe
from vtc.video.qa.strategies import Asker
from vtc.video.qa.strategies import strategy as named

VIDEO = next(
    video for video in map(Video, range(VALIDATION, VALIDATION + 99)) if video.kind == "needle" and video.frames == 16
)
QUESTION = VIDEO.questions[0].question
LONG = {"max_new_tokens": 6, "until": ["."]}


@cache
def loaded():
    return load("tiny-qwen")


class Request:
    def __init__(self, *arguments):
        self.arguments = arguments

    @property
    def args(self):
        return self.arguments


class Backend:
    """Answers about the media of a request; chat requests hold messages, simple ones a text."""

    def __init__(self):
        self.model, self.processor = loaded()
        self.task_dict = {"task": {"test": [{"number": 0}]}}
        self.asked = []

    def generate_until(self, requests):
        found = []
        for request in requests:
            args = request.args
            if callable(args[1]):
                parts = args[1](self.task_dict["task"]["test"][0])[-1]["content"]
                text = "".join(part["text"] for part in parts if part["type"] == "text")
                media, options = [part["url"] for part in parts if part["type"] != "text"], args[2]
            else:
                text, options, media = args[0], args[1], args[2](self.task_dict["task"]["test"][0])
            shown = video_of(media)
            self.asked.append((text, len(shown), options["max_new_tokens"]))
            given = inputs(self.model, self.processor, [text], [shown])
            found.append(SimpleNamespace(text=answer(self.model, self.processor, given, options["max_new_tokens"])))
        return found


def video_of(media):
    if isinstance(media[0], str):
        with frames(media[0], indices=np.arange(probe(media[0], isolated=False).frames), isolated=False) as reading:
            return VideoFrames.regular(np.stack([frame.pixels for frame in reading]), 2)
    return VideoFrames.regular(np.stack([np.asarray(one) for one in media]), 2)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    out = tmp_path_factory.mktemp("video") / "video.mp4"
    return write(out, VIDEO.pixels(96), fps=2, codec="libx264rgb", pixels="rgb24", options={"qp": "0"})


def simple(media):
    return Request(QUESTION, dict(LONG), lambda document: media, 0, "task", "test")


def chat(media):
    content = [{"type": "video" if isinstance(one, str) else "image", "url": one} for one in media]
    told = [{"role": "system", "content": [{"type": "text", "text": "be short"}]}]
    asked = [{"role": "user", "content": [*content, {"type": "text", "text": QUESTION}]}]
    return Request("-", lambda document: [*told, *asked], dict(LONG), 0, "task", "test")


def media_of(kind, path):
    return [str(path)] if kind == "path" else [Image.fromarray(one) for one in VIDEO.pixels(96)]


@pytest.mark.parametrize("kind", ["path", "frames"])
@pytest.mark.parametrize("protocol", [simple, chat])
@pytest.mark.parametrize("strategy", ["decompose", "segment-thought"])
def test_answers_are_those_of_plain_calls(path, kind, protocol, strategy):
    backend, media = Backend(), media_of(kind, path)
    request = protocol(media)
    before = list(request.arguments)
    [found] = by_strategy(backend.generate_until, backend, named(strategy))([request])
    shown = SimpleNamespace(inputs=None, recipe=None, frames=video_of(media), temporal_patch_size=1, tokens=0)
    asker = Asker(*loaded(), shown, "", 6)
    assert found.text == named(strategy).run(asker, QUESTION)
    with_video = [call for call in asker.calls if call.start is not None]
    assert [text for text, _, _ in backend.asked] == [call.prompt for call in with_video]
    if strategy == "segment-thought":
        assert [count for _, count, _ in backend.asked] == [5, 5, 6, 16]
        assert [longest for _, _, longest in backend.asked] == [128] * 3 + [6]
    assert list(request.arguments) == before  # the host keys its cache on them


def test_the_wrapped_model_is_the_one_that_is_asked(path):
    backend = Backend()
    reduce_tokens(backend.model, "kcenter", keep=0.25)
    by_strategy(backend.generate_until, backend, named("segment-thought"))([simple([str(path)])])
    report = backend.model.vtc.report
    restore(backend.model)
    assert (report.after, report.before) == (72, 288)


def test_direct_is_the_backend_itself():
    backend = Backend()
    assert by_strategy(backend.generate_until, backend, named("direct")) == backend.generate_until


@pytest.mark.parametrize(
    "media", [[], [Image.new("RGB", (9, 9))], ["a.mp4", "b.mp4"], ["a.mp4", Image.new("RGB", (9, 9))]]
)
def test_what_is_no_video_is_refused(media):
    backend = Backend()
    with pytest.raises(ValueError, match=r"one video.* holds \d+ .*plan.*--model_args"):
        by_strategy(backend.generate_until, backend, named("decompose"))([simple(media)])


def test_a_backend_without_a_processor_cannot_ask_without_the_video(path):
    backend = Backend()
    backend.processor = None
    with pytest.raises(ValueError, match=r"Backend .*chat template.*plan=decompose"):
        by_strategy(backend.generate_until, backend, named("decompose"))([simple([str(path)])])


@pytest.mark.parametrize("pixels", ["rgb24", "yuv420p", "yuv444p", "yuv422p10le"])
def test_a_part_shows_what_the_video_does_there(tmp_path, pixels):
    codec = "libx264rgb" if pixels == "rgb24" else "libx264"
    whole = write(tmp_path / "whole.mp4", VIDEO.pixels(96), fps=2, codec=codec, pixels=pixels, options={"qp": "0"})
    cut(whole, 5, 11, tmp_path / "part.mp4")
    part = video_of([str(tmp_path / "part.mp4")]).pixels.astype(int)
    assert len(part) == 6
    assert np.array_equal(part, video_of([str(whole)]).pixels[5:11])
    assert np.abs(part - VIDEO.pixels(96)[6:12]).max() > 50  # the control
    with pytest.raises(ValueError, match="has no frames 90 to 99"):
        cut(whole, 90, 99, tmp_path / "none.mp4")
