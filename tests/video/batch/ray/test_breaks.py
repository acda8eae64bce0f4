"""Drivers of Ray that are killed, or asked to stop: the same run goes on, and ends as an undisturbed one."""

import os
import random
import signal
import sys
import time

import pytest

from tests.video.batch.drivers import drivers, grown
from tests.video.batch.videos import (
    FEW,
    clips,
    read,
    rows,
    save,
    timeless,
)
from vtc.cli.batch import asked_to_stop
from vtc.video import answer_batch
from vtc.video.batch.merge import merge
from vtc.video.batch.ray.engine import _connect
from vtc.video.batch.ray.folder import blocks as blocks_of

OPTIONS = ["--workers", 1, "--batch", 1, "--frames", FEW["frames"], "--max-new-tokens", FEW["max_new_tokens"]]
FIELDS = dict(workers=1, batch=1, **FEW)
"""The same of the function."""
EACH = 3
"""So many that a driver that is asked to stop has something left when it hears of it."""
CLUSTER = dict(num_cpus=2, include_dashboard=False, object_store_memory=500 << 20, log_to_driver=False)


class Run:
    """A run over `videos` clips with `EACH` questions each, by drivers that come to an end too early."""

    def __init__(self, some, folder, videos):
        clips(folder, videos)
        self.some, self.videos = some, videos
        self.path, self.out = save(folder / "q.jsonl", rows(videos, EACH)), folder / "a.jsonl"
        self.folder = folder / "a.jsonl.blocks"

    def blocks(self):
        return len(blocks_of(self.folder))

    def begin(self, blocks):
        """Starts a driver and waits until it has written so many blocks."""
        before = self.blocks()
        driver = self.some.start(self.path, self.out, FIELDS, cluster=CLUSTER)
        grown(self.blocks, min(before + blocks, self.videos - 1))
        return driver

    def killed(self, blocks, seconds):
        driver = self.begin(blocks)
        time.sleep(seconds)
        os.kill(driver, signal.SIGKILL)
        assert self.some.code() == -signal.SIGKILL, self.some.log.read_text()

    def command(self, stop=None):
        """Runs the command, and stops it after its first block; its exit code, and what it said last."""
        before = self.blocks()
        driver = self.some.start("batch", self.path, "--out", self.out, "--engine", "ray", *OPTIONS)
        if stop is not None:
            grown(self.blocks, before + 1)
            stop(driver)
        return self.some.code(), self.some.log.read_text()[-1000:]

    def is_undisturbed(self, folder):
        """Whether each id is there once, with the answer of an undisturbed run on this machine."""
        answer_batch(self.path, folder / "local.jsonl", **FIELDS)
        merged = merge([self.folder], folder / "merged.jsonl", self.path)
        assert (merged.rows, merged.clean, merged.equal) == (EACH * self.videos, True, ())
        assert read(folder / "merged.jsonl") == read(self.out)
        return timeless(read(self.out)) == timeless(read(folder / "local.jsonl"))


def sigterm(driver):
    os.kill(driver, signal.SIGTERM)


def ctrl_c(driver):
    """As of a terminal, whose group holds Ray's processes as well."""
    os.killpg(driver, signal.SIGINT)


@pytest.mark.nightly  # four minutes; a cut-off run that goes on is in test_engine
def test_killed_three_times_and_asked_to_stop_twice(tmp_path):
    print(seed := time.time_ns())  # told where the test fails
    chance = random.Random(seed)
    with drivers(tmp_path) as some:
        run = Run(some, tmp_path, 12)
        run.killed(0, chance.uniform(0, 4))
        run.killed(1, chance.uniform(0, 0.5))
        for stop in (sigterm, ctrl_c):
            code, generation = run.command(stop)
            assert code == 130, generation
            assert "ended early: interrupted; the same command goes on from here" in generation
        run.killed(0, chance.uniform(0, 4))
        kept = blocks_of(run.folder)
        assert 3 <= len(kept) < run.videos
        assert not run.out.exists()
        code, generation = run.command()
        assert code == 0, generation
        assert "36 rows, 36 answered" in generation
    assert set(kept) < set(blocks_of(run.folder))
    assert run.is_undisturbed(tmp_path)


def test_sigterm_while_ray_starts_is_heard(monkeypatch):
    def init(**_):
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))  # as Ray does
        begun.append(len(begun))
        if len(begun) == 1:
            signal.raise_signal(signal.SIGTERM)

    begun = []
    monkeypatch.setattr("ray.init", init)
    with asked_to_stop() as stop:
        handler = signal.getsignal(signal.SIGTERM)
        _connect(stop)
        assert signal.getsignal(signal.SIGTERM) is handler
        assert stop()
    assert begun == [0]

    begun.clear()
    monkeypatch.setattr("ray.shutdown", lambda: begun.append("shut"))
    with asked_to_stop():
        _connect(lambda: False)
    assert begun == [0, "shut", 2]


@pytest.mark.slow
def test_killed_twenty_times(tmp_path):
    print(seed := time.time_ns())  # told where the test fails
    chance = random.Random(seed)
    with drivers(tmp_path) as some:
        run = Run(some, tmp_path, 150)
        for _ in range(20):
            blocks = chance.randint(0, 1) if run.blocks() < run.videos // 2 else 0  # so that some are left
            run.killed(blocks, chance.uniform(0, 1 if blocks else 6))
        assert 0 < run.blocks() < run.videos
        code, generation = run.command()
        assert code == 0, generation
    assert run.is_undisturbed(tmp_path)
