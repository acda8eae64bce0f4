"""Vision towers that fold tokens, by hand: one image at a time, token by token, in plain loops.

Nothing here calls `vtc.encoder`, `vtc.encoder.merge_steps`, the stages' own folding or an adapter. The rules are
written from the
papers: ToMe (2210.09461, section 3) and DiffRate (2305.17997); only how many are left in each layer is the stage's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, layer_norm

from vtc import Budget
from vtc.stages import DiffRate, EncoderStage


@dataclass
class Token:
    """One token: its vector, the places in the first layer that it holds, and the one that it began as."""

    value: Tensor
    places: list[int] = field(default_factory=list)
    began: int = 0


def norm_of(module: nn.Module, rows: Tensor) -> Tensor:
    if isinstance(module, nn.LayerNorm):
        return layer_norm(rows, module.normalized_shape, module.weight, module.bias, module.eps)
    return module(rows)


@dataclass
class Half:
    """A block in the words of its family."""

    layer: Any

    def qkv(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Each `[N, heads, dim]`, the norms of queries and keys applied."""
        layer = self.layer
        if hasattr(layer, "self_attn"):
            own = layer.self_attn
            found = [getattr(own, f"{n}_proj")(norm_of(layer.layer_norm1, rows)) for n in "qkv"]
            return tuple(x.unflatten(-1, (own.num_heads, -1)) for x in found)
        if hasattr(layer, "attention"):
            own, rows = layer.attention, norm_of(layer.layernorm_before, rows)
            found = own.q_norm(own.q_proj(rows)), own.k_norm(own.k_proj(rows)), own.v_proj(rows)
            return tuple(x.unflatten(-1, (own.num_heads, -1)) for x in found)
        own = layer.attn
        q, k, v = own.qkv(norm_of(layer.norm1, rows)).unflatten(-1, (3, own.num_heads, -1)).unbind(1)
        return own.q_norm(q), own.k_norm(k), v

    def out(self, mixed: Tensor) -> Tensor:
        """What the attention adds to the residual, from `[N, heads * dim]`."""
        layer = self.layer
        if hasattr(layer, "self_attn"):
            return layer.self_attn.out_proj(mixed)
        if hasattr(layer, "attention"):
            return layer.lambda_1 * layer.attention.projection_layer(mixed)
        return layer.ls1(layer.attn.proj(mixed))

    def mlp(self, row: Tensor) -> Tensor:
        """What the MLP adds to one token."""
        layer = self.layer
        if hasattr(layer, "self_attn"):
            return layer.mlp(norm_of(layer.layer_norm2, row))
        if hasattr(layer, "attention"):
            return layer.lambda_2 * layer.mlp(norm_of(layer.layernorm_after, row))
        return layer.ls2(layer.mlp(norm_of(layer.norm2, row)))


def run_layer(
    layer: nn.Module, tokens: list[Token], stage: EncoderStage, index: int, left: int, prefix: int, patches: int
) -> list[Token]:
    """One block on one image of so many patches: attention with sizes, folding, MLP."""
    half, rows = Half(layer), torch.stack([token.value for token in tokens])
    q, k, v = half.qkv(rows)
    sizes = torch.tensor([float(len(token.places)) for token in tokens])
    logits = torch.einsum("qhd,khd->hqk", q, k) * q.shape[-1] ** -0.5
    weights = logits.exp() * sizes if stage.proportional else logits.exp()
    weights = weights / weights.sum(dim=-1, keepdim=True)
    rows = rows + half.out(torch.einsum("hqk,khd->qhd", weights, v).flatten(1))
    tokens = [Token(row, token.places, token.began) for row, token in zip(rows, tokens, strict=True)]
    if isinstance(stage, DiffRate):
        tokens = diffrate(tokens, weights.mean(dim=0)[0], stage, index, left, prefix, patches)
    else:
        tokens = tome(tokens, k.mean(dim=1), len(tokens) - prefix - left, prefix)
    return [Token(token.value + half.mlp(token.value), token.places, token.began) for token in tokens]


