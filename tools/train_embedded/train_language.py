"""Phases two and three: the language model learns to answer from the visual tokens (see `pack` for the sequences)."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.train_embedded.dataset import LABELS, Dataset, SceneGroup
from tools.train_embedded.model_specs.base import ModelSpec
from tools.train_embedded.packing import Packed, pack
from tools.train_embedded.tokenizer import vocabulary


def block_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """Attention of a packed sequence: the head among itself, each block to the head and itself, all causal.

    `query`, `key`, `value` `[b, heads, head + n * t, d]`; `mask` is any `[1, 1, head, t]` tensor, read for its size.
    """
    b, heads, s, d = query.shape
    h, t = mask.shape[-2:]
    query = query * scaling
    head, tail = slice(0, h), slice(h, s)
    kept, head_value = key[:, :, head], value[:, :, head]
    inside = (query[:, :, head] @ kept.transpose(-1, -2) + _causal(h, query)).softmax(-1) @ head_value

    asking, own_key, own_value = (x[:, :, tail].reshape(b, heads, -1, t, d) for x in (query, key, value))
    to_head = (query[:, :, tail] @ kept.transpose(-1, -2)).view(b, heads, -1, t, h)
    to_own = asking @ own_key.transpose(-1, -2) + _causal(t, query)
    share = torch.cat([to_head, to_own], -1).softmax(-1)
    outside = share[..., :h].reshape(b, heads, s - h, h) @ head_value
    outside = outside + (share[..., h:] @ own_value).view(b, heads, -1, d)
    return torch.cat([inside, outside], 2).transpose(1, 2), None


def _causal(n: int, like: Tensor) -> Tensor:
    return torch.full((n, n), -1e4, dtype=like.dtype, device=like.device).triu(1)


def around(model_spec: ModelSpec) -> tuple[Tensor, Tensor]:
    """The ids of the structural tokens before and after an image."""
    ids = vocabulary()
    before, after = ([ids[token] for token in tokens] for tokens in (model_spec.before, model_spec.after))
    return torch.tensor(before, dtype=torch.long), torch.tensor(after, dtype=torch.long)


def answer_logits(
    model_spec: ModelSpec, model: Any, packed: Packed, visual: Tensor, group: SceneGroup
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits `[m, words]` where an answer's token comes next, that token `[m]`, its row and question `[m, 2]`, weight.

    `visual` `[b, p, v, width]` of images or videos of `group`; the language model must attend with `block_attention`.
    """
    b, n, t = packed.ids.shape
    embed = model.get_input_embeddings()
    before, after = (embed(ids.to(visual.device)) for ids in around(model_spec))
    images = torch.cat(
        [x if x.ndim == 4 else x.expand(b, visual.shape[1], -1, -1) for x in (before, visual.to(before.dtype), after)],
        2,
    )
    start = embed(packed.lead).expand(b, -1, -1)
    head = torch.cat([start, images.flatten(1, 2)], 1)
    hidden = model_spec.language_model(model)(
        inputs_embeds=torch.cat([head, embed(packed.ids).view(b, n * t, -1)], 1),
        attention_mask=torch.zeros(1, 1, head.shape[1], t, device=visual.device),
        position_ids=model_spec.positions(packed.steps.cpu(), (n, t), visual.shape[1], group.size, group.looks).to(
            visual.device
        ),
        use_cache=False,
    ).last_hidden_state
    hidden = hidden[:, head.shape[1] :].reshape(b, n, t, -1)[:, :, :-1]
    wanted = packed.labels[:, :, 1:] >= 0
    question = torch.stack([wanted.nonzero()[:, 0], packed.question[:, :, 1:][wanted]], 1)
    return (
        model.lm_head(hidden[wanted]).float(),
        packed.labels[:, :, 1:][wanted],
        question,
        packed.weight[:, :, 1:][wanted],
    )


def language_loss(model_spec: ModelSpec, model: Any, packed: Packed, visual: Tensor, group: SceneGroup) -> Tensor:
    """Mean cross-entropy of the answers' tokens, weighted by skill."""
    logits, truth, _, weight = answer_logits(model_spec, model, packed.to(visual.device), visual, group)
    return (F.cross_entropy(logits, truth, reduction="none") * weight).sum() / weight.sum()


@torch.no_grad()
def language_accuracy(
    model_spec: ModelSpec, model: Any, dataset: Dataset, seen: list[Tensor], spread: bool, batch: int = 16
) -> dict[str, float]:
    """Share of questions whose every answer token is the likeliest one (what greedy decoding would find), by skill.

    `seen` holds the visual tokens `[n, v, width]` of each group of `dataset`.
    """
    rng = np.random.default_rng(0)
    around_it = sum(len(ids) for ids in around(model_spec))
    right: dict[str, list[bool]] = {}
    for group, visual in zip(dataset, seen, strict=True):
        for start in range(0, len(group), batch):
            rows = np.arange(start, min(len(group), start + batch))
            packed = pack(
                group, rows[:, None], rng, visual.shape[1] + around_it, group.words.shape[1], spread=spread
            ).to(visual.device)
            logits, truth, question, _ = answer_logits(model_spec, model, packed, visual[rows, None], group)
            wrong = set(map(tuple, question[logits.argmax(-1) != truth].tolist()))
            for i, q in map(tuple, question.unique(dim=0).tolist()):
                right.setdefault(LABELS[group.skill[rows[i], q]], []).append((i, q) not in wrong)
    out = {s: round(float(np.mean(right[s])), 4) for s in LABELS if s in right}
    return {"all": round(float(np.mean([r for rs in right.values() for r in rs])), 4), **out}
