"""Shortening a prompt: ids, masks, positions and labels, together, by one set of kept columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Span:
    """Where the placeholders of one item stand.

    Attributes:
        row: its row of the batch.
        columns: `[N]` int64, ascending.
    """

    row: int
    columns: Tensor


def locate(
    ids: Tensor,
    placeholders: Mapping[str, int],
    sizes: Sequence[tuple[str, int]],
    doubt: str = "; pass ids and pixels of one processor call",
) -> list[Span]:
    """Find the placeholders of each item.

    Args:
        ids: `[B, L]` prompt ids.
        placeholders: placeholder id by modality. Modalities may share one; then items of one of them may come.
        sizes: modality and number of tokens of each item, in prompt order within its modality.
        doubt: how an error goes on that finds ids and items apart.

    Returns:
        One span per item, in the order of `sizes`.

    Raises:
        ValueError: the prompt holds more or fewer placeholders than the items have tokens, or an item would lie
            across two rows.
    """
    spans: dict[int, Span] = {}
    for token in dict.fromkeys(placeholders.values()):
        sharing = [modality for modality, own in placeholders.items() if own == token]
        items = [i for i, (kind, _) in enumerate(sizes) if kind in sharing]
        found = [torch.nonzero(row == token).flatten() for row in ids.cpu()]
        row, start = 0, 0
        for i in items:
            while row < len(found) and start == len(found[row]):
                row, start = row + 1, 0
            size = sizes[i][1]
            if row == len(found) or start + size > len(found[row]):
                raise ValueError(_mismatch(sharing, token, found, [sizes[j][1] for j in items], doubt))
            spans[i] = Span(row, found[row][start : start + size])
            start += size
        if sum(map(len, found)) != sum(sizes[i][1] for i in items):
            raise ValueError(_mismatch(sharing, token, found, [sizes[j][1] for j in items], doubt))
    return [spans[i] for i in range(len(sizes))]


def _mismatch(modalities: Sequence[str], token: int, found: Sequence[Tensor], sizes: Sequence[int], doubt: str) -> str:
    items = " and ".join(f"{modality}s" for modality in modalities)
    return (
        f"input_ids hold {[len(columns) for columns in found]} placeholders (id {token}) by row, but the {items} have "
        f"{list(sizes)} tokens{doubt}, whole rows only (a processor that writes one placeholder per item needs "
        "`patch_size` and `vision_feature_select_strategy` set)"
    )


@dataclass(frozen=True)
class PromptMap:
    """The map from a full prompt of L columns to a shortened one of S.

    Attributes:
        columns: `[B, S]` int64, the full column behind each short one; 0 where the row is padded.
        mask: `[B, S]` bool, real tokens.
        nearest: `[B, L]` int64, the short column of the last kept token at or before each full one.
    """

    columns: Tensor
    mask: Tensor
    nearest: Tensor

    @classmethod
    def keeping(cls, keep: Tensor, *, left: bool) -> PromptMap:
        """Keep the columns where `keep` `[B, L]` is true, and pads the rows again, `left` or right."""
        kept = keep.sum(dim=1, keepdim=True)
        width = int(kept.max())
        shift = width - kept if left else torch.zeros_like(kept)
        order = torch.sort((~keep).to(torch.uint8), dim=1, stable=True).indices
        place = torch.arange(width, device=keep.device)[None] - shift
        mask = (place >= 0) & (place < kept)
        columns = order.gather(1, place.clamp_min(0)) * mask
        nearest = (keep.long().cumsum(dim=1) - 1).clamp_min(0) + shift
        return cls(columns, mask, nearest)

    @property
    def full_length(self) -> int:
        """L, the columns of the full prompt."""
        return self.nearest.shape[1]

    @property
    def short_length(self) -> int:
        """S, the columns of the short prompt."""
        return self.columns.shape[1]

    def expand(self, rows: int) -> PromptMap:
        """The map for a batch in which each row stands `rows / B` times in a row, as beams do."""
        times = rows // len(self.columns)
        if times * len(self.columns) != rows:
            raise ValueError(f"a batch of {rows} rows is no multiple of the {len(self.columns)} that were reduced")
        if times == 1:
            return self
        return PromptMap(*(x.repeat_interleave(times, dim=0) for x in (self.columns, self.mask, self.nearest)))

    def take(self, values: Tensor, fill: int) -> Tensor:
        """Shorten `values` `[..., B, L + T]` to `[..., B, S + T]`; padding becomes `fill`, the T last stay."""
        columns, mask = self.columns.to(values.device), self.mask.to(values.device)
        head, tail = values[..., : self.full_length], values[..., self.full_length :]
        short = head.gather(-1, columns.expand(*head.shape[:-1], -1)).masked_fill(~mask, fill)
        return torch.cat([short, tail], dim=-1)

    def to(self, device: torch.device) -> PromptMap:
        """The same map on `device`."""
        return PromptMap(self.columns.to(device), self.mask.to(device), self.nearest.to(device))


def compact(positions: Tensor, spans: Sequence[Span], kept: Sequence[Tensor]) -> Tensor:
    """Renumber positions so that each item's kept tokens leave no gaps, and later tokens move up.

    An item is renumbered stretch by stretch where text parts it (timestamps between frames, row breaks). On each
    axis, the kept coordinates of a stretch take the first places of the ladder of coordinates that it had; with
    nothing dropped nothing changes. On M-RoPE the temporal axis does not move what follows, as in the stock rule
    (text goes on after the larger of height and width), except where it did so before.

    Args:
        positions: `[axes, B, L]` of the full prompt: 1 axis, or (t, h, w).
        spans: the items.
        kept: for each item, the places (in its span) of the tokens that stay.

    Returns:
        `[axes, B, L]`; dropped tokens stand at their stretch's new top, or right before it where none stayed.
    """
    out = positions.clone()
    stretches = [stretch for span, places in zip(spans, kept, strict=True) for stretch in _stretches(span, places)]
    for row, columns, stay in sorted(stretches, key=lambda stretch: (stretch[0], int(stretch[1][0]))):
        columns, stay = columns.to(out.device), stay.to(out.device)
        old_top, new_top = -1, -1
        leading = _leading(out[:, row], columns)
        for axis in range(len(positions)):
            ladder = out[axis, row, columns].unique()
            rungs, places = out[axis, row, stay].unique(return_inverse=True)
            top = ladder[len(rungs) - 1] if len(rungs) else ladder[0] - 1
            # A dropped token takes the new top: text goes on from the prompt's last entry, kept or not.
            out[axis, row, columns] = top
            out[axis, row, stay] = ladder[places]
            if axis in leading:
                old_top, new_top = max(old_top, ladder[-1].item()), max(new_top, top.item())
        after = torch.arange(out.shape[-1], device=out.device) > columns[-1]
        out[:, row] -= (old_top - new_top) * after
    return out


def _leading(positions: Tensor, columns: Tensor) -> range:
    """The axes whose highest place text goes on after, of a row `[axes, L]` with a stretch at `columns`.

    All but time in the Qwen-VL line; time too where the text behind a stretch stands after it (Qwen-Omni).
    """
    axes, after = len(positions), int(columns[-1]) + 1
    if axes == 1:
        return range(1)
    tops = positions[:, columns].amax(dim=1)
    text = positions[0, after] if after < positions.shape[1] else None
    follows_time = text is not None and tops[0] > tops[1:].max() and bool(text == tops[0] + 1)
    return range(0 if follows_time else 1, axes)


def _stretches(span: Span, kept: Tensor) -> list[tuple[int, Tensor, Tensor]]:
    """Row, columns and kept columns of each run of neighbouring columns of an item."""
    stays = torch.zeros(len(span.columns), dtype=torch.bool)
    stays[kept] = True
    ends = torch.nonzero(span.columns.diff() > 1).flatten() + 1
    columns, stay = (part.tensor_split(ends.tolist()) for part in (span.columns, stays))
    return [(span.row, c, c[s]) for c, s in zip(columns, stay, strict=True)]