def tome(tokens: list[Token], keys: Tensor, merges: int, prefix: int) -> list[Token]:
    """Bipartite soft matching: tokens dealt in turn, one edge for each of A, the strongest `merges` kept."""
    edges = []
    for a in range(prefix, len(tokens)):
        if a % 2:
            continue
        others = [b for b in range(prefix, len(tokens)) if b % 2]
        alike = {b: float(cosine_similarity(keys[a].double(), keys[b].double(), dim=0)) for b in others}
        if alike:
            best = max(alike, key=lambda b: (alike[b], -b))
            edges.append((alike[best], a, best))
    edges.sort(key=lambda edge: (-edge[0], edge[1]))
    into = {a: b for _, a, b in edges[:merges]}
    return folded(tokens, into, set(), by_size=True)


def diffrate(
    tokens: list[Token], attention: Tensor, stage: DiffRate, index: int, left: int, prefix: int, patches: int
) -> list[Token]:
    """Ranks by class attention, drops the last, folds the next into the most similar of those before them."""
    kept = Budget(stage.pruned[index] / stage.tokens).count(patches)
    rank = sorted(range(prefix, len(tokens)), key=lambda i: (-float(attention[i]), i))
    stay, go, dropped = rank[:left], rank[left:kept], rank[kept:]
    into = {}
    for i in go:
        alike = {j: float(cosine_similarity(tokens[i].value, tokens[j].value, dim=0)) for j in stay}
        into[i] = max(alike, key=lambda j: (alike[j], -j))
    return folded(tokens, into, set(dropped), by_size=False)


def folded(tokens: list[Token], into: dict[int, int], dropped: set[int], *, by_size: bool) -> list[Token]:
    """The tokens that stay, in order, each with those folded into it."""
    out = []
    for i, token in enumerate(tokens):
        if i in into or i in dropped:
            continue
        group = [token, *(tokens[a] for a in sorted(into) if into[a] == i)]
        weights = [len(member.places) if by_size else 1 for member in group]
        value = sum(w * member.value for w, member in zip(weights, group, strict=True)) / sum(weights)
        out.append(Token(value, [p for member in group for p in member.places], token.began))
    return out


def layers_of(tower: Any) -> list[nn.Module]:
    if hasattr(tower, "timm_model"):
        return list(tower.timm_model.blocks)
    ends = ("encoder.layers", "encoder.layer")
    return list(next(module for name, module in tower.named_modules() if name.endswith(ends)))


def run_tower(
    layers: list[nn.Module], hidden: Tensor, stage: EncoderStage, keep: Any, prefix: int
) -> tuple[Tensor, list[Token]]:
    """`layers` on one image's `[N, D]`: `[K, D]`, or `[N, D]` again where the stage spreads, and the survivors."""
    candidates = len(hidden) - prefix
    lefts = stage.schedule(candidates, Budget(keep).count(candidates), len(layers))
    tokens = [Token(row, [i], i) for i, row in enumerate(hidden)]
    for index, (layer, left) in enumerate(zip(layers, lefts, strict=True)):
        tokens = run_layer(layer, tokens, stage, index, left, prefix, candidates)
    if not stage.spread:
        return torch.stack([token.value for token in tokens]), tokens
    owner = {place: token for token in tokens for place in token.places}
    return torch.stack([owner[i].value for i in range(len(hidden))]), tokens


@contextmanager
def by_hand(model: Any, stage: EncoderStage, keep: Any) -> Iterator[list[list[Token]]]:
    """Has the stock model's tower answer what the loops above find; yields the survivors, image by image."""
    tower, kind = model.model.vision_tower, model.config.vision_config.model_type
    layers, given = layers_of(tower), getattr(model.config, "vision_feature_layer", -1)
    depth = len(layers) + 1 + given if given < 0 else given
    prefix = 0 if kind == "siglip_vision_model" else 1
    found, start = [], []
    before = layers[0].register_forward_pre_hook(lambda module, args: start.append(args[0]))

    def answer(module, args, output):
        runs = [run_tower(layers[:depth], hidden, stage, keep, prefix) for hidden in start.pop()]
        found.extend(tokens for _, tokens in runs)
        rows = torch.stack([rows for rows, _ in runs])
        if output.hidden_states is not None:
            states = list(output.hidden_states)
            states[depth] = rows
            output.hidden_states = tuple(states)
        last = getattr(tower, "layernorm", None) or getattr(tower, "post_layernorm", None)
        if depth == len(layers) and last is not None and kind != "clip_vision_model":
            output.last_hidden_state = last(rows)
        return output

    after = tower.register_forward_hook(answer)
    try:
        yield found
    finally:
        before.remove()
        after.remove()
