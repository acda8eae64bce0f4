"""Runs the tests of a file over a copy of the tree, as it is and with one edit in it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FLAGS = ("-x", "-q", "-p", "no:cacheprovider")
FORK = multiprocessing.get_context("fork")


def copied(root: Path, folder: Path) -> Path:
    """Copy the tree at `root` as git sees it, uncommitted changes too, with `vtc` importable from the copy alone."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listing, cwd=root, check=True, capture_output=True, text=True).stdout.split("\0"):
        if name and (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name)
    # An editable install maps these two to the folders of the working tree; the copy's own come first by this.
    for package in ("adapters", "video"):
        if (folder / package).is_dir():
            (folder / "vtc" / package).symlink_to(folder / package)
    return folder


@dataclass
class ForkedTests:
    """The tests `paths` over the tree `folder`, each time in a process forked from this one.

    What the tests import from elsewhere (torch, transformers) is imported once, here, by `warm`: a fresh process would
    spend more on that than on most tests. Of the tree itself nothing is.
    """

    folder: Path
    paths: Sequence[str]
    limit: float = 600.0

    def warm(self) -> float:
        """Run the tests over the tree as it is; seconds that takes once all is imported.

        Raises:
            ValueError: a test fails, or none is found.
        """
        for _ in range(2):
            start = time.monotonic()
            if code := self.run():
                raise ValueError(f"paths={list(self.paths)}: pytest gives {code} before any edit:\n{self.output()}")
            taken = time.monotonic() - start
            for name in json.loads((self.folder / "modules.json").read_text()):
                with contextlib.suppress(Exception):
                    importlib.import_module(name)
        self.limit = 3 * taken + 20
        return taken

    def run(self) -> int | None:
        """Exit code of pytest, None where it was still running after `limit` seconds."""
        process = FORK.Process(target=_pytest, args=(self.folder, self.paths))
        process.start()
        try:
            process.join(self.limit)
            return process.exitcode
        finally:
            with contextlib.suppress(ProcessLookupError):  # what the tests started goes too
                os.killpg(process.pid or 0, signal.SIGKILL)
            process.kill()
            process.join()

    def run_with(self, name: str, source: bytes) -> int | None:
        """`run` with `source` in the file `name` of the tree, which is as before afterwards."""
        path = self.folder / name
        before = path.read_bytes()
        try:
            _write(path, source)
            return self.run()
        finally:
            _write(path, before)

    def output(self) -> str:
        """The end of what the last run printed."""
        return (self.folder / "output.txt").read_text(errors="replace")[-2000:]


def _write(path: Path, source: bytes) -> None:
    path.write_bytes(source)
    # Bytecode is taken for fresh by size and by second: two edits of one second would be one.
    Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)


def _pytest(folder: Path, paths: Sequence[str]) -> None:
    """In the child: run pytest in `folder`, and note which modules came from installed packages."""
    os.setsid()
    with (folder / "output.txt").open("wb") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(folder)
    sys.path.insert(0, str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tools", "tests", "vtc")]:
        del sys.modules[name]
    import pytest

    code = int(pytest.main([*FLAGS, *paths]))
    installed = [
        name for name, module in sys.modules.items() if "site-packages" in str(getattr(module, "__file__", ""))
    ]
    (folder / "modules.json").write_text(json.dumps(installed))
    sys.stdout.flush()
    os._exit(code)
