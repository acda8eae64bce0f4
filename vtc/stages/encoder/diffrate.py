"""Learned rates inside the vision tower: the least attended tokens dropped, the next ones folded."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from vtc.core.budget import Budget
from vtc.core.json_text import loads
from vtc.core.validation import check_int
from vtc.encoder.merge_steps import LayerView, MergeStep, take
from vtc.stages.ops import unit_rows

from .base import EncoderStage

SCHEMA = 1
ENTRIES = ("schema", "tokens", "pruned", "merged")


@dataclass(frozen=True)
class DiffRate(EncoderStage):
    """Differentiable compression rate (arXiv 2305.17997), with its rates as given.

    In each layer, between attention and MLP, candidates are ranked by the attention that the class token pays them,
    mean over heads. The last are dropped; of the others the last are each folded into the most similar (cosine of the
    hidden states) of those before them, by a plain mean. The numbers were learnt per model; they are read from a
    schedule file, see `load`. Equal scores and similarities go to the lower place.

    In log(size) a token that was folded counts whole, as in ToMe. The authors' code counts it by its similarity, which
    may be negative, and has no logarithm then.

    A tower of other than `tokens` patches gets the same shares of its own, rounded half up.

    Attributes:
        tokens: the patches that the numbers are of.
        pruned: how many are left in each layer after dropping.
        merged: how many are left in each layer after folding.
        proportional: adds log(size) to the attention logits of later layers.
    """

    tokens: int
    pruned: tuple[int, ...]
    merged: tuple[int, ...]
    proportional: bool = True

    name = "diffrate"
    paper = "DiffRate, 2305.17997"
    signal = "attention of the class token, then similarity, layer by layer"
    cost = "N·N a layer"
    needs_cls = True

    def __post_init__(self) -> None:
        for name in ("pruned", "merged"):
            given = getattr(self, name)
            if not isinstance(given, list | tuple):
                raise TypeError(f"{name}={given!r} is a {type(given).__name__}; expected a number for each layer")
            numbers = tuple(check_int(f"{name}[{layer}]", number) for layer, number in enumerate(given))
            object.__setattr__(self, name, numbers)
        object.__setattr__(self, "tokens", check_int("tokens", self.tokens))
        self._check_numbers()

    def _check_numbers(self) -> None:
        if not self.merged or len(self.pruned) != len(self.merged):
            raise ValueError(
                f"pruned has {len(self.pruned)} entries, merged {len(self.merged)}; expected one of each for every "
                "layer"
            )
        numbers = [self.tokens, *(n for pair in zip(self.pruned, self.merged, strict=True) for n in pair)]
        if min(numbers) < 1 or any(later > earlier for earlier, later in pairwise(numbers)):
            raise ValueError(
                f"tokens={self.tokens}, pruned={self.pruned}, merged={self.merged}: numbers left must be at least 1 "
                "and never rise, first by pruning, then by merging, layer by layer"
            )

    @classmethod
    def load(cls, path: str | Path) -> DiffRate:
        """The stage whose rates stand in a schedule file.

        The file is a JSON object: `{"schema": 1, "tokens": 196, "pruned": [196, ...], "merged": [190, ...]}`, with one
        number for each layer, class token not counted.

        Raises:
            ValueError: the file is none.
        """
        try:
            data = loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is no schedule file: {error}") from error
        if not isinstance(data, dict) or data.get("schema") != SCHEMA or set(data) != set(ENTRIES):
            raise ValueError(f"{path} is no schedule file; expected an object of {', '.join(ENTRIES)}, schema {SCHEMA}")
        return cls(data["tokens"], data["pruned"], data["merged"])

    @property
    def own_share(self) -> float | None:
        """See `EncoderStage.own_share`."""
        return self.merged[-1] / self.tokens

    def check_layers(self, layers: int) -> None:
        """See `EncoderStage.check_layers`."""
        if layers != len(self.merged):
            raise ValueError(
                f"merged={self.merged} has rates for {len(self.merged)} layers, and the vision tower has {layers} up "
                "to the one that gives its features; use rates that were learnt for it, or 'encoder/tome'"
            )

    def schedule(self, candidates: int, target: int, layers: int) -> tuple[int, ...]:
        """See `EncoderStage.schedule`."""
        self.check_layers(layers)
        found = tuple(self._scaled(number, candidates) for number in self.merged)
        assert found[-1] == target
        return found

    def _scaled(self, number: int, candidates: int) -> int:
        return Budget(number / self.tokens).count(candidates)

    @torch.no_grad()
    def fold(self, view: LayerView, left: int) -> MergeStep:
        """See `EncoderStage.fold`."""
        images, tokens = view.size.shape
        kept = min(max(self._scaled(self.pruned[view.layer], view.patches), left), tokens - view.prefix)
        score = cls_attention(view, proportional=self.proportional)[:, view.prefix :]
        # A stable sort: equals go by place. All numbers are of the whole sequence from here on.
        rank = score.nan_to_num(nan=-torch.inf).sort(dim=1, descending=True, stable=True).indices + view.prefix
        stay, go, dropped = rank[:, :left].sort(dim=1).values, rank[:, left:kept], rank[:, kept:]
        target = torch.arange(tokens, device=rank.device).repeat(images, 1).scatter(1, dropped, -1)
        rows = unit_rows(view.hidden.flatten(0, 1)).unflatten(0, (images, tokens))
        near = (take(rows, go) @ take(rows, stay).mT).argmax(dim=2)
        return MergeStep.of(target.scatter(1, go, stay.gather(1, near)), torch.ones_like(view.size), view.prefix + left)


def cls_attention(view: LayerView, *, proportional: bool) -> Tensor:
    """`[B, N]` fp32, what the class token attends to, mean over heads, sizes counted as the layer counted them."""
    logits = view.queries[:, :, :1].float() @ view.keys.float().mT * view.scale
    if proportional:
        logits = logits + view.size.log()[:, None, None]
    return logits.softmax(dim=-1).mean(dim=1)[:, 0]
