"""Phases two and three: the language model learns to answer from the visual tokens, many questions behind one picture.

A sequence is `<s> user : <picture>` and then blocks of equal length. Each block is a dialogue that sees the picture and
itself, nothing else; its positions go on from the picture's. So one picture is paid for once.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

from vtc.tiny.bank import Bank
from vtc.tiny.build import GRID, vocabulary
from vtc.tiny.questions import SKILLS

VISUAL = GRID * GRID
_IDS = vocabulary()
PREFIX = [_IDS["<s>"], _IDS["user"], _IDS[":"]]
_TURN = [_IDS["user"], _IDS[":"]]
PICTURE = len(PREFIX) + VISUAL

# Answers of these skills count more: they are the slowest to learn, and rarer than the others.
WEIGHTS = {"relation": 4.0, "number": 2.0, "count": 1.5}


@dataclass
class Packed:
    """A batch of `b` pictures, each with `n` blocks of `t` tokens (padded at their end with 0).

    ids, labels, question: int64 [b, n, t]. `labels` holds the token itself where an answer is, else -100; `question`
    the number, in its row, of the question that a label belongs to, else -1. weight: float32 [b, n, t], the weight of
    each label. position: int64 [b, 147 + n * t].
    """

    ids: Tensor
    labels: Tensor
    question: Tensor
    weight: Tensor
    position: Tensor

    def to(self, device: torch.device) -> "Packed":
        """The same on `device`."""
        return Packed(*(getattr(self, f.name).to(device) for f in fields(self)))


def pack(bank: Bank, rows: np.ndarray, rng: np.random.Generator, questions: int, turns: int, spread: bool) -> Packed:
    """Lay out the pictures `rows` with up to `questions` questions each, `turns` of them to a dialogue.

    `spread`: draw positions with gaps for two pictures of three (see `draw_positions`).
    """
    lines = [_dialogues(bank, int(row), rng, questions, turns) for row in rows]
    n = max(len(line) for line in lines)
    t = max(len(block[0]) for line in lines for block in line)
    ids, labels = np.zeros((len(rows), n, t), np.int64), np.full((len(rows), n, t), -100)
    question = np.full((len(rows), n, t), -1)
    for i, line in enumerate(lines):
        for j, (text, answers, asked) in enumerate(line):
            ids[i, j, : len(text)], labels[i, j, : len(text)], question[i, j, : len(text)] = (
                text,
                answers,
                asked,
            )
    skills = np.take_along_axis(bank.skill[rows], np.maximum(question.reshape(len(rows), -1), 0), 1)
    weight = np.array([WEIGHTS.get(s, 1.0) for s in SKILLS], np.float32)[skills].reshape(question.shape)
    position = draw_positions(len(rows), n, t, rng, spread)
    return Packed(*(torch.from_numpy(a) for a in (ids, labels, question, weight, position)))


def _dialogues(
    bank: Bank, row: int, rng: np.random.Generator, questions: int, turns: int
) -> list[tuple[list[int], list[int], list[int]]]:
    """The blocks of one picture: tokens, labels and question numbers of each."""
    chosen = rng.permutation(np.flatnonzero(bank.answer[row]))[:questions]
    blocks = []
    for first in range(0, len(chosen), turns):
        tokens: list[int] = []
        labels: list[int] = []
        asked: list[int] = []
        for q in chosen[first : first + turns]:
            words = bank.words[row, q]
            lead = _TURN if tokens else []
            text, start = lead + words[words > 0].tolist(), len(lead) + int(bank.answer[row, q])
            tokens += text
            labels += [-100] * start + text[start:]
            asked += [-1] * start + [int(q)] * (len(text) - start)
        blocks.append((tokens, labels, asked))
    return blocks


def draw_positions(b: int, n: int, t: int, rng: np.random.Generator, spread: bool) -> np.ndarray:
    """Ascending positions int64 `[b, 147 + n * t]`; every block goes on from the picture's end.

    A third of the rows is consecutive. The others have gaps everywhere (up to about 4 times the length) and now and
    then a long jump, in text and picture alike: a model that has met all distances does not mind missing tokens.
    """
    shape = (b, PICTURE + n * t)
    step = np.ones(shape)
    if spread:
        mean = rng.uniform(0, 3, (b, 1)) * (rng.random((b, 1)) < 2 / 3)
        step += np.floor(rng.exponential(1.0, shape) * mean)
        step += (rng.random(shape) < 0.01) * (mean > 0) * rng.integers(1, 100, shape)
    picture = np.cumsum(step[:, :PICTURE], 1) - step[:, :1]
    blocks = np.cumsum(step[:, PICTURE:].reshape(b, n, t), 2) + picture[:, -1, None, None]
    return np.concatenate([picture, blocks.reshape(b, n * t)], 1).astype(np.int64)


def block_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """Attention of a packed sequence: the picture among itself, each block to the picture and itself, all causal.

    `query`, `key`, `value` `[b, heads, 147 + n * t, d]`; `mask` is any `[1, 1, t, t]` tensor, read for its size.
    """
    b, heads, s, d = query.shape
    t = mask.shape[-1]
    query = query * scaling
    head, tail = slice(0, PICTURE), slice(PICTURE, s)
    kept, picture_value = key[:, :, head], value[:, :, head]
    inside = (query[:, :, head] @ kept.transpose(-1, -2) + _causal(PICTURE, query)).softmax(-1) @ picture_value

    asking, own_key, own_value = (x[:, :, tail].reshape(b, heads, -1, t, d) for x in (query, key, value))
    to_picture = (query[:, :, tail] @ kept.transpose(-1, -2)).view(b, heads, -1, t, PICTURE)
    to_own = asking @ own_key.transpose(-1, -2) + _causal(t, query)
    share = torch.cat([to_picture, to_own], -1).softmax(-1)
    outside = share[..., :PICTURE].reshape(b, heads, s - PICTURE, PICTURE) @ picture_value
    outside = outside + (share[..., PICTURE:] @ own_value).view(b, heads, -1, d)
    return torch.cat([inside, outside], 2).transpose(1, 2), None


def _causal(n: int, like: Tensor) -> Tensor:
    return torch.full((n, n), -1e4, dtype=like.dtype, device=like.device).triu(1)


def answer_logits(
    model: LlavaForConditionalGeneration, packed: Packed, visual: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits `[m, words]` where an answer's token comes next, that token `[m]`, and its row and question `[m, 2]`.

    `visual` `[b, 144, width]`; the model's language model must attend with `block_attention`.
    """
    b, n, t = packed.ids.shape
    embed = model.get_input_embeddings()
    start = embed(torch.tensor(PREFIX, device=visual.device)).expand(b, -1, -1)
    text = embed(packed.ids).view(b, n * t, -1)
    hidden = model.model.language_model(
        inputs_embeds=torch.cat([start, visual.to(text.dtype), text], 1),
        attention_mask=torch.zeros(1, 1, t, t, device=visual.device),
        position_ids=packed.position,
        use_cache=False,
    ).last_hidden_state
    hidden = hidden[:, PICTURE:].reshape(b, n, t, -1)[:, :, :-1]
    wanted = packed.labels[:, :, 1:] >= 0
    row = wanted.nonzero()[:, 0]
    question = torch.stack([row, packed.question[:, :, 1:][wanted]], 1)
    return model.lm_head(hidden[wanted]).float(), packed.labels[:, :, 1:][wanted], question


