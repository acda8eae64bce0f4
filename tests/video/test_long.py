"""Videos of minutes and hours: a short shot is found and asked about, memory stays flat, Ctrl-C leaves nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tests.cli.test_main import row, vtc_command
from tests.video.long_videos import (
    FPS,
    SIDE,
    long_video,
    scenery,
)
from tests.video.videos import write
from vtc import Recipe, reduce_tokens, restore
from vtc.cli.progress import bars
from vtc.embedded.video import VALIDATION, Video
from vtc.inference.loading import load
from vtc.inference.prompting import inputs
from vtc.recipes.named import recipe
from vtc.stages import KCenter
from vtc.video import Sampling, ask, prepare
from vtc.video.reading import probe
from vtc.video.stages import Keyframes

SHOT = Video(VALIDATION + 1)
(QUESTION,) = [one for one in SHOT.questions if one.skill == "static"]
"""Where something stands, which no other frame shows."""
SHOWN = 3
NEAR = Sampling(isolated=False)
MINUTES = {2: 77.3, 10: 399.7}
"""When the shot comes, by the minutes of the video: at a moment that no evenly spaced candidate meets."""


@cache
def loaded():
    return load("tiny-qwen")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("long")


@pytest.fixture(scope="module")
def videos(folder) -> dict[int, Path]:
    frame = SHOT.frame(0, SIDE)
    return {n: long_video(folder / f"{n}.mp4", 60 * n, frame, at, shown=SHOWN) for n, at in MINUTES.items()}


def shown(seconds, at: float) -> int:
    """How many of the times see the shot that comes at `at`."""
    return int(((np.asarray(seconds) >= at) & (np.asarray(seconds) < at + SHOWN)).sum())


# The needle


def test_the_video_never_repeats_a_frame():
    seen = [frame.tobytes() for frame in scenery(700 * FPS // 10)]
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("isolated", [True, False])
def test_a_shot_of_three_seconds_in_ten_minutes_is_answered_about(videos, isolated):
    said = ask(*loaded(), videos[10], QUESTION.question, sampling=Sampling(isolated=isolated), max_new_tokens=6)
    made = said.prepared
    assert said.text == QUESTION.answer
    assert shown(made.frames.seconds, MINUTES[10])
    assert (len(made.candidates), made.look.asked, made.look.lost, made.broken) == (600, 600, (), "")
    # As many tokens as of 64 evenly spaced frames, of which three quarters are encoded.
    assert (made.tokens, len(made.chosen), len(made.frames)) == (32 * 36, 24, 48)
    assert said.report.after == recipe("video").keep * made.tokens == 8 * 36


def test_evenly_spaced_frames_miss_it(videos):
    for sampling in (Sampling(look=None, isolated=False), Sampling(look=1 / 10, isolated=False)):
        said = ask(*loaded(), videos[10], QUESTION.question, sampling=sampling, max_new_tokens=6)
        assert not shown(said.prepared.frames.seconds, MINUTES[10])
        assert said.text != QUESTION.answer
        assert len(said.prepared.candidates) == 64


@pytest.mark.parametrize("seed", range(4))
def test_a_shot_at_any_minute_is_among_the_frames(folder, seed):
    at = float(np.random.default_rng(seed).uniform(1, 600 - SHOWN - 1))
    path = long_video(folder / "any.mp4", 600, Video(VALIDATION + 10 + seed).frame(0, SIDE), at, shown=SHOWN)
    made = prepare(path, loaded()[1], "what is there?", sampling=NEAR)
    assert shown(made.frames.seconds, at)
    assert shown(probe(path).seconds[made.candidates], at) == SHOWN


@pytest.mark.parametrize("name", ["clip-budget", "kcenter", "evs"])
def test_a_recipe_that_leaves_no_frame_out_gets_the_evenly_spaced_ones(videos, name):
    made = prepare(videos[10], loaded()[1], "what?", name, sampling=NEAR)
    want = NEAR.candidates(made.info)
    assert made.candidates.tolist() == want.tolist()
    assert made.frames.seconds.tolist() == made.info.seconds[want].tolist()
    assert made.tokens == 32 * 36


@pytest.mark.parametrize("frames", [1, 7, 16])
@pytest.mark.parametrize("keep", [0.25, 40])
@pytest.mark.parametrize("name", ["video", "keyframes", "uniform"])
def test_tokens_are_never_more_than_evenly_spaced_frames_would_have(videos, name, keep, frames):
    model, processor = loaded()
    sampling = Sampling(frames=frames, isolated=False)
    made = prepare(videos[2], processor, "what?", name, keep=keep, sampling=sampling)
    even, _ = sampling.read(videos[2], sampling.candidates(made.info))
    whole = inputs(model, processor, ["what?"], [even])
    reduce_tokens(model, name, keep=keep)
    model.generate(**whole, max_new_tokens=1, do_sample=False)
    (item,) = model.vtc.report.items
    reduce_tokens(model, made.recipe)
    model.generate(**dict(made.inputs), max_new_tokens=1, do_sample=False)
    after = model.vtc.report.after
    restore(model)
    assert made.tokens == item.before == 36 * -(-frames // 2)
    assert after == item.after
    assert len(made.frames) <= frames + frames % 2
    assert len(made.candidates) == 120


def test_tokens_of_a_unit_are_counted_at_full_size(tmp_path):
    """A frame that is larger than what is looked at has more tokens than its small image."""
    path = write(tmp_path / "wide.mp4", (np.full((192, 384, 3), 5 * i % 256, np.uint8) for i in range(60)), fps=1)
    made = prepare(path, loaded()[1], "what?", Recipe((Keyframes(),), keep=300), sampling=Sampling(1, 16))
    each = made.tokens // 8
    assert each > 36
    assert len(made.chosen) == 300 // each


@pytest.mark.parametrize(("name", "temporal_patch_size"), [("tiny-qwen", 2), ("tiny-internvl", 1)])
def test_units_stay_together(videos, name, temporal_patch_size):
    made = prepare(videos[2], load(name)[1], "what?", "keyframes", sampling=NEAR)
    assert made.temporal_patch_size == temporal_patch_size
    times = made.info.seconds[made.candidates]
    want = np.concatenate([times[u * temporal_patch_size : (u + 1) * temporal_patch_size] for u in made.chosen])
    assert made.frames.seconds.tolist() == want.tolist()


@pytest.mark.parametrize("name", ["video", "keyframes", "uniform", "clip-budget", "evs", "vidcom2", "kffocus", "tdc"])
def test_a_video_of_one_frame(tmp_path, name):
    path = write(tmp_path / "one.mp4", [SHOT.frame(0, SIDE)], fps=1)
    said = ask(*loaded(), path, QUESTION.question, name, keep=1.0, sampling=NEAR, max_new_tokens=6)
    assert said.text == QUESTION.answer
    assert len(said.prepared.chosen) == 1


def test_one_frame_for_whole_frames_alone_says_why(tmp_path):
    path = write(tmp_path / "one.mp4", [SHOT.frame(0, SIDE)], fps=1)
    with pytest.raises(ValueError, match=r"keep=7 .*36 tokens"):
        prepare(path, loaded()[1], "what?", Recipe((Keyframes(),), keep=7), sampling=NEAR)
    made = prepare(path, loaded()[1], "what?", Recipe((Keyframes(), KCenter()), keep=7), sampling=NEAR)
    assert made.recipe.keep == 7


# Progress


def test_progress_is_told_of_every_phase(videos):
    told = []
    prepare(videos[2], loaded()[1], "what?", sampling=NEAR, progress=lambda *given: told.append(given))
    phases = list(dict.fromkeys(phase for phase, _, _ in told))
    assert phases == ["look", "read", "process"]
    for phase, total in (("look", 120), ("read", 48), ("process", 1)):
        done = [at for one, at, of in told if one == phase and of == total]
        assert done == sorted(done)
        assert done[-1] == total
    assert ("read", 1, 48) in told


@pytest.mark.parametrize("terminal", [True, False])
def test_bars_are_for_terminals(terminal, tmp_path):
    out = (tmp_path / "out").open("w+")
    with bars(Console(file=out, force_terminal=terminal, width=100)) as tell:
        tell("look", 3, 10)
        tell("look", 10, 10)
        tell("other", 1, 2)
    out.seek(0)
    text = out.read()
    assert ("looking at small frames" in text and "10/10" in text and "other" in text) == terminal
    assert terminal or not text


@pytest.mark.parametrize("phase", ["look", "read", "process"])
def test_an_interrupt_in_any_phase_is_passed_on(videos, phase, monkeypatch):
    def interrupt(now, done, total):
        if now == phase:
            raise KeyboardInterrupt

    before = children(os.getpid())
    with pytest.raises(KeyboardInterrupt):
        prepare(videos[2], loaded()[1], "what?", progress=interrupt)
    assert children(os.getpid()) == before


# The command


def test_ask_finds_the_shot_and_says_of_how_many(videos):
    result = vtc_command("ask", videos[10], QUESTION.question, "--frames", "16", "--max-new-tokens", "6")
    assert (result.exit_code, result.stderr) == (0, "")
    assert row(result, "answer") == [QUESTION.answer, QUESTION.answer]
    assert row(result, "visual tokens") == [str(8 * 36), str(2 * 36)]
    assert "read: 16 of 3000 frames" in result.text
    assert "chosen: 16 of 600 frames that were looked at" in result.text


def test_the_command_can_be_told_to_look_no_closer(videos, tmp_path):
    options = ("--out", tmp_path / "x.png", "--look", "0", "--frames", "4")
    result = vtc_command("show", videos[2], *options)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "chosen" not in result.text


def test_show_draws_what_was_chosen(videos, tmp_path):
    out = tmp_path / "x.png"
    options = ("--look", "2", "--start", "30", "--end", "100", "--frames", "8")
    result = vtc_command("show", videos[2], "--out", out, "--recipe", "keyframes", *options)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "chosen: 8 of 140 frames that were looked at" in result.text
    assert Image.open(out).width == 1360


def test_slack_on_the_command_line(videos, tmp_path):
    result = vtc_command("show", videos[10], "--out", tmp_path / "x.png", "--slack", "5", "--frames", "8")
    # A keyframe every 10 seconds; those of the last seconds have none so near.
    assert "chosen: 8 of 64 frames that were looked at" in result.text


@pytest.mark.parametrize(("option", "message"), [("--look=-1", "look=-1"), ("--slack=nan", "slack=nan")])
def test_bad_options_are_one_plain_line(videos, option, message):
    result = vtc_command("ask", videos[2], "what?", option)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert message in result.error


def test_a_break_is_told(videos, tmp_path):
    path = tmp_path / "broken.mp4"
    data = bytearray(videos[10].read_bytes())
    start, end = data.index(b"mdat") + 4, data.rindex(b"moov") - 4
    data[(start + end) // 2 : end] = bytes(end - (start + end) // 2)
    path.write_bytes(data)
    result = vtc_command("ask", path, "what?", "--frames", "8", "--max-new-tokens", "2")
    assert result.exit_code == 0
    assert "a part of the video could not be looked at" in result.error
    lost, asked = re.search(r"(\d+) of (\d+) frames to look at could not be read", result.error).groups()
    assert asked == "600"
    assert 100 < int(lost) < 500
    assert "read: 8 of" in result.text


# Ctrl-C


def children(pid: int) -> set[int]:
    """The processes whose parent is `pid`, but for those that have ended."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = entry.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            found.add(int(entry.parent.name))
    return found


