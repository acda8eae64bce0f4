"""One call on a wrapped model: which columns of its prompt go on, with which features, at which positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from vtc.adapters import Adapter, Media
from vtc.adapters.decoders import window_of
from vtc.core.flops import DecoderCost
from vtc.core.tokens import QUESTION, Embedded, Reduction
from vtc.recipes.composition import Recipe

from .cache_metadata import ReducedPromptInfo, cache_among, join
from .columns import Columns
from .decoder.prefill_state import ItemColumns, PrefillState
from .decoder.report import Trace, held
from .pipeline import ItemCounts, ReducedItem, reduce_media
from .prompt import (
    PromptMap,
    Span,
    compact,
    locate,
)
from .report import ItemReport, PhaseTimer, Report


@dataclass(frozen=True)
class Request:
    """A prompt whose media are reduced.

    Attributes:
        prefix: the map of what the cache holds already, or None.
        suffix: the map of the new columns.
        mask: `[B, L]` bool, real tokens of all full columns.
        positions: position ids of all full columns, `[B, L]` or `[axes, B, L]`; those in the cache are left 0.
        delta: see `ReducedPromptInfo`.
        offset: full columns that the caller's ids leave out, since the cache holds them: 0, or all cached ones.
        embedded: by modality, by row, what the model gets of each item.
        placed: where the items' tokens stand among the new columns; only where decoder stages will ask.
        trace: what decoder stages did, noted by the first run over the prompt.
        pixels: the caller's media arguments, where a draft model may want to encode them for itself.
        drafts: whether the call is a draft's, whose prompt `generate` never takes for a first one.
    """

    prefix: PromptMap | None
    suffix: PromptMap
    mask: Tensor
    positions: Tensor
    delta: Tensor
    offset: int
    embedded: Mapping[str, Sequence[Sequence[Embedded]]]
    placed: Sequence[ItemColumns] = ()
    trace: Trace | None = None
    pixels: Mapping[str, Any] = field(default_factory=dict)
    drafts: bool = False

    def step(self, rows: int, length: int) -> PrefillState:
        """What decoder stages must know of a call of `rows` rows and `length` columns that reads the prompt."""
        times = rows // len(self.delta)
        suffix = self.suffix.expand(rows)
        before = self.splice.short_length - suffix.short_length
        real = self.splice.expand(rows).mask
        grown = real.new_ones(rows, length - suffix.short_length)
        ends = suffix.mask * torch.arange(1, suffix.short_length + 1, device=real.device)
        items = [replace(item, row=item.row * times + i) for item in self.placed for i in range(times)]
        return PrefillState(
            items, torch.cat([real, grown], dim=1), ends.amax(dim=1).sub(1).clamp_min(0), before, length
        )

    @cached_property
    def splice(self) -> PromptMap:
        """The map of all columns, cached and new."""
        return join(self.prefix, self.suffix)

    @cached_property
    def padded(self) -> bool:
        """Whether any row of the short prompt holds padding."""
        return not bool(self.splice.mask.all())

    def note(self, rows: int) -> ReducedPromptInfo:
        """The note for a cache of `rows` rows, several per row of the prompt where there are beams."""
        note = ReducedPromptInfo(self.splice, self.mask, self.delta, self.padded)
        return note if rows == len(self.delta) else note.expand(rows, self.mask.device)

    def embedded_for(self, rows: int) -> dict[str, list[Embedded]]:
        """What the model gets of all items, by modality, each row's repeated for its beams."""
        times = rows // len(self.delta)
        listed = {
            modality: [item for items in rows_of for item in list(items) * times]
            for modality, rows_of in self.embedded.items()
        }
        return {modality: items for modality, items in listed.items() if items}

    def __deepcopy__(self, memo: dict[int, Any]) -> Request:
        # Nothing here ever changes, and assisted decoding copies what it is given.
        return self


