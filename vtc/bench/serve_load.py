"""A closed load on an OpenAI-compatible server: so many requests at a time, each followed by the next."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx

POLL = 0.25
"""Seconds between two looks at the server's own figures."""
KV_USE = re.compile(r"^vllm:(?:kv|gpu)_cache_usage_perc(?:\{[^}]*\})? ([0-9.eE+-]+)$", re.MULTILINE)


@dataclass
class Load:
    """What a load took.

    Attributes:
        seconds: from the first request to the last answer.
        first: seconds to the first token, a request each.
        prompt: tokens of the prompts, a request each.
        kv_use: largest share of the key-value cache in use that was seen; NaN where the server says none.
        errors: what failed, in words.
    """

    seconds: float = 0.0
    first: list[float] = field(default_factory=list)
    prompt: list[int] = field(default_factory=list)
    kv_use: float = float("nan")
    errors: list[str] = field(default_factory=list)


def run_load(url: str, bodies: Sequence[dict[str, Any]], concurrency: int, timeout: float) -> Load:
    """Send `bodies` to the server at `url`, `concurrency` at a time."""
    with ThreadPoolExecutor(1) as own:  # whatever loop the caller's thread runs
        return own.submit(asyncio.run, _run(url, bodies, concurrency, timeout)).result()


async def _run(url: str, bodies: Sequence[dict[str, Any]], concurrency: int, timeout: float) -> Load:
    load, left = Load(), iter(bodies)
    limits = httpx.Limits(max_connections=concurrency + 2)
    async with httpx.AsyncClient(base_url=url, timeout=timeout, limits=limits, trust_env=False) as client:
        watching = asyncio.create_task(_watch(client, load))
        begun = time.perf_counter()
        await asyncio.gather(*(_work(client, left, load) for _ in range(concurrency)))
        load.seconds = time.perf_counter() - begun
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return load


async def _work(client: httpx.AsyncClient, left: Iterator[dict[str, Any]], load: Load) -> None:
    for body in left:
        try:
            await _ask(client, body, load)
        except (httpx.HTTPError, ValueError, KeyError) as error:
            load.errors.append(f"{type(error).__name__}: {error}")


async def _ask(client: httpx.AsyncClient, body: dict[str, Any], load: Load) -> None:
    """One streamed request: when its first token came, and how many tokens the server read."""
    begun, first, prompt = time.perf_counter(), None, None
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        if response.status_code != 200:
            raise ValueError(f"{response.status_code}: {(await response.aread()).decode(errors='replace')[:300]}")
        async for line in response.aiter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            chunk = json.loads(line[6:])
            if first is None and any(choice["delta"].get("content") is not None for choice in chunk["choices"]):
                first = time.perf_counter() - begun
            prompt = (chunk.get("usage") or {}).get("prompt_tokens", prompt)
    if first is None or prompt is None:
        raise ValueError("the server closed a stream without a token, or without its usage")
    load.first.append(first)
    load.prompt.append(prompt)


async def _watch(client: httpx.AsyncClient, load: Load) -> None:
    while True:
        found = KV_USE.findall((await client.get("/metrics")).text)
        if found:
            load.kv_use = max(map(float, found)) if load.kv_use != load.kv_use else max(load.kv_use, *map(float, found))
        await asyncio.sleep(POLL)


def until_up(url: str, ended: Callable[[], bool], patience: float) -> bool:
    """Wait for a server; False where it ended, or was not there in `patience` seconds."""
    limit = time.perf_counter() + patience
    while time.perf_counter() < limit and not ended():
        try:
            if httpx.get(f"{url}/health", timeout=2, trust_env=False).status_code == 200:
                return True
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    return False
