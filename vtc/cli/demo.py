"""The embedded model over the packaged images: answers with all tokens and with a quarter of them, and overlays."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from vtc.embedded.exam import exact
from vtc.embedded.samples import samples
from vtc.inference.asking import compare, prompt, report_on
from vtc.inference.defaults import PACKAGED_IMAGE_MODEL
from vtc.inference.loading import load
from vtc.media.images import load_image
from vtc.recipes.composition import Recipe
from vtc.recipes.named import recipe
from vtc.viz.overlays import draw

from .savings import Saving, savings, why

PHOTOGRAPHS = Path(__file__).parents[1] / "embedded" / "photographs"
SAVED = ("on this machine", "all tokens", "fewer", "times")
HEADER = ("image", "question", "true answer", "all tokens", "keep {keep}", "tokens")


@dataclass(frozen=True)
class DemoRow:
    """One question of the demo.

    Attributes:
        image: the file's name.
        question, truth: what was asked, and the true answer.
        full, short: the answers with all tokens, and with those kept.
        before, after: visual tokens.
    """

    image: str
    question: str
    truth: str
    full: str
    short: str
    before: int
    after: int

    def cells(self, marks: tuple[str, str] = ("✓", "✗")) -> tuple[str, ...]:
        """The row as text, each answer with the mark for right or for wrong."""
        answers = (f"{text} {marks[0] if exact(text, self.truth) else marks[1]}" for text in (self.full, self.short))
        return (self.image, self.question, self.truth, *answers, f"{self.before} → {self.after}")


@dataclass(frozen=True)
class DemoOutcome:
    """All of the demo.

    Attributes:
        model: which answered.
        recipe: what was kept.
        rows: one per question.
        overlays: the images written.
        seconds: what it took, loading the model included.
        savings: what the recipe saves on this machine.
    """

    model: str
    recipe: Recipe
    rows: tuple[DemoRow, ...]
    overlays: tuple[Path, ...]
    seconds: float
    savings: tuple[Saving, ...] = ()

    @property
    def header(self) -> tuple[str, ...]:
        """The table's heads."""
        return tuple(head.format(keep=self.recipe.keep) for head in HEADER)

    @property
    def summary(self) -> str:
        """How many answers were right."""
        total = len(self.rows)
        full = sum(exact(row.full, row.truth) for row in self.rows)
        short = sum(exact(row.short, row.truth) for row in self.rows)
        return (
            f"{self.model}, {self.recipe.name}: {full} of {total} right with all tokens, {short} of {total} with "
            f"keep {self.recipe.keep}"
        )


def run(
    out: Path,
    chosen: Recipe | None = None,
    model: str = PACKAGED_IMAGE_MODEL,
    on_answers: Callable[[DemoOutcome], None] = lambda outcome: None,
) -> DemoOutcome:
    """Ask the packaged questions and draw the overlays and `table.md` into the directory `out`.

    The photographs are only drawn: the embedded model knows drawn scenes, so its answers about them say nothing.

    Args:
        on_answers: called with the outcome before anything is timed, which takes longest.

    Raises:
        OSError: `out` cannot be written, or the installation lacks the weights or the images.
    """
    begun = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    chosen = chosen or recipe()
    network, processor = load(model, device="cpu")
    rows: list[DemoRow] = []
    overlays: dict[Path, Image.Image] = {}
    for sample in samples():
        image = load_image(sample.path)
        pair = compare(network, processor, image, sample.question, chosen, max_new_tokens=16, rounds=0)
        counts = (pair.report.before, pair.report.after)
        rows.append(DemoRow(sample.file, sample.question, sample.answer, pair.full, pair.short, *counts))
        overlays[out / sample.file] = draw(image, processor.image_processor, pair.report, chosen)
    for photograph in sorted(PHOTOGRAPHS.glob("*.jpg")):
        image = load_image(photograph)
        report = report_on(network, prompt(network, processor, image, "what is in the picture?"), chosen)
        overlays[out / f"{photograph.stem}.png"] = draw(image, processor.image_processor, report, chosen)
    for path, drawn in overlays.items():
        drawn.save(path)
    outcome = DemoOutcome(model, chosen, tuple(rows), tuple(overlays), time.perf_counter() - begun)
    on_answers(outcome)
    saved = savings(network, processor, chosen)
    outcome = replace(outcome, seconds=time.perf_counter() - begun, savings=saved)
    (out / "table.md").write_text(markdown(outcome), encoding="utf-8")
    return outcome


def markdown(outcome: DemoOutcome) -> str:
    """The table and the summary in Markdown."""
    lines = [_line(outcome.header), _line(["---"] * len(outcome.header))]
    lines += [_line(row.cells()) for row in outcome.rows]
    lines += ["", outcome.summary, "", _line(SAVED), _line(["---"] * len(SAVED))]
    lines += [_line(one.cells()) for one in outcome.savings]
    return "\n".join([*lines, *filter(None, ["", why(outcome.savings)])]) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
