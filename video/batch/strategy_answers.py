"""Questions of a batch that are asked by a strategy: in several calls of the model, each of which is reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vtc.media.video_frames import VideoFrames
from vtc.recipes.composition import Recipe
from vtc.video.qa.strategies import Asker, Call, Strategy

from .loading import LoadedMedium
from .prompts import Prompts


@dataclass(frozen=True)
class PreparedVideo:
    """Video fields that an `Asker` needs; see `vtc.video.Prepared`."""

    inputs: Mapping[str, Any]
    recipe: Recipe | None
    frames: VideoFrames
    temporal_patch_size: int
    tokens: int


@dataclass(frozen=True)
class StrategyAnswer:
    """An answer by a strategy.

    Attributes:
        text: what the model says in the end.
        calls: all of them, in order.
    """

    text: str
    calls: tuple[Call, ...]

    @property
    def tokens(self) -> tuple[int, int]:
        """Visual tokens that the stock model would have read over all calls, and those that this one did."""
        return sum(call.tokens_full for call in self.calls), sum(call.tokens_kept for call in self.calls)

    @property
    def seconds(self) -> dict[str, float]:
        """By stage; what reading a prompt and writing an answer took is one number, `decode`."""
        spent: dict[str, float] = dict.fromkeys(("encode", "reduce"), 0.0)
        for call in self.calls:
            for name, value in (call.report.seconds if call.report is not None else {}).items():
                spent["encode" if name == "encode" else "reduce"] += value
        whole = sum(call.seconds for call in self.calls)
        return spent | {"decode": max(0.0, whole - sum(spent.values()))}

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The calls as a row of answers holds them."""
        names = ("purpose", "text", "start", "end", "tokens_full", "tokens_kept", "seconds")
        return [{name: _rounded(getattr(call, name)) for name in names} for call in self.calls]


def ask_by_strategy(
    strategy: Strategy,
    model: Any,
    processor: Any,
    opened: LoadedMedium,
    prompts: Prompts,
    i: int,
    question: str,
    longest: int,
) -> StrategyAnswer:
    """The answer to prompt `i`, which asks `question` about a video.

    Args:
        strategy: how it is asked.
        model: not wrapped, and left so.
        processor: which begins conversations as the question wants it, see `prompts.with_system_prompt`.
        opened: the video.
        prompts: of the video's questions.
        i, question: which one, and its words.
        longest: tokens of an answer.

    Raises:
        ValueError: the medium is an image, or the model cannot give what the recipe needs.
    """
    if not isinstance(opened.medium, VideoFrames):
        raise ValueError(
            f"strategy={strategy.name!r} asks about parts of a video, and this is an image; leave the strategy out"
        )
    shown = PreparedVideo(
        prompts.whole(i), opened.recipe, opened.medium, opened.temporal_patch_size, opened.tokens or 0
    )
    asker = Asker(model, processor, shown, question, longest)
    return StrategyAnswer(strategy.run(asker, question), tuple(asker.calls))


def _rounded(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value
