"""One checkpoint by two routes: what transformers and vLLM keep of the same images, and what they answer."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from vtc.adapters import find
from vtc.core.isolated_process import command
from vtc.embedded.scene import HELD_OUT, Scene
from vtc.inference.asking import answer, prompt
from vtc.inference.loading import load, locate
from vtc.recipes.composition import Recipe
from vtc.recipes.named import recipe as named
from vtc.reduction.api import reduced

from .settings import unservable

SPREAD = ("kcenter", "kcenter-mean", "stride", "cls", "todre", "pool")
"""The recipes that are compared by default, as far as both routes can run them."""
CHILD = "vtc.integrations.vllm.agreement_child"
HALF_SHARE = 0.9
"""Of the kept tokens, how many have to be the same in half precision, where kernels round near ties their own ways."""
ROUTE = dict[str, Any]
"""Of one request: `anchor`, the kept tokens, see `kept_of`; `length` of the prompt; `text`, the answer."""


@dataclass(frozen=True)
class RecipeAgreement:
    """One recipe on all images.

    Attributes:
        recipe, keep: of it.
        images: how many.
        before, after: visual tokens of the first image, unreduced and by transformers.
        same_lengths: images whose prompts are equally long by both routes.
        same_kept: images of which the same tokens are kept.
        shared: share of transformers' kept tokens that vLLM keeps, over all images.
        same_answers: images about which the same is answered.
        error: why a route refused it; the figures are then 0.
    """

    recipe: str
    keep: float | int
    images: int
    before: int = 0
    after: int = 0
    same_lengths: int = 0
    same_kept: int = 0
    shared: float = 0.0
    same_answers: int = 0
    error: str = ""

    def holds(self, exact: bool) -> bool:
        """Return whether the routes agree; `exact`: in every kept token and answer, as float32 should."""
        if self.error or self.same_lengths < self.images:
            return False
        if exact:
            return self.same_kept == self.images == self.same_answers
        return self.shared >= HALF_SHARE


@dataclass(frozen=True)
class AgreementReport:
    """All recipes on one checkpoint.

    Attributes:
        model: what was loaded.
        dtype: of both routes.
        positions: where kept tokens stand in vLLM: `original`, or `compact` where the model has no M-RoPE.
        versions: of the packages.
        rows: a recipe each.
    """

    model: str
    dtype: str
    positions: str
    versions: Mapping[str, str]
    rows: tuple[RecipeAgreement, ...]

    @property
    def holds(self) -> bool:
        """Whether the routes agree on every recipe, and there is one."""
        return bool(self.rows) and all(row.holds(self.dtype == "float32") for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON can hold it."""
        exact = self.dtype == "float32"
        rows = [{**asdict(row), "holds": row.holds(exact)} for row in self.rows]
        return {**asdict(self), "versions": dict(self.versions), "rows": rows, "holds": self.holds}


