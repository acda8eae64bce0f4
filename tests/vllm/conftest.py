"""What vLLM reads from the environment, before anything imports it: the CPU, one process, no hub, no word home."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.vllm import qwen_checkpoints
from tests.vllm.engines import closed, engine, with_older_names
from vtc import embedded

for _name, _value in {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "OMP_NUM_THREADS": "1",
}.items():
    os.environ.setdefault(_name, _value)


@pytest.fixture(scope="session")
def classes() -> None:
    """Our classes themselves where the plugin registered their names.

    vLLM looks at a class that it knows by name in a process of its own, which imports all of vLLM: a dozen of them. The
    servers and children of these tests, which are not given this, go that way.
    """
    from vllm import ModelRegistry
    from vllm.plugins import load_general_plugins

    from vtc.integrations.vllm import ARCHITECTURES, models

    load_general_plugins()
    for name in ARCHITECTURES:
        ModelRegistry.register_model(name, getattr(models, name))


@pytest.fixture(scope="module")
def start(classes: None) -> Iterator[Any]:
    """Starts an engine in place of the one before, unless that is the same: a process has one at a time."""
    running: list[tuple[Any, Any]] = []

    def start_engine(name: str, vtc: dict[str, Any] | None, **settings: Any) -> Any:
        wanted = (name, vtc, settings)
        if running and running[0][0] != wanted:
            closed(running.pop()[1])
        if not running:
            running.append((wanted, engine(name, vtc, **settings)))
        return running[0][1]

    yield start_engine
    for _, llm in running:
        closed(llm)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Checkpoints by their names, as vLLM reads them without the plugin; each is written once."""
    made: dict[str, str] = {}

    def folder(name: str) -> str:
        if name not in made and name == "tiny-llava":
            made[name] = with_older_names(embedded.path(name), tmp_path_factory.mktemp(name))
        elif name not in made:
            own = name.startswith("tiny-")
            made[name] = name if own else getattr(qwen_checkpoints, name)(tmp_path_factory.mktemp(name))
        return made[name]

    return folder
