"""What a batch holds does not grow with its rows."""

from __future__ import annotations

import gc
import os
import resource
import threading
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.video.batch.films import FEW, clips, film, save
from vtc.video import answer_batch
from vtc.video.batch import Answerer


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


def media(folder, pictures, stretches):
    """Rows about so many pictures and stretches of a clip, four to each."""
    clips(folder, 1)
    for i in range(pictures):
        Image.fromarray(film(i % 7).pixels(96)[i % 7]).save(folder / f"{i}.png")
    given = [{"image": f"{i}.png"} for i in range(pictures)]
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


def test_tensors_files_and_threads_stay_as_many(tmp_path, monkeypatch):
    path = save(tmp_path / "q.jsonl", media(tmp_path, 10, 2))
    # The last picture of both is the same, as what is held of one depends on what it shows.
    few, many = (at_the_end(path, tmp_path / f"{limit}.jsonl", limit) for limit in (16, 48))
    assert few == many
    # The control: an answerer that keeps what it has opened.
    kept, whole = [], Answerer.open

    def hoarding(self, *given, **named):
        kept.append(whole(self, *given, **named))
        return kept[-1]

    monkeypatch.setattr(Answerer, "open", hoarding)
    assert few[0] < at_the_end(path, tmp_path / "hoarded.jsonl", 48)[0]


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
