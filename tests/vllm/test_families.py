"""Families without an embedded model: what vLLM keeps and answers, beside the Hugging Face route."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.vllm import checkpoints
from tests.vllm.engines import nightly_but
from tests.vllm.routes import CLOSE, Answer, Route, assert_alike, forget, said
from vtc.embedded.scene import HELD_OUT, Scene

KEEPS = (1.0, 0.25, 0.1)
PLAIN = ("kcenter", "stride", "random", "kcenter-mean", "pool", "maxsum")
CUES = ("cls", "todre")
WIDE, TALL, SMALL, LARGE = (120, 60), (50, 130), (30, 28), (340, 260)


@dataclass
class Case:
    """A family: a small checkpoint of it, and what it is tested with.

    Attributes:
        build: writes the checkpoint.
        recipes: that it is served with.
        refused: a recipe that it is not served with, and words of the reason.
        sizes: width and height of images that come as unlike numbers of tiles.
        causal: whether the Hugging Face route must let no token of an image see a later one, as vLLM on a CPU does.
        options: what the processor is called with.
    """

    build: Callable[..., Path]
    recipes: tuple[str, ...]
    refused: tuple[str, str]
    sizes: tuple[tuple[int, int], ...] = (SMALL, WIDE, TALL)
    causal: bool = False
    options: dict[str, Any] = field(default_factory=dict)


NO_SIZES = ("resize", "recipe 'resize' cannot be served .* takes images of one size")
NO_CUES = ("cls", r"recipe 'cls' .* reads \['attention'\], which its vision tower does not give")
CASES = {
    "llava-next": Case(checkpoints.llava_next, PLAIN + CUES, NO_SIZES),
    "llava-next-siglip": Case(partial(checkpoints.llava_next, tower="siglip"), ("random", *CUES), NO_SIZES),
    "gemma3": Case(checkpoints.gemma3, PLAIN, NO_CUES, causal=True),
    "gemma3-crops": Case(checkpoints.gemma3, PLAIN[:3], NO_CUES, causal=True, options=checkpoints.CROPS),
    "gemma4": Case(checkpoints.gemma4, (*PLAIN, "resize"), NO_CUES),
    "llava-onevision": Case(checkpoints.llava_onevision, PLAIN + CUES, NO_SIZES, sizes=(SMALL, WIDE, LARGE)),
    "smolvlm": Case(checkpoints.smolvlm, PLAIN, NO_CUES),
}
"""By name; a further family is a line here and a function that writes its checkpoint."""
ALIKE = ("llava-next-siglip", "gemma3-crops")
"""Nightly: a SigLIP tower is LLaVA-OneVision's too, and Gemma 3's crops are placed in `test_gemma3_ranges.py`."""


def scenes(case: Case, first: int = HELD_OUT) -> list[Any]:
    """An image of each of a family's sizes."""
    return [Scene(first + i).image.convert("RGB").resize(size) for i, size in enumerate(case.sizes)]


@pytest.fixture(scope="module", params=nightly_but(CASES, [name for name in CASES if name not in ALIKE]))
def case(request):
    return CASES[request.param]


@pytest.fixture(scope="module")
def route(case, tmp_path_factory):
    if case.build is checkpoints.smolvlm:
        from transformers.models.smolvlm import processing_smolvlm

        if processing_smolvlm.num2words is None:  # which only videos are written with
            processing_smolvlm.num2words = str
    return Route.of(case.build, tmp_path_factory.mktemp("checkpoint"), **case.options)


@pytest.fixture(scope="module")
def stock(case, route, start):
    """What stock vLLM says to each image, and to all of them together."""
    llm = start(str(route.folder), None, limit_mm_per_prompt={"image": 3})
    return [Answer.of(out, []) for out in said(llm, whole(case, route, None))]


@pytest.fixture(scope="module")
def llm(route, stock, start):
    return start(str(route.folder), {"keep": 1.0}, limit_mm_per_prompt={"image": 3})


def whole(case: Case, route: Route, recipe: str | None) -> list[dict[str, Any]]:
    """Requests about each image, and about all of them together, by which all tokens are kept."""
    images = scenes(case)
    return [route.request(own, recipe, 1.0) for own in (*([image] for image in images), images)]


def test_keep_all_is_stock_vllm(case, route, stock, llm):
    assert [Answer.of(out, []) for out in said(llm, whole(case, route, "kcenter"))] == stock


@pytest.mark.parametrize("keep", KEEPS)
def test_the_same_tokens_are_kept_and_the_same_said(case, route, llm, keep, monkeypatch):
    images = scenes(case)
    for recipe in case.recipes:
        for own in (*([image] for image in images), images[:2]):
            request = route.request(own, recipe, keep)
            assert_alike(llm, request, route.answer(request, recipe, keep, case.causal), monkeypatch)


def test_a_batch_equals_its_singles(case, route, llm):
    images = scenes(case, HELD_OUT + 50)
    own = [[image] for image in images] + [images, images[::-1], images[1:]]
    asked = [(recipe, keep) for recipe in case.recipes[:2] for keep in (0.3, 3)]
    requests = [route.request(some, recipe, keep) for some in own for recipe, keep in asked]
    batch = [Answer.of(out, []) for out in said(llm, requests)]
    singles = []
    for request in requests:
        forget(llm)
        singles += [Answer.of(out, []) for out in said(llm, [request])]
    for one, other in zip(batch, singles, strict=True):
        assert (one.tokens, one.prompt) == (other.tokens, other.prompt)
        assert one.logprobs == pytest.approx(other.logprobs, abs=CLOSE)


def test_what_cannot_be_served_is_refused_by_name(case, route, llm):
    recipe, words = case.refused
    images = scenes(case)
    with pytest.raises(ValueError, match=words):
        said(llm, [route.request(images[:1], recipe, 0.5)])
    assert len(said(llm, [route.request(images[:1], "kcenter", 0.5)])) == 1


@pytest.mark.parametrize("case", nightly_but(CASES, ("llava-next", "gemma3")), indirect=True)  # an end of each kind
def test_an_engine_does_not_start_with_what_cannot_be_served(case, route, llm, start):
    recipe, words = case.refused
    with pytest.raises(Exception, match=words):
        start(str(route.folder), {"recipe": recipe, "keep": 0.5})
