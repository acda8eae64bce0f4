"""Recipes: named, saved compositions of stages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from vtc.core.budget import Budget, Keep, check_keep
from vtc.core.json_text import loads
from vtc.core.registry import PLUGINS, Registry, nearest
from vtc.core.tokens import (
    FRAMES,
    Layout,
    Reduction,
    VisualTokens,
)
from vtc.stages import (
    STAGES,
    Allocator,
    Area,
    ClsSampling,
    DecoderStage,
    Density,
    EncoderStage,
    Even,
    Feather,
    FrameSelector,
    Grid,
    InputStage,
    Joint,
    KCenter,
    Layerwise,
    LocalGlobal,
    MaxSum,
    Mean,
    Merger,
    Resize,
    Resizer,
    Selector,
    Stage,
    Thumbnail,
    ToDRE,
    ToMe,
)
from vtc.stages.decoder import DECODER
from vtc.stages.select import MERGED, SELECTORS

SCHEMA = 1
POSITIONS = ("original", "compact")
IMAGES_AS = ("items", "frames")
FOLDED_CUES = frozenset(("encoder_features", "question"))
"""Cues that are there where the encoder folds tokens together: they are about what comes out of it."""
S = TypeVar("S", bound=Stage)


@dataclass(frozen=True)
class Recipe:
    """What is done with each item's visual tokens.

    Attributes:
        stages: at most one of each kind: input, encoder, allocate, select, merge; and decoder stages, which cut at
            layers of their own. At least one of them drops something.
        keep: a share (0, 1] of each item's candidate tokens that reach the language model, or at most that many per
            item (int). Default: a quarter, or all where there are only decoder stages, which state their own schedule.
        positions: `original`: kept tokens keep their coordinates; `compact`: coordinates are renumbered.
        seed: for seeded stages.
        images_as: `items`: each image is an item of its own; `frames`: the images of a row are the frames of one
            video, as models take it whose processors know no videos or hand frames over as images.
        name: how reports call it.
    """

    stages: tuple[Stage, ...]
    keep: Keep = None  # type: ignore[assignment]  # what it becomes depends on the stages
    positions: str = "original"
    seed: int = 0
    images_as: str = "items"
    name: str = "custom"

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        if self.keep is None:
            object.__setattr__(self, "keep", 1.0 if self.only_decoder else 0.25)
        object.__setattr__(self, "keep", check_keep(self.keep))
        if self.positions not in POSITIONS:
            raise ValueError(f"positions={self.positions!r}; expected one of {', '.join(POSITIONS)}")
        if self.images_as not in IMAGES_AS:
            raise ValueError(f"images_as={self.images_as!r}; expected one of {', '.join(IMAGES_AS)}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise TypeError(f"seed={self.seed!r} is a {type(self.seed).__name__}; expected an int")
        self._check_stages()

    def _check_stages(self) -> None:
        for stage in self.stages:
            if not isinstance(stage, Stage):
                raise TypeError(f"stages holds {stage!r}; expected stages such as KCenter() or Mean()")
        kinds = [stage.kind for stage in self.stages]
        doubled = {kind for kind in kinds if kinds.count(kind) > 1 and kind != DecoderStage.kind}
        if doubled:
            raise ValueError(f"stages holds more than one {sorted(doubled)[0]!r} stage: {self.labels}; keep one")
        if not self.decoder and all(stage is None for stage in (self.input, self.encoder, self.selector)):
            raise ValueError(f"stages={self.labels} drops nothing; add a selector, an input stage or a decoder stage")
        if self.only_decoder and self.keep != 1.0:
            raise ValueError(
                f"keep={self.keep}: stages={self.labels} drop nothing before the language model, and inside it each "
                f"follows its own schedule; give that, as in {type(self.decoder[0]).__name__}(schedule=[(0.5, 0.25)]), "
                "or add a selector"
            )
        if self.selector is None and any(s.kind in ("merge", "allocate") for s in self.stages):
            raise ValueError(f"stages={self.labels} merges or allocates without a selector; add one")
        resizes = isinstance(self.input, Resizer)
        if resizes and self.input.own_share is None and self.selector is not None:  # type: ignore[union-attr]
            raise ValueError(
                f"stages={self.labels}: beside a selector the input stage needs its own share, e.g. Resize(share=0.5)"
            )

        self._check_encoder()

    def _check_encoder(self) -> None:
        stage = self.encoder
        if stage is None:
            return
        if self.input is not None:
            raise ValueError(f"stages={self.labels}: an input stage and an encoder stage do not go together; use one")
        if stage.own_share is None and (self.selector is not None or stage.spread):
            why = "that spreads" if stage.spread else "beside a selector"
            raise ValueError(
                f"stages={self.labels}: an encoder stage {why} needs its own share, e.g. {type(stage).__name__}"
                f"(share=0.5{', spread=True' if stage.spread else ''})"
            )
        patchwise = sorted(set(self.cues) - FOLDED_CUES)
        if patchwise:
            raise ValueError(
                f"stages={self.labels}: cue {patchwise[0]!r} is about single patches, and {stage.label!r} folds them "
                "together before it is taken; use a selector without cues, such as KCenter()"
            )

    def _stage(self, kind: type[S]) -> S | None:
        return next((stage for stage in self.stages if isinstance(stage, kind)), None)

    @property
    def labels(self) -> list[str]:
        """The registry names of the stages."""
        return [stage.label for stage in self.stages]

    @property
    def input(self) -> InputStage | None:
        """The input stage, if there is one."""
        return self._stage(InputStage)  # type: ignore[type-abstract]

    @property
    def encoder(self) -> EncoderStage | None:
        """The encoder stage, if there is one."""
        return self._stage(EncoderStage)  # type: ignore[type-abstract]

    @property
    def encoder_keep(self) -> Keep:
        """What the encoder stage leaves: its own share, or the recipe's `keep`."""
        own = self.encoder.own_share if self.encoder is not None else None
        return self.keep if own is None else own

    @property
    def selector(self) -> Selector | None:
        """The selector, if there is one."""
        return self._stage(Selector)  # type: ignore[type-abstract]

    @property
    def decoder(self) -> tuple[DecoderStage, ...]:
        """The decoder stages, if there are any."""
        return tuple(stage for stage in self.stages if isinstance(stage, DecoderStage))

    @property
    def only_decoder(self) -> bool:
        """Whether every token reaches the language model, and some leave inside it."""
        before = (self.input, self.encoder, self.selector)
        return bool(self.decoder) and all(stage is None for stage in before)

    @property
    def allocator(self) -> Allocator:
        """The allocator; `even` where none is named."""
        return self._stage(Allocator) or Even()  # type: ignore[type-abstract]

    @property
    def merger(self) -> Merger | None:
        """The merger, if there is one."""
        return self._stage(Merger)  # type: ignore[type-abstract]

    @property
    def cues(self) -> tuple[str, ...]:
        """All cues that the stages need."""
        return tuple(sorted({cue for stage in self.stages for cue in stage.cues}))

    @property
    def adaptive(self) -> bool:
        """Whether the total that reaches the language model depends on content."""
        return any(stage.adaptive for stage in self.stages if not isinstance(stage, DecoderStage))

    @property
    def is_video_recipe(self) -> bool:
        """Whether stages look at the frames of a video; an image has none for them."""
        looks = FRAMES in self.cues or any(stage.videos for stage in self.stages)
        return looks or isinstance(self.input, FrameSelector)

    @property
    def seeded(self) -> bool:
        """Whether any stage draws numbers."""
        return any(stage.seeded for stage in self.stages)

    def encoded_grids(self, layout: Layout) -> tuple[tuple[int, int, int], ...]:
        """The (t, h, w) token grid of each unit that is encoded: smaller or fewer where an input stage says so.

        Raises:
            ValueError: an input stage meets what it could not count: structural tokens, units of unlike size.
        """
        if isinstance(self.input, Resizer):
            return self._resized_grids(self.input, layout)
        return layout.grids[: self.frames(layout)]

    def frames(self, layout: Layout) -> int:
        """How many units are encoded: fewer than there are where the item is a video and a stage leaves frames out.

        With a share of its own the stage leaves that share of the frames, rounded half up and at least one. Without
        one it leaves as many as `keep` has room for; beside a selector one more where that is no whole number, of which
        the selector keeps a part.

        Raises:
            ValueError: frames of unlike size, or a `keep` that is less than one frame with nothing to cut it.
        """
        units = len(layout.grids)
        is_video = set(layout.kinds) == {"frame"} and any(layout.candidates)
        if not isinstance(self.input, FrameSelector) or not is_video:
            return units
        if len(set(layout.grids)) > 1:
            raise ValueError(
                f"stages={self.labels}: frames have unlike sizes {sorted(set(layout.grids))}, so that no count is "
                "known before some are left out; give all frames one size"
            )
        if self.input.own_share is not None:
            return Budget(self.input.own_share).count(units)
        each = layout.candidates[0]
        count = Budget(self.keep).count(units * each)
        if self.selector is not None:
            return -(-count // each)
        if isinstance(self.keep, int) and count < each:
            raise ValueError(
                f"keep={self.keep} is less than the {each} tokens of one frame, and stages={self.labels} keep whole "
                f"frames; raise it to {each} or more, or add a selector such as KCenter()"
            )
        return max(1, count // each)

    def _resized_grids(self, stage: Resizer, layout: Layout) -> tuple[tuple[int, int, int], ...]:
        if layout.structural.any() or len(set(layout.grids)) > 1:
            raise ValueError(
                f"stages={self.labels}: an input stage cannot resize an item with structural tokens or units of unlike "
                "size; use a selector"
            )
        keep = self.keep if stage.own_share is None else stage.own_share
        frames, height, width = layout.grids[0]
        units = len(layout.grids)
        count = Budget(keep).count(sum(layout.candidates))
        if count < units * frames:
            raise ValueError(
                f"keep={keep} leaves {count} tokens for {units * frames} frames, and stages={self.labels} "
                "drops none of them: keep at least one token a frame, or use a selector"
            )
        height, width = stage.target((frames, height, width), count // units)
        return ((frames, height, width),) * units

    def count(self, layout: Layout) -> int:
        """Exact number of candidate tokens that go on. Pure arithmetic, known before the encoder runs."""
        encoded = sum(t * h * w for t, h, w in self.encoded_grids(layout)) if self.input else sum(layout.candidates)
        if self.encoder is not None and not self.encoder.spread:
            encoded = Budget(self.encoder_keep).count(encoded)
        if self.selector is None:
            return encoded
        own = self.selector.count(layout, self.keep)
        return min(encoded, Budget(self.keep).count(sum(layout.candidates)) if own is None else own)

    def reduce(self, tokens: VisualTokens, total: int) -> Reduction:
        """Allocates, selects and merges: keeps exactly `total` candidates of the encoded tokens, and all structural.

        An adaptive selector may keep fewer.

        Raises:
            ValueError: a selector broke its contract.
        """
        if self.selector is None or total == sum(tokens.layout.candidates):
            return Reduction.identity(len(tokens)).to(tokens.features.device)
        anchor = self._select(tokens, total)
        if self.merger is None:
            return Reduction.pruning(anchor, len(tokens))
        return self.merger.merge(tokens, anchor)

    def _select(self, tokens: VisualTokens, total: int) -> Tensor:
        assert self.selector is not None
        device = tokens.features.device
        layout = tokens.layout
        picked = [torch.nonzero(layout.structural).flatten().to(device)]
        stray = torch.zeros((), dtype=torch.bool, device=device)
        for i, (pool, k) in enumerate(self.allocator.pools(tokens, total)):
            if k == 0:
                continue
            pool = pool.to(device)
            seed = (self.seed * 0x9E3779B97F4A7C15 + tokens.key * 0x100000001B3 + i) % 2**63
            chosen = pool if k == len(pool) else self.selector.select(tokens, pool, k, seed=seed)
            picked.append(chosen)
            stray |= ~torch.isin(chosen, pool).all()
        anchor = torch.cat(picked).sort().values
        expected = total + int(layout.structural.sum())
        wrong = len(anchor) > expected if self.selector.adaptive else len(anchor) != expected
        if wrong or bool((anchor[1:] <= anchor[:-1]).any() | stray):
            raise ValueError(
                f"selector {self.selector.name!r} kept {len(anchor)} tokens ({len(anchor.unique())} different) where "
                f"{expected} were due; a selector must return exactly k unique indices of its pool"
            )
        return anchor

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON can hold it."""
        stages = [{"stage": stage.label, **stage.parameters()} for stage in self.stages]
        return {
            "schema": SCHEMA,
            "name": self.name,
            "stages": stages,
            "keep": self.keep,
            "positions": self.positions,
            "seed": self.seed,
            "images_as": self.images_as,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Recipe:
        """The recipe that `to_dict` wrote.

        Raises:
            ValueError: another schema, an unknown entry, stage or parameter.
        """
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            found = data.get("schema") if isinstance(data, dict) else data
            raise ValueError(f"recipe has schema {found!r}; this version reads schema {SCHEMA}")
        rest = {key: value for key, value in data.items() if key not in ("schema", "stages")}
        unknown = set(rest) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"recipe has unknown entries {sorted(unknown)}; expected {[f.name for f in fields(cls)]}")
        return cls(stages=tuple(map(_stage_from, data.get("stages", ()))), **rest)

    def save(self, path: str | Path) -> None:
        """Writes the recipe to `path` as JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Reads a recipe that `save` wrote.

        Raises:
            OSError: the file is not there, or cannot be read.
            ValueError: the file is no recipe of this schema.
        """
        try:
            data = loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise FileNotFoundError(
                f"recipe={str(path)!r}: no such file; pass the path of a recipe file, or a name from `vtc recipes`"
            ) from None
        except ValueError as error:
            raise ValueError(f"{path} is no recipe file: {error}") from error
        return cls.from_dict(data)


def _stage_from(entry: Any) -> Stage:
    if not isinstance(entry, dict):
        raise ValueError(
            f'recipe has {entry!r} among its stages; expected an object such as {{"stage": "select/kcenter"}}'
        )
    parameters = dict(entry)
    stage = STAGES.get(str(parameters.pop("stage", None)))
    known = [field.name for field in fields(stage)]  # type: ignore[arg-type]
    for name in parameters:
        if name not in known:
            raise ValueError(
                f"stage {entry['stage']!r} has no parameter {name!r}{nearest(name, known)}; it has {known}"
            )
    return stage(**parameters)


RECIPES: Registry[Callable[[], tuple[Stage, ...]]] = Registry("recipe", PLUGINS)
"""The stages of each named recipe, made by a function without arguments."""
DEFAULT = "kcenter"


def _enrol_recipes() -> None:
    for selector in SELECTORS:
        RECIPES.add(selector.name, lambda s=selector: (s(),))  # type: ignore[misc]
        if selector in MERGED:
            RECIPES.add(f"{selector.name}-mean", lambda s=selector: (s(), Mean()))  # type: ignore[misc]
    RECIPES.add("pool", lambda: (Grid(), Area()))
    RECIPES.add("cls-outliers", lambda: (ClsSampling(rule="outliers"),))
    RECIPES.add("todre", lambda: (Joint(), MaxSum(pivot="attention")))
    RECIPES.add("globalcom2", lambda: (Thumbnail(), LocalGlobal()))
    released = (Thumbnail(temperature=10.0, attend="logits"), LocalGlobal(attend="logits"))
    RECIPES.add("globalcom2-released", lambda: released)
    RECIPES.add("tokencorr", lambda: (Density(), ClsSampling()))
    RECIPES.add("resize", lambda: (Resize(),))
    RECIPES.add("tome", lambda: (ToMe(),))
    for stage in DECODER:
        RECIPES.add("todre-late" if stage is ToDRE else stage.name, lambda s=stage: (s(),))  # type: ignore[misc]
    RECIPES.add("kcenter+layerwise", lambda: (KCenter(), Layerwise()))
    RECIPES.add("kcenter+feather", lambda: (KCenter(), Feather()))
    RECIPES.add("todre+late", lambda: (Joint(), MaxSum(pivot="attention"), ToDRE()))


_enrol_recipes()


def recipe(
    spec: str | Path | Recipe = DEFAULT,
    *,
    keep: Keep | None = None,
    positions: str | None = None,
    seed: int | None = None,
    images_as: str | None = None,
) -> Recipe:
    """The recipe that `spec` names, with what the caller overrides.

    Args:
        spec: a name from `vtc recipes`, the path of a recipe file (`.json`), or a recipe.
        keep, positions, seed, images_as: in place of the recipe's own, where not None.

    Raises:
        TypeError: `spec` or `keep` is of another type.
        ValueError: no recipe of that name (the nearest is suggested), or a value out of range.
    """
    if isinstance(spec, Recipe):
        found = spec
    elif isinstance(spec, Path) or (isinstance(spec, str) and spec.endswith(".json")):
        found = Recipe.load(spec)
    elif isinstance(spec, str):
        found = Recipe(RECIPES.get(spec)(), name=spec)
    else:
        raise TypeError(f"recipe={spec!r} is a {type(spec).__name__}; expected a name, a path or a Recipe")
    given = {"keep": keep, "positions": positions, "seed": seed, "images_as": images_as}
    return replace(found, **{key: value for key, value in given.items() if value is not None})  # type: ignore[arg-type]


def named_recipes() -> Iterator[Recipe]:
    """Every named recipe, in the order of enrolment."""
    for name in RECIPES:
        yield Recipe(RECIPES.get(name)(), name=name)
