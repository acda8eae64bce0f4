"""vLLM in this process as an engine: a request a question, batched as it sees fit."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from vtc.inference.loading import load_processor
from vtc.recipes.composition import Recipe
from vtc.video.batch.attempts import EngineStopped
from vtc.video.batch.config import Job
from vtc.video.batch.context import PromptLimits
from vtc.video.batch.engines import NEEDED
from vtc.video.batch.loading import LoadedMedium, open_group, refused
from vtc.video.batch.matching.choices import prompt_of
from vtc.video.batch.prompts import with_system_prompt
from vtc.video.batch.questions import Group, Question
from vtc.video.batch.rows import RowMaker, Seen
from vtc.video.qa.placeholders import placeholders

from .in_flight import PATIENCE, Reply, SharedMedium

KEY = "vtc"
"""Of vtc's plug-in, in an engine's `hf_overrides` and in a request's `mm_processor_kwargs`."""
MOST = 64


class VLLMError(RuntimeError):
    """An answer of vLLM that is not what was asked for."""


@dataclass(frozen=True)
class _Ready:
    """What requests about a medium have in common.

    Attributes:
        data: vLLM's `multi_modal_data`.
        parts: the medium's parts of a turn.
        own: what of the recipe is left to vLLM, as the plug-in takes it; None: all tokens go on.
        prompt_tokens: visual ones of the prompt, unreduced.
        full: visual tokens of all that was to be looked at.
    """

    data: Mapping[str, Any]
    parts: list[dict[str, str]]
    own: Mapping[str, Any] | None
    prompt_tokens: int
    full: int


class VLLMRequests:
    """A `RequestEngine` of vLLM, started here. Reading runs in threads meanwhile.

    Args:
        job: what to answer by.
        concurrency: requests that vLLM has at once; None: `MOST`.

    Raises:
        ImportError: vLLM is not installed.
        OSError, ValueError: a model or an argument that it does not take.
    """

    killed_by_requests = True

    def __init__(self, job: Job, concurrency: int | None = None) -> None:
        try:
            import vllm
        except ImportError as error:
            raise ImportError(f"{NEEDED} ({error})") from error
        self.job, self.most = job, concurrency or MOST
        self._processor, place = load_processor(job.model)
        self._media = {getattr(self._processor, f"{kind}_token_id", None) for kind in ("image", "video")} - {None}
        arguments = {"seed": 0, **(job.engine_args or {})}
        if not all(job.recipe_for(image).keeps_all for image in (False, True)):
            arguments["hf_overrides"] = {KEY: {"keep": 1.0}, **arguments.get("hf_overrides", {})}
        try:
            self._llm = vllm.LLM(model=place, dtype=job.dtype, **arguments)
        except (TypeError, RuntimeError) as error:
            raise ValueError(f"vLLM does not start {job.model!r} with engine_args={arguments!r}: {error}") from error
        penalty = self._llm.get_default_sampling_params().repetition_penalty  # as `generate` of transformers has it
        self._sampling = vllm.SamplingParams(temperature=0, max_tokens=job.max_new_tokens, repetition_penalty=penalty)
        self.make = RowMaker(job, ("vtc-vlm", "torch", "transformers", "av"), {"vllm": vllm.__version__})
        self._limits = PromptLimits(None, job.max_prompt)
        self._flying: dict[str, tuple[str, str, _Ready]] = {}

    def spare_processor(self) -> Any:
        """See `MediaReader`."""
        return copy.deepcopy(self._processor)

    def open(self, group: Group, *, processor: Any) -> SharedMedium:
        """See `RequestEngine`."""
        opened = open_group(group, self.job, processor)
        seen = Seen(getattr(opened.medium, "seconds", ()), opened.stamp, opened.note)
        return SharedMedium(_ready(opened, processor), seen, opened.seconds)

    def request(self, question: Question, medium: SharedMedium) -> tuple[dict[str, Any], bool, _Ready]:
        """See `RequestEngine`: the prompt, whether the tokenizer adds its own tokens to it, and its medium."""
        if error := refused(question, self._processor):
            raise error
        ready: _Ready = medium.content
        asker = with_system_prompt(self._processor, question.system)
        content = [*ready.parts, {"type": "text", "text": prompt_of(question, self.job.choices == "listed")}]
        turns = [[{"role": "user", "content": content}]]
        text = str(asker.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)[0])
        tokenizer = self._processor.tokenizer
        adds = tokenizer.bos_token is None or not text.startswith(tokenizer.bos_token)
        ids = tokenizer(text, add_special_tokens=adds)["input_ids"]
        own = sum(token not in self._media for token in ids)
        if error := self._limits.refusal(own, ready.prompt_tokens, None):
            raise error
        kwargs = {} if ready.own is None else {"mm_processor_kwargs": {KEY: ready.own}}
        return {"prompt": text, "multi_modal_data": ready.data, **kwargs}, adds, ready

    def submit(self, name: str, request: tuple[dict[str, Any], bool, _Ready]) -> None:
        """See `RequestEngine`. vLLM processes the medium here, once for all questions about it."""
        prompt, adds, ready = request
        try:
            (key,) = self._llm.enqueue(
                [prompt], self._sampling, use_tqdm=False, tokenization_kwargs={"add_special_tokens": adds}
            )
        except Exception as error:
            if _is_dead(error):
                raise _stopped(error) from error
            raise
        light = replace(ready, data={}, parts=[])  # the pixels are vLLM's now
        self._flying[_number(key)] = (name, key, light)

    def finished(self, stop: Callable[[], bool]) -> list[tuple[str, Reply | Exception | None]]:
        """See `RequestEngine`: one step of all that is in flight."""
        try:
            outputs = self._step()
        except Exception as error:  # whichever request it was about, the engine is not to be used any more
            self._flying.clear()
            raise _stopped(error) from error
        found: list[tuple[str, Reply | Exception | None]] = []
        for output in outputs:
            if output.finished and _number(output.request_id) in self._flying:
                name, _, ready = self._flying.pop(_number(output.request_id))
                found.append((name, self._reply(output, ready)))
        if self._flying and not self._llm.llm_engine.has_unfinished_requests():
            raise _stopped(RuntimeError(f"{len(self._flying)} requests are gone"))
        return found

    def _step(self) -> list[Any]:
        """One step. Where the engine is a process of its own, a thread waits for it: one that was killed says nothing.

        Raises:
            Exception: what the engine raises, or that it is dead.
        """
        core = self._llm.llm_engine.engine_core
        if not hasattr(core, "ensure_alive"):  # in this process
            return self._llm.llm_engine.step()
        future: Future[list[Any]] = Future()
        threading.Thread(target=_into, args=(future, self._llm.llm_engine.step), daemon=True, name="vtc-step").start()
        while not wait([future], timeout=PATIENCE).done:
            core.ensure_alive()
        return future.result()

    def _reply(self, output: Any, ready: _Ready) -> Reply | VLLMError:
        kept = sum(token in self._media for token in output.prompt_token_ids)
        if ready.own is not None and kept == ready.prompt_tokens > _most_kept(ready):
            return VLLMError(
                f"vLLM read all {kept} visual tokens, and keep={ready.own['keep']} was asked for: vtc's plug-in is not "
                "loaded (VLLM_PLUGINS?), or serves no such medium of this model; take --keep 1.0, or --engine local"
            )
        return Reply(output.outputs[0].text.strip(), max(ready.full, ready.prompt_tokens), kept)

    def drop(self) -> None:
        """See `RequestEngine`."""
        if self._flying:
            self._llm.llm_engine.abort_request([key for _, key, _ in self._flying.values()], internal=True)
        self._flying.clear()

    def close(self) -> None:
        """See `RequestEngine`."""
        self._llm.llm_engine.engine_core.shutdown()


