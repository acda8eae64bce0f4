"""What a recipe is: a composition of stages with their parameters, and which of them go together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vtc.core.budget import Keep, check_keep
from vtc.core.tokens import (
    FRAMES,
    Layout,
    Reduction,
    VisualTokens,
)
from vtc.core.validation import check_int
from vtc.core.warn import warn_caller
from vtc.stages import (
    Allocator,
    DecoderStage,
    EncoderStage,
    Even,
    FrameSelector,
    InputStage,
    Merger,
    Resizer,
    Selector,
    Stage,
)

from . import counting, reducing, serialization

POSITIONS = ("original", "compact")
IMAGES_AS = ("items", "frames")
FOLDED_CUES = frozenset(("encoder_features", "question"))
"""Cues that are there where the encoder folds tokens together: they are about what comes out of it."""
FEW = 8
"""An int `keep` below it is more often a share that lacks its point than meant."""
S = TypeVar("S", bound=Stage)


@dataclass(frozen=True)
class Recipe:
    """What is done with each item's visual tokens.

    Attributes:
        stages: at most one of each kind: input, encoder, allocate, select, merge; and decoder stages, which cut at
            layers of their own. At least one of them drops something.
        keep: a share (0, 1] of each item's candidate tokens that reach the language model, or at most that many per
            item (int). 1.0 is all of them, whatever share a stage has of its own; decoder stages then still cut.
            Default: a quarter, or all where there are only decoder stages, which state their own schedule.
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
        if isinstance(self.stages, str) or not isinstance(self.stages, Iterable):
            raise TypeError(f"stages={self.stages!r} is a {type(self.stages).__name__}; expected stages: (KCenter(),)")
        object.__setattr__(self, "stages", tuple(self.stages))
        if self.keep is None:
            object.__setattr__(self, "keep", 1.0 if self.only_decoder else 0.25)
        object.__setattr__(self, "keep", check_keep(self.keep))
        if isinstance(self.keep, int) and self.keep < FEW:
            warn_caller(
                f"keep={self.keep} is an int, so that at most {self.keep} of each item's tokens stay; for all of them "
                "pass the float keep=1.0, for a share one such as keep=0.25"
            )
        if self.positions not in POSITIONS:
            raise ValueError(f"positions={self.positions!r}; expected one of {', '.join(POSITIONS)}")
        if self.images_as not in IMAGES_AS:
            raise ValueError(f"images_as={self.images_as!r}; expected one of {', '.join(IMAGES_AS)}")
        object.__setattr__(self, "seed", check_int("seed", self.seed))
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
    def keeps_all(self) -> bool:
        """Whether nothing is left out before the language model, whatever share a stage has of its own."""
        return isinstance(self.keep, float) and self.keep == 1.0

    @property
    def encoder_keep(self) -> Keep:
        """What the encoder stage leaves: its own share, or the recipe's `keep`, which is all where `keeps_all`."""
        own = self.encoder.own_share if self.encoder is not None else None
        return self.keep if own is None or self.keeps_all else own

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
        return counting.encoded_grids(self, layout)

    def frames(self, layout: Layout) -> int:
        """How many units are encoded: fewer than there are where the item is a video and a stage leaves frames out.

        With a share of its own the stage leaves that share of the frames, rounded half up and at least one. Without
        one it leaves as many as `keep` has room for; beside a selector one more where that is no whole number, of which
        the selector keeps a part.

        Raises:
            ValueError: frames of unlike size, or a `keep` that is less than one frame with nothing to cut it.
        """
        return counting.frames(self, layout)

    def count(self, layout: Layout) -> int:
        """Exact number of candidate tokens that go on. Pure arithmetic, known before the encoder runs."""
        return counting.count(self, layout)

    def reduce(self, tokens: VisualTokens, total: int) -> Reduction:
        """Allocates, selects and merges: keeps exactly `total` candidates of the encoded tokens, and all structural.

        An adaptive selector may keep fewer.

        Raises:
            ValueError: a selector broke its contract.
        """
        return self.reduce_each([tokens], [total])[0]

    def reduce_each(self, items: Sequence[VisualTokens], totals: Sequence[int]) -> list[Reduction]:
        """`reduce` of each item, whose pools go to the selector together.

        Raises:
            ValueError: a selector broke its contract.
        """
        return reducing.reduce(self, items, totals)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON can hold it."""
        return serialization.to_dict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Recipe:
        """The recipe that `to_dict` wrote, in this version or an earlier one.

        Raises:
            ValueError: an unknown schema, entry, stage or parameter.
        """
        return cls(**serialization.arguments(data))

    def save(self, path: str | Path) -> None:
        """Write the recipe to the file `path` as JSON.

        Raises:
            ValueError: a stage that `load` could not find or would read as another. Nothing is written.
        """
        serialization.save(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a recipe that `save` wrote.

        Raises:
            OSError: the file is not there, or cannot be read.
            ValueError: the file is no recipe that this version reads.
        """
        return cls.from_dict(serialization.read(path))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the recipe into `folder` as `recipe.json`, beside what else a model's folder may hold.

        Raises:
            ValueError: see `save`.
        """
        serialization.save_pretrained(self, folder)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Recipe:
        """Read the recipe of a local folder that `save_pretrained` wrote.

        Raises:
            FileNotFoundError: the folder holds no `recipe.json`.
            ValueError: see `load`.
        """
        return cls.load(serialization.file_in(folder))
