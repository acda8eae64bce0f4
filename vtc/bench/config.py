"""Configuration of a quality benchmark, from which every process derives the same questions and variants."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vtc import __version__
from vtc.core.budget import Keep, check_keep
from vtc.core.cache_folder import MANIFEST
from vtc.inference.loading import locate
from vtc.recipes.composition import Recipe

from .cases import Case, of_skills, read
from .easy_vqa import in_words_of, is_easy_vqa
from .synthetic import PER_SCENE, synthetic_cases
from .variants import Variant, variants

KEEPS: tuple[Keep, ...] = (1.0, 0.5, 0.25, 0.1, 0.05)
QUESTIONS, MOST = 500, 1_000_000
BATCH, BATCH_EMBEDDED, BATCH_FETCHED = 8, 64, 16
HASHED = 2**29
"""Bytes of weights up to which all of them are hashed."""
SUFFIXES = (".safetensors", ".bin", ".json")


@dataclass(frozen=True)
class BenchConfig:
    """All that the answers depend on.

    Attributes:
        models: embedded names, directories or hub ids.
        recipes: each is run at each of `keeps`.
        text_alone: whether questions are also asked without their images.
        n: questions; None: 500 about drawn scenes, all of `data`.
        first, per_scene: the first scene's seed (None: the first unseen one), and the most questions about one scene.
        shifted: draw scenes unlike those of any training.
        videos: draw videos in place of images.
        skills: the skills that are asked for; all where there are none.
        data: a JSONL file of other images and questions; see `cases.read`.
        batch: questions answered together; None: 64 on tiny models, 16 on small-llava, 8 on others.
        max_new_tokens: the longest answer.
    """

    models: tuple[str, ...]
    recipes: tuple[Recipe, ...]
    keeps: tuple[Keep, ...] = KEEPS
    text_alone: bool = True
    n: int | None = None
    first: int | None = None
    per_scene: int | None = None
    skills: tuple[str, ...] = ()
    shifted: bool = False
    videos: bool = False
    data: Path | None = None
    device: str = "auto"
    dtype: str = "auto"
    batch: int | None = None
    max_new_tokens: int = 32
    _cases: dict[str, list[Case]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("n", "per_scene", "batch", "max_new_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} {value}; expected a whole number of at least 1")
        # Scenes are drawn without end, and the list of questions is made before the first is asked.
        if self.n is not None and self.n > MOST:
            raise ValueError(f"--n {self.n}; expected at most {MOST:,} questions")
        for keep in self.keeps:
            check_keep(keep)
        if not self.models:
            raise ValueError("--models is empty; name at least one")
        if len(set(self.models)) < len(self.models):
            raise ValueError(f"--models {','.join(self.models)} names a model twice; name it once")
        if not self.keeps and self.recipes:
            raise ValueError("--keep is empty; name at least one number")
        drawing = {"--first": self.first, "--per-scene": self.per_scene, "--shifted": self.shifted or None}
        drawing["--videos"] = self.videos or None
        given = [f"{name} {value}" for name, value in drawing.items() if value is not None]
        if self.data is not None and given:
            raise ValueError(f"{given[0]} chooses among drawn scenes, and --data {self.data} names others; pass one")

    def __getstate__(self) -> dict[str, Any]:
        """Without its cases, which each process makes for itself: images need not travel."""
        return {**self.__dict__, "_cases": {}}

    @property
    def variants(self) -> list[Variant]:
        """Variants that are compared."""
        return variants(self.recipes, self.keeps, self.text_alone)

    def cases(self, model: str) -> list[Case]:
        """The questions that `model` is asked; embedded models may see the drawn world in views of their own.

        Raises:
            OSError, ValueError: the data cannot be read, or hold too few questions.
        """
        if model not in self._cases:
            self._cases[model] = self._read(model) if self.data is not None else self._synthetic_cases(model)
        return self._cases[model]

    def _synthetic_cases(self, model: str) -> list[Case]:
        n = QUESTIONS if self.n is None else self.n
        most = PER_SCENE if self.per_scene is None else self.per_scene
        return synthetic_cases(model, n, self.first, most, self.skills, self.shifted, self.videos)

    def _read(self, model: str) -> list[Case]:
        assert self.data is not None
        found, _ = read(self.data)
        if is_easy_vqa(self.data):
            found = in_words_of(model, found)
        known = dict.fromkeys(case.skill for case in found if case.skill is not None)
        cases = of_skills(found, self.skills, known)
        if self.n is not None and self.n > len(cases):
            which = " of these skills" if self.skills else ""
            which += f" in words that {model} knows" if self.words(model) else ""
            raise ValueError(f"--n {self.n}: {self.data} holds {len(cases)} questions{which}; leave --n out to ask all")
        return cases[: self.n]

    def words(self, model: str) -> tuple[int, int] | None:
        """Of how many questions of a public benchmark `model` knows all words, and of how many; None if of all."""
        if not is_easy_vqa(self.data):
            return None
        assert self.data is not None
        every, _ = read(self.data)
        known = in_words_of(model, every)
        return None if len(known) == len(every) else (len(known), len(every))

    def batches(self, model: str) -> list[list[Case]]:
        """The cases of `model` in the groups that are answered together."""
        cases, size = self.cases(model), self.batch or _usual_batch(model)
        return [cases[start : start + size] for start in range(0, len(cases), size)]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it, with fingerprints of weights and questions and the versions at work.

        Raises:
            OSError, ValueError: a model or the data cannot be found.
        """
        return {
            "models": {
                name: {"weights": fingerprint(name), "cases": _cases_digest(self.cases(name))} for name in self.models
            },
            "recipes": [recipe.to_dict() for recipe in self.recipes],
            "keep": list(self.keeps),
            "text_alone": self.text_alone,
            "data": None if self.data is None else str(self.data.resolve()),
            **{
                name: getattr(self, name)
                for name in ("n", "first", "per_scene", "shifted", "videos", "device", "dtype", "batch")
            },
            "skills": list(self.skills),
            "max_new_tokens": self.max_new_tokens,
            "versions": versions(),
        }


def versions() -> dict[str, str]:
    """Of the packages that answers depend on."""
    return {"vtc": __version__, **{name: version(name) for name in ("torch", "transformers")}}


def _usual_batch(model: str) -> int:
    from vtc import embedded

    if model in embedded.NAMES:
        return BATCH_EMBEDDED
    return BATCH_FETCHED if model in embedded.FETCHED else BATCH


def _cases_digest(cases: Sequence[Case]) -> str:
    """Of the questions; of drawn ones also of the first image, which changes when the drawing does."""
    made = hashlib.sha256()
    for case in cases:
        made.update(repr((case.id, case.scene, case.question, case.answer, case.skill)).encode())
    if not Path(cases[0].scene).is_absolute():
        made.update(cases[0].image().tobytes())
    return made.hexdigest()[:12]


def fingerprint(name: str) -> str:
    """Of a model's config and weights on this machine; `hub` for one that is fetched by its id.

    Weights of more than 512 MiB count by their sizes and times.

    Raises:
        OSError, ValueError: see `vtc.inference.loading.locate`.
    """
    place, local = locate(name)
    if not local or not Path(place).is_dir():
        return "hub"
    made = hashlib.sha256()
    for path in sorted(p for p in Path(place).iterdir() if p.suffix in SUFFIXES and p.name != MANIFEST):
        stat = path.stat()
        made.update(path.name.encode())
        made.update(path.read_bytes() if stat.st_size <= HASHED else repr((stat.st_size, stat.st_mtime_ns)).encode())
    return made.hexdigest()[:12]
