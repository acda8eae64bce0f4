"""Tasks that are answered at once, for tests of Ray. Workers import this, so it imports nothing that takes long."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from vtc.core.files import on_disk
from vtc.video.batch.ray.folder import Task, written


class Echo:
    """Makes what answers a payload with its rows; notes which it was given, one file for each time."""

    def __init__(self, log):
        self.log = str(log)

    def __call__(self):
        return self.answer

    def answer(self, payload):
        task = json.loads(payload)
        with open(os.path.join(self.log, f"{task['name']}-{os.urandom(4).hex()}"), "w"):
            pass
        time.sleep(task.get("wait", 0))
        error = "ValueError: broken" if task.get("broken") else None
        for number in range(task["rows"]):
            name = f"{task['name']}-{number}"
            yield {"id": name, "answer": "grün\n", "error": error, "frames": [0.1 + 0.2], "seconds": {"read": 1e-17}}


class Syncs:
    """Waits for the disk, and notes for what, how large it was, and what the checkpoint held as written by then."""

    def __init__(self, log):
        self.log = str(log)

    def __call__(self, path):
        path = Path(path)
        on_disk(path)
        out = path.parent if path.suffix == ".jsonl" else next(p for p in (path, *path.parents) if p.name == "out")
        seen = {"path": path.name, "size": path.stat().st_size, "written": sorted(written(out))}
        with open(self.log, "a") as file:
            file.write(json.dumps(seen) + "\n")


def tasks(count, **more):
    return [Task(f"key{i}", json.dumps({"name": f"t{i}", "rows": 1 + i % 2, **more})) for i in range(count)]


def ids(count):
    return sorted(f"t{i}-{number}" for i in range(count) for number in range(1 + i % 2))


def rows(out):
    """All rows of a folder's blocks, by id."""
    found = [json.loads(line) for path in sorted(out.glob("*.jsonl")) for line in path.read_text().splitlines()]
    return sorted(found, key=lambda row: row["id"])


def calls(log):
    """The names of the tasks that were answered, each as often as it was."""
    return sorted(path.name.rsplit("-", 1)[0] for path in log.iterdir())
