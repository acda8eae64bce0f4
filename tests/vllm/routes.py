"""A checkpoint by the Hugging Face route, and what either route answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.vllm.engines import answers, recorded, text_of
from vtc import reduced
from vtc.integrations.vllm import serving

TOKENS, CLOSE = 8, 2e-3


@dataclass
class Route:
    """The Hugging Face route of a checkpoint.

    Attributes:
        folder: of the checkpoint.
        model, processor: of transformers.
        options: what the processor is called with, in vLLM too.
    """

    folder: Path
    model: Any
    processor: Any
    options: dict[str, Any]

    @classmethod
    def of(cls, build: Callable[..., Path], folder: Path, **options: Any) -> Route:
        """The route of a checkpoint that `build` writes."""
        from transformers import AutoModelForImageTextToText, AutoProcessor

        torch.manual_seed(0)
        build(folder)
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
        model.generation_config.eos_token_id = None
        return cls(folder, model, AutoProcessor.from_pretrained(folder), options)

    def request(self, media: list[Any], recipe: Any, keep: float, kind: str = "image") -> dict[str, Any]:
        """A request of vLLM; without a recipe one that stock vLLM takes."""
        text = text_of(self.processor, [kind] * len(media), "what is in the picture ?")
        own = {"vtc": {"recipe": recipe, "keep": keep}} if recipe else {}
        return {
            "prompt": text,
            "multi_modal_data": {kind: media},
            "mm_processor_kwargs": {**self.options, **own},
        }

    def answer(self, request: dict[str, Any], recipe: Any, keep: float, causal: bool = False) -> Answer:
        """What the Hugging Face route says to it; `causal` lets no token see a later one, as vLLM on a CPU does."""
        media = {f"{kind}s": items for kind, items in request["multi_modal_data"].items()}
        inputs = dict(self.processor(text=request["prompt"], **media, **self.options, return_tensors="pt"))
        if causal:
            inputs["token_type_ids"] = torch.zeros_like(inputs["token_type_ids"])
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


def forget(llm: Any) -> None:
    """Empty the engine's caches, so that it encodes and reads what comes next."""
    for empty in (llm.reset_prefix_cache, llm.reset_mm_cache, llm.llm_engine.reset_encoder_cache):
        empty()


def said(llm: Any, requests: list[dict[str, Any]]) -> list[Any]:
    return answers(llm, requests, TOKENS, logprobs=1, ignore_eos=True)


def assert_alike(llm: Any, request: dict[str, Any], expected: Answer, monkeypatch: Any) -> None:
    """The engine keeps the tokens, and says the words, that are expected."""
    forget(llm)
    with recorded(monkeypatch, serving) as calls:
        (out,) = said(llm, [request])
    found = Answer.of(out, [item.reduction.anchor.tolist() for items in calls for item in items])
    assert found.kept == expected.kept
    assert (found.prompt, found.tokens) == (expected.prompt, expected.tokens)
    assert found.logprobs == pytest.approx(expected.logprobs, abs=CLOSE)
