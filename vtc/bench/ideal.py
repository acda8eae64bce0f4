"""The ideal that a recipe can come near: the same language model given as many embeddings, and nothing selected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from vtc.adapters import find


def ideal(model: Any, given: Mapping[str, Any], lengths: Sequence[int]) -> Callable[[], None]:
    """A call that costs what a request must: media encoded, `lengths` tokens read in each row, one token predicted.

    The embeddings are random; what is read does not change how long it takes.
    """
    adapter = find(model)
    media, decoder, head = adapter.media(dict(given)), adapter.decoder, model.get_output_embeddings()
    weight = model.get_input_embeddings().weight
    longest, count = max(lengths), len(lengths)
    embeddings = torch.randn(count, longest, weight.shape[1], dtype=weight.dtype, device=weight.device)
    mask = torch.ones(count, longest, dtype=torch.long, device=weight.device)
    for row, length in enumerate(lengths):
        mask[row, : longest - length] = 0

    @torch.no_grad()
    def call() -> None:
        adapter.encode(media, ())
        hidden = decoder(inputs_embeds=embeddings, attention_mask=mask, use_cache=True).last_hidden_state
        head(hidden[:, -1:])

    return call
