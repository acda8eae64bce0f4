"""The model describes the video part by part, and then answers."""

from __future__ import annotations

from dataclasses import dataclass

from vtc.core.validation import check_int

from .base import (
    Asker,
    Strategy,
    with_context,
)

DESCRIBE = "Describe what happens in this part of a video that matters to the question: {question}"


@dataclass(frozen=True)
class SegmentThought(Strategy):
    """The training-free chain of thought over segments of TDC-Video (there LVCoT).

    The video is cut into parts of equally many frames, the model describes each, and is then asked the question with
    the descriptions beside the whole video. A video of fewer units than parts has one part each. There the describing
    prompt knows no question; here it does, so that a short description can leave out what does not matter.

    Attributes:
        parts: at most.
        longest: tokens of a description; 128 there.
    """

    parts: int = 3
    longest: int = 128

    name = "segment-thought"
    paper = "TDC-Video (LVCoT)"
    calls = "1 + parts (3)"

    def __post_init__(self) -> None:
        check_int("parts", self.parts, 1)
        check_int("longest", self.longest, 1)

    def run(self, asker: Asker, question: str) -> str:
        """See `Strategy.run`."""
        count = min(self.parts, asker.units)
        edges = [i * asker.units // count for i in range(count + 1)]
        known = []
        for i in range(count):
            purpose = f"describe part {i + 1} of {count}"
            stretch = (edges[i], edges[i + 1])
            description = asker.ask(
                DESCRIBE.format(question=question), purpose, units=stretch, max_new_tokens=self.longest
            )
            known.append(f"part {i + 1} of {count}: {description}")
        return asker.ask(with_context(question, known), "answer")