def mind_loss(model: LlavaForConditionalGeneration, packed: Packed, visual: Tensor) -> Tensor:
    """Mean cross-entropy of the answers' tokens, weighted by skill."""
    packed = packed.to(visual.device)
    logits, truth, _ = answer_logits(model, packed, visual)
    loss = F.cross_entropy(logits, truth, reduction="none")
    weight = packed.weight[:, :, 1:][packed.labels[:, :, 1:] >= 0]
    return (loss * weight).sum() / weight.sum()


@torch.no_grad()
def mind_accuracy(
    model: LlavaForConditionalGeneration, bank: Bank, visual: Tensor, spread: bool, batch: int = 32
) -> dict[str, float]:
    """Share of questions whose every answer token is the likeliest one (what greedy decoding would find), by skill."""
    rng = np.random.default_rng(0)
    right: dict[str, list[bool]] = {}
    for start in range(0, len(bank), batch):
        rows = np.arange(start, min(len(bank), start + batch))
        packed = pack(bank, rows, rng, bank.words.shape[1], 1, spread).to(visual.device)
        logits, truth, question = answer_logits(model, packed, visual[rows])
        wrong = set(map(tuple, question[logits.argmax(-1) != truth].tolist()))
        for i, q in map(tuple, question.unique(dim=0).tolist()):
            right.setdefault(SKILLS[bank.skill[rows[i], q]], []).append((i, q) not in wrong)
    out = {s: round(float(np.mean(right[s])), 4) for s in SKILLS if s in right}
    return {"all": round(float(np.mean([r for rs in right.values() for r in rs])), 4), **out}
