"""What a batch holds does not grow with its rows."""

from __future__ import annotations

import gc
import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.video.batch.videos import (
    FEW,
    clips,
    save,
    video,
)
from vtc.video import answer_batch
from vtc.video.batch import Answerer

ROOT = Path(__file__).parents[3]


def held():
    """Bytes of all tensors of some size that Python knows, open files, and threads.

    Transformers' image processors leave the few numbers that they scale by in caches of functions.
    """
    gc.collect()
    tensors = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in gc.get_objects() if is_tensor(t)}
    return (
        sum(size for size in tensors.values() if size > 64),
        len(os.listdir("/proc/self/fd")),
        threading.active_count(),
    )


def is_tensor(value):
    return issubclass(type(value), torch.Tensor)


def resident():
    """Bytes of memory that this process has in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def media(folder, images, stretches):
    """Rows about so many images and stretches of a clip, four to each."""
    clips(folder, 1)
    for i in range(images):
        Image.fromarray(video(i % 7).pixels(96)[i % 7]).save(folder / f"{i}.png")
    given = [{"image": f"{i}.png"} for i in range(images)]
    given[1:1] = [
        {"video": "0.mp4", "start": 2 * i / stretches, "end": 2 + 2 * i / stretches} for i in range(stretches)
    ]
    return [
        {"id": f"{i}-{j}", "question": f"what is there at {j}?", **medium}
        for i, medium in enumerate(given)
        for j in range(4)
    ]


def at_the_end(path, out, limit):
    """What is held when the last row is written: no medium is read ahead any more."""
    found = []
    answer_batch(
        path, out, limit=limit, workers=1, progress=lambda done, _: found.append(done == limit and held()), **FEW
    )
    return found[-1]


def compared(folder):
    """What is held at the 16th row, at the 48th, and at that one where an answerer keeps what it has opened."""
    path = save(folder / "q.jsonl", media(folder, 10, 2))
    # The last image of both is the same, as what is held of one depends on what it shows.
    found = [at_the_end(path, folder / f"{limit}.jsonl", limit) for limit in (16, 48)]
    kept, whole = [], Answerer.open

    def hoarding(self, *given, **named):
        kept.append(whole(self, *given, **named))
        return kept[-1]

    Answerer.open = hoarding
    return [*found, at_the_end(path, folder / "hoarded.jsonl", 48)]


def test_tensors_files_and_threads_stay_as_many(tmp_path):
    # In a process of its own: what other tests have left is none of a batch's.
    code = "import json, sys, pathlib; from tests.video.batch.test_memory import compared; "
    code += "print(json.dumps(compared(pathlib.Path(sys.argv[1]))))"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    few, many, hoarded = json.loads(done.stdout.splitlines()[-1])
    assert few == many
    assert few[0] < hoarded[0]


@pytest.mark.slow
def test_memory_is_flat_over_a_thousand_rows(tmp_path):
    path = save(tmp_path / "q.jsonl", media(tmp_path, 200, 50))
    found = {}
    answer_batch(
        path, tmp_path / "a.jsonl", workers=1, progress=lambda done, _: found.update({done: resident()}), **FEW
    )
    early, middle, late = (found[done] for done in (300, 600, 1000))
    print(f"resident after 300, 600 and 1,000 rows: {early >> 20}, {middle >> 20}, {late >> 20} MiB")
    assert late < early + (64 << 20)
