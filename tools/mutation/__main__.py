"""`python -m tools.mutation vtc/core/budget.py --sample 20`: which edits of a file its tests do not notice."""

from __future__ import annotations

import argparse
import difflib
import json
import random
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from .edits import Edit, edits
from .forked_tests import ForkedTests, copied
from .selection import selected

ROOT = Path(__file__).parents[2]
OUTCOMES = {0: "survived", None: "timeout"}


def diff(name: str, edit: Edit, source: bytes) -> str:
    """The changed lines, as a unified diff without context."""
    before, after = (text.decode().splitlines() for text in (source, edit.apply(source)))
    return "\n".join(list(difflib.unified_diff(before, after, name, name, n=0, lineterm=""))[2:])


def mutate(root: Path, name: str, paths: list[str], log: Path, sample: int | None, seed: int) -> list[dict[str, Any]]:
    """Try the edits of one file and append a row for each to `log`; those that have a row there are not run again.

    Args:
        root: the tree, which is copied, not changed.
        name: the file, below `root`.
        paths: its tests, below `root`.
        sample: at most so many edits, drawn by `seed`; all where None.

    Returns:
        The rows of all edits asked for: `file`, `line`, `diff` and `outcome` (killed, survived, timeout).

    Raises:
        ValueError: the tests fail before any edit.
    """
    source = (root / name).read_bytes()
    chosen = edits(source)
    if sample is not None and sample < len(chosen):
        chosen = sorted(random.Random(seed).sample(chosen, sample), key=chosen.index)
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    known = {(row["file"], row["diff"]): row for row in rows}
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        tests = None
        for edit in chosen:
            key = name, diff(name, edit, source)
            if key in known:
                continue
            if tests is None:
                tests = ForkedTests(copied(root, Path(folder)), paths)
                print(f"{name}: {tests.warm():.1f} s a run of {' '.join(paths)}", flush=True)
            outcome = OUTCOMES.get(tests.run_with(name, edit.apply(source)), "killed")
            known[key] = {"file": name, "line": edit.line, "diff": key[1], "outcome": outcome}
            with log.open("a") as file:
                print(json.dumps(known[key]), file=file)
            if outcome != "killed":
                print(f"{outcome}: {name}:{edit.line}\n{key[1]}", flush=True)
    return [known[name, diff(name, edit, source)] for edit in chosen]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="tools.mutation", description=__doc__)
    parser.add_argument("files", nargs="+", help="source files, from the root of the repository")
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree they lie in (default: this one)")
    parser.add_argument("--tests", nargs="+", help="their tests; default: the table of selection.py")
    parser.add_argument("--sample", type=int, help="at most so many edits a file (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--log", type=Path, default=ROOT / "runs" / "mutation.jsonl", help="goes on where it ends")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the copy and the running tests go too
    options.log.parent.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    for name in options.files:
        paths = options.tests or selected(options.root, name)
        rows = mutate(options.root, name, paths, options.log, options.sample, options.seed)
        counts.update(row["outcome"] for row in rows)
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())))


if __name__ == "__main__":
    main()