def _ready(opened: LoadedMedium, processor: Any) -> _Ready:
    """A medium that was read as the local engine reads it, for vLLM."""
    tokens = placeholders(processor, opened.inputs)
    recipe = opened.recipe
    if isinstance(opened.medium, Image.Image):
        data: dict[str, Any] = {"image": opened.medium}
        parts = [{"type": "image"}]
    elif "pixel_values_videos" in opened.inputs:
        # Frames were sampled already, so that none is left out; vLLM wants to know by what they were decoded.
        metadata = {**opened.medium.metadata(), "video_backend": "opencv", "do_sample_frames": False}
        data, parts = {"video": [(opened.medium.pixels, metadata)]}, [{"type": "video"}]
    else:
        data = {"image": [Image.fromarray(frame) for frame in opened.medium.pixels]}
        parts = [{"type": "image"}] * len(opened.medium)
        recipe = None if recipe is None else by_item(recipe, tokens)
    stock = recipe is None or recipe.keeps_all
    own = None if stock else {"recipe": recipe.to_dict(), "keep": recipe.keep}  # type: ignore[union-attr]
    return _Ready(data, parts, own, tokens, opened.tokens or 0)


def by_item(recipe: Recipe, tokens: int) -> Recipe:
    """`recipe` for each of several frames of `tokens` in all, where each is an item: the same share of every one."""
    keep = recipe.keep if isinstance(recipe.keep, float) else min(1.0, recipe.keep / tokens)
    return replace(recipe, keep=keep, images_as="items")


def _most_kept(ready: _Ready) -> int:
    """Visual tokens up to which a prompt may be reduced and still have all of them."""
    keep = (ready.own or {})["keep"]
    return keep if isinstance(keep, int) else int(ready.prompt_tokens * keep) + 1


def _into(future: Future[Any], run: Callable[[], Any]) -> None:
    try:
        future.set_result(run())
    except BaseException as error:  # raised again where the result is taken
        future.set_exception(error)


def _number(key: str) -> str:
    """The number of a request: vLLM puts characters of its own behind it in some places and not in others."""
    return key.partition("-")[0]


def _is_dead(error: BaseException) -> bool:
    return type(error).__name__ == "EngineDeadError"


def _stopped(error: BaseException) -> EngineStopped:
    text = " ".join(str(error).split()) or type(error).__name__
    return EngineStopped(
        f"vLLM ended over what it had in hand ({text}); the rows so far are safe: run the same again, which asks those "
        "questions one by one, and leaves one out over which it ends twice. Where memory does not suffice, give "
        "--engine-args '{\"gpu_memory_utilization\": 0.8}' or a smaller max_model_len"
    )
