"""`vtc bench serve`: the same load on stock vLLM, on vtc at several keeps, and on the ideal, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from vtc.core.budget import Keep
from vtc.core.machine import machine
from vtc.inference.loading import locate
from vtc.recipes.named import by_name

from .serve_load import Load, run_load
from .serve_requests import LoadRequests, TokenGrid, percentile
from .serve_servers import SHAPE, served, write_shape

STOCK, IDEAL = "stock", "ideal"
TIMEOUT = 1800.0
"""Seconds that one request may take."""


@dataclass(frozen=True)
class ServeConfig:
    """A load test.

    Attributes:
        model: an embedded model, a directory or a hub id; None: a checkpoint of a language model of 0.5 B with random
            weights. Where its tower takes images of one size there is no ideal.
        layers: of that language model, of 24.
        recipes: what chooses the tokens, by name; several are compared on one server.
        keeps: shares or counts.
        concurrency: requests at a time.
        requests: in a round of one kind, at each concurrency; at least as many as go at a time.
        rounds: of each kind, in turns.
        image_tokens, frames: of an image, and frames of a video, each of a quarter of the image's tokens; of a tower of
            one size they say nothing.
        videos, shared: shares of requests.
        answer: tokens of an answer.
        engine_args: of `vllm serve`, by name.
    """

    model: str | None = None
    layers: int = 24
    recipes: tuple[str, ...] = ("kcenter",)
    keeps: tuple[Keep, ...] = (1.0, 0.25, 0.1)
    concurrency: tuple[int, ...] = (1, 4, 16, 32)
    requests: int = 16
    rounds: int = 3
    image_tokens: int = 784
    frames: int = 8
    videos: float = 0.25
    shared: float = 0.5
    answer: int = 8
    engine_args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RequestKind:
    """One kind of request: on stock vLLM, with vtc, or the ideal: stock vLLM and media of as few tokens."""

    name: str
    keep: Keep | None = None

    @property
    def label(self) -> str:
        """What a table calls it."""
        return self.name if self.keep is None else f"{self.name} {self.keep:g}"


def request_kinds(config: ServeConfig, ideal: bool = True) -> list[RequestKind]:
    """The kinds of requests, those that belong together side by side.

    Args:
        ideal: whether images can be made as small as the ideal wants them.
    """
    found = [RequestKind(STOCK)]
    for keep in config.keeps:
        found += [RequestKind(recipe, keep) for recipe in config.recipes]
        found += [RequestKind(IDEAL, keep)] if ideal and keep != 1.0 else []
    return found


def run(config: ServeConfig, say: Callable[[str], None]) -> dict[str, Any]:
    """Serve, load, and return the figures as JSON can hold them.

    Raises:
        ImportError, OSError: vLLM is missing, or does not start.
        ValueError: a recipe has no such name, or a server refused a request.
    """
    for recipe in config.recipes:
        by_name(recipe)
    versions = {name: version(name) for name in ("vtc-vlm", "torch", "transformers", "vllm")}
    with TemporaryDirectory() as home, ExitStack() as stack:
        folder = Path(home)
        if config.model is None:
            say("writing the checkpoint")
            write_shape(folder / SHAPE, config.layers)
        model = str(folder / SHAPE) if config.model is None else locate(config.model)[0]
        requests, any_size = _requests(config, model)
        arguments = {**_limits(config, any_size), **config.engine_args}
        say("starting stock vLLM")
        stock = stack.enter_context(served(model, None, arguments, folder / "stock.log"))
        say("starting vLLM with vtc")
        ours = stack.enter_context(
            served(model, {"recipe": config.recipes[0], "keep": 1.0}, arguments, folder / "vtc.log")
        )
        urls = {kind: ours if kind.name in config.recipes else stock for kind in request_kinds(config, any_size)}
        rows = []
        for count in config.concurrency:
            rows += _at(config, requests, model, urls, count, say)
    return {
        "model": config.model or f"{SHAPE}, {config.layers} layers, random weights",
        "config": {**asdict(config), "keeps": list(config.keeps), "recipes": list(config.recipes)},
        "machine": machine(),
        "versions": versions,
        "date": time.strftime("%Y-%m-%d"),
        "rows": rows,
    }


def _limits(config: ServeConfig, any_size: bool) -> dict[str, Any]:
    frames = config.frames // 2 * (config.image_tokens // 4)
    longest = {"max_model_len": max(config.image_tokens, frames) + 256 + config.answer} if any_size else {}
    return {**longest, "max_num_seqs": max(config.concurrency)}


def _requests(config: ServeConfig, model: str) -> tuple[LoadRequests, bool]:
    """Requests of sizes in the tokens of the model's own tower, and whether it takes images of any size.

    Raises:
        ValueError: the config says no size, or it takes one size, and the load has videos.
    """
    from transformers import AutoConfig

    vision: Any = getattr(AutoConfig.from_pretrained(model), "vision_config", None)
    any_size = hasattr(vision, "spatial_merge_size")
    if not any_size and not hasattr(vision, "image_size"):
        raise ValueError(
            f"model={model!r}: its vision_config has neither `spatial_merge_size` nor `image_size`, and how large "
            "images must be is not known; take a Qwen-VL, LLaVA, InternVL, Gemma 3 or SmolVLM"
        )
    if any_size:
        unit = TokenGrid(1, 1, vision.patch_size * vision.spatial_merge_size)
        image, frame = unit.holding(config.image_tokens), unit.holding(max(1, config.image_tokens // 4))
    elif config.videos:
        raise ValueError(
            f"videos={config.videos}: {model} takes images of one size, and this load has no videos for it; pass 0 "
            "(--videos 0)"
        )
    else:
        size = vision.image_size
        image = frame = TokenGrid(1, 1, size if isinstance(size, int) else size[0])
    return LoadRequests(image, frame, config.frames, config.videos, config.shared, config.answer), any_size


def _at(
    config: ServeConfig,
    requests: LoadRequests,
    model: str,
    urls: dict[RequestKind, str],
    count: int,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """The rows of one concurrency: a round of each kind to warm up, then rounds in turns."""
    loads: dict[RequestKind, list[Load]] = {kind: [] for kind in urls}
    total = max(config.requests, count)
    for turn in range(config.rounds + 1):
        order = list(urls)[turn % len(urls) :] + list(urls)[: turn % len(urls)]
        for kind in order:
            say(f"{count} at a time, {kind.label}, {f'round {turn} of {config.rounds}' if turn else 'warming up'}")
            # No round meets the media of one before, but those that are shared.
            numbers = [100_000 * count + 1000 * turn + i for i in range(total if turn else min(total, 4))]
            ideal = kind.name == IDEAL
            bodies = [requests.body(model, number, kind.keep, ideal, kind.name) for number in numbers]
            load = run_load(urls[kind], bodies, count, TIMEOUT)
            if load.errors:
                raise ValueError(
                    f"{kind.label}, {count} at a time: {len(load.errors)} requests failed: {load.errors[0]}"
                )
            if turn:
                loads[kind].append(load)
    return [_row(kind, count, loads) for kind in urls]


def _row(kind: RequestKind, count: int, loads: dict[RequestKind, list[Load]]) -> dict[str, Any]:
    """Figures of one kind of requests; ratios are taken round by round."""
    own = loads[kind]
    first = [seconds for load in own for seconds in load.first]
    stock = loads[RequestKind(STOCK)]
    ideal = loads.get(RequestKind(IDEAL, kind.keep)) if kind.name != IDEAL else None
    return {
        "concurrency": count,
        "kind": kind.label,
        "prompt_tokens": round(sum(sum(load.prompt) for load in own) / sum(len(load.prompt) for load in own), 1),
        "requests_per_second": median(len(load.first) / load.seconds for load in own),
        "times_stock": _ratios(stock, own),
        "of_ideal": _ratios(ideal, own) if ideal else None,
        "first_token_p50": percentile(first, 0.5),
        "first_token_p99": percentile(first, 0.99),
        "kv_use": max(load.kv_use for load in own),
        "rounds": [load.seconds for load in own],
    }


def _ratios(others: Sequence[Load], own: Sequence[Load]) -> dict[str, float]:
    """By how much the throughput is that of `others`: median, least and most over rounds."""
    found = [other.seconds / mine.seconds for other, mine in zip(others, own, strict=True)]
    return {"median": median(found), "least": min(found), "most": max(found)}


def serve_markdown(made: dict[str, Any]) -> str:
    """The figures as a table, with what they were measured on."""
    config = made["config"]
    head = "at a time | requests | prompt | a second | x stock | of the ideal | first token p50, ms | p99, ms | KV"
    about = made["machine"]
    lines = [
        f"{made['model']}; {config['requests']} requests a round, {config['rounds']} rounds in turns, "
        f"{config['videos']:.0%} videos, {config['shared']:.0%} shared, {config['answer']} tokens an answer",
        f"{', '.join(str(value) for value in about.values())}; "
        f"{', '.join(f'{name} {number}' for name, number in made['versions'].items())}; {made['date']}",
        "",
        f"| {head} |",
        f"|{' --- |' * (head.count('|') + 1)}",
        *(f"| {' | '.join(cells(row))} |" for row in made["rows"]),
    ]
    return "\n".join(lines) + "\n"


def cells(row: dict[str, Any]) -> list[str]:
    """A row of the table for a person."""
    return [
        str(row["concurrency"]),
        row["kind"],
        f"{row['prompt_tokens']:g}",
        f"{row['requests_per_second']:.2f}",
        _spread(row["times_stock"]),
        _spread(row["of_ideal"]) if row["of_ideal"] else "",
        f"{row['first_token_p50'] * 1e3:.0f}",
        f"{row['first_token_p99'] * 1e3:.0f}",
        f"{row['kv_use']:.1%}",
    ]


def _spread(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.2f} ({ratio['least']:.2f}-{ratio['most']:.2f})"
