"""The two things that flow through a reduction: the visual tokens of one item, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

Box = tuple[float, float, float, float]
"""(top, left, bottom, right) of a part of an image, as shares of its height and width."""

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)

QUESTION, FRAMES = "question", "frames"
"""The cues that do not come from the encoder."""


@dataclass(frozen=True)
class Layout:
    """Layout of an item's visual tokens, known before its encoder runs.

    Attributes:
        unit: `[N]` int64, the unit (tile, thumbnail, frame, clip) of each token, numbered from 0.
        cell: `[N, 3]` int64, the (t, h, w) place of each token in its unit's grid; -1 for structural tokens.
        structural: `[N]` bool, newline, padding and separator tokens: always kept, never candidates.
        grids: the (t, h, w) size of each unit, in tokens.
        kinds: what each unit is: `image`, `tile`, `thumbnail`, `frame`, `clip`.
        boxes: the part of the image (or of its frame) that each unit's grid covers; by default all of it. It
            reaches beyond 0 and 1 where the encoder is shown padding.
    """

    unit: Tensor
    cell: Tensor
    structural: Tensor
    grids: tuple[tuple[int, int, int], ...]
    kinds: tuple[str, ...]
    boxes: tuple[Box, ...] = ()

    def __post_init__(self) -> None:
        if not self.boxes:
            object.__setattr__(self, "boxes", (WHOLE,) * len(self.grids))

    @classmethod
    def of_grid(cls, height: int, width: int, *, frames: int = 1, kind: str = "image", box: Box = WHOLE) -> Layout:
        """The layout of one unit of `frames x height x width` candidate tokens in raster order."""
        axes = [torch.arange(n) for n in (frames, height, width)]
        cell = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)
        total = len(cell)
        return cls(
            unit=torch.zeros(total, dtype=torch.int64),
            cell=cell,
            structural=torch.zeros(total, dtype=torch.bool),
            grids=((frames, height, width),),
            kinds=(kind,),
            boxes=(box,),
        )

    @classmethod
    def join(cls, parts: Sequence[Layout]) -> Layout:
        """The layout of an item whose tokens are those of `parts`, one after the other, each with its own units."""
        starts = [sum(len(part.grids) for part in parts[:i]) for i in range(len(parts))]
        return cls(
            unit=torch.cat([part.unit + start for part, start in zip(parts, starts, strict=True)]),
            cell=torch.cat([part.cell for part in parts]),
            structural=torch.cat([part.structural for part in parts]),
            grids=tuple(grid for part in parts for grid in part.grids),
            kinds=tuple(kind for part in parts for kind in part.kinds),
            boxes=tuple(box for part in parts for box in part.boxes),
        )

    def __len__(self) -> int:
        return len(self.unit)

    def take(self, index: Tensor) -> Layout:
        """The layout of the tokens `index` alone, in their units and on their full grids."""
        return replace(self, unit=self.unit[index], cell=self.cell[index], structural=self.structural[index])

    @property
    def centres(self) -> Tensor:
        """`[N, 2]` fp64, where the middle of each token lies in the image, (down, right) as shares of its size.

        NaN for structural tokens.
        """
        size = torch.tensor(self.grids, dtype=torch.float64)[self.unit, 1:]
        box = torch.tensor(self.boxes, dtype=torch.float64)[self.unit]
        middle = box[:, :2] + (self.cell[:, 1:] + 0.5) / size * (box[:, 2:] - box[:, :2])
        return middle.masked_fill(self.structural[:, None], torch.nan)

    @property
    def candidates(self) -> tuple[int, ...]:
        """Number of candidate tokens of each unit."""
        free = self.unit[~self.structural]
        return tuple(torch.bincount(free, minlength=len(self.grids)).tolist())

    @property
    def structurals(self) -> tuple[int, ...]:
        """Number of structural tokens of each unit."""
        fixed = self.unit[self.structural]
        return tuple(torch.bincount(fixed, minlength=len(self.grids)).tolist())


@dataclass(frozen=True)
class VisualTokens:
    """The visual tokens of one item, as the language model would receive them.

    Attributes:
        features: `[N, D]`, any float dtype; stages read them in fp32.
        layout: where each token stands.
        cues: further signals, by name, only those that a stage asked for: about the tokens, each `[N, ...]`;
            `question`, `[T, D]`, the embeddings of the text beside the item; `frames`, `[T, F, 3, H, W]`, small
            images of a video's units, each of the F frames that the encoder takes together.
        key: a number made from the item's content; seeded stages draw from it, so that neither the place in a
            batch nor the company there changes a draw.
        planes: each `[N, D]`, further features of the same tokens, which the model adds in its first layers
            (DeepStack).
        folded: reduction already applied inside the encoder, or None; features and layout describe its outputs, the
            layout by their anchors.
    """

    features: Tensor
    layout: Layout
    cues: Mapping[str, Tensor] = field(default_factory=dict)
    key: int = 0
    planes: tuple[Tensor, ...] = ()
    folded: Reduction | None = None

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or len(self.features) != len(self.layout):
            raise ValueError(
                f"features have shape {tuple(self.features.shape)}, but the layout holds {len(self.layout)} tokens; "
                "expected [N, D] with one row per token of the layout"
            )

    def __len__(self) -> int:
        return len(self.features)

    def cue(self, name: str) -> Tensor:
        """The cue `name`, on the device of the features.

        Raises:
            ValueError: the cue was not computed; a stage must name it in its `cues`.
        """
        if name not in self.cues:
            have = ", ".join(sorted(self.cues)) or "none"
            raise ValueError(f"cue {name!r} was not computed (computed: {have}); name it in the stage's `cues`")
        return self.cues[name].to(self.features.device)


@dataclass(frozen=True)
class Embedded:
    """Embeddings that the language model gets of one item.

    Attributes:
        features: `[K, D]` in place of its placeholders.
        planes: each `[K, D]`, what the model adds to them in its first layers (DeepStack); most families have none.
    """

    features: Tensor
    planes: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Reduction:
    """Reduction of an item's N tokens to K outputs, each the weighted mean of the tokens folded into it.

    Attributes:
        anchor: `[K]` int64, sorted and unique: the token whose coordinates each output takes.
        assign: `[N]` int64, the output each token is folded into, or -1 for a dropped one.
        weight: `[N]` fp32, the weight of each token in its output.
    """

    anchor: Tensor
    assign: Tensor
    weight: Tensor

    def __post_init__(self) -> None:
        anchor, assign = self.anchor, self.assign
        if anchor.ndim != 1 or assign.ndim != 1 or self.weight.shape != assign.shape:
            raise ValueError(
                f"anchor, assign, weight have shapes {tuple(anchor.shape)}, {tuple(assign.shape)}, "
                f"{tuple(self.weight.shape)}; expected [K], [N], [N]"
            )

    @classmethod
    def pruning(cls, anchor: Tensor, total: int) -> Reduction:
        """Keep the `anchor` tokens of `total` as they are and drop the others."""
        assign = torch.full((total,), -1, dtype=torch.int64, device=anchor.device)
        assign[anchor] = torch.arange(len(anchor), device=anchor.device)
        return cls(anchor, assign, torch.ones(total, device=anchor.device))

    @classmethod
    def identity(cls, total: int) -> Reduction:
        """Keep all `total` tokens."""
        return cls.pruning(torch.arange(total), total)

    def __len__(self) -> int:
        return len(self.anchor)

    @property
    def merges(self) -> bool:
        """Whether any output is made of more than its anchor."""
        return bool((self.assign >= 0).sum() > len(self.anchor))

    def apply(self, features: Tensor) -> Tensor:
        """`features` `[N, D]` reduced to `[K, D]`, in their dtype; means are taken in fp32, gradients flow."""
        if not self.merges:
            return features[self.anchor]
        into = self.assign >= 0
        target, weight = self.assign[into], self.weight[into]
        total = weight.new_zeros(len(self.anchor)).index_add(0, target, weight)
        rows = features[into].float() * weight[:, None]
        sums = rows.new_zeros(len(self.anchor), features.shape[1]).index_add(0, target, rows)
        return (sums / total[:, None]).to(features.dtype)

    def after(self, first: Reduction) -> Reduction:
        """`first` and then this one, of its outputs, as one reduction of the tokens that `first` had."""
        own = self.to(first.anchor.device)
        into = first.assign.clamp_min(0)
        assign = own.assign[into].masked_fill(first.assign < 0, -1)
        mass = first.weight.masked_fill(first.assign < 0, 0)
        total = mass.new_zeros(len(first.anchor)).index_add(0, into, mass)
        return Reduction(first.anchor[own.anchor], assign, first.weight / total[into] * own.weight[into])

    def to(self, device: torch.device | str) -> Reduction:
        """The same reduction with its tensors on `device`."""
        return replace(
            self, anchor=self.anchor.to(device), assign=self.assign.to(device), weight=self.weight.to(device)
        )
