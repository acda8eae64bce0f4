"""The two things that flow through a reduction: the visual tokens of one item, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """What is known of an item's visual tokens before its encoder runs.

    Attributes:
        unit: `[N]` int64, the unit (tile, thumbnail, frame, clip) of each token, numbered from 0.
        cell: `[N, 3]` int64, the (t, h, w) place of each token in its unit's grid.
        structural: `[N]` bool, newline, padding and separator tokens: always kept, never candidates.
        grids: the (t, h, w) size of each unit, in tokens.
        kinds: what each unit is: `image`, `tile`, `thumbnail`, `frame`, `clip`.
    """

    unit: Tensor
    cell: Tensor
    structural: Tensor
    grids: tuple[tuple[int, int, int], ...]
    kinds: tuple[str, ...]

    @classmethod
    def of_grid(cls, height: int, width: int, *, frames: int = 1, kind: str = "image") -> Layout:
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
        )

    def __len__(self) -> int:
        return len(self.unit)

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
        cues: further signals about the tokens, by name, each `[N, ...]`; only those that a stage asked for.
        key: a number made from the item's content; seeded stages draw from it, so that neither the place in a
            batch nor the company there changes a draw.
    """

    features: Tensor
    layout: Layout
    cues: Mapping[str, Tensor] = field(default_factory=dict)
    key: int = 0

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
class Reduction:
    """What becomes of an item's N tokens: K outputs, each the weighted mean of the tokens folded into it.

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
        """Keeps the `anchor` tokens of `total` as they are and drops the others."""
        assign = torch.full((total,), -1, dtype=torch.int64, device=anchor.device)
        assign[anchor] = torch.arange(len(anchor), device=anchor.device)
        return cls(anchor, assign, torch.ones(total, device=anchor.device))

    @classmethod
    def identity(cls, total: int) -> Reduction:
        """Keeps all `total` tokens."""
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

    def to(self, device: torch.device | str) -> Reduction:
        """The same reduction with its tensors on `device`."""
        return replace(
            self, anchor=self.anchor.to(device), assign=self.assign.to(device), weight=self.weight.to(device)
        )
