"""The page about a file of answers that `vtc batch` wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from vtc.bench.plot import Curve, Point
from vtc.core.statistics import Interval, share_right
from vtc.media.video_frames import VideoFrames
from vtc.recipes.composition import Recipe
from vtc.recipes.named import recipe as named
from vtc.video import Sampling

from .answers_summary import (
    AnswersSummary,
    RecipeTally,
    error_text,
    medium_of,
    recipe_label,
    summarize,
)
from .overlay_renderer import OverlayRenderer, opened, plain
from .page_model import (
    Example,
    Figure,
    Section,
    Table,
)
from .question_join import Questions


def intro(path: Path, found: AnswersSummary) -> list[str]:
    """Return recipe, model and versions of the run."""
    lines = [f"Answers in {path.name}."]
    if found.versions:
        lines.append("Versions: " + "; ".join(_with_rows(found.versions, found)) + ".")
    if found.seeds:
        lines.append("Seeds: " + "; ".join(_with_rows(found.seeds, found)) + ".")
    if found.fingerprints:
        some = sorted(found.fingerprints)
        more = f" and {len(some) - 3} more" if len(some) > 3 else ""
        lines.append(f"Fingerprints of jobs: {', '.join(some[:3])}{more}.")
    if found.torn:
        lines.append("The last line is torn, as a killed run leaves it, and is left out.")
    if found.twice:
        lines.append(f"{found.twice} rows answer an id that had its answer before; each row counts.")
    return lines


def _with_rows(counts: Mapping[str, int], found: AnswersSummary) -> list[str]:
    total = sum(tally.rows for tally in found.tallies.values())
    listed = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return [name if count == total else f"{name} ({count} of {total} rows)" for name, count in listed]


def sections(
    path: Path, found: AnswersSummary, questions: Questions, model: str | None, renderer: OverlayRenderer | None
) -> list[Section]:
    """Return the sections: the summary of all rows, then the examples.

    Args:
        questions: what the rows answer, where they do not tell it themselves.
        model: whose overlays are drawn; None: media alone are shown.
        renderer: None: no overlays.
    """
    scores = {label: _score(tally) for label, tally in found.tallies.items()}
    tables = [_recipes(found, scores), *_seconds(found), *_kinds(found)]
    examples = _by_medium(found, questions, model, renderer)
    shown = (
        f"{len(found.worst)} of {sum(t.rows for t in found.tallies.values())} rows: errors first, then wrong answers."
    )
    return [
        Section("What it came to", (), _cards(found, scores), _curve(found, scores), tables),
        *([Section("Examples", [shown], examples=examples)] if examples else []),
    ]


def _score(tally: RecipeTally) -> Interval:
    """The share of right answers among those known; media are resampled, since questions about one go together."""
    return share_right([medium for medium, _ in tally.outcome], [right for _, right in tally.outcome])


def _cards(found: AnswersSummary, scores: Mapping[str, Interval]) -> list[tuple[str, str]]:
    tallies = found.tallies.values()
    rows, errors = sum(t.rows for t in tallies), sum(t.errors for t in tallies)
    full, kept = sum(t.full for t in tallies), sum(t.kept for t in tallies)
    cards = [("rows", f"{rows}"), ("errors", f"{errors} ({errors / rows:.0%})")]
    if len(scores) == 1 and (one := next(iter(scores.values()))).mean is not None:
        cards.append(("right, of those known", f"{100 * one.mean:.1f} %"))
    if full:
        cards += [("visual tokens saved", f"{1 - kept / full:.0%}"), ("tokens kept", f"{kept:.0f} of {full:.0f}")]
    spent = sum(sum(t.seconds.values()) for t in tallies)
    if spent:
        cards.append(("seconds in all stages", f"{spent:.3g}"))
    return cards


def _recipes(found: AnswersSummary, scores: Mapping[str, Interval]) -> Table:
    head = ("recipe", "rows", "errors", "right (%)", "95 % interval", "tokens a row", "kept", "saved")
    rows = []
    for label, tally in found.tallies.items():
        score = scores[label]
        right = "-" if score.mean is None else f"{100 * score.mean:.1f} of {tally.known}"
        bounds = "-" if score.low is None or score.high is None else f"{100 * score.low:.1f} to {100 * score.high:.1f}"
        means = ["-"] * 3
        if tally.counted:
            saved = "-" if not tally.full else f"{1 - tally.kept / tally.full:.0%}"
            means = [f"{tally.full / tally.counted:.1f}", f"{tally.kept / tally.counted:.1f}", saved]
        rows.append([label, tally.rows, tally.errors, right, bounds, *means])
    caption = "By recipe. Right: of the answers whose truth is known; intervals resample media (bootstrap)"
    return caption, head, rows


def _seconds(found: AnswersSummary) -> list[Table]:
    stages = list(dict.fromkeys(stage for tally in found.tallies.values() for stage in tally.seconds))
    if not stages:
        return []
    rows: list[list[object]] = []
    for label, tally in found.tallies.items():
        means = [f"{tally.seconds.get(stage, 0.0) / max(1, tally.rows - tally.errors):.4f}" for stage in stages]
        rows.append([label, *means, f"{sum(tally.seconds.values()):.3g}"])
    return [("Seconds by stage, an answered row on average; and of all of them", ("recipe", *stages, "all rows"), rows)]


def _kinds(found: AnswersSummary) -> list[Table]:
    rows = sorted(found.kinds.items(), key=lambda entry: (-entry[1], entry[0]))
    return [("Errors by kind", ("kind", "rows"), rows)] if rows else []


def _curve(found: AnswersSummary, scores: Mapping[str, Interval]) -> Curve:
    points = []
    for label, tally in found.tallies.items():
        score = scores[label]
        if score.mean is None or not tally.full or len(found.tallies) == 1:  # of one point nothing can be compared
            continue
        bounds = (None, None) if score.low is None or score.high is None else (100 * score.low, 100 * score.high)
        points.append((label, Point(100 * tally.kept / tally.full, 100 * score.mean, *bounds)))
    return Curve.of(points, "visual tokens kept (% of all, log scale)", "right (%)")


# Examples


def _by_medium(
    found: AnswersSummary, questions: Questions, model: str | None, renderer: OverlayRenderer | None
) -> list[Example]:
    """The examples; a medium that one recipe was asked about several times is shown once, at the first of them."""
    groups: dict[object, list[Example]] = {}
    for number, row in found.worst:
        medium = medium_of(row) or medium_of(questions.of(row["id"]))
        same = number if medium is None else (medium, recipe_label(row), *_times(row.get("frames")))
        groups.setdefault(same, []).append(_example(number, row, questions, model, renderer))
    return [replace(first, more=tuple(more)) for first, *more in groups.values()]


def _example(
    number: int, row: Mapping[str, Any], questions: Questions, model: str | None, renderer: OverlayRenderer | None
) -> Example:
    asked = questions.of(row["id"])
    truth = asked.get("answer", row.get("truth"))
    fields = {**asked, **row}
    facts = [(name, str(fields[name])) for name in ("question", "choices") if fields.get(name)]
    facts += [("true answer", str(truth))] if truth is not None else []
    if row.get("error") is not None:
        facts.append(("error", error_text(row["error"])))
    else:
        facts.append(("answer", str(row.get("answer"))))
    facts += [(name, str(row[name])) for name in ("choice", "note") if row.get(name) is not None]
    facts.append(("recipe", recipe_label(row)))
    if row.get("tokens_full") is not None and row.get("tokens_kept") is not None:
        facts.append(("tokens", f"{row['tokens_kept']} of {row['tokens_full']}"))
    facts.append(("line", str(number)))
    figure = partial(_figure, row, asked, questions, model, renderer)
    return Example(_state(row), str(row["id"]), facts, figure)


def _state(row: Mapping[str, Any]) -> str:
    """As `page_model.WORDS` has it."""
    if row.get("error") is not None:
        return "error"
    return {True: "right", False: "wrong"}.get(row["correct"], "answered") if "correct" in row else "answered"


def _figure(
    row: Mapping[str, Any],
    asked: Mapping[str, Any],
    questions: Questions,
    model: str | None,
    renderer: OverlayRenderer | None,
) -> Figure:
    path, why = _medium(row, asked, questions)
    if path is None:
        return Figure(None, why)
    times = _times(row.get("frames"))
    try:
        shown = opened(path, times)
    except (OSError, ValueError) as error:
        return Figure(None, f"{path.name} cannot be shown: {error}")
    question = row.get("question", asked.get("question"))
    if renderer is None or model is None or not isinstance(question, str) or not question.strip():
        what = f"{path.name}, frames that the run saw" if isinstance(shown, VideoFrames) and times else path.name
        return Figure(plain(shown), f"{what}; pass --model to draw what is kept" if renderer is not None else what)
    try:
        recipe = _recipe(row)
        if isinstance(shown, VideoFrames) and recipe is not None:
            drawn = renderer.of_file(model, path, question, recipe, times, _stretch(asked))
        else:
            drawn = renderer.render(model, shown, question, recipe)
    except (OSError, ValueError, TypeError) as error:
        return Figure(plain(shown), f"kept parts are not drawn: {error}")
    kept = row.get("tokens_kept")
    if drawn.kept is None or kept is None or drawn.kept == kept:
        return drawn
    return Figure(drawn.image, f"{drawn.words}; the run kept {kept}, by another keep, sampling or model", drawn.kept)


def _medium(row: Mapping[str, Any], asked: Mapping[str, Any], questions: Questions) -> tuple[Path | None, str]:
    """The medium of a row, as it is named from here or from where the questions lie; or why there is none."""
    names = list(dict.fromkeys(name for name in (medium_of(row), medium_of(asked)) if name is not None))
    if not names:
        return None, "the row names no medium; pass --questions with the file that the rows answer"
    if "://" in names[0]:
        return None, f"{names[0]} is no file of this machine; nothing is fetched for a page"
    places = [base / Path(name) for name in names for base in (Path(), questions.folder)]
    found = next((place for place in places if place.is_file()), None)
    return found, f"{names[0]} is not there any more; put it back, or pass --questions from where it lies"


def _recipe(row: Mapping[str, Any]) -> Recipe | None:
    recipe = row.get("recipe")
    if recipe is None:
        return None
    if isinstance(recipe, dict) and "stages" in recipe:
        return named(Recipe.from_dict(recipe), keep=row.get("keep"))
    name, keep = (recipe.get("name"), recipe.get("keep")) if isinstance(recipe, dict) else (recipe, None)
    return named(str(name), keep=row.get("keep", keep))


def _stretch(asked: Mapping[str, Any]) -> Sampling:
    """The default sampling over the stretch that is asked about."""
    start, end = (None if asked.get(name) in (None, "") else float(asked[name]) for name in ("start", "end"))
    return Sampling(start=start, end=end)


def _times(frames: object) -> list[float]:
    """The times of the frames that the model saw, where the row tells them."""
    listed: Sequence[object] = frames if isinstance(frames, list) else ()
    return sorted(float(t) for t in listed if isinstance(t, int | float) and not isinstance(t, bool))


__all__ = ["intro", "sections", "summarize"]
