"""The columns of a call: its ids and masks, read and checked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vtc.adapters import Adapter

from .prompt import PromptMap

PACKING = ("cu_seq_lens_q", "cu_seq_lens_k", "seq_idx")
"""Arguments that cut rows into sequences."""
PROMPT = (
    "input_ids",
    "attention_mask",
    "position_ids",
    "inputs_embeds",
    "negative_prompt_ids",
    "negative_prompt_attention_mask",
)
"""Arguments of the prompt's length that are shortened by name, or are another prompt's."""


@dataclass(frozen=True)
class Columns:
    """The columns of a call, read and checked once.

    Attributes:
        ids: `[B, S]` as given: of all columns, or of the new ones only.
        mask: `[B, L]` of all columns, cached ones among them.
        done: how many of them the cache holds.
    """

    ids: Tensor
    mask: Tensor
    done: int

    @property
    def new_ids(self) -> Tensor:
        """`[B, L - done]` the ids of the new columns."""
        return self.ids[:, -(self.mask.shape[1] - self.done) :]

    @property
    def new_mask(self) -> Tensor:
        """`[B, L - done]` their mask."""
        return self.mask[:, self.done :]


def read_columns(adapter: Adapter, inputs: Mapping[str, Any], prefix: PromptMap | None) -> Columns:
    """The columns of `inputs` behind those of `prefix`.

    Raises:
        ValueError: ids, mask and other arguments of the prompt's length do not fit together.
    """
    ids, mask = inputs.get("input_ids"), inputs.get("attention_mask")
    if not isinstance(ids, Tensor) or ids.ndim != 2:
        shape = tuple(ids.shape) if isinstance(ids, Tensor) else ids
        raise ValueError(
            f"input_ids={shape}: media are placed by their placeholders; pass input_ids [batch, length] (not "
            "inputs_embeds) together with the media"
        )
    if not ids.numel():
        raise ValueError(f"input_ids={tuple(ids.shape)} is an empty batch; pass at least one row")
    done = prefix.full_length if prefix is not None else 0
    if mask is None:
        mask = torch.ones_like(ids)
    if not isinstance(mask, Tensor) or mask.ndim != 2 or len(mask) != len(ids):
        shape = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"attention_mask is {shape}; expected a 2-D tensor for input_ids {tuple(ids.shape)}")
    if done and mask.shape[1] <= done:
        raise ValueError(
            f"input_ids and attention_mask describe {mask.shape[1]} tokens, the cache holds {done}; pass the ids "
            "of the whole conversation, or the new ones with the attention_mask of the whole conversation"
        )
    for name in PACKING:
        if inputs.get(name) is not None:
            raise ValueError(
                f"{name} says that rows are packed from several sequences, which cannot be shortened; pass one "
                "sequence a row"
            )
    for name in adapter.token_arguments:
        value = inputs.get(name)
        if isinstance(value, Tensor | np.ndarray) and value.shape[-1] not in (ids.shape[1], mask.shape[1]):
            raise ValueError(f"{name} has {value.shape[-1]} columns, input_ids {ids.shape[1]}; expected one per token")
    _check_unknown(adapter, inputs, ids, mask)
    if mask.shape[1] not in (ids.shape[1], ids.shape[1] + done):
        raise ValueError(
            f"attention_mask has {mask.shape[1]} columns, input_ids {ids.shape[1]}"
            + (f" after {done} cached tokens" if done else "")
            + "; expected one per token"
        )
    return Columns(ids, mask, done)


def _check_unknown(adapter: Adapter, inputs: Mapping[str, Any], ids: Tensor, mask: Tensor) -> None:
    """Refuse arguments as long as the prompt that nobody declared: left at full length, they would be misread."""
    declared = {*PROMPT, *adapter.token_arguments, *adapter.media_arguments, *adapter.audio_arguments}
    for name, value in inputs.items():
        if name in declared or not isinstance(value, Tensor | np.ndarray) or not 2 <= value.ndim <= 3:
            continue
        if value.shape[-2] == len(ids) and value.shape[-1] in (ids.shape[1], mask.shape[1]):
            raise ValueError(
                f"{name} {tuple(value.shape)} has a value for each token of the prompt, and what becomes of it in "
                "a shorter prompt is not known; leave it out, or declare it in the `token_arguments` of "
                f"{type(adapter).__name__} (adapters/), with the value that stands for padding"
            )
