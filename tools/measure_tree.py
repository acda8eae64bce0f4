"""Measures of the source tree: sizes, docs, errors, comments, levels, and the calls that one `generate` makes.

`python -m tools.measure_tree [FOLDER ...]`: other trees are measured by the same rules, without the calls.
"""

from __future__ import annotations

import ast
import statistics
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGES = ("vtc", "adapters", "video")


def sources(folders: list[Path]) -> list[Path]:
    """Python files below `folders`, without tests."""
    return sorted(path for folder in folders for path in folder.rglob("*.py") if "tests" not in path.parts)


def lengths(tree: ast.AST) -> Iterator[int]:
    """Lines of each function."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield (node.end_lineno or node.lineno) - node.lineno + 1


def public(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """Functions and methods whose names, and whose classes' names, have no underscore at their head."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from (n for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_"))
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node


def comments(path: Path) -> int:
    """Lines that hold a comment."""
    with tokenize.open(path) as file:
        return sum(token.type == tokenize.COMMENT for token in tokenize.generate_tokens(file.readline))


def shares(found: list[bool]) -> str:
    """Return how many of `found` are true, in percent."""
    return f"{sum(found) / max(1, len(found)):.0%}"


def measure(folders: list[Path]) -> dict[str, Any]:
    """The measures of the files below `folders`."""
    files = sources(folders)
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files]
    lines = [len(path.read_text(encoding="utf-8").splitlines()) for path in files]
    functions = sorted(length for tree in trees for length in lengths(tree))
    shown = [function for tree in trees for function in public(tree)]
    kinds = Counter(type(node) for tree in trees for node in ast.walk(tree))
    names = Counter(node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    return {
        "files": len(files),
        "lines": sum(lines),
        "file, median / longest": f"{statistics.median(lines):.0f} / {max(lines)}",
        "function, median / 90 % / longest": f"{statistics.median(functions):.0f} / "
        f"{functions[int(0.9 * len(functions))]} / {functions[-1]}",
        "public functions with a docstring": shares([ast.get_docstring(function) is not None for function in shown]),
        "public functions with a return type": shares([function.returns is not None for function in shown]),
        "asserts : raises": f"{kinds[ast.Assert]} : {kinds[ast.Raise]}",
        "lines for each comment": sum(lines) // max(1, sum(map(comments, files))),
        "class names that stand for several things": sum(count > 1 for count in names.values()),
        "loose modules at the packages' roots": sum(
            path.parent in folders and not path.name.startswith("__") for path in files
        ),
    }


def calls(recipe: str, model: str) -> str:
    """Calls of the project's functions, and files they are in, while `generate` makes one token, warm."""
    from vtc import reduce_tokens
    from vtc.embedded.scene import HELD_OUT, Scene
    from vtc.inference.loading import load
    from vtc.inference.prompting import inputs

    wrapped, processor = load(model, device="cpu")
    given = inputs(wrapped, processor, ["what is there?"], [Scene(HELD_OUT).image])
    reduce_tokens(wrapped, recipe)
    options = {"max_new_tokens": 1, "do_sample": False}
    wrapped.generate(**given, **options)
    found: Counter[str] = Counter()

    def note(frame: Any, event: str, argument: object) -> None:
        name = frame.f_code.co_filename
        if event == "call" and any(name.startswith(str(ROOT / package)) for package in PACKAGES):
            found[name] += 1

    sys.setprofile(note)
    try:
        wrapped.generate(**given, **options)
    finally:
        sys.setprofile(None)
    return f"{sum(found.values())} calls in {len(found)} files"


def main(arguments: list[str]) -> None:
    """Print the measures as a table."""
    folders = [Path(argument) for argument in arguments] or [ROOT / package for package in PACKAGES]
    rows = measure(folders)
    if not arguments:
        rows["generate, kcenter on tiny-llava"] = calls("kcenter", "tiny-llava")
        rows["generate, fastv on tiny-qwen"] = calls("fastv", "tiny-qwen")
    for name, value in rows.items():
        print(f"{name:44} {value}")


if __name__ == "__main__":
    main(sys.argv[1:])
