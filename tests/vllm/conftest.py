"""What vLLM reads from the environment, before anything imports it: the CPU, one process, no hub, no word home."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.vllm.engines import closed, engine

for _name, _value in {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "OMP_NUM_THREADS": "1",
}.items():
    os.environ.setdefault(_name, _value)


@pytest.fixture(scope="module")
def start() -> Iterator[Any]:
    """Starts an engine in place of the one before: a process has one at a time."""
    running: list[Any] = []

    def start_engine(name: str, vtc: dict[str, Any] | None, **settings: Any) -> Any:
        if running:
            closed(running.pop())
        running.append(engine(name, vtc, **settings))
        return running[-1]

    yield start_engine
    for llm in running:
        closed(llm)
