"""Families without an embedded model: what vLLM keeps and answers, beside the Hugging Face route."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.vllm import checkpoints
from tests.vllm.engines import answers, recorded, text_of
from vtc import reduced
from vtc.embedded.scene import HELD_OUT, Scene
from vtc.integrations.vllm import serving

TOKENS, CLOSE = 8, 2e-3
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
        settings: of the engine.
        adjust: of the inputs on the Hugging Face route.
    """

    build: Callable[..., Path]
    recipes: tuple[str, ...]
    refused: tuple[str, str]
    sizes: tuple[tuple[int, int], ...] = (SMALL, WIDE, TALL)
    settings: dict[str, Any] = field(default_factory=dict)
    adjust: Callable[[dict[str, Any]], dict[str, Any]] = dict


def without_mutual_sight(inputs: dict[str, Any]) -> dict[str, Any]:
    """Inputs of Gemma 3 by which no token sees a later one, as in vLLM on a CPU, where images do not either."""
    return {**inputs, "token_type_ids": torch.zeros_like(inputs["token_type_ids"])}


NO_SIZES = ("resize", "recipe 'resize' cannot be served .* takes images of one size")
NO_CUES = ("cls", r"recipe 'cls' .* reads \['attention'\], which its vision tower does not give")
CASES = {
    "llava-next": Case(checkpoints.llava_next, PLAIN + CUES, NO_SIZES),
    "gemma3": Case(checkpoints.gemma3, PLAIN, NO_CUES, adjust=without_mutual_sight),
    "llava-onevision": Case(
        checkpoints.llava_onevision,
        PLAIN + CUES,
        NO_SIZES,
        sizes=(SMALL, WIDE, LARGE),
    ),
    "smolvlm": Case(checkpoints.smolvlm, PLAIN, NO_CUES),
}
"""By name; a further family is a line here and a function that writes its checkpoint."""


@dataclass
class Route:
    """The Hugging Face route of a checkpoint."""

    case: Case
    folder: Path
    model: Any
    processor: Any

    @classmethod
    def of(cls, case: Case, folder: Path) -> Route:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        torch.manual_seed(0)
        case.build(folder)
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
        model.generation_config.eos_token_id = None
        return cls(case, folder, model, AutoProcessor.from_pretrained(folder))

    def request(self, images: list[Any], recipe: Any, keep: float | int) -> dict[str, Any]:
        """A request of vLLM."""
        text = text_of(self.processor, ["image"] * len(images), "what is in the picture ?")
        own = {"mm_processor_kwargs": {"vtc": {"recipe": recipe, "keep": keep}}}
        return {"prompt": text, "multi_modal_data": {"image": images}, **(own if recipe else {})}

    def answer(self, request: dict[str, Any], recipe: Any, keep: float | int) -> Answer:
        """What the Hugging Face route says to it."""
        images = request["multi_modal_data"]["image"]
        inputs = self.case.adjust(dict(self.processor(text=request["prompt"], images=images, return_tensors="pt")))
        with reduced(self.model, recipe, keep=keep, positions="compact") as model:
            out = model.generate(
                **inputs,
                max_new_tokens=TOKENS,
                do_sample=False,
                return_dict_in_generate=True,
                output_logits=True,
            )
            report = model.vtc.report
        length = inputs["input_ids"].shape[1]
        tokens = out.sequences[0, length:].tolist()
        return Answer(
            tokens,
            [step[0].float().log_softmax(-1)[token].item() for step, token in zip(out.logits, tokens, strict=True)],
            report.prompt_after[0] if report.prompt_after else length,
            [item.reduction.anchor.tolist() for item in report.items],
        )


@dataclass
class Answer:
    """What a route said, with its log-probabilities, the length of the prompt, and the tokens kept of each item."""

    tokens: list[int]
    logprobs: list[float]
    prompt: int
    kept: list[list[int]]

    @classmethod
    def of(cls, output: Any, kept: list[list[int]]) -> Answer:
        """The answer of vLLM."""
        (said,) = output.outputs
        logprobs = [step[token].logprob for step, token in zip(said.logprobs, said.token_ids, strict=True)]
        return cls(list(said.token_ids), logprobs, len(output.prompt_token_ids), kept)


