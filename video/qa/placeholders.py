"""How many visual tokens a prompt has, by the placeholders that stand for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def placeholders(processor: Any, inputs: Mapping[str, Any]) -> int:
    """The placeholders of images and videos in `inputs`, as the processor made them."""
    known = [getattr(processor, f"{kind}_token_id", None) for kind in ("image", "video")]
    ids = inputs["input_ids"]
    media = torch.tensor([token for token in known if token is not None], device=ids.device)
    return int(torch.isin(ids, media).sum())
