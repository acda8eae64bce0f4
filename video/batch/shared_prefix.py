"""One prefix, many questions: media are encoded and read by the language model once, and each question goes on from
there.
"""

from __future__ import annotations

import copy
import inspect
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import torch

from vtc.adapters.decoders import CACHE_NAMES
from vtc.core.token_recorder import TokenRecorder
from vtc.core.tokens import QUESTION
from vtc.inference.asking import greedy
from vtc.media.frame_times import on_device
from vtc.recipes.composition import Recipe
from vtc.reduction.cache_metadata import cache_among
from vtc.reduction.report import Report

from .prompts import Prompts


def shareable(recipe: Recipe | None, tokens: int) -> bool:
    """Whether what is kept of a medium of `tokens` is the same for every question, so that a prefix can be shared.

    Not where a stage reads the question and drops anything by it, nor where tokens leave inside the decoder, by
    attention from the prompt's end.
    """
    if recipe is None:
        return True
    everything = recipe.keep >= tokens if isinstance(recipe.keep, int) else recipe.keep == 1.0
    return (everything or QUESTION not in recipe.cues) and not recipe.decoder


@dataclass
class BatchGeneration:
    """Answers to a batch of prompts: their texts and what they took, in seconds by stage."""

    texts: list[str]
    seconds: dict[str, float]


@dataclass
class Prefix:
    """A prefix that the model has read.

    Attributes:
        cache: its keys and values, and what was kept of its media.
        report: of that call; None where the model is not wrapped.
        seconds: by stage: `encode`, `reduce` and `prefill`.
    """

    cache: Any
    report: Report | None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def repeatable(self) -> bool:
        """Whether several questions can go on at once; the state of linear layers cannot be repeated."""
        return all(hasattr(layer, "batch_repeat_interleave") for layer in self.cache.layers)

    def batch_size(self, lengths: Sequence[int], longest: int) -> int:
        """Return how many of the next questions can go on at once, at least one.

        A layer with a sliding window counts the padding in front of shorter questions as tokens that it has seen. Where
        the window would slide past what they should see, only those of one length go on together.

        Args:
            lengths: of each question's own ids, in order; at least one.
            longest: tokens of an answer at most.
        """
        if not self.repeatable:
            return 1
        windows = [layer.sliding_window for layer in self.cache.layers if getattr(layer, "is_sliding", False)]
        whole = self.cache.get_seq_length() + max(lengths) + longest
        if not windows or whole <= min(windows):
            return len(lengths)
        same = (length == lengths[0] for length in lengths)
        return sum(1 for _ in takewhile(bool, same))


@torch.no_grad()
def read_prefix(model: Any, prompts: Prompts) -> Prefix:
    """Run `model`, wrapped or not, over what the prompts share."""
    begun = now(model)
    out = model(**on_device(model, prompts.shared()), use_cache=True, logits_to_keep=1)
    report = model.vtc.report if hasattr(model, "vtc") else None
    return Prefix(cache_among(out), report, split(report, now(model) - begun))


def go_on(
    model: Any, processor: Any, prompts: Prompts, prefix: Prefix, rows: list[int], longest: int
) -> BatchGeneration:
    """The greedy answers to prompts `rows`, from copies of the cache."""
    ids, mask = prompts.batch(rows, _pad(model, processor))
    cache = copy.deepcopy(prefix.cache)
    if len(rows) > 1:
        cache.batch_repeat_interleave(len(rows))
    given = on_device(model, {"input_ids": ids, "attention_mask": mask})
    return _generated(model, processor, {**given, _cache_name(model): cache}, longest)


def ask_whole(
    model: Any, processor: Any, prompts: Prompts, i: int, longest: int
) -> tuple[BatchGeneration, Report | None]:
    """The greedy answer to prompt `i`, nothing shared but what the processor made of the medium."""
    generation = _generated(model, processor, on_device(model, prompts.whole(i)), longest)
    report = model.vtc.report if hasattr(model, "vtc") else None
    decode = generation.seconds.pop("decode")
    return BatchGeneration(generation.texts, split(report, generation.seconds["prefill"]) | {"decode": decode}), report


def _generated(model: Any, processor: Any, given: Mapping[str, Any], longest: int) -> BatchGeneration:
    recorder = TokenRecorder(begun=now(model))
    out = model.generate(**given, max_new_tokens=longest, streamer=recorder, **greedy(model))
    ended = now(model)
    prefill = ended - recorder.begun if recorder.first is None else recorder.first
    new = out[:, given["input_ids"].shape[1] :]
    texts = [text.strip() for text in processor.tokenizer.batch_decode(new, skip_special_tokens=True)]
    return BatchGeneration(texts, {"prefill": prefill, "decode": ended - recorder.begun - prefill})


def split(report: Report | None, total: float) -> dict[str, float]:
    """Split `total` seconds of a prefill call by stage; the rest is `prefill`."""
    known = report.seconds if report is not None else {}
    encode = known.get("encode", 0.0)
    reduce = sum(value for name, value in known.items() if name != "encode")
    return {"encode": encode, "reduce": reduce, "prefill": max(0.0, total - encode - reduce)}


def now(model: Any) -> float:
    """The time, when the device has done what it was given."""
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return time.perf_counter()


def _cache_name(model: Any) -> str:
    """Return the name of the cache argument of `model`: another one since transformers 5.24."""
    known = inspect.signature(type(model).forward).parameters
    return next((name for name in CACHE_NAMES if name in known), CACHE_NAMES[-1])


def _pad(model: Any, processor: Any) -> int:
    """An id for padding, which is masked; never a placeholder."""
    tokenizer = processor.tokenizer
    known = (tokenizer.pad_token_id, tokenizer.eos_token_id, model.generation_config.pad_token_id, 0)
    return next(int(token) for token in known if isinstance(token, int))