def decoding(pid: int) -> bool:
    """Whether `pid` is a child that decodes."""
    try:
        return b"vtc.video.reading.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(("number", "phase"), [(2, "look"), (3, "read")])
def test_ctrl_c_ends_the_command_and_its_child(videos, tmp_path, number, phase):
    """A signal to `vtc ask` while its second child (which looks) or its third (which reads) is at work."""
    command = [sys.executable, "-m", "vtc", "ask", str(videos[10]), "what?"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        # In a job that runs in the background the signal is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    seen: list[int] = []
    deadline = time.monotonic() + 300
    while len(seen) < number and process.poll() is None and time.monotonic() < deadline:
        seen += [pid for pid in children(process.pid) - {*seen} if decoding(pid)]
        time.sleep(0.002)
    assert len(seen) == number, f"{len(seen)} children were seen"
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=120)
    assert process.returncode != 0
    assert b"Aborted" in error or process.returncode in (130, -signal.SIGINT)
    assert b"Traceback" not in error
    assert b"visual tokens" not in out
    assert not [pid for pid in seen if alive(pid)]
    assert not list(tmp_path.iterdir())


# Memory


MEASURE = """
import json, os, sys, threading, time
import torch
torch.set_num_threads(1)
from tests.video.test_long import children, decoding
from vtc.inference.loading import load
from vtc.video import ask

def peak(pid):  # MiB; getrusage counts what the parent had when it forked
    try:
        lines = open(f"/proc/{pid}/status").read().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

def watch():
    while True:
        for pid in filter(decoding, children(os.getpid())):
            largest[0] = max(largest[0], peak(pid))
        time.sleep(0.02)

largest = [0.0]
threading.Thread(target=watch, daemon=True).start()
model, processor = load("tiny-qwen")
found = [(peak("self"), 0.0, "")]
for path in sys.argv[2:]:
    largest[0] = 0.0
    text = ask(model, processor, path, sys.argv[1], max_new_tokens=6).text
    found.append((peak("self"), largest[0], text))
print(json.dumps(found))
"""


