"""Greedy answers of a batch with the distributions behind them, free or along a given answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from vtc.adapters import find
from vtc.inference.asking import greedy


@dataclass(frozen=True)
class Decoded:
    """Greedy answers of a batch.

    Attributes:
        tokens: `[B, T]` on the CPU; padding after the end of each answer.
        lengths: tokens of each answer, its end among them.
        logits: `[B, T, V]` of each step, before any of generation's own changes to them.
        texts: the answers.
    """

    tokens: Tensor
    lengths: list[int]
    logits: Tensor
    texts: list[str]

    def says(self, row: int, other: Decoded) -> bool:
        """Return whether the answer of `row` is, token by token, that of `other`."""
        length = other.lengths[row]
        return self.lengths[row] == length and torch.equal(self.tokens[row, :length], other.tokens[row, :length])


class Along(LogitsProcessor):
    """Makes `generate` say `tokens` `[B, T]` after a prompt of `start` columns."""

    def __init__(self, tokens: Tensor, start: int) -> None:
        self._tokens, self._start = tokens, start

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        """Scores that leave only the token that is due."""
        due = self._tokens[:, input_ids.shape[1] - self._start, None].to(scores.device)
        return torch.full_like(scores, float("-inf")).scatter_(1, due, 0.0)


def visual_tokens(model: Any, ids: Tensor) -> list[int]:
    """Placeholders of media in each row of `ids` `[B, L]`: the visual tokens that the stock model passes on."""
    placeholders = torch.tensor(sorted(find(model).placeholders.values()), device=ids.device)
    counts: list[int] = torch.isin(ids, placeholders).sum(dim=1).tolist()
    return counts


@torch.no_grad()
def decode(model: Any, processor: Any, given: Mapping[str, Any], limit: int) -> Decoded:
    """Greedy answers of at most `limit` tokens."""
    out = model.generate(
        **given, **greedy(model), max_new_tokens=limit, output_logits=True, return_dict_in_generate=True
    )
    tokens = out.sequences[:, -len(out.logits) :].cpu()
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    stops = torch.isin(tokens, torch.tensor(ends, dtype=tokens.dtype))
    lengths = [int(row.nonzero()[0]) + 1 if bool(row.any()) else len(row) for row in stops]
    answers = [row[:length] for row, length in zip(tokens, lengths, strict=True)]
    texts = [text.strip() for text in processor.tokenizer.batch_decode(answers, skip_special_tokens=True)]
    return Decoded(tokens, lengths, torch.stack(out.logits, dim=1), texts)


@torch.no_grad()
def logits_along(model: Any, given: Mapping[str, Any], tokens: Tensor) -> Tensor:
    """`[B, T, V]` logits where the model is made to say `tokens` `[B, T]`, step by step as it decodes.

    By the way of `generate` and not of one long forward, so that in half precision the rounding is that of the free
    answer they are compared with. Columns after every row's end are missing.
    """
    forced: Any = LogitsProcessorList([Along(tokens, given["input_ids"].shape[1])])
    out = model.generate(
        **given,
        **greedy(model),
        logits_processor=forced,
        max_new_tokens=tokens.shape[1],
        output_logits=True,
        return_dict_in_generate=True,
    )
    return torch.stack(out.logits, dim=1)


def divergence(full: Tensor, short: Tensor) -> float:
    """Mean over tokens of KL(full || short) in nats, from logits `[T, V]` each.

    Raises:
        ValueError: logits that are no numbers.
    """
    p, q = (torch.log_softmax(logits.double(), dim=-1) for logits in (full, short))
    if bool(p.isnan().any() | q.isnan().any()):
        raise ValueError("the model's logits are not finite; try --dtype float32")
    terms = torch.where(p == float("-inf"), torch.zeros_like(p), p.exp() * (p - q))
    # Equal distributions give exactly 0; rounding below it is cut off.
    return max(0.0, float(terms.sum(dim=-1).mean()))
