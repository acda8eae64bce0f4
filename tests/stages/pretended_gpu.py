"""A GPU where there is none: tensors that say they are on one, and a count of how often the host waits for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

GPU, HOST = torch.device("cuda"), torch.device("cpu")
WAITS = frozenset(
    (
        *("item", "tolist", "cpu", "numpy", "nonzero", "unique", "masked_select", "equal", "allclose"),
        *("__bool__", "__int__", "__float__", "__index__", "__contains__"),
    )
)


class OnGpu(Tensor):
    """A tensor in the host's memory that says it is on a GPU."""


class PretendedGpu(TorchFunctionMode):
    """Whatever is made of a tensor on the GPU is on the GPU; `waits` names what made the host wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        there = any(issubclass(kind, OnGpu) for kind in types)
        if func == Tensor.device.__get__:
            return GPU if isinstance(args[0], OnGpu) else HOST
        if func == Tensor.is_cuda.__get__:
            return isinstance(args[0], OnGpu)
        if there and (name in WAITS or self._masks(name, args)):
            self.waits.append(name)
        back = name == "cpu" or (name == "to" and HOST in args[1:] and there)
        moved = kwargs.get("device") == GPU or GPU in args[1:]
        if kwargs.get("device") == GPU:
            kwargs["device"] = HOST
        args = tuple(HOST if isinstance(one, torch.device) else one for one in args)
        with torch._C.DisableTorchFunctionSubclass():
            made = func(*args, **kwargs)
        kind = OnGpu if (there or moved) and not back else Tensor
        return tree_map(lambda one: one.as_subclass(kind) if isinstance(one, Tensor) else one, made)

    @staticmethod
    def _masks(name, args):
        """Return whether rows are taken, or written, by a mask: how many there are only the GPU knows."""
        if name not in ("__getitem__", "__setitem__"):
            return False
        index = args[1] if isinstance(args[1], tuple) else (args[1],)
        return any(isinstance(one, Tensor) and one.dtype == torch.bool for one in index)


@contextmanager
def pretended_gpu() -> Iterator[PretendedGpu]:
    """A block in which `OnGpu` tensors behave as if on a GPU."""
    with PretendedGpu() as mode:
        yield mode
