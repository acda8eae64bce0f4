"""Reference encoders: each family's features and cues from the stock model, one image at a time, eager.

Nothing here calls an adapter. Slow and plain on purpose: the oracle and the tests of the cues are built on it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vtc import Layout

Image = dict[str, Tensor]


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


class ReferenceEncoder(ABC):
    """Reference encoder of one family."""

    @abstractmethod
    def images(self, inputs: dict[str, Tensor]) -> list[Image]:
        """The images of a batch, each with its own part of the inputs."""

    @abstractmethod
    def layout(self, model: nn.Module, image: Image) -> Layout:
        """Where the image's tokens stand."""

    @abstractmethod
    def features(self, model: nn.Module, image: Image) -> Tensor:
        """`[N, D]` what the stock model hands to its language model."""

    @abstractmethod
    def cues(self, model: nn.Module, image: Image) -> dict[str, Tensor]:
        """All cues of the image, `[N, ...]`, from an eager model."""

    def smaller(self, model: nn.Module, image: Image, height: int, width: int) -> Image:
        """The image scaled to `height x width` tokens a frame."""
        raise NotImplementedError

    def frames(self, model: nn.Module, image: Image) -> Tensor:
        """`[T, F, 3, H, W]` what the encoder is shown of a video, unit by unit."""
        raise NotImplementedError

    def some(self, image: Image, units: list[int]) -> Image:
        """The video with those of its units alone."""
        raise NotImplementedError

    def modality(self, image: Image) -> str:
        """`image` or `video`."""
        return "image"

    def content(self, image: Image) -> Image:
        """What tells the image from others: the adapter's inputs of it."""
        return image

    def planes(self, model: nn.Module, image: Image) -> list[Tensor]:
        """Each `[N, D]`, what the stock model adds in its first layers."""
        return []

    def positions(self, model: nn.Module, ids: list[int], images: list[Image]) -> Tensor:
        """`[axes, L]` positions of one unpadded, unreduced prompt, as the stock model counts them."""
        return torch.arange(len(ids))[None]
