"""Runs what README and the pages of docs/ show: the commands, the Python blocks, the notebook; checks the reference.

usage: docs.py command NAME         prints the shell command that README marks with NAME
       docs.py run [PAGE...]        runs the Python blocks, one process a page, blocks of a page in one namespace
       docs.py notebook [--write]   executes docs/quickstart.ipynb; --write stores its outputs
       docs.py reference SITE       checks that the built site documents every public name

A fenced block belongs to the HTML comment above it: `<!-- command: NAME -->`, `<!-- runs -->`,
`<!-- does not run: WHY -->` for one that needs what CI has not, or `<!-- tested: NAME -->` in CONTRIBUTING, whose
examples the tests run. A Python block without a comment is an error.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"
BLOCK = re.compile(r"(?:<!-- (?P<mark>[^\n]*?) -->\n+)?^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.M | re.S)
TIMEOUT = 300.0
"""Seconds after which a page, or a cell of the notebook, counts as stuck."""
PUBLIC = (
    "vtc",
    "vtc.stages",
    "vtc.adapters",
    "vtc.recipes",
    "vtc.video",
    "vtc.video.stages",
    "vtc.video.keyframes",
    "vtc.video.batch",
    "vtc.viz",
)
"""Packages whose `__all__` the API reference must cover."""


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        mark: the text of the comment above it; empty where there is none.
        language: as the fence names it.
        body: its lines.
        line: the number of its first line in the page.
    """

    mark: str
    language: str
    body: str
    line: int


def pages() -> list[Path]:
    """README, CONTRIBUTING and the pages of docs/."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of `page`."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(m["mark"] or "", m["language"], m["body"], text.count("\n", 0, m.start("body")) + 1)
        for m in BLOCK.finditer(text)
    ]


def command(name: str) -> str:
    """The shell command that README marks with `name`."""
    found = [block.body for block in blocks(ROOT / "README.md") if block.mark == f"command: {name}"]
    if len(found) != 1:
        raise SystemExit(f"README marks {len(found)} blocks as 'command: {name}'; expected one")
    return found[0].strip()


def unmarked(page: Path) -> list[str]:
    """Where `page` has Python blocks that neither run nor say why they do not, as `page:line`."""
    allowed = ("does not run: ", "tested: ") if page.name == "CONTRIBUTING.md" else ("does not run: ",)
    return [
        f"{page}:{block.line}"
        for block in blocks(page)
        if block.language == "python" and block.mark != "runs" and not block.mark.startswith(allowed)
    ]


def program(page: Path) -> str:
    """The blocks of `page` that run, each on the lines that it has in the page, so that tracebacks name those."""
    lines: list[str] = []
    for block in blocks(page):
        if block.language == "python" and block.mark == "runs":
            lines += [""] * (block.line - 1 - len(lines))
            lines += block.body.splitlines()
    return "\n".join(lines)


def run_page(page: Path) -> bool:
    """Whether the blocks of `page` run, in a process and an empty folder of their own; prints their output if not."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / f"{page.name}.py"
        script.write_text(program(page), encoding="utf-8")
        ran = subprocess.run(
            [sys.executable, str(script)],
            cwd=folder,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
        )
    word = "ok" if ran.returncode == 0 else "FAILED"
    print(f"{page.relative_to(ROOT)}: {word} ({time.monotonic() - began:.0f} s)", flush=True)
    if ran.returncode:
        print(ran.stdout, flush=True)
    return ran.returncode == 0


def run(chosen: list[Path]) -> int:
    """The exit status of running `chosen`, or all pages."""
    if found := [place for page in pages() for place in unmarked(page)]:
        raise SystemExit("Python blocks without '<!-- runs -->' or '<!-- does not run: WHY -->':\n" + "\n".join(found))
    running = [page.resolve() for page in chosen or pages() if program(page)]
    if not running:
        raise SystemExit("no Python block is marked as running")
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        passed = list(pool.map(run_page, running))
    return 0 if all(passed) else 1


def run_notebook(write: bool) -> None:
    """Executes the notebook in an empty folder; an error in a cell is raised."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_HUB_OFFLINE"] = "1"
        options = {"timeout": TIMEOUT, "kernel_name": "python3", "record_timing": False, "coalesce_streams": True}
        NotebookClient(notebook, resources={"metadata": {"path": folder}}, **options).execute()
    if write:
        for cell in (one for one in notebook.cells if one.cell_type == "code"):
            cell.outputs = [_for_readers(o) for o in cell.outputs if o.get("name") != "stderr"]
        nbformat.write(notebook, NOTEBOOK)


def _for_readers(output: Any) -> Any:
    """`output` of a cell with one form of each image."""
    if "image/png" in output.get("data", {}):
        output.data.pop("image/jpeg", None)
    return output


def documented(site: Path) -> set[str]:
    """The names in the inventory of a built site (Sphinx's format, version 2)."""
    raw = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    return {line.split(" ", 1)[0] for line in zlib.decompress(raw).decode().splitlines()}


def public() -> Iterator[str]:
    """The public names, as the reference should have them."""
    for package in PUBLIC:
        names = import_module(package).__all__
        yield from (f"{package}.{name}" for name in names if not name.startswith("__"))


def check_reference(site: Path) -> None:
    """Refuses a site that lacks a public name."""
    if lacking := sorted(set(public()) - documented(site)):
        raise SystemExit(f"the API reference lacks {len(lacking)} public names: {', '.join(lacking)}")


def main(arguments: list[str]) -> int:
    """The exit status."""
    match arguments:
        case ["command", name]:
            print(command(name))
        case ["run", *chosen]:
            return run([Path(page) for page in chosen])
        case ["notebook"] | ["notebook", "--write"]:
            run_notebook(write=len(arguments) == 2)
        case ["reference", site]:
            check_reference(Path(site))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