class ShortenedOutputs(dict[str, Any]):
    """`mm_encoder_outputs` of an already shortened prompt; its type tells the forward hooks to leave it alone.

    Attributes:
        request: what was dropped; None where nothing was.
        logits_to_keep: what the caller of a plain `forward` asked for; None inside `generate`.
    """

    def __init__(self, outputs: Mapping[str, Any], request: Request | None = None) -> None:
        super().__init__(outputs)
        self.request = request
        self.logits_to_keep: int | Tensor | None = None


class RequestBuilder:
    """Builds requests for one adapter and recipe. Holds nothing of a call.

    Attributes:
        counts_padding: whether the stock model counts positions by columns, those of padding among them.
    """

    def __init__(self, adapter: Adapter, recipe: Recipe) -> None:
        self.adapter = adapter
        self.recipe = recipe
        self.counts_padding = False

    def media(self, inputs: Mapping[str, Any], columns: Columns) -> list[Media]:
        """The items of the new columns of `inputs`.

        Raises:
            ValueError: media that the family cannot take.
        """
        for name in self.adapter.media_arguments:
            value = inputs.get(name)
            if name.startswith("pixel_values") and isinstance(value, Tensor) and not len(value):
                raise ValueError(
                    f"{name} is {tuple(value.shape)} and holds nothing; leave it out of a call without media"
                )
        new = {"input_ids": columns.new_ids, "attention_mask": columns.new_mask}
        media = self.adapter.media({**inputs, **new})
        return self._videos(media, columns.new_ids) if self.recipe.images_as == "frames" else media

    def _videos(self, media: Sequence[Media], ids: Tensor) -> list[Media]:
        """The images of each row as one item, in front of what else there is."""
        images = [item for item in media if item.modality == "image"]
        spans = locate(ids, {"image": self.adapter.placeholders["image"]}, [("image", len(p.layout)) for p in images])
        rows: dict[int, list[Media]] = {}
        for span, item in zip(spans, images, strict=True):
            rows.setdefault(span.row, []).append(item)
        return [*map(Media.video, rows.values()), *(item for item in media if item.modality != "image")]

    def build(
        self,
        inputs: Mapping[str, Any],
        columns: Columns,
        media: Sequence[Media],
        prefix: PromptMap | None,
        base: ReducedPromptInfo | None,
        *,
        always: bool = False,
    ) -> tuple[Request | None, Report]:
        """The request for `inputs`, or None where nothing changes, and the report on it.

        Args:
            inputs: the model's keyword arguments.
            columns: of `inputs`, as `read_columns` reads them.
            media: the items of the new columns.
            prefix: the map of what the cache holds.
            base: the note on that cache.
            always: whether a request is made where nothing changes too.

        Raises:
            ValueError: ids, mask and media do not fit together.
        """
        mask, done, new_ids = columns.mask, columns.done, columns.new_ids
        sizes = [(item.modality, len(item.layout)) for item in media]
        spans = locate(new_ids, self.adapter.placeholders, sizes, self.adapter.doubt)
        _check_visible(spans, columns.new_mask)
        counted = [ItemCounts.of(self.recipe, item) for item in media]
        unchanged = not self.recipe.decoder and all(counts.identity for counts in counted)
        if prefix is None and ((unchanged and not always) or not media):
            whole = [Reduction.identity(len(m.layout)) for m in media]
            return None, self._report(media, spans, whole, (mask, 0), (mask, 0), {}, self.adapter.cost())
        clock = PhaseTimer(self.adapter.model.device)
        questions = self._questions(new_ids, columns.new_mask, spans) if QUESTION in self.recipe.cues else None
        reduced = reduce_media(self.adapter, self.recipe, counted, clock, questions) if counted else []
        with clock.measure("splice"):
            request = self._splice(inputs, new_ids, mask, spans, reduced, prefix, base)
        short = request.splice.mask, prefix.short_length if prefix is not None else 0
        items = [item.reduction for item in reduced]
        cost = self.adapter.cost()  # walks all modules of the decoder: once a call
        report = self._report(media, spans, items, (mask, done), short, clock.seconds, cost)
        if self.recipe.decoder and media:
            report = replace(report, decoder=self._trace(request, cost, cache_among(inputs)))
            request = replace(request, trace=report.decoder)
        return request, report

    def _trace(self, request: Request, cost: DecoderCost, cache: Any) -> Trace:
        rows, sizes, fixed = zip(*((p.row, len(p.columns), len(p.structural)) for p in request.placed), strict=True)
        depth = len(self.adapter.decoder.layers)
        trace = Trace(cost, depth, _real(request.suffix.mask), rows, sizes, fixed)
        if request.prefix is None:
            return trace
        before = request.prefix.mask
        return replace(trace, earlier=_real(before), past=held(cache, depth, before))

    @torch.no_grad()
    def _questions(self, ids: Tensor, mask: Tensor, spans: Sequence[Span]) -> list[Tensor]:
        """`[T, D]` for each item, the embeddings of all text in its row: new columns, no placeholders, no padding.

        Which part of the text is the question cannot be told without the tokenizer.
        """
        shown = mask.bool()
        for token in self.adapter.placeholders.values():
            shown = shown & (ids != token)
        embed = self.adapter.model.get_input_embeddings()
        return [embed(ids[span.row][shown[span.row]]) for span in spans]

    def _splice(
        self,
        inputs: Mapping[str, Any],
        new_ids: Tensor,
        mask: Tensor,
        spans: Sequence[Span],
        reduced: Sequence[ReducedItem],
        prefix: PromptMap | None,
        base: ReducedPromptInfo | None,
    ) -> Request:
        rows, length = new_ids.shape
        new_mask = mask[:, mask.shape[1] - length :].bool()
        keep = new_mask.clone()
        for span, item in zip(spans, reduced, strict=True):
            gone = torch.ones(len(span.columns), dtype=torch.bool)
            gone[item.reduction.anchor.cpu()] = False
            keep[span.row, span.columns[gone].to(keep.device)] = False
        left = not bool((~new_mask[:, -1]).any())
        suffix = PromptMap.keeping(keep, left=left)
        start = self._start(mask[:, : mask.shape[1] - length], base)
        positions = self._positions(inputs, new_ids, new_mask, start, bool(spans))
        if self.recipe.positions == "compact":
            kept = [item.reduction.anchor.cpu() for item in reduced]
            positions = _compact_text_last(positions, spans, kept)
        real = mask.long().sum(dim=1)
        # Text goes on from the last token, as in a prompt that holds the whole conversation. (Stock M-RoPE models go on
        # from the highest position instead where there is a cache, which is the time of a long video's last frame.)
        ends = (new_mask * torch.arange(1, length + 1, device=mask.device)).amax(dim=1).sub(1).clamp_min(0)
        last = positions.gather(-1, ends[:, None].expand(*positions.shape[:-1], 1))[..., 0]
        delta = (last if last.ndim == 1 else last[-3:].amax(dim=0)) + 1 - real
        done = positions.new_zeros(*positions.shape[:-1], mask.shape[1] - length)
        return Request(
            prefix=prefix,
            suffix=suffix,
            mask=mask.bool(),
            positions=torch.cat([done, positions], dim=-1),
            delta=delta,
            offset=mask.shape[1] - inputs["input_ids"].shape[1],
            embedded=self._by_row(spans, reduced, rows),
            placed=[_placed(s, r, suffix) for s, r in zip(spans, reduced, strict=True)] if self.recipe.decoder else (),
        )

    def _start(self, before: Tensor, base: ReducedPromptInfo | None) -> Tensor:
        """`[B]` the position of the first new token: real tokens before it, moved as the cached media demand."""
        real = before.long().sum(dim=1)
        return real if base is None else real + base.delta.to(real.device)

    def _positions(
        self, inputs: Mapping[str, Any], ids: Tensor, mask: Tensor, start: Tensor, has_media: bool
    ) -> Tensor:
        """Positions of the new columns, `[..., B, T]`: the caller's, or as the stock model would count them."""
        given = inputs.get("position_ids")
        if given is not None:
            given = given[..., -ids.shape[1] :]
            text = given if given.ndim == 2 else given[0] if len(given) == 4 else None
            if text is not None and inputs.get("attention_mask") is None and bool((text.diff() < 0).any()):
                raise ValueError(
                    "position_ids go back within a row and there is no attention_mask: rows packed from several "
                    "sequences cannot be shortened; pass one sequence a row"
                )
            return given.expand(*given.shape[:-2], *ids.shape)
        if not has_media:
            return self.adapter.text_positions(start, mask)
        known = dict(inputs)
        for name in self.adapter.token_arguments:
            if known.get(name) is not None:
                known[name] = known[name][:, -ids.shape[1] :]
        counted = torch.ones_like(mask) if self.counts_padding else mask
        positions = self.adapter.positions(ids, counted.long(), known)
        return positions + start.to(positions.device)[:, None]

    def _by_row(
        self, spans: Sequence[Span], reduced: Sequence[ReducedItem], rows: int
    ) -> dict[str, list[list[Embedded]]]:
        listed: dict[str, list[list[Embedded]]] = {}
        for span, item in zip(spans, reduced, strict=True):
            listed.setdefault(item.media.modality, [[] for _ in range(rows)])[span.row].append(item.embedded)
        return listed

    def _report(
        self,
        media: Sequence[Media],
        spans: Sequence[Span],
        reductions: Sequence[Reduction],
        before: tuple[Tensor, int],
        after: tuple[Tensor, int],
        seconds: dict[str, float],
        cost: DecoderCost,
    ) -> Report:
        """Of `before` and `after`: the mask of all columns, and how many of them the cache holds."""
        full, short = _real(before[0]), _real(after[0])
        items = [
            ItemReport.of(item.modality, span.row, item.layout, reduction, self.recipe.allocator.unit_floor)
            for item, span, reduction in zip(media, spans, reductions, strict=True)
        ]
        return Report(
            recipe=self.recipe.name,
            items=tuple(items),
            prompt_before=full,
            prompt_after=short,
            kv_bytes_saved=sum(map(cost.cached_bytes, full)) - sum(map(cost.cached_bytes, short)),
            prefill_flops_before=_flops(cost, *before),
            prefill_flops_after=_flops(cost, *after),
            seconds=seconds,
            window=self._window(full, short),
        )

    def _window(self, full: Sequence[int], short: Sequence[int]) -> int | None:
        window = window_of(self.adapter.decoder)
        return window if window is not None and max(full) > window and tuple(full) != tuple(short) else None