def scenes(case: Case, first: int = HELD_OUT) -> list[Any]:
    """An image of each of a family's sizes."""
    return [Scene(first + i).image.convert("RGB").resize(size) for i, size in enumerate(case.sizes)]


def forget(llm: Any) -> None:
    """Empty the engine's caches, so that it encodes and reads what comes next."""
    for empty in (llm.reset_prefix_cache, llm.reset_mm_cache, llm.llm_engine.reset_encoder_cache):
        empty()


def said(llm: Any, requests: list[dict[str, Any]]) -> list[Any]:
    return answers(llm, requests, TOKENS, logprobs=1, ignore_eos=True)


@pytest.fixture(scope="module", params=CASES)
def route(request, tmp_path_factory):
    if request.param == "smolvlm":
        from transformers.models.smolvlm import processing_smolvlm

        if processing_smolvlm.num2words is None:  # which only videos are written with
            processing_smolvlm.num2words = str
    return Route.of(CASES[request.param], tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def stock(route, start):
    """What stock vLLM says to each image, and to all of them together."""
    llm = start(str(route.folder), None, limit_mm_per_prompt={"image": 3}, **route.case.settings)
    return [Answer.of(out, []) for out in said(llm, whole(route, None))]


@pytest.fixture(scope="module")
def llm(route, stock, start):
    return start(str(route.folder), {"keep": 1.0}, limit_mm_per_prompt={"image": 3}, **route.case.settings)


def whole(route: Route, recipe: str | None) -> list[dict[str, Any]]:
    """Requests about each image, and about all of them together, by which all tokens are kept."""
    images = scenes(route.case)
    return [route.request(own, recipe, 1.0) for own in (*([image] for image in images), images)]


def test_keep_all_is_stock_vllm(route, stock, llm):
    assert [Answer.of(out, []) for out in said(llm, whole(route, "kcenter"))] == stock


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("recipe", dict.fromkeys(PLAIN + CUES))
def test_the_same_tokens_are_kept_and_the_same_said(route, llm, recipe, keep, monkeypatch):
    if recipe not in route.case.recipes:
        pytest.skip("refused")
    images = scenes(route.case)
    for own in (*([image] for image in images), images[:2]):
        request = route.request(own, recipe, keep)
        expected = route.answer(request, recipe, keep)
        forget(llm)
        with recorded(monkeypatch, serving) as calls:
            (out,) = said(llm, [request])
        found = Answer.of(out, [item.reduction.anchor.tolist() for items in calls for item in items])
        assert found.kept == expected.kept
        assert (found.prompt, found.tokens) == (expected.prompt, expected.tokens)
        assert found.logprobs == pytest.approx(expected.logprobs, abs=CLOSE)


def test_a_batch_equals_its_singles(route, llm):
    images = scenes(route.case, HELD_OUT + 50)
    own = [[image] for image in images] + [images, images[::-1], images[1:]]
    asked = [(recipe, keep) for recipe in route.case.recipes[:2] for keep in (0.3, 3)]
    requests = [route.request(some, recipe, keep) for some in own for recipe, keep in asked]
    batch = [Answer.of(out, []) for out in said(llm, requests)]
    singles = []
    for request in requests:
        forget(llm)
        singles += [Answer.of(out, []) for out in said(llm, [request])]
    for one, other in zip(batch, singles, strict=True):
        assert (one.tokens, one.prompt) == (other.tokens, other.prompt)
        assert one.logprobs == pytest.approx(other.logprobs, abs=CLOSE)


def test_what_cannot_be_served_is_refused_by_name(route, llm):
    recipe, words = route.case.refused
    images = scenes(route.case)
    with pytest.raises(ValueError, match=words):
        said(llm, [route.request(images[:1], recipe, 0.5)])
    assert len(said(llm, [route.request(images[:1], "kcenter", 0.5)])) == 1
