"""Reads README: the commands it prints, and the Python blocks that it says run.

usage: readme.py command NAME | readme.py blocks DIRECTORY

A fenced block belongs to the HTML comment above it: `<!-- command: NAME -->`, `<!-- runs -->`, or, for a block that
needs what CI has not, `<!-- does not run: WHY -->`. A Python block without a comment is an error.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"(?:<!-- (?P<mark>[^\n]*?) -->\n+)?^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.M | re.S)


def blocks() -> list[tuple[str, str, str]]:
    """(mark, language, body) of each fenced block."""
    text = README.read_text(encoding="utf-8")
    return [(m["mark"] or "", m["language"], m["body"]) for m in BLOCK.finditer(text)]


def command(name: str) -> str:
    """The shell command that README marks with `name`."""
    found = [body for mark, _, body in blocks() if mark == f"command: {name}"]
    if len(found) != 1:
        raise SystemExit(f"README marks {len(found)} blocks as 'command: {name}'; expected one")
    return found[0].strip()


def write_blocks(folder: Path) -> None:
    """Writes each Python block that runs to `folder`."""
    python = [(mark, body) for mark, language, body in blocks() if language == "python"]
    for mark, body in python:
        if mark != "runs" and not mark.startswith("does not run: "):
            raise SystemExit(f"README has a Python block without '<!-- runs -->' above it:\n{body}")
    running = [body for mark, body in python if mark == "runs"]
    if not running:
        raise SystemExit("README marks no Python block as running")
    for number, body in enumerate(running, start=1):
        (folder / f"block{number}.py").write_text(body, encoding="utf-8")


if __name__ == "__main__":
    verb, argument = sys.argv[1:]
    if verb == "command":
        print(command(argument))
    else:
        write_blocks(Path(argument))
