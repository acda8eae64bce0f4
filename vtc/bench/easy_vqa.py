"""easy-VQA's test split, a public benchmark: one shape on an image of 64 x 64 pixels, 9,673 questions, 13 answers.

Made by Victor Zhou and Phillip Wang (victorzhou.com/blog/easy-vqa), MIT license; it comes from the package index, as
the wheel of the package easy-vqa. `small-llava` was trained on the train split, on the test split never.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vtc.core.cache_folder import cache_folder, fault, make_folder
from vtc.core.wheels import Wheel, check_online, download, unpack

from .cases import Case

NAME = "easy-vqa"
WHEEL = Wheel(
    name="easy-vqa",
    version="1.0",
    sha256="fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f",
    size=3_215_672,
    license="MIT",
)
PUBLISHED = (
    "its authors report 99.5 % for their convolutional network that classifies into 13 answers, trained on a set of "
    "twice the size that they generated (github.com/vzhou842/easy-VQA-keras)"
)
LAYOUT = 2
"""Number of the way in which it is written; another one makes another folder."""
QUESTIONS = "test.jsonl"
NEGATIONS = {"not", "no"}


def place() -> Path:
    """The file of questions that the cache folder has or would have, see `cases.read`."""
    return cache_folder() / "data" / f"{NAME}-{WHEEL.version}-{LAYOUT}" / QUESTIONS


def is_easy_vqa(data: Path | None) -> bool:
    """Return whether `data` is that file."""
    return data is not None and data.resolve() == place().resolve()


def fetch(on_progress: Callable[[str], None] = lambda doing: None) -> Path:
    """Fetch the test split once, and return its file of questions, which stand in a fixed random order.

    A damaged one is fetched again.

    Raises:
        OSError: no network, not the pinned file, or the cache folder cannot be written; nothing is left half-written.
    """
    found = place()
    if fault(found.parent) is not None:
        check_online(f"--data {NAME}")
        make_folder(found.parent, lambda draft: _fill(draft, on_progress), on_wait=on_progress)
    return found


def _fill(draft: Path, on_progress: Callable[[str], None]) -> dict[str, Any]:
    on_progress(f"downloading {WHEEL.requirement} ({WHEEL.size / 1e6:.0f} MB) with pip")
    with tempfile.TemporaryDirectory(prefix="vtc-") as folder:
        split = unpack(download(WHEEL, Path(folder)), Path(folder), under="easy_vqa/data/test")
        shutil.copytree(split / "images", draft / "images")
        lines = json.loads((split / "questions.json").read_text(encoding="utf-8"))
    (draft / QUESTIONS).write_text("".join(_lines(lines)), encoding="utf-8")
    return {"source": f"{WHEEL.requirement} (sha256 {WHEEL.sha256[:12]})"}


def _lines(questions: Sequence[tuple[str, str, int]]) -> list[str]:
    """JSON lines, mixed so that any first so many are about many images."""
    out = []
    for i in np.random.Generator(np.random.PCG64(0)).permutation(len(questions)):
        question, answer, image = questions[i]
        row = {"id": f"{image}/{i}", "image": f"images/{image}.png", "question": question, "answer": answer}
        out.append(json.dumps({**row, "skill": _skill(question, answer)}) + "\n")
    return out


def _skill(question: str, answer: str) -> str:
    if answer in ("yes", "no"):
        return "negated" if NEGATIONS & set(question.rstrip("?").split()) else "exists"
    return "shape" if answer in ("circle", "rectangle", "triangle") else "color"


def in_words_of(model: str, cases: Sequence[Case]) -> list[Case]:
    """The cases whose question and answer hold no word that the packaged `model`, which knows few, does not know.

    Raises:
        ValueError: there is none.
    """
    from transformers import AutoTokenizer

    from vtc import embedded

    if model not in embedded.NAMES:
        return list(cases)
    words = AutoTokenizer.from_pretrained(embedded.path(model), local_files_only=True).get_vocab()
    known = [
        case for case in cases if all(word in words for word in re.findall(r"\w+|\?", f"{case.question} {case.answer}"))
    ]
    if not known:
        raise ValueError(f"--data {NAME}: {model} knows the words of none of its questions; ask small-llava")
    return known