def memory(question: str, *paths: Path) -> list[tuple[float, float, str]]:
    """Peak MiB of a process so far, and of the largest child that decodes; with the model alone, and for each video."""
    command = [sys.executable, "-c", MEASURE, question, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    return [tuple(line) for line in json.loads(done.stdout.splitlines()[-1])]


def test_ten_minutes_take_the_memory_of_two(videos):
    _, two, ten = memory(QUESTION.question, videos[2], videos[10])
    assert two[2] == ten[2] == QUESTION.answer
    # MiB. What grows is the features, 3 KiB a frame, of which choosing holds some copies twice as wide; all small
    # frames would be 13 more, or 26 while they are laid side by side.
    assert ten[0] - two[0] < 40
    assert 20 < two[1] < 200
    assert ten[1] - two[1] < 8  # the times of 3000 frames


@pytest.mark.slow
def test_two_hours(folder):
    at = float(np.random.default_rng(11).uniform(60, 7100))
    begun = time.perf_counter()
    path = long_video(folder / "hours.mp4", 7200, SHOT.frame(0, SIDE), at, shown=SHOWN)
    drawn = time.perf_counter()
    before, after = memory(QUESTION.question, path)
    spent = time.perf_counter() - drawn
    own, child = after[0] - before[0], after[1]
    print(f"\n2 h: drawn in {drawn - begun:.0f} s, asked in {spent:.0f} s with the model's loading; the peak is")
    print(f"{own:.0f} MiB above the loaded model, {child:.0f} MiB in the child that decodes")
    assert after[2] == QUESTION.answer
    assert own + child < 1500
    even = ask(*loaded(), path, QUESTION.question, sampling=Sampling(look=None), max_new_tokens=6)
    assert even.text != QUESTION.answer
