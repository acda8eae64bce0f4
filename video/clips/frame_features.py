"""Frame features: vectors by which frames are compared without a language model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np
from einops import rearrange
from numpy.typing import NDArray

from vtc.core.validation import check_int

if TYPE_CHECKING:
    from torch import Tensor

CELL = 8
"""Pixels of a cell's side when a layout is taken: finer texture than this is averaged away first."""
SPANS = np.array([100, 200, 200], np.float32)
"""How far apart the values of L, a and b can lie, in CIELAB units; a and b stay below it."""
EDGE = 50.0
"""The mean step between neighbouring pixels, in units of L, that counts as full texture."""

COLOR_LAYOUT, TOWER, TIMM = "color-layout", "tower", "timm:"
NAMES = "'color-layout', 'tower' (the model's own vision tower) or 'timm:NAME' (a timm model, or a folder with one)"

Features = NDArray[np.float32]


class FrameFeatures(ABC):
    """A description of frames by vectors whose cosine similarity says how alike frames are."""

    name: ClassVar[str]
    centred: ClassVar[bool] = False
    """Whether features of unlike frames lie close together, so that those of a video are compared less their mean."""

    @abstractmethod
    def describe(self, frames: NDArray[np.uint8]) -> Features:
        """The features of one frame or of several.

        Args:
            frames: uint8 RGB, `[H, W, 3]` or `[T, H, W, 3]`.

        Returns:
            float32, `[D]` or `[T, D]`. Each frame is described as if it came alone.

        Raises:
            TypeError, ValueError: other values or shapes.
        """


