"""The tab on which a video is asked about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from vtc.embedded.samples import video_samples
from vtc.inference.defaults import VIDEOS
from vtc.reduction.report import Report
from vtc.video.qa.strategies import STRATEGIES
from vtc.viz.regions import ClickableImage, TimeRegion, second_at

from .components import HIDDEN
from .inference import PreparedQuestion
from .medium_tab import Counted, MediumTab, Shown
from .renderings import drawn_timeline
from .strategy import DIRECT

SCROLL_TO_VIDEO = "() => document.querySelector('#player').scrollIntoView({block: 'nearest', behavior: 'smooth'})"


class VideoTab(MediumTab):
    """It draws the timeline; where a click on it leads is kept with each session."""

    kind, defaults, drawings = "video", VIDEOS, 2

    def count_video(self, video: str | None, recipe: str, keep: float) -> Counted:
        """Count the visual tokens that a recipe keeps of a video, by arithmetic: no model runs.

        Args:
            video: the video.
            recipe: a name from `vtc recipes`.
            keep: the share of the visual tokens to keep, above 0 and at most 1.

        Returns:
            The tokens kept, and all.
        """
        return self.counted(video, recipe, keep)

    def ask_video(
        self,
        video: str | None,
        question: str,
        recipe: str,
        keep: float,
        max_new_tokens: int,
        strategy: str,
        request: gr.Request,
    ) -> Iterator[Shown]:
        """Answer a question about a video twice, from all visual tokens and from those that a recipe keeps.

        Args:
            video: the video.
            question: what is asked.
            recipe: a name from `vtc recipes`.
            keep: the share of the visual tokens to keep, above 0 and at most 1.
            max_new_tokens: longest answer in tokens, 1 to 512.
            strategy: direct, or in several calls of the model: decompose or segment-thought.

        Returns:
            Both answers as they grow, what was saved in a line, the numbers of both, notes (of a strategy, its calls),
            and at the end the timeline of shots, budgets and keyframes.
        """
        yield from self.answered(request, video, question, recipe, keep, max_new_tokens, strategy)

    count, ask = count_video, ask_video

    def first(self) -> tuple[str, str]:
        """The packaged video."""
        sample = video_samples()[0]
        return str(sample.path), sample.question

    def upload(self, example: str) -> Any:
        """A video with its player."""
        return gr.Video(example, label="Video", sources=["upload"], elem_id="player", height=280)

    def options(self) -> list[Any]:
        """The strategy."""
        return [gr.Dropdown(list(STRATEGIES), value=DIRECT, label="Strategy", info="One call of the model, or several")]

    def beside(self, medium: Any) -> list[Any]:
        """The timeline, whose clicks move the player, which is scrolled into view where it is not."""
        gr.Markdown(
            "After Ask: shots, keyframes and the budget of each clip. A click moves the player; on a phone it scrolls "
            "sideways."
        )
        timeline = gr.Image(
            label="Timeline",
            show_label=False,
            type="pil",
            interactive=False,
            format="png",
            buttons=["download", "fullscreen"],
            elem_id="timeline",
        )
        regions = gr.State()
        timeline.select(self.jump, regions, medium, **HIDDEN).then(None, js=SCROLL_TO_VIDEO, **HIDDEN)
        return [timeline, regions]

    def examples(self) -> list[tuple[str, str]]:
        """The packaged video's questions."""
        return [(str(sample.path), sample.question) for sample in video_samples()]

    def drawn(self, asked: PreparedQuestion, report: Report, path: Path) -> ClickableImage:
        """The timeline, and where a click on it leads."""
        return drawn_timeline(asked, report, path.name)

    def jump(self, regions: Sequence[TimeRegion] | None, event: gr.SelectData) -> Any:
        """Move the player to where a click on the timeline leads."""
        second = second_at(regions or (), *event.index)
        return gr.skip() if second is None else gr.Video(playback_position=second)
