"""Encoder outputs of a medium, cached for the next question about it."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch

METHODS = ("get_image_features", "get_video_features")


class Encodings:
    """The last few answers of a model's encoder, by the content of the pixels that it was given.

    An answer is only handed out to a caller of the same name (see `at_work`), so that the times of two recipes stay
    comparable: each of them encodes once and reuses only what is its own.
    """

    def __init__(self, size: int = 16) -> None:
        """Cache at most `size` outputs.

        Raises:
            ValueError: `size` is below 1.
        """
        if size < 1:
            raise ValueError(f"size={size}; expected at least 1 answer to hold")
        self._size = size
        self._held: OrderedDict[str, Any] = OrderedDict()
        self.encoded = 0
        self.reused = 0

    @contextmanager
    def at_work(self, model: Any, name: str) -> Iterator[None]:
        """Within the block, what `model` encoded before under `name` is not encoded again.

        The methods are replaced on this model alone, and are the stock ones again behind the block.
        """
        home = model.base_model
        stock = {method: getattr(home, method) for method in METHODS if hasattr(home, method)}
        own = {method: home.__dict__[method] for method in stock if method in home.__dict__}
        for method, encode in stock.items():
            setattr(home, method, self._remembering(encode, f"{name}/{method}"))
        try:
            yield
        finally:
            for method in stock:
                delattr(home, method)
            for method, encode in own.items():
                setattr(home, method, encode)

    def _remembering(self, encode: Callable[..., Any], name: str) -> Callable[..., Any]:
        @wraps(encode)  # adapters read its signature
        def remembered(*args: Any, **kwargs: Any) -> Any:
            """Return the cached output, or encode now."""
            key = digest(name, args, kwargs)
            if key in self._held:
                self.reused += 1
                self._held.move_to_end(key)
                return self._held[key]
            self.encoded += 1
            self._held[key] = encode(*args, **kwargs)
            while len(self._held) > self._size:
                self._held.popitem(last=False)
            return self._held[key]

        return remembered


def digest(name: str, args: Any, kwargs: Any) -> str:
    """A hash of the arguments of a call: of tensors their shape, dtype, device and content."""
    made = hashlib.blake2b(name.encode(), digest_size=16)
    _feed(made, [*args, *(part for key in sorted(kwargs) for part in (key, kwargs[key]))])
    return made.hexdigest()


def _feed(made: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        made.update(f"{tuple(value.shape)}{value.dtype}{value.device}".encode())
        made.update(value.detach().contiguous().cpu().view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    elif isinstance(value, (list, tuple)):
        made.update(f"[{len(value)}".encode())
        for part in value:
            _feed(made, part)
    else:
        made.update(repr(value).encode())
