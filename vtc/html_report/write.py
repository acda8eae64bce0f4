"""Finds out what a file or a folder holds, and writes the page about it."""

from __future__ import annotations

from pathlib import Path

from vtc.bench.journal import CONFIG, ROWS
from vtc.bench.quality import NAME
from vtc.core.files import is_same_file, replace_text

from . import answers, benchmark
from .benchmark_run import read_run
from .overlay_renderer import OverlayRenderer
from .page_model import laid_out
from .question_join import Questions, read_questions

EXAMPLES = 24


def write_report(
    source: str | Path,
    out: str | Path,
    *,
    examples: int = EXAMPLES,
    questions: str | Path | None = None,
    model: str | None = None,
    overlays: bool = True,
    title: str | None = None,
) -> Path:
    """Write one HTML file about a run; it needs no network, and holds its images.

    Args:
        source: answers that `vtc batch` wrote (JSONL), or the folder of `vtc bench quality` (or a file in it).
        out: the page to write.
        examples: at most so many examples (of a benchmark: for each model), the worst first; 0: none.
        questions: of answers: the file of questions, where the answers do not tell question and medium themselves.
        model: of answers: the model to ask again, for overlays of what was kept. A benchmark's models are known.
        overlays: whether to draw what was kept; without, no model is loaded.
        title: of the page.

    Raises:
        OSError: no such file, or `out` cannot be written.
        ValueError: neither answers nor a benchmark, an empty file, a broken line, or a negative count.
    """
    source, out = Path(source), Path(out)
    if examples < 0:
        raise ValueError(f"--examples {examples}; expected a whole number from 0")
    _check_out(source, out)
    renderer = OverlayRenderer() if overlays else None
    folder = bench_folder(source)
    if folder is not None:
        if questions is not None or model is not None:
            given = "--questions" if questions is not None else "--model"
            raise ValueError(
                f"{given} is about answers, and {source} is a benchmark, which knows its own; leave it away"
            )
        run = read_run(folder)
        name = title or f"Benchmark {folder.resolve().name}"
        page = laid_out(name, benchmark.intro(run), benchmark.sections(run, examples, renderer))
    else:
        found = answers.summarize(source, examples)
        ids = {str(row["id"]) for _, row in found.worst}
        known = Questions(source.parent) if questions is None else read_questions(Path(questions), ids)
        parts = answers.sections(source, found, known, model, renderer)
        page = laid_out(title or f"Answers {source.name}", answers.intro(source, found), parts)
    replace_text(out, page)
    return out


def bench_folder(source: Path) -> Path | None:
    """The folder of the benchmark that `source` is, or lies in; None where it is a file of answers.

    Raises:
        OSError: no such file.
        ValueError: an empty file, or a folder or a JSON file of something else.
    """
    kinds = "the answers of `vtc batch` (JSONL or Parquet), or the folder of `vtc bench quality`"
    if not source.exists():
        raise FileNotFoundError(f"{source}: no such file; pass {kinds}")
    if source.is_dir():
        if not any((source / name).is_file() for name in (f"{NAME}.json", ROWS)):
            raise ValueError(f"{source} is a folder without {NAME}.json or {ROWS}; pass {kinds}")
        return source
    if source.stat().st_size == 0:
        raise ValueError(f"{source} is empty (0 bytes); pass {kinds}")
    if source.name in (f"{NAME}.json", ROWS, CONFIG) and (source.parent / CONFIG).is_file():
        return source.parent
    if source.suffix.lower() in (".json", ".md", ".html", ".csv"):
        raise ValueError(f"{source} holds neither answers nor a benchmark; pass {kinds}")
    return None


def _check_out(source: Path, out: Path) -> None:
    """Refuse what could not be written, or would be lost, before anything is read."""
    if out.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--out {out}: a page ends in .html")
    if out.is_dir() or not out.parent.is_dir():
        raise FileNotFoundError(f"--out {out}: {out.parent} is no folder, or {out} is one; make the folder first")
    if is_same_file(source, out):
        raise ValueError(f"--out {out} is what is read; pass another file")
