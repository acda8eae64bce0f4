"""A smaller image: the baseline that beats many papers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vtc.core.validation import check_share
from vtc.stages.base import Resizer


@dataclass(frozen=True)
class Resize(Resizer):
    """Encodes the image at fewer pixels, so that the encoder itself gives fewer tokens.

    Downsampling beats many selection methods at equal token counts (VTC-Bench, arXiv 2510.07143), and it is the
    only stage that also makes the encoder cheaper. The count is that of the best grid within the budget, which is
    known beforehand but can lie a little under the budget.

    Attributes:
        share: the share (0, 1] of tokens to leave, or None to take the recipe's `keep`.
    """

    share: float | None = None

    name = "resize"
    paper = "VTC-Bench, 2510.07143"
    signal = "none (fewer pixels)"

    def __post_init__(self) -> None:
        object.__setattr__(self, "share", check_share("share", self.share, of="tokens"))

    @property
    def own_share(self) -> float | None:
        """See `InputStage.own_share`."""
        return self.share

    def target(self, grid: tuple[int, int, int], count: int) -> tuple[int, int]:
        """The grid of at most `count` cells a frame that is nearest in size and in shape.

        The two are weighed by unused share of the budget plus the log ratio of the shapes.
        """
        frames, height, width = grid
        room = max(1, count // frames)
        options = [(h, min(width, room // h)) for h in range(1, min(height, room) + 1)]
        options += [(min(height, room // w), w) for w in range(1, min(width, room) + 1)]

        def cost(option: tuple[int, int]) -> tuple[float, int]:
            h, w = option
            return 1 - h * w / room + abs(math.log(h * width / (w * height))), -h * w

        return min(options, key=cost)
