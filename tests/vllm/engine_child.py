"""An engine in a process of its own, whose environment vLLM reads once: runs the job of a folder."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.vllm.engines import answers, engine, module_of

Steps = list[dict[str, float]]
"""Of each token of an answer the likeliest ones with their log-probabilities, the one that was taken first."""


def steps_of(outputs: Sequence[Any]) -> list[Steps]:
    """What an engine answered, as JSON holds it."""
    return [
        [{str(token): value.logprob for token, value in step.items()} for step in output.outputs[0].logprobs]
        for output in outputs
    ]


def answered_apart(
    folder: Path,
    name: str,
    vtc: Mapping[str, Any] | None,
    requests: Sequence[Mapping[str, Any]],
    environment: Mapping[str, str],
    **settings: Any,
) -> dict[str, Any]:
    """The answers of an engine in a process with `environment`, the class of its model, and its prompts' lengths."""
    job = {"name": name, "vtc": vtc, "requests": list(requests), "settings": settings}
    (folder / "job").write_bytes(pickle.dumps(job))
    line = [sys.executable, "-m", "tests.vllm.engine_child", str(folder)]
    root = str(Path(__file__).parents[2])
    own = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join((root, os.environ.get("PYTHONPATH", "")))}
    ended = subprocess.run(line, env=own, cwd=folder, capture_output=True, text=True, timeout=400)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return found


def main() -> None:
    """Answer all requests of the job, twice, so that the second time finds what caches hold."""
    folder = Path(sys.argv[1])
    job = pickle.loads((folder / "job").read_bytes())
    llm = engine(job["name"], job["vtc"], **job["settings"])
    rounds = [answers(llm, job["requests"], 6, logprobs=3) for _ in range(2)]
    found = {
        "rounds": [steps_of(outputs) for outputs in rounds],
        "lengths": [len(output.prompt_token_ids) for output in rounds[0]],
        "module": llm.apply_model(module_of)[0],
    }
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