@dataclass(frozen=True)
class ColorLayout(FrameFeatures):
    """Colors and texture on a coarse grid, in the manner of MPEG-7's color layout, for comparison by cosine.

    Each cell of a `grid x grid` lattice has a mean color (CIELAB, so that equal steps look alike) and a mean step
    between neighbouring pixels across and down. A value v is written as `cos(f v), sin(f v)` for each frequency f: the
    product of two such pairs is `cos(f (v - w))`. So a frame has length 1 by construction, and the cosine of two frames
    is the mean over cells of a bump in the difference of their values. That is the purpose: with plain values, which
    are all positive, unlike images come out near 1, and centred ones of a plain grey have no direction. And since the
    bump flattens, a cell that changes says so whatever the other cells hold, while a thing that fills a few cells
    cannot weigh as much as a new shot does.

    The lowest frequency tells all values apart; the highest makes the bump about 12 units of L wide. Median similarity
    of unlike smooth random images is .66, that of an image and itself with a red square of 10 % of its width .996,
    with grey-level noise of deviation 6 it is .99995 (96 x 96 pixels).

    Attributes:
        grid: cells to a side. The frame's shape does not count: cells are as wide or high as it makes them.
        frequencies: half turns over the span of a color; ascending, the first is 1.
        texture: the weight of steps beside that of colors, 0 or more.
    """

    grid: int = 6
    frequencies: tuple[int, ...] = (1, 2, 4)
    texture: float = 0.25

    name = "color-layout"

    def __post_init__(self) -> None:
        check_int("grid", self.grid, 1)
        if not self.frequencies or self.frequencies[0] != 1 or sorted(set(self.frequencies)) != [*self.frequencies]:
            raise ValueError(f"frequencies={self.frequencies} must begin with 1, without which colors mix, and ascend")
        if not 0 <= self.texture < float("inf"):
            raise ValueError(f"texture={self.texture} must be 0 or more")

    @property
    def dimension(self) -> int:
        """D, the length of a vector."""
        return self.grid**2 * (6 * len(self.frequencies) + 4 * (self.texture > 0))

    def describe(self, frames: NDArray[np.uint8]) -> Features:
        """See `FrameFeatures.describe`."""
        return _each(frames, self._one)

    def _one(self, frame: NDArray[np.uint8]) -> Features:
        fine, coarse = (self.grid * CELL,) * 2, (self.grid,) * 2
        lab = cv2.cvtColor(_shrunk(frame, fine).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        turns = _shrunk(lab, coarse).reshape(-1, 3) * (np.pi / SPANS)
        parts = [_pair(f * turns) for f in self.frequencies]
        scale = np.float32(1 / np.sqrt((1 + self.texture) * self.grid**2))
        found = [np.concatenate(parts, 1) * scale / np.float32(np.sqrt(3 * len(parts)))]
        if self.texture > 0:
            steps = np.minimum(_shrunk(_steps(lab[..., 0]), coarse).reshape(-1, 2) / EDGE, 1)
            found.append(_pair(steps * (np.pi / 2)) * scale * np.float32(np.sqrt(self.texture / 2)))
        return np.concatenate(found, 1).ravel().astype(np.float32)


def check_features(name: object) -> str:
    """`name`, if it is one that `features` takes.

    Raises:
        TypeError, ValueError: it is none.
    """
    if not isinstance(name, str):
        raise TypeError(f"features={name!r} is a {type(name).__name__}; expected {NAMES}")
    if name not in (COLOR_LAYOUT, TOWER) and not (name.startswith(TIMM) and name != TIMM):
        raise ValueError(f"features={name!r}; expected {NAMES}")
    return name


def features(name: str, model: Any = None, processor: Any = None) -> FrameFeatures:
    """The frame features called `name`: `color-layout`, `tower`, or `timm:NAME`.

    Args:
        name: `color-layout`: `ColorLayout`; `tower`: `TowerFeatures` of `model`; `timm:NAME`: `Timm`, NAME being a
            model of timm whose weights are at hand, or a folder that holds one.
        model, processor: for `tower`.

    Raises:
        TypeError: `name` is no text.
        ValueError: another name, `tower` without a model, or weights that cannot be had.
    """
    check_features(name)
    if name == COLOR_LAYOUT:
        return ColorLayout()
    if name.startswith(TIMM):
        return _timm(name.removeprefix(TIMM))
    if model is None or processor is None:
        raise ValueError(
            "features='tower' describes frames by the model's own vision tower; pass the model, as vtc.video.ask does, "
            "or use 'color-layout'"
        )
    return TowerFeatures(model, processor)


@lru_cache(maxsize=2)
def _timm(name: str) -> Timm:
    # Of a name always the same: reading its weights for every video would take longer than looking at one.
    return Timm(name)


@dataclass(frozen=True, eq=False)
class Timm(FrameFeatures):
    """The pooled features of an image model of timm, without its classifier.

    Attributes:
        model: the model itself, or a directory or name as `timm.create_model` takes it. By name the weights must be at
            hand or on the hub: without any the answer would be noise, and that is refused.
        batch: frames that go through at once.
    """

    model: Any
    batch: int = 16

    name = "timm"
    centred = True

    def __post_init__(self) -> None:
        check_int("batch", self.batch, 1)
        if isinstance(self.model, str):
            object.__setattr__(self, "model", _pretrained(self.model))
        elif not callable(getattr(self.model, "forward_features", None)):
            raise TypeError(f"model={type(self.model).__name__} is no timm model (it has no forward_features)")
        if self.model.training:
            raise ValueError("model is in training mode, where features vary from call to call; call model.eval()")

    def describe(self, frames: NDArray[np.uint8]) -> Features:
        """See `FrameFeatures.describe`. Frames are scaled to the model's input size, whatever their shape."""
        return _each(frames, self._batched, whole=True)

    def _batched(self, frames: NDArray[np.uint8]) -> Features:
        import torch
        from timm.data.config import resolve_model_data_config

        config = resolve_model_data_config(self.model)
        size = tuple(config["input_size"][2:0:-1])
        mean, std = (torch.tensor(config[name])[:, None, None] for name in ("mean", "std"))
        weight = next(self.model.parameters())
        found = []
        for at in range(0, len(frames), self.batch):
            small = np.stack([_shrunk(frame, size) for frame in frames[at : at + self.batch]])
            pixels = (rearrange(torch.from_numpy(small), "t h w c -> t c h w") / 255 - mean) / std
            with torch.inference_mode():
                features = self.model.forward_features(pixels.to(weight.device, weight.dtype))
                found.append(self.model.forward_head(features, pre_logits=True).float().cpu())
        return np.asarray(torch.cat(found).numpy(), np.float32)


@dataclass(frozen=True, eq=False)
class TowerFeatures(FrameFeatures):
    """The vision-language model's own tower on small frames: the mean of a frame's visual tokens, centred.

    Visual tokens share a large common part, so that cosine similarities of unlike frames lie near 1; a `centre` taken
    from some frames and subtracted from all spreads them.

    Attributes:
        model, processor: as `vtc.inference.loading.load` returns them; any family whose adapter takes images.
        side: frames are shrunk to at most this many pixels on their longer side before the processor sees them.
            Processors of a fixed size scale them up again; those of native resolution then make few tokens.
        batch: frames that go through at once.
        centre: `[D]` subtracted from each feature, or None.
    """

    model: Any
    processor: Any
    side: int = 224
    batch: int = 8
    centre: Features | None = None

    name = "tower"
    centred = True

    def __post_init__(self) -> None:
        check_int("batch", self.batch, 1)
        if self.side < 28:
            raise ValueError(f"side={self.side} is below 28 pixels, the smallest image that processors take")

    def describe(self, frames: NDArray[np.uint8]) -> Features:
        """See `FrameFeatures.describe`.

        Raises:
            ValueError: besides, a model without an adapter, or a processor that takes no images.
        """
        return _each(frames, self._batched, whole=True)

    def _batched(self, frames: NDArray[np.uint8]) -> Features:
        import torch

        rows = [self._encoded(frames[at : at + self.batch]) for at in range(0, len(frames), self.batch)]
        found = np.asarray(torch.cat(rows).numpy(), np.float32)
        return found if self.centre is None else found - self.centre

    def _encoded(self, frames: NDArray[np.uint8]) -> Tensor:
        import torch

        from vtc.adapters import find

        token = getattr(self.processor, "image_token", None)
        if not isinstance(token, str):
            raise ValueError(f"processor={type(self.processor).__name__} has no image_token; pass a model's processor")
        adapter = find(self.model)
        images = [fitting_pixels(frame, self.side) for frame in frames]
        # A prompt of images alone: several families tell them apart by their places in it.
        inputs = self.processor(text=token * len(images), images=images, return_tensors="pt")
        media = adapter.media(inputs.to(self.model.device))
        with torch.inference_mode():
            tokens = adapter.encode(media, ())
        return torch.stack([own.features[~own.layout.structural].float().mean(0).cpu() for own in tokens])


def _each(frames: NDArray[np.uint8], describe: Any, *, whole: bool = False) -> Features:
    """`describe` on one frame or on each of several; `whole`: it takes `[T, H, W, 3]` at once."""
    frames = np.asarray(frames)
    if frames.dtype != np.uint8:
        raise TypeError(f"frames have values of {frames.dtype}; expected uint8 RGB [H, W, 3] or [T, H, W, 3]")
    if frames.ndim not in (3, 4) or frames.shape[-1] != 3 or 0 in frames.shape[-3:-1]:
        raise ValueError(f"frames are {frames.shape}; expected uint8 RGB [H, W, 3] or [T, H, W, 3]")
    if frames.ndim == 3:
        return np.asarray(describe(frames[None])[0] if whole else describe(frames), np.float32)
    if len(frames) == 0:
        raise ValueError(f"frames are {frames.shape}: there is none to describe; pass one or more")
    return np.asarray(describe(frames) if whole else np.stack([describe(frame) for frame in frames]), np.float32)


def _shrunk(image: NDArray[Any], size: Sequence[int]) -> NDArray[Any]:
    """`image` at `size` (width, height), each pixel the mean of what it covers."""
    return np.asarray(cv2.resize(image, (int(size[0]), int(size[1])), interpolation=cv2.INTER_AREA))


def _fitting(shape: Sequence[int], side: int) -> tuple[int, int]:
    """The size (width, height) of a frame whose longer side is at most `side`."""
    scale = min(side / max(shape[:2]), 1.0)
    return max(round(shape[1] * scale), 1), max(round(shape[0] * scale), 1)


def fitting_pixels(frame: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """`frame` with at most `side` pixels on its longer side; a smaller one as it is."""
    return _shrunk(frame, _fitting(frame.shape, side))


def _steps(light: NDArray[Any]) -> NDArray[Any]:
    """The size of the step to the next pixel across and down, `[H, W, 2]`; none at the border."""
    across = np.abs(np.diff(light, axis=1, append=light[:, -1:]))
    down = np.abs(np.diff(light, axis=0, append=light[-1:]))
    return np.stack([across, down], -1)


def _pair(angles: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([np.cos(angles), np.sin(angles)], 1)


def _pretrained(name: str) -> Any:
    """The timm model `name` with its trained weights.

    Raises:
        ValueError: no such model, or its weights are neither here nor to be had.
    """
    import timm

    place = f"local-dir:{name}" if Path(name).is_dir() else name
    try:
        return timm.create_model(place, pretrained=True, num_classes=0).eval()
    except Exception as error:  # timm and the hub raise many kinds; all mean that there are no weights
        raise ValueError(
            f"model={name!r}: no trained weights could be loaded ({type(error).__name__}: {error}); put them in the "
            "hub's cache, pass a model of your own, or use ColorLayout, which needs none"
        ) from error
