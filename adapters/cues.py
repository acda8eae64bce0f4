"""Cues: signals of the vision encoder, recomputed for one layer from what that layer was given.

No attention map of the whole tower is asked for, and none is held whole: a CLS row is one matrix product, the
attention received is summed over blocks of queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

NAMES = (
    "attention",
    "cls_attention",
    "received_attention",
    "attention_logits",
    "early_attention",
    "keys",
    "encoder_features",
)
"""What a stage can ask for.

`attention` is `cls_attention`, or `received_attention` where there is no CLS; `early_attention` is the same at the
layer halfway to the one that gives the features. `attention_logits` is the CLS row before its softmax, mean over heads,
or the logarithm of the attention received; it is defined up to a constant.
"""

AT_FEATURES = frozenset(NAMES) - {"early_attention", "encoder_features"}
"""Cues that are computed from what the attention of the feature layer was given."""

# The hooks hang on modules that several threads may run at once. A context variable keeps the recordings of one
# thread or task from those of another; outside `recording` it is None and the hooks cost one look-up.
_recorded: ContextVar[dict[str, tuple[tuple[Any, ...], dict[str, Any]]] | None] = ContextVar(
    "vtc_recorded_inputs", default=None
)


class InputRecorder:
    """Forward pre-hook that records a module's arguments inside `recording`, and otherwise does nothing."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Record the arguments under the recorder's name, for the `recording` of this thread or task only."""
        recorded = _recorded.get()
        if recorded is not None:
            recorded[self.name] = (args, kwargs)


def input_recorders(
    cues: Sequence[str], attention: Callable[[bool], nn.Module], source: tuple[nn.Module, str], *, has_cls: bool
) -> list[tuple[nn.Module, InputRecorder]]:
    """Return the modules whose inputs `cues` need, with recorders named `attention`, `early` and as `source` says.

    Args:
        cues: names from `NAMES`.
        attention: answers the attention of the feature layer, or with True that of the early one.
        source: what takes the encoder's features, and the name of its recorder.
        has_cls: whether the encoder has a class token.

    Raises:
        ValueError: an unknown cue, or that of a class token where there is none.
    """
    if "cls_attention" in cues and not has_cls:
        raise ValueError("cue 'cls_attention': this vision tower has no CLS token; use 'received_attention'")
    unknown = sorted(set(cues) - set(NAMES))
    if unknown:
        raise ValueError(f"cue {unknown[0]!r} is unknown; a vision tower gives {', '.join(NAMES)}")
    found = []
    if AT_FEATURES & set(cues):
        found.append((attention(False), InputRecorder("attention")))
    if "early_attention" in cues:
        found.append((attention(True), InputRecorder("early")))
    if "encoder_features" in cues:
        found.append((source[0], InputRecorder(source[1])))
    return found


@contextmanager
def recording() -> Iterator[dict[str, tuple[tuple[Any, ...], dict[str, Any]]]]:
    """Context manager: yields the module arguments that the recorders capture inside the block, by name."""
    recorded: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
    token = _recorded.set(recorded)
    try:
        yield recorded
    finally:
        _recorded.reset(token)


def first_argument(call: tuple[tuple[Any, ...], dict[str, Any]]) -> Tensor:
    """Return the first tensor argument of a recorded call, detached."""
    args, kwargs = call
    tensor: Tensor = args[0] if args else next(iter(kwargs.values()))
    return tensor.detach()


def cls_row(queries: Tensor, keys: Tensor, scale: float) -> Tensor:
    """Attention of the first token to all others, mean over heads, softmax over all keys with its own among them.

    Args:
        queries, keys: `[B, heads, 1 + N, dim]`.

    Returns:
        `[B, N]` fp32.
    """
    with torch.autocast(queries.device.type, enabled=False):
        scores = queries[:, :, :1].float() @ keys.float().transpose(-1, -2) * scale
        return scores.softmax(dim=-1).mean(dim=1)[:, 0, 1:]


def cls_logits(queries: Tensor, keys: Tensor, scale: float) -> Tensor:
    """Return the logits of `cls_row`, mean over heads: `[B, N]` fp32."""
    with torch.autocast(queries.device.type, enabled=False):
        return (queries[:, :, :1].float() @ keys.float().transpose(-1, -2) * scale).mean(dim=1)[:, 0, 1:]


def column_means(queries: Tensor, keys: Tensor, scale: float, *, block: int = 1024) -> Tensor:
    """Attention that each token receives: mean over queries and heads, in blocks of queries.

    Args:
        queries, keys: `[B, heads, N, dim]`.

    Returns:
        `[B, N]` fp32; each row sums to 1.
    """
    total = queries.shape[2]
    keys = keys.float().transpose(-1, -2)
    received = torch.zeros(queries.shape[0], keys.shape[-1], device=queries.device)
    with torch.autocast(queries.device.type, enabled=False):
        for start in range(0, total, block):
            scores = queries[:, :, start : start + block].float() @ keys * scale
            received += scores.softmax(dim=-1).mean(dim=1).sum(dim=1)
    return received / total


def attention_values(name: str, queries: Tensor, keys: Tensor, scale: float, *, has_cls: bool) -> Tensor:
    """The attention cue `name` for all tokens of a layer, the class token among them (with 0 in its own row's place).

    Args:
        name: one of the attention cues.
        queries, keys: `[B, heads, N, dim]`, the class token first if there is one.
        scale: of the products.
        has_cls: whether there is one.

    Returns:
        `[B, N]` fp32.
    """
    if name == "received_attention" or not has_cls:
        received = column_means(queries, keys, scale)
        # The smallest normal number stands for what rounds to nothing: a logarithm must stay finite.
        return received.clamp_min(torch.finfo(torch.float32).tiny).log() if name == "attention_logits" else received
    row = (cls_logits if name == "attention_logits" else cls_row)(queries, keys, scale)
    return torch.cat([row.new_zeros(len(row), 1), row], dim=1)


def split_heads(rows: Tensor, heads: int) -> Tensor:
    """`[B, N, heads * dim]` as `[B, heads, N, dim]`."""
    return rearrange(rows, "b n (heads dim) -> b heads n dim", heads=heads)