def compare_routes(
    model: str,
    recipes: Sequence[Recipe] | None = None,
    *,
    images: int = 6,
    device: str = "auto",
    dtype: str = "auto",
    max_new_tokens: int = 8,
    engine_args: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> AgreementReport:
    """Ask drawn questions about drawn images by transformers, then by vLLM in a child process, and compare.

    Args:
        model: an embedded model, a directory or a hub id.
        recipes: None: `SPREAD`, as far as they can be served.
        images: how many, with a question each.
        device, dtype: of transformers; vLLM takes the same dtype.
        max_new_tokens: of an answer.
        engine_args: further arguments of `vllm.LLM`, such as `gpu_memory_utilization`.
        say: takes what is being done.

    Raises:
        ImportError: vLLM is not installed.
        OSError, ValueError: see `vtc.inference.loading.load`.
        OSError: also where vLLM could not start on the checkpoint, with its last error.
    """
    require_vllm()
    chosen = (
        [r for r in map(named, SPREAD) if unservable(r) is None] if recipes is None else list(dict.fromkeys(recipes))
    )
    scenes = [Scene(HELD_OUT + i) for i in range(images)]
    say("transformers")
    stock, processor = load(model, device=device, dtype=dtype)
    positions = "original" if find(stock).axes == 3 else "compact"
    precision = str(stock.dtype).removeprefix("torch.")
    expected = [_by_transformers(stock, processor, scenes, r, positions, max_new_tokens) for r in chosen]
    texts = [_text(processor, scene.questions[0].question) for scene in scenes]
    del stock
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    say("vLLM")
    found = _by_vllm(model, precision, scenes, texts, chosen, max_new_tokens, engine_args or {})
    versions = {name: version(name) for name in ("vtc-vlm", "torch", "transformers")}
    rows = tuple(
        _compared(r, *pair) for r, pair in zip(chosen, zip(expected, found["recipes"], strict=True), strict=True)
    )
    return AgreementReport(model, precision, positions, {**versions, "vllm": found["version"]}, rows)


def kept_of(items: Sequence[Sequence[int]]) -> list[list[int]]:
    """The kept tokens of a request's items, an (item, token) each; where tiles stand apart each of them is an item."""
    return [[number, token] for number, anchor in enumerate(items) for token in anchor]


def require_vllm() -> None:
    """Raise ImportError, with the command that installs it, where vLLM is missing."""
    if importlib.util.find_spec("vllm") is None:
        raise ImportError("vLLM is not installed here; pip install 'vtc-vlm[vllm]' (docs/serving.md says how on a CPU)")


def _text(processor: Any, question: str) -> str:
    content = [{"type": "image"}, {"type": "text", "text": question}]
    text: str = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    return text


def _by_transformers(
    model: Any, processor: Any, scenes: Sequence[Scene], recipe: Recipe, positions: str, longest: int
) -> list[ROUTE] | str:
    """What each image gives, or why the recipe is refused."""
    found = []
    try:
        with reduced(model, recipe, positions=positions):
            for scene in scenes:
                inputs = prompt(model, processor, scene.image, scene.questions[0].question)
                text = answer(model, processor, inputs, longest)
                report = model.vtc.report
                found.append(
                    {
                        "anchor": kept_of([item.reduction.anchor.tolist() for item in report.items]),
                        "before": report.before,
                        "length": report.prompt_after[0] if report.prompt_after else inputs["input_ids"].shape[1],
                        "text": text,
                    }
                )
    except ValueError as error:
        return f"transformers: {error}"
    return found


def _by_vllm(
    model: str,
    dtype: str,
    scenes: Sequence[Scene],
    texts: Sequence[str],
    recipes: Sequence[Recipe],
    longest: int,
    engine_args: Mapping[str, Any],
) -> dict[str, Any]:
    """What the child found. It has one process, so that what its workers keep can be seen."""
    with TemporaryDirectory() as folder:
        for i, scene in enumerate(scenes):
            scene.image.save(Path(folder) / f"{i}.png")
        job = {
            "model": locate(model)[0],
            "dtype": dtype,
            "texts": list(texts),
            "recipes": [recipe.to_dict() for recipe in recipes],
            "longest": longest,
            "engine_args": dict(engine_args),
        }
        (Path(folder) / "job.json").write_text(json.dumps(job))
        environment = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
        done = subprocess.run(
            command(CHILD, folder), env={**os.environ, **environment}, capture_output=True, text=True, errors="replace"
        )
        out = Path(folder) / "found.json"
        if done.returncode or not out.is_file():
            raise OSError(f"vLLM could not run {model!r} (exit {done.returncode}): {_reason(done.stderr)}")
        found: dict[str, Any] = json.loads(out.read_text())
        return found


def _reason(printed: str) -> str:
    """The last error of what a Python printed, or its last line."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(\[rank0\]:\s*)?[\w.]*(Error|Exception|Exit)\b.*: ", line)]
    return (errors or lines or ["it printed nothing"])[-1]


def _compared(recipe: Recipe, expected: list[ROUTE] | str, found: list[ROUTE] | str) -> RecipeAgreement:
    if isinstance(expected, str) or isinstance(found, str):
        reason = expected if isinstance(expected, str) else f"vLLM: {found}"
        return RecipeAgreement(recipe.name, recipe.keep, 0, error=reason)
    pairs = list(zip(expected, found, strict=True))
    kept = [(set(map(tuple, one["anchor"])), set(map(tuple, other["anchor"]))) for one, other in pairs]
    return RecipeAgreement(
        recipe.name,
        recipe.keep,
        len(pairs),
        expected[0]["before"],
        len(expected[0]["anchor"]),
        sum(one["length"] == other["length"] for one, other in pairs),
        sum(one == other for one, other in kept),
        sum(len(one & other) for one, other in kept) / sum(len(one) for one, _ in kept),
        sum(one["text"] == other["text"] for one, other in pairs),
    )
