"""Which engines answer a batch, and what each of them takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from vtc.recipes.servable import models_named, why_unservable

from .questions import SCHEMES

if TYPE_CHECKING:
    from vtc.recipes.composition import Recipe

    from .config import Job

LOCAL, VLLM = "local", "vllm"
ENGINES = (LOCAL, VLLM)
VIDEO_AS = ("frames", "video")
SIZES = frozenset(
    (
        *("gpu_memory_utilization", "kv_cache_memory_bytes", "block_size", "swap_space", "cpu_offload_gb"),
        *("max_num_seqs", "max_num_batched_tokens", "max_model_len", "limit_mm_per_prompt", "enforce_eager"),
        *("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "disable_log_stats"),
        *(
            "enable_prefix_caching",
            "mm_processor_cache_gb",
            "distributed_executor_backend",
            "max_parallel_loading_workers",
        ),
    )
)
"""Arguments of vLLM that say where and in how much memory it runs. As with `device` and `batch` of the local engine,
answers under others are those of the same job."""
NEEDED = "engine='vllm' needs vLLM; pip install 'vtc-vlm[vllm]'"


def check_engine(job: Job) -> None:
    """Refuse what an engine does not take.

    Raises:
        TypeError, ValueError: naming the argument and what to do.
    """
    if job.engine not in ENGINES:
        raise ValueError(f"engine={job.engine!r}; expected one of {', '.join(ENGINES)}")
    if job.video_as not in VIDEO_AS:
        raise ValueError(f"video_as={job.video_as!r}; expected one of {', '.join(VIDEO_AS)}")
    _check_arguments(job.engine_args)
    if job.endpoint is not None:
        check_url(job.endpoint)
        if job.engine != LOCAL:
            raise ValueError(
                f"engine={job.engine!r} and endpoint={job.endpoint!r} are two places to answer; give one of them"
            )
    if job.endpoint is None and job.video_as != VIDEO_AS[0]:
        raise ValueError(f"video_as={job.video_as!r} says how videos travel to an endpoint; give one (--endpoint URL)")
    if not job.in_process:
        _check_requests(job)
    elif job.engine_args:
        raise ValueError(
            f"engine_args={dict(job.engine_args)!r} are of vLLM (--engine vllm) or of an endpoint's requests "
            "(--endpoint URL); leave them out"
        )


def _check_arguments(given: object) -> None:
    if given is None:
        return
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise TypeError(f"engine_args={given!r}; expected names and values, such as {{'max_model_len': 8192}}")
    try:
        json.dumps(given, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"engine_args={given!r} holds what JSON cannot ({error})") from None


def _check_requests(job: Job) -> None:
    """Refuse what an engine cannot do that is asked one request a question."""
    name = f"endpoint={job.endpoint!r}" if job.endpoint is not None else f"engine={job.engine!r}"
    if job.strategy != "direct":
        raise ValueError(
            f"strategy={job.strategy!r} calls a model of this process several times a question, and {name} is asked "
            "once; take 'direct', or leave the engine out"
        )
    if job.reads_by_model:
        raise ValueError(
            f"recipe={job.recipe_for(False).name!r} has a model of this process choose the frames, and with {name} "
            "there is none; choose by color-layout or by a CLIP model (--scorer clip:FOLDER), or leave the engine out"
        )
    for image in (False, True):
        check_sent(job.recipe_for(image))
        if job.engine == VLLM:
            check_served(job.recipe_for(image))
    meant = {"device": ("auto", "it runs where the engine does"), "allow_fewer_frames": (False, "give fewer frames")}
    if job.endpoint is not None:
        meant["dtype"] = ("auto", "it is the server's")
        meant["max_prompt"] = (None, "the server counts its tokens itself")
    for field, (default, why) in meant.items():
        if getattr(job, field) != default:
            option = f"--{field.replace('_', '-')}"
            raise ValueError(f"{field}={getattr(job, field)!r} says nothing to {name}: {why}; leave {option} out")


def check_served(recipe: Recipe) -> None:
    """Refuse a recipe that no engine can do which writes a prompt before its encoder runs.

    Raises:
        ValueError: naming it, and why.
    """
    if why := why_unservable(recipe):
        raise ValueError(
            f"recipe={recipe.name!r} cannot be served by vLLM: {why}; take another, such as 'kcenter' or 'video', or "
            "--engine local"
        )


def check_sent(recipe: Recipe) -> None:
    """Refuse a recipe that would have a server load another model; what chooses frames does so here, and is not sent.

    Raises:
        ValueError: naming the model.
    """
    stages = [stage for stage in recipe.to_dict()["stages"] if not stage["stage"].startswith("input/")]
    for name in models_named(stages):
        raise ValueError(
            f"recipe={recipe.name!r} names {name!r}, and a request has a server load no other model; take "
            "features='color-layout', or --engine local"
        )


def check_installed(engine: str) -> None:
    """Refuse an engine that is not installed, before anything is read.

    Raises:
        ImportError: with how to install it.
    """
    if engine == VLLM and find_spec("vllm") is None:
        raise ImportError(NEEDED)


def check_url(url: object) -> str:
    """The base address of an OpenAI-compatible server, as requests are made of it.

    An address without a path is that of its `/v1`.

    Raises:
        ValueError: no http(s) address, or one that holds a password, a query or a fragment.
    """
    example = "pass one such as http://localhost:8000/v1"
    if not isinstance(url, str) or not url.lower().startswith(SCHEMES):
        raise ValueError(f"endpoint={url!r} is no http(s) address; {example}")
    try:
        found = urlsplit(url)
        port = found.port
    except ValueError as error:
        raise ValueError(f"endpoint={url!r}: {error}; {example}") from None
    if found.username is not None or found.password is not None:
        raise ValueError("endpoint holds a name or a password; put the key into the environment as OPENAI_API_KEY")
    if not found.hostname or port == 0 or found.query or found.fragment or any(c.isspace() for c in url):
        raise ValueError(f"endpoint={url!r} is no base address of a server; {example}")
    path = found.path.rstrip("/").removesuffix("/chat/completions").rstrip("/") or "/v1"
    return f"{found.scheme}://{found.netloc}{path}"


def deciding(arguments: Mapping[str, Any] | None) -> dict[str, Any]:
    """Those of vLLM's arguments that answers may depend on."""
    return {name: value for name, value in (arguments or {}).items() if name not in SIZES}
