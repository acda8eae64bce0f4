"""Requests of `vtc bench serve`: fresh and shared images and videos, of any number of visual tokens."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from vtc.core.budget import Budget, Keep

SHARED = 4
"""Images, and as many videos, that requests have in common."""
QUESTION = "what is left of the red circle?"


@dataclass(frozen=True)
class TokenGrid:
    """The size of an image or of a video's frame.

    Attributes:
        height, width: in tokens.
        pixels: along a side of a token.
    """

    height: int
    width: int
    pixels: int

    @property
    def tokens(self) -> int:
        """Visual tokens."""
        return self.height * self.width

    def holding(self, count: int) -> TokenGrid:
        """The grid of about `count` tokens that is nearest to square."""
        found = [
            (h, w) for h in range(1, count + 2) for w in (count // h, -(-count // h)) if 1 <= w <= 4 * h and h <= 4 * w
        ]
        height, width = min(found, key=lambda size: (abs(size[0] * size[1] - count), abs(size[0] - size[1])))
        return TokenGrid(height, width, self.pixels)


@dataclass(frozen=True)
class LoadRequests:
    """How requests look.

    Attributes:
        image: the size of images.
        frame: that of the frames of videos.
        frames: of a video, of which the encoder takes two at once.
        videos: share of requests that are about a video.
        shared: share of requests whose medium others have too.
        answer: tokens of an answer.
    """

    image: TokenGrid
    frame: TokenGrid
    frames: int
    videos: float
    shared: float
    answer: int

    def body(self, model: str, number: int, keep: Keep | None, ideal: bool, recipe: str) -> dict[str, Any]:
        """A request for /v1/chat/completions.

        Args:
            model: what the server calls it.
            number: of the request: equal ones are about equal media.
            keep: the share that goes on; None: a stock request.
            ideal: whether the medium is made so small that it has as many tokens as `keep` leaves.
            recipe: by which they are chosen, where not `ideal`.
        """
        rng = np.random.default_rng(number)
        is_video, is_shared = rng.random() < self.videos, rng.random() < self.shared
        seed = int(rng.integers(SHARED)) if is_shared else number + SHARED
        grid = self.frame if is_video else self.image
        if ideal and keep is not None:
            units = self.frames // 2 if is_video else 1
            grid = grid.holding(max(1, round(Budget(keep).count(grid.tokens * units) / units)))
        url = _video(seed, self.frames, grid) if is_video else _image(seed, grid)
        kind = "video_url" if is_video else "image_url"
        content = [{"type": kind, kind: {"url": url}}, {"type": "text", "text": f"{QUESTION} {number % 7}"}]
        own = {} if keep is None or ideal else {"mm_processor_kwargs": {"vtc": {"recipe": recipe, "keep": keep}}}
        return {
            "model": model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self.answer,
            "min_tokens": self.answer,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **own,
        }


def _pixels(seed: int, grid: TokenGrid) -> Image.Image:
    """Coarse noise, which no two seeds have alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(
        (grid.width * grid.pixels, grid.height * grid.pixels), Image.Resampling.BICUBIC
    )


@lru_cache(maxsize=512)
def _image(seed: int, grid: TokenGrid) -> str:
    return f"data:image/jpeg;base64,{_jpeg(_pixels(seed, grid))}"


@lru_cache(maxsize=128)
def _video(seed: int, frames: int, grid: TokenGrid) -> str:
    return f"data:video/jpeg;base64,{','.join(_jpeg(_pixels(1000 * seed + i, grid)) for i in range(frames))}"


def _jpeg(image: Image.Image) -> str:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return base64.b64encode(out.getvalue()).decode()


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of them lie; NaN where there are none."""
    return float(np.quantile(values, share)) if len(values) else float("nan")
