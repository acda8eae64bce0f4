"""What each family's encoder gives for one picture, by hand: from the stock model, one picture at a time, eager.

Nothing here calls an adapter. Slow and plain on purpose: the oracle and the tests of the cues are built on it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vtc import Layout

Picture = dict[str, Tensor]


class Softmaxes(TorchFunctionMode):
    """Collects every softmax that is taken inside, and what it was taken of: in eager attention, the attention maps."""

    def __init__(self) -> None:
        super().__init__()
        self.maps: list[Tensor] = []
        self.logits: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") == "softmax":
            self.maps.append(out.detach())
            self.logits.append(args[0].detach())
        return out


class Outputs:
    """Forward hooks that keep what each of some modules last returned."""

    def __init__(self, **modules: nn.Module) -> None:
        self._modules, self._hooks, self.found = modules, [], {}

    def __enter__(self) -> dict[str, Any]:
        for name, module in self._modules.items():
            note = lambda m, args, out, name=name: self.found.__setitem__(name, out)  # noqa: E731
            self._hooks.append(module.register_forward_hook(note))
        return self.found

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()


class Eye(ABC):
    """One family's encoder by hand."""

    @abstractmethod
    def pictures(self, inputs: dict[str, Tensor]) -> list[Picture]:
        """The pictures of a batch, each with its own part of the inputs."""

    @abstractmethod
    def layout(self, model: nn.Module, picture: Picture) -> Layout:
        """Where the picture's tokens stand."""

    @abstractmethod
    def features(self, model: nn.Module, picture: Picture) -> Tensor:
        """`[N, D]` what the stock model hands to its language model."""

    @abstractmethod
    def cues(self, model: nn.Module, picture: Picture) -> dict[str, Tensor]:
        """All cues of the picture, `[N, ...]`, from an eager model."""

    def smaller(self, model: nn.Module, picture: Picture, height: int, width: int) -> Picture:
        """The picture scaled to `height x width` tokens a frame."""
        raise NotImplementedError

    def frames(self, model: nn.Module, picture: Picture) -> Tensor:
        """`[T, F, 3, H, W]` what the encoder is shown of a film, unit by unit."""
        raise NotImplementedError

    def some(self, picture: Picture, units: list[int]) -> Picture:
        """The film with those of its units alone."""
        raise NotImplementedError

    def modality(self, picture: Picture) -> str:
        """`image` or `video`."""
        return "image"

    def content(self, picture: Picture) -> Picture:
        """What tells the picture from others: the adapter's inputs of it."""
        return picture

    def planes(self, model: nn.Module, picture: Picture) -> list[Tensor]:
        """Each `[N, D]`, what the stock model adds in its first layers."""
        return []

    def positions(self, model: nn.Module, ids: list[int], pictures: list[Picture]) -> Tensor:
        """`[axes, L]` positions of one unpadded, unreduced prompt, as the stock model counts them."""
        return torch.arange(len(ids))[None]