def _real(mask: Tensor) -> tuple[int, ...]:
    """Real tokens of each row."""
    return tuple(mask.long().sum(dim=1).tolist())


def _flops(cost: DecoderCost, mask: Tensor, done: int) -> int:
    """FLOPs of the decoder layers over the real tokens of all columns but the first `done`, which are cached."""
    return sum(map(cost.turn_flops, _real(mask[:, done:]), _real(mask[:, :done])))


def _placed(span: Span, item: ReducedItem, suffix: PromptMap) -> ItemColumns:
    """Where the kept tokens of an item stand in the short prompt: a kept column is its own nearest."""
    anchor = item.reduction.anchor.cpu()
    columns = suffix.nearest[span.row].cpu()[span.columns[anchor]]
    fixed = item.media.layout.structural[anchor]
    return ItemColumns(span.row, columns[~fixed], columns[fixed], anchor[~fixed], item.media.layout)


def _check_visible(spans: Sequence[Span], mask: Tensor) -> None:
    """Refuse a mask that hides placeholders: the model would be given features without a place."""
    for i, span in enumerate(spans):
        hidden = int((mask[span.row, span.columns.to(mask.device)] == 0).sum())
        if hidden:
            raise ValueError(
                f"attention_mask hides {hidden} of {len(span.columns)} placeholders of item {i} (row {span.row}); "
                "leave an item out of the prompt instead of masking it"
            )


def _compact_text_last(positions: Tensor, spans: Sequence[Span], kept: Sequence[Tensor]) -> Tensor:
    """`compact` for `[B, L]`, `[3, B, L]`, or `[4, B, L]` whose first row counts text (and is remade later)."""
    if positions.ndim == 2:
        return compact(positions[None], spans, kept)[0]
    return torch.cat([positions[:-3], compact(positions[-3:], spans, kept)])
