"""The model splits the question, answers the parts, and then the whole."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vtc.core.validation import check_int

from .base import (
    Asker,
    Strategy,
    with_context,
)

SPLIT = (
    "Split this question about a video into at most {most} simpler questions whose answers help to answer it. "
    "Write one question a line and nothing else.\nQuestion: {question}"
)
BULLET = re.compile(r"^\s*(?:[-*•]|\(?\d{1,2}[.):\]])\s*")
"""What lists begin their lines with."""


@dataclass(frozen=True)
class Decompose(Strategy):
    """Question decomposition of D-CoDe (EMNLP 2025), with the model itself in place of a paid one.

    The model splits the question without seeing the video, answers each part about it, and is then asked the question
    with those answers beside the video. A model that writes no list, or only the question again, is asked directly;
    `Call`s show what it wrote. The paper measures gains where an answer takes several observations (EgoSchema) and a
    loss on short open questions (MSVD), and so many calls cost as many answers.

    Attributes:
        most: sub-questions at most; what the model writes beyond is not asked.
        longest: tokens of the list.
    """

    most: int = 4
    longest: int = 128

    name = "decompose"
    paper = "D-CoDe (EMNLP 2025)"
    calls = "2 + sub-questions (4 at most)"

    def __post_init__(self) -> None:
        check_int("most", self.most, 1)
        check_int("longest", self.longest, 1)

    def run(self, asker: Asker, question: str) -> str:
        """See `Strategy.run`."""
        prompt = SPLIT.format(most=self.most, question=question)
        written = asker.ask_blind(prompt, "split the question", max_new_tokens=self.longest)
        parts = sub_questions(written, question)[: self.most]
        known = [f"{part} {asker.ask(part, 'sub-question')}" for part in parts]
        return asker.ask(with_context(question, known), "answer")


def sub_questions(written: str, question: str) -> list[str]:
    """The questions that a model wrote, one a line, without bullets, repeats and `question` itself."""
    lines = [BULLET.sub("", line).strip() for line in written.splitlines()]
    seen = {_bare(question)}
    found = []
    for line in lines:
        if line.endswith("?") and _bare(line) not in seen:
            seen.add(_bare(line))
            found.append(line)
    return found


def _bare(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
