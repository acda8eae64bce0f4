"""A speed test as JSON, as Markdown, and in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from .speed import SpeedRow
from .variants import FULL

SCHEMA = 1
LEAST = 3
"""Timed calls of each kind, below which nothing is said of what pays."""
CLEAR = 1.05
"""How many times sooner the first token must come for a recipe to pay, beside quartiles that do not overlap."""
ADDED = ("select", "merge", "splice")
"""Phases that a stock model does not have."""
CUTS = {
    "encode": "a cheaper encoder would cut it: `tome` or `resize`; of videos fewer frames (`video`, `dcode`)",
    "select": "a cheaper selector would cut it: `random`, `stride` or `cls`",
    "merge": "pruning without merging would cut it",
}
VARIANT = ("recipe", "keep", "visual tokens")
GAIN = (*VARIANT, "first token, ms (quartiles)", "times sooner", "over the ideal", "requests a second", "KV MiB")
"""Columns of what is gained."""
SPENT = (
    *(*VARIANT, "encode, ms", "select, ms", "merge, splice, ms", "overhead", "ms a token", "prefill FLOPs"),
    "peak MiB",
)
"""Columns of what time goes into. `overhead` is what selecting, merging and splicing add to the rest."""
HEAD = (*GAIN, *SPENT[len(VARIANT) :])


def document(rows: Sequence[SpeedRow], about: Mapping[str, Any], answer: int) -> dict[str, Any]:
    """All that was measured, as JSON can hold it.

    Args:
        about: the model, the machine, the settings, the versions and the date.
        answer: tokens of the answers that throughput is of.
    """
    made = [{**asdict(row), "requests_a_second": row.requests_a_second(answer)} for row in rows]
    return {"schema": SCHEMA, **about, "answer": answer, "rows": made}


def by_batch(made: Mapping[str, Any]) -> dict[int, list[dict[str, Any]]]:
    """The rows of each batch."""
    found: dict[int, list[dict[str, Any]]] = {}
    for row in made["rows"]:
        found.setdefault(row["batch"], []).append(row)
    return found


def speed_markdown(made: Mapping[str, Any]) -> str:
    """The tables of a document, and what they say in plain words."""
    on = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in made["machine"].items())
    versions = ", ".join(f"{name} {number}" for name, number in made["versions"].items())
    lines = [
        "# Speed",
        "",
        f"{made['model']} ({made['shape']}), {made['dtype']} on {made['device']}; {on}; {versions}; {made['date']}.",
        f"Medians of {_calls(made)} calls of each kind, taken in turns after one that warms up. The first token "
        "comes after encoder, selection and prefill; the ideal is the same encoder, and the same language model given "
        "as many embeddings, and times over it are of calls in one round. A recipe that encodes less (`resize`, or "
        "fewer frames) can be below it. `encode` holds the signals that a recipe asks of the encoder. A wrapped call "
        "has fixed costs of some milliseconds besides, which weigh on tiny models. Throughput and milliseconds a token "
        f"are of answers of {made['answer']} tokens, half as many as the calls.",
    ]
    for batch, rows in by_batch(made).items():
        head, filled = table(rows)
        lines += ["", f"## batch of {batch}", "", _line(head), _line(["---"] * len(head)), *map(_line, filled)]
    return "\n".join([*lines, "", *(f"- {line}" for line in verdict(made))]) + "\n"


def _calls(made: Mapping[str, Any]) -> str:
    """How many were made: of a large batch fewer, where patience ends before the rounds do."""
    counts = sorted({row["first"]["count"] for row in made["rows"] if row["first"]})
    return " to ".join(map(str, dict.fromkeys([*counts[:1], *counts[-1:]]))) or "no"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def table(
    rows: Sequence[Mapping[str, Any]], head: Sequence[str] = HEAD, spread: bool = True
) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a table of one batch, without columns in which nothing stands (no peak is known on a CPU).

    Args:
        rows: of the batch, the stock model's first.
        head, spread: see `cells`.
    """
    filled = [cells(row, rows[0], head, spread) for row in rows]
    used = [i for i in range(len(head)) if any(row[i] for row in filled)]
    return [head[i] for i in used], [[row[i] for i in used] for row in filled]


