"""Configuration of a batch job: a model, a recipe, a sampling."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from dataclasses import fields as dataclass_fields
from functools import cached_property
from pathlib import Path
from typing import Any

from vtc.core.budget import Keep
from vtc.core.registry import nearest
from vtc.core.validation import check_int, check_timeout
from vtc.recipes.composition import Recipe
from vtc.recipes.named import RecipeSpec
from vtc.recipes.named import recipe as named
from vtc.recipes.serialization import check_loadable
from vtc.recipes.video import DEFAULT
from vtc.video.clips.frame_features import TOWER
from vtc.video.clips.frame_scores import MODEL
from vtc.video.qa.strategies import strategy as named_strategy
from vtc.video.reading.sampling import Sampling
from vtc.video.stages import Keyframes

from .engines import LOCAL, check_engine, check_url, deciding

CHOICES = ("listed", "hidden")
DIGITS, SHORT = 16, 8
SMALL = 16 << 20
"""Files of a model up to so many bytes are hashed; larger ones are known by size and time."""
IMAGES = "kcenter"
"""What images are reduced by where nothing is said."""


@dataclass(frozen=True)
class Job:
    """All that an answer depends on beside the question and the medium. Picklable, and JSON by `to_dict`.

    Attributes:
        model: an embedded model, a directory or a hub id.
        recipe: as `Recipe.to_dict` gives it; None: `video` for videos and `kcenter` for images.
        keep: in place of the recipe's own; 1.0: all visual tokens.
        frames, fps, look, backend, track: of `Sampling`.
        timeout: seconds without a sign of life after which the reading of a medium is given up.
        max_new_tokens: longest answer.
        seed: of seeded stages.
        device, dtype: of the model.
        batch: questions at most that are decoded together.
        choices: `listed`: they stand under the question, by letter; `hidden`: the question stands alone, and the choice
            that the answer names is looked for.
        max_prompt: tokens of a prompt at most, all visual ones among them; a longer one is an error of its row. None:
            as many as the model takes.
        strategy: how questions are asked: a name in `vtc.video.qa.strategies.STRATEGIES`. All but `direct` call the
            model several times, and are about videos alone.
        engine: `local`: the model runs in this process by transformers; `vllm`: by vLLM.
        endpoint: base address of an OpenAI-compatible server that answers in their place; `model` is its name for one
            of its own. Without `recipe` and `keep` it is left to its own.
        engine_args: of vLLM's `LLM`, or further fields of the requests to the endpoint (None takes one out).
        video_as: how a video goes to an endpoint: `frames`, as images, or `video`, as one that holds them.
        allow_fewer_frames: whether a medium that memory does not suffice for is read again with half the frames, until
            it does.
    """

    model: str = "tiny-qwen"
    recipe: Mapping[str, Any] | None = None
    keep: Keep | None = None
    frames: int = 64
    fps: float = 2.0
    look: float | None = 1.0
    backend: str = "pyav"
    timeout: float = 60.0
    max_new_tokens: int = 64
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    batch: int = 16
    choices: str = "listed"
    allow_fewer_frames: bool = False
    max_prompt: int | None = None
    track: int | None = None
    strategy: str = "direct"
    engine: str = LOCAL
    endpoint: str | None = None
    engine_args: Mapping[str, Any] | None = None
    video_as: str = "frames"

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "batch", "max_prompt"):
            value = getattr(self, name)
            if name == "max_prompt" and value is None:
                continue
            object.__setattr__(self, name, check_int(name, value, 1))
        check_timeout(self.timeout)
        if self.choices not in CHOICES:
            raise ValueError(f"choices={self.choices!r}; expected one of {', '.join(CHOICES)}")
        named_strategy(self.strategy)
        self.sampling()
        for image in (False, True) if self.recipe is None else (False,):
            self.recipe_for(image)
        check_engine(self)

    @classmethod
    def of(cls, recipe: RecipeSpec | None = None, **fields: Any) -> Job:
        """A job by a recipe, as `vtc.reduce_tokens` takes it; all else as the attributes.

        Raises:
            TypeError: a name that is no attribute.
            ValueError: an unknown recipe, a stage that is not registered, or a value out of range.
        """
        known = [field.name for field in dataclass_fields(cls) if field.name != "recipe"]
        for name in fields:
            if name not in known:
                now = "; it is `overwrite` now" if name == "anew" else nearest(name, known)
                raise TypeError(f"{name}={fields[name]!r} is no setting of a job{now}; a job has {', '.join(known)}")
        if recipe is None:
            return cls(recipe=None, **fields)
        found = named(recipe)
        check_loadable(found)
        return cls(recipe=found.to_dict(), **fields)

    def to_dict(self) -> dict[str, Any]:
        """The job as JSON can hold it; `Job(**job.to_dict())` is it again."""
        return asdict(self)

    def recipe_for(self, image: bool) -> Recipe:
        """The recipe for an image or for a video, with what the job overrides."""
        spec = (IMAGES if image else DEFAULT) if self.recipe is None else Recipe.from_dict(dict(self.recipe))
        found = named(spec, keep=self.keep, seed=self.seed)
        if image and isinstance(found.input, Keyframes) and found.input.refusal is not None and found.selector:
            # An image has no frames to choose, and the stage could not choose any inside a wrapped model.
            return replace(found, stages=tuple(stage for stage in found.stages if stage is not found.input))
        return found

    @property
    def in_process(self) -> bool:
        """Whether a model of transformers answers in this process."""
        return self.engine == LOCAL and self.endpoint is None

    @property
    def reduces(self) -> bool:
        """Whether the recipe is the job's to say: an endpoint of which nothing is asked follows its own, if any."""
        return self.endpoint is None or self.recipe is not None or self.keep is not None

    @property
    def by_question(self) -> bool:
        """Whether the frames of a video are chosen by the question, so that questions share no reading."""
        stage = self.recipe_for(False).input
        return self.reduces and isinstance(stage, Keyframes) and stage.selector.asks

    @property
    def reads_by_model(self) -> bool:
        """Whether frames are described or scored by the model itself before they are chosen."""
        stage = self.recipe_for(False).input
        return self.reduces and isinstance(stage, Keyframes) and (stage.features == TOWER or stage.scorer == MODEL)

    def sampling(self, start: float | None = None, end: float | None = None, frames: int | None = None) -> Sampling:
        """How a stretch of a video is sampled, with `frames` candidates at most in place of the job's own.

        Raises:
            ValueError: a value out of range.
        """
        count = self.frames if frames is None else frames
        return Sampling(
            fps=self.fps,
            frames=count,
            start=start,
            end=end,
            backend=self.backend,
            timeout=self.timeout,
            look=self.look,
            track=self.track,
        )

    @cached_property
    def revision(self) -> str:
        """Identity of the model's weights: files of a folder, or the commit of a hub id; of an endpoint's model its
        name and the endpoint's address.

        Raises:
            OSError, ValueError: see `vtc.inference.loading.locate`.
        """
        if self.endpoint is not None:
            return digest([check_url(self.endpoint), self.model])
        return model_revision(self.model)

    @cached_property
    def digits(self) -> str:
        """Digits that change with what all its answers depend on: the model's revision, the recipe and its keep, the
        sampling, the arguments of generation, the engine; not the timeout, the batch, `max_prompt`, nor where the
        model runs."""
        fields = self.to_dict()
        for name in ("timeout", "batch", "device", "recipe", "model", "allow_fewer_frames", "max_prompt"):
            del fields[name]
        engine = {name: fields.pop(name) for name in ("engine", "endpoint", "engine_args", "video_as")}
        if self.endpoint is not None:  # its address is in the revision
            fields["asked"] = [engine["video_as"], engine["engine_args"], self.reduces]
        elif self.engine != LOCAL:
            fields["engine"] = [self.engine, deciding(self.engine_args)]
        if self.track is None:  # answers from before there was a choice stay those of this job
            del fields["track"]
        strategy = fields.pop("strategy")  # under its name of before, so that earlier answers stay those of this job
        if strategy != "direct":
            fields["plan"] = strategy
        recipes = [self.recipe_for(image).to_dict() for image in (False, True)]
        return digest([fields, self.revision, recipes])


def digest(value: object) -> str:
    """A few digits that stand for a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:SHORT]


def model_revision(model: str) -> str:
    """Return the identity of the weights of `model`: see `Job.revision`."""
    from vtc.inference.loading import locate

    place, _ = locate(model)
    folder = Path(place)
    if not folder.is_dir():
        return _commit(model)
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        stat = path.stat()
        # An embedded model's weights are hashed too, so that an update of the package tells by content, not by time.
        known = hashlib.sha256(path.read_bytes()).hexdigest() if stat.st_size <= SMALL else stat.st_mtime_ns
        digest.update(f"{path.relative_to(folder)} {stat.st_size} {known}\n".encode())
    return digest.hexdigest()[:DIGITS]


def _commit(model: str) -> str:
    from huggingface_hub import HfApi, try_to_load_from_cache

    cached = try_to_load_from_cache(model, "config.json")
    if isinstance(cached, str):
        return Path(cached).parent.name  # the snapshot's folder is named by its commit
    return str(HfApi().model_info(model).sha)
