"""Many questions behind one or two images: sequences in which the images are paid for once.

A sequence is a lead-in (`<s> user :`, sometimes a few words more), the images, and then blocks of equal length. Each
block is a dialogue that sees what stands before all blocks and itself, nothing else; its positions go on from there.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from tools.train_embedded.dataset import LABELS, SceneGroup
from tools.train_embedded.tokenizer import SPECIAL, vocabulary

_IDS = vocabulary()
LEAD = [_IDS["<s>"], _IDS["user"], _IDS[":"]]
_TURN = [_IDS["user"], _IDS[":"]]
_WHICH = [[_IDS[w] for w in ("in", "the", order, "image", ",")] for order in ("first", "second")]

# Answers of these skills count more: they are the slowest to learn, or rarer than the others.
WEIGHTS = {"relation": 3.0, "nearest": 4.0, "text": 2.0, "fine": 3.0, "count": 1.5, "crowded": 1.3, "pattern": 1.3}
WEIGHTS |= {"order": 3.0, "times": 3.0, "shots": 2.0, "move": 1.5, "leave": 1.5}  # of videos


@dataclass
class Packed:
    """A batch of `b` sequences, each with `n` blocks of `t` tokens (padded at their end with 0).

    lead: int64 [m], before the images of every sequence. ids, labels, question: int64 [b, n, t]; `labels` holds the
    token itself where an answer is, else -100; `question` the number (image * 24 + question) of the question that a
    label belongs to, else -1. weight: float32 [b, n, t], the weight of each label. steps: float64 [b, s], the distance
    of each token of the whole sequence to the one before.
    """

    lead: Tensor
    ids: Tensor
    labels: Tensor
    question: Tensor
    weight: Tensor
    steps: Tensor

    def to(self, device: torch.device) -> "Packed":
        """The same on `device`."""
        return Packed(*(getattr(self, f.name).to(device) for f in fields(self)))


def pack(
    group: SceneGroup,
    rows: np.ndarray,
    rng: np.random.Generator,
    length: int,
    questions: int,
    turns: int = 1,
    spread: bool = False,
    chatter: bool = False,
) -> Packed:
    """Lay out the images `rows` `[b, p]` with up to `questions` questions a sequence, `turns` of them to a dialogue.

    `length`: tokens of one image with what stands around it. `spread`: draw gaps between positions (see
    `draw_steps`). `chatter`: let some words stand before the images.
    """
    lines = [_dialogues(group, row, rng, questions, turns) for row in rows]
    n = max(len(line) for line in lines)
    t = max(len(block[0]) for line in lines for block in line)
    ids, labels = np.zeros((len(rows), n, t), np.int64), np.full((len(rows), n, t), -100)
    question, weight = np.full((len(rows), n, t), -1), np.zeros((len(rows), n, t), np.float32)
    for i, line in enumerate(lines):
        for j, (text, answers, asked, weights) in enumerate(line):
            for array, values in ((ids, text), (labels, answers), (question, asked), (weight, weights)):
                array[i, j, : len(text)] = values
    words = rng.integers(len(SPECIAL), len(_IDS), int(rng.integers(1, 9))).tolist() if chatter else []
    lead = np.array(LEAD + words)
    steps = draw_steps(len(rows), len(lead) + rows.shape[1] * length + n * t, rng, spread)
    return Packed(*(torch.from_numpy(a) for a in (lead, ids, labels, question, weight, steps)))


Block = tuple[list[int], list[int], list[int], list[float]]


def _dialogues(group: SceneGroup, row: np.ndarray, rng: np.random.Generator, questions: int, turns: int) -> list[Block]:
    """The blocks of one sequence: tokens, labels, question numbers and weights of each."""
    numbered = [(p, int(q)) for p, r in enumerate(row) for q in np.flatnonzero(group.answer[r])]
    chosen = [numbered[i] for i in rng.permutation(len(numbered))[:questions]]
    blocks = []
    for first in range(0, len(chosen), turns):
        block: Block = ([], [], [], [])
        for p, q in chosen[first : first + turns]:
            words = group.words[row[p], q]
            lead = [*(_TURN if block[0] else []), *(_WHICH[p] if len(row) > 1 else [])]
            text, start = lead + words[words > 0].tolist(), len(lead) + int(group.answer[row[p], q])
            rest = len(text) - start
            weight = WEIGHTS.get(LABELS[group.skill[row[p], q]], 1.0)
            block[0].extend(text)
            block[1].extend([-100] * start + text[start:])
            block[2].extend([-1] * start + [p * group.answer.shape[1] + q] * rest)
            block[3].extend([0.0] * start + [weight] * rest)
        blocks.append(block)
    return blocks


def draw_steps(b: int, s: int, rng: np.random.Generator, spread: bool) -> np.ndarray:
    """Distances from token to token, float64 `[b, s]`, 1 or more.

    A third of the rows is consecutive. The others have gaps everywhere (up to about 4 times the length) and now and
    then a long jump, in text and image alike: a model that has met all distances tolerates missing tokens.
    """
    step = np.ones((b, s))
    if spread:
        mean = rng.uniform(0, 3, (b, 1)) * (rng.random((b, 1)) < 2 / 3)
        step += np.floor(rng.exponential(1.0, (b, s)) * mean)
        step += (rng.random((b, s)) < 0.01) * (mean > 0) * rng.integers(1, 100, (b, s))
    return step