def cells(
    row: Mapping[str, Any], full: Mapping[str, Any], head: Sequence[str] = HEAD, spread: bool = True
) -> list[str]:
    """A row of the table beside that of the stock model.

    Args:
        head: the columns.
        spread: whether quartiles stand behind the ratio to the ideal too.
    """
    name = "all tokens" if row["name"] == FULL else row["name"]
    if row["refused"]:
        return [name, f"{row['keep']:.3g}", "", f"refused: {row['refused']}", *[""] * (len(head) - 4)]
    first, phases = row["first"], row["phases"]
    encode, select = (f"{phases[part] * 1e3:.1f}" if phases else "" for part in ("encode", "select"))
    glue = f"{(phases['merge'] + phases['splice']) * 1e3:.1f}" if phases else ""
    added = sum(phases[part] for part in ADDED) if phases else 0.0
    values = (
        name,
        f"{row['keep']:.3g}",
        str(row["tokens"]),
        f"{first['median'] * 1e3:.0f} ({first['low'] * 1e3:.0f}-{first['high'] * 1e3:.0f})",
        f"{full['first']['median'] / first['median']:.2f}",
        _over(row["over_ideal"], spread),
        f"{row['requests_a_second']:.2f}",
        f"{row['kv_bytes'] / 2**20:.1f}",
        encode,
        select,
        glue,
        f"{added / (first['median'] - added):.1%}" if phases else "",
        f"{row['step']['median'] * 1e3:.1f}",
        f"{row['flops'] / full['flops']:.0%}",
        "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**20:.0f}",
    )
    by_name = dict(zip(HEAD, values, strict=True))
    return [by_name[column] for column in head]


def _over(times: Mapping[str, float] | None, spread: bool) -> str:
    if times is None:
        return ""
    return f"{times['median']:.3f}" + (f" ({times['low']:.3f}-{times['high']:.3f})" if spread else "")


def verdict(made: Mapping[str, Any]) -> Iterator[str]:
    """Return from which keep on each recipe pays at each batch, and what costs most then; a sentence each."""
    for batch, rows in by_batch(made).items():
        full = rows[0]
        if full["first"]["count"] < LEAST:
            yield (
                f"Batch of {batch}: too few timed calls ({full['first']['count']}) to say what pays; take --rounds "
                f"{LEAST} or more, and more --patience."
            )
            continue
        recipes: dict[str, list[dict[str, Any]]] = {}
        for row in rows[1:]:
            if not row["refused"]:
                recipes.setdefault(row["name"], []).append(row)
        costs: dict[str, dict[str, float]] = {}
        for name, own in recipes.items():
            yield f"Batch of {batch}, `{name}`: {_pays(own, full)}"
            for fewest in _paying(own, full)[-1:]:
                part, share = _dearest(fewest)
                costs.setdefault(part, {})[name] = share
        for part, shares in costs.items():
            yield f"Batch of {batch}: {_costs(part, shares)}"
    if made.get("left_out"):
        yield f"Not measured: {made['left_out']}."


def _paying(rows: Sequence[dict[str, Any]], full: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those of a recipe with which the first token clearly comes sooner, from most tokens to fewest."""
    clear = [row for row in rows if sooner(row, full) >= CLEAR and row["first"]["high"] < full["first"]["low"]]
    return sorted(clear, key=lambda row: -int(row["tokens"]))


def _pays(rows: Sequence[dict[str, Any]], full: Mapping[str, Any]) -> str:
    paying = _paying(rows, full)
    if not paying:
        best = max(rows, key=lambda row: sooner(row, full))
        at = f"(keep {best['keep']:.3g}, {best['tokens']} of {full['tokens']} tokens)"
        if sooner(best, full) > 1 / CLEAR:
            return (
                f"makes no clear difference here; at best the first token comes {sooner(best, full):.2f} x sooner {at}."
            )
        return f"does not pay here; at best the first token takes {1 / sooner(best, full):.2f} times as long {at}."
    most, fewest = paying[0], paying[-1]
    text = (
        f"pays from keep {most['keep']:.3g} on ({most['tokens']} of {full['tokens']} tokens, "
        f"{sooner(most, full):.2f} times sooner)"
    )
    if fewest is not most:
        text += f"; at keep {fewest['keep']:.3g}, {sooner(fewest, full):.2f} times sooner"
    return f"{text}."


def sooner(row: Mapping[str, Any], full: Mapping[str, Any]) -> float:
    """How many times sooner the first token comes than from the stock model."""
    return float(full["first"]["median"] / row["first"]["median"])


def _dearest(row: Mapping[str, Any]) -> tuple[str, float]:
    """What a request spends most of its time on, and its share."""
    total = row["first"]["median"]
    parts = {**row["phases"], "prefill": total - sum(row["phases"].values())}
    name = max(parts, key=lambda part: parts[part])
    return name, parts[name] / total


def _costs(part: str, shares: Mapping[str, float]) -> str:
    """What costs most once a recipe pays, and what would cut that."""
    low, high = (f"{round(100 * share)}" for share in (min(shares.values()), max(shares.values())))
    names = ", ".join(f"`{name}`" for name in shares)
    text = f"with {names} most of the time is then {part}, {low if low == high else f'{low} to {high}'} %"
    return f"{text}; {CUTS[part]}." if part in CUTS else f"{text}."
