"""The pass that looks: what it holds, what it keeps, and what it says of what it could not see."""

from __future__ import annotations

import errno
import tempfile
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.video.videos import flipped, numbered, write
from vtc.video.clips.frame_features import ColorLayout, FrameFeatures
from vtc.video.keyframes import KEYFRAMES, MaxMin
from vtc.video.qa import low_res_scan
from vtc.video.qa.low_res_scan import scan
from vtc.video.qa.two_pass import read_selected, select_frames
from vtc.video.reading import disk_buffer, probe
from vtc.video.reading.disk_buffer import DiskBackedRows
from vtc.video.reading.sampling import Sampling

NEAR = Sampling(isolated=False)
LONG = replace(NEAR, frames=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def video(folder) -> Path:
    """40 seconds at 5 frames a second, a keyframe every two seconds."""
    return write(folder / "video.mp4", numbered(200), fps=5, gop=10, options={"sc_threshold": "0"})


@pytest.fixture
def scratch(tmp_path, monkeypatch) -> Path:
    """A folder of temporary files of its own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


class Small(FrameFeatures):
    """The mean colors of a frame: so little that chunks are what is held."""

    def describe(self, frames):
        return frames.reshape(*frames.shape[:-3], -1, 3).mean(axis=-2, dtype=np.float32)


# What is seen


@pytest.mark.parametrize("temporal_patch_size", [1, 2, 3])
@pytest.mark.parametrize("large", [0, 1 << 24], ids=["file", "memory"])
@pytest.mark.parametrize("count", [1, 7, 64, 65, 130])
def test_features_are_those_of_all_frames_at_once(video, scratch, temporal_patch_size, large, count):
    indices = np.arange(count)
    small, _ = NEAR.read(video, indices, low_res_scan.LOOK)
    rows = ColorLayout().describe(small.pixels)
    rows = np.concatenate([rows, np.repeat(rows[-1:], -count % temporal_patch_size, axis=0)])
    with scan(video, indices, NEAR, temporal_patch_size=temporal_patch_size, large=large) as seen:
        assert isinstance(seen.units, np.memmap) == (large == 0)
        assert np.array_equal(seen.units, rows.reshape(-1, temporal_patch_size * rows.shape[1]))
        assert (seen.frames.tolist(), seen.broken, seen.scores) == (indices.tolist(), "", None)
        assert np.array_equal(seen.seconds, small.seconds)
        assert (seen.report.asked, seen.report.delivered, seen.report.lost) == (count, count, ())
    assert not list(scratch.iterdir())


@pytest.mark.parametrize("temporal_patch_size", [1, 2])
def test_a_unit_scores_as_its_best_frame(video, temporal_patch_size):
    with scan(
        video, np.arange(5), NEAR, temporal_patch_size=temporal_patch_size, score=lambda some: some.mean(axis=(1, 2, 3))
    ) as seen:
        small, _ = NEAR.read(video, np.arange(5), low_res_scan.LOOK)
        each = [float(frame.mean()) for frame in small.pixels]
        assert seen.scores.tolist() == [
            max(each[i : i + temporal_patch_size]) for i in range(0, 5, temporal_patch_size)
        ]


def test_progress_is_told_chunk_by_chunk(video):
    told = []
    with scan(video, np.arange(150), NEAR, progress=lambda *given: told.append(given)):
        pass
    assert told == [("look", 64, 150), ("look", 128, 150), ("look", 150, 150)]


# What is held


def peak(run) -> int:
    """Bytes that `run` holds at most, beyond what was held before."""
    run()  # what is made once and for all is made now
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_a_chunk_however_many_frames(folder):
    path = write(folder / "large.mp4", numbered(900, 96, 128), fps=5, gop=50)
    chunk = low_res_scan.CHUNK * 96 * 128 * 3

    def watch(count):
        def run():
            with scan(path, np.arange(count), NEAR, features=Small()):
                pass

        return run

    few, many = peak(watch(100)), peak(watch(900))
    assert many < few + chunk / 8
    assert many < 3 * chunk  # frames, and these side by side
    assert peak(lambda: NEAR.read(path, np.arange(900), low_res_scan.LOOK)) > 10 * chunk  # all held: what it would be


def test_features_in_a_file_are_not_in_memory():
    rows = np.zeros((100, 500), np.float32)

    def fill(large):
        def run():
            with disk_buffer.disk_backed_rows(4000, large) as held:
                for _ in range(40):
                    held.add(rows)
                assert held.rows.shape == (4000, 500)

        return run

    assert peak(fill(large=0)) < rows.nbytes * 2
    assert peak(fill(large=1 << 30)) >= 40 * rows.nbytes


@given(st.lists(st.integers(0, 5), max_size=6), st.booleans())
def test_rows_come_back_in_order(counts, in_file):
    with disk_buffer.disk_backed_rows(sum(counts), 0 if in_file else 1 << 30) as held:
        rows = np.random.default_rng(0).random((sum(counts), 3)).astype(np.float32)
        at = 0
        for count in counts:
            held.add(rows[at : at + count])
            at += count
            assert len(held) == at
            assert np.array_equal(held.rows.reshape(-1, 3), rows[:at])


def test_more_rows_than_expected_are_our_own_mistake():
    with disk_buffer.disk_backed_rows(3) as held, pytest.raises(AssertionError):
        held.add(np.zeros((4, 2), np.float32))


# No space


def test_too_little_space_is_said_before_anything_is_read(video, scratch, monkeypatch):
    usage = disk_buffer.shutil.disk_usage(scratch)
    monkeypatch.setattr(disk_buffer.shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    told = []
    with (
        pytest.raises(OSError, match=rf"{scratch}: no space .* MiB.* 200 frames .*TMPDIR"),
        scan(video, np.arange(200), NEAR, large=0, progress=lambda *given: told.append(given)),
    ):
        raise AssertionError("not reached")
    assert not told
    assert not list(scratch.iterdir())


def test_space_that_runs_out_is_an_error_that_names_the_folder(video, scratch, monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda prefix: open("/dev/full", "w+b"))  # noqa: SIM115
    with (
        pytest.raises(OSError, match=rf"{scratch}: no space .*No space left on device.*TMPDIR") as caught,
        scan(video, np.arange(200), NEAR, large=0),
    ):
        raise AssertionError("not reached")
    assert caught.value.__cause__.errno == errno.ENOSPC


def test_no_folder_for_temporary_files_is_an_error(video, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(OSError, match="none"), scan(video, np.arange(9), NEAR, large=0):
        raise AssertionError("not reached")


# Interrupted


@pytest.mark.parametrize("isolated", [True, False])
def test_an_interrupt_is_passed_on_and_leaves_nothing(video, scratch, isolated, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    opened = []
    open_ = Sampling.open
    monkeypatch.setattr(Sampling, "open", lambda *given, **more: opened.append(open_(*given, **more)) or opened[-1])
    with (
        pytest.raises(KeyboardInterrupt),
        scan(video, np.arange(99), Sampling(isolated=isolated), large=0, progress=interrupt),
    ):
        raise AssertionError("not reached")
    assert not list(scratch.iterdir())
    with pytest.raises(ValueError, match="closed"):
        next(opened[0])
    if isolated:
        assert opened[0]._source._child._process.poll() is not None


# Broken videos


@pytest.fixture(scope="module")
def halved(folder) -> Path:
    """A video of 150 frames whose index is whole, and whose second half is zeros."""
    path = write(folder / "half.mp4", numbered(150, 128, 192), fps=5, gop=25)
    data = bytearray(path.read_bytes())
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    middle = (start + end) // 2
    data[middle:end] = bytes(end - middle)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("isolated", [True, False])
def test_a_video_that_breaks_is_seen_up_to_there(halved, isolated):
    sampling = Sampling(isolated=isolated)
    with scan(halved, np.arange(150), sampling) as seen:
        assert "is damaged: 33 packets cannot be decoded" in seen.broken
        assert 50 < len(seen.frames) == len(seen.units) < 100
        assert sorted({*seen.frames.tolist(), *seen.report.lost}) == list(range(150))
        assert seen.frames.tolist() == list(range(len(seen.frames)))


def test_what_is_chosen_of_a_broken_video_is_sound(halved):
    selected = select_frames(
        halved, probe(halved, isolated=False), replace(LONG, look=5.0), selector=MaxMin(), temporal_patch_size=2
    )
    assert "damaged" in selected.broken
    frames, chosen, report = read_selected(halved, selected, LONG)
    assert (len(frames), len(chosen), report.lost) == (8, 4, ())
    assert selected.frames.max() < 100


def test_a_video_in_which_nothing_can_be_read_is_an_error(folder):
    path = write(folder / "nothing.mp4", numbered(100, 128, 192), fps=5, gop=200)
    data = bytearray(path.read_bytes())
    info = probe(path, isolated=False)
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[start + 2000 : end] = bytes(end - start - 2000)
    path.write_bytes(data)
    with pytest.raises(ValueError, match="packets cannot be decoded"):
        select_frames(path, info, replace(LONG, look=5.0, start=10), selector=MaxMin())


def test_reading_at_full_size_goes_on_behind_a_break_too(halved):
    frames, report = NEAR.read(halved, np.arange(150))
    assert len(frames) == report.delivered == 150 - len(report.lost)
    assert 50 < len(frames) < 150


def test_a_child_that_dies_on_the_way_ends_the_look_and_is_told(video, monkeypatch):
    def kill(phase, done, total):
        if done == 64:
            opened[0]._source._child._process.kill()

    opened = []
    open_ = Sampling.open
    monkeypatch.setattr(Sampling, "open", lambda *given, **more: opened.append(open_(*given, **more)) or opened[-1])
    with scan(video, np.arange(200), Sampling(), progress=kill) as seen:
        assert "the child that decodes was killed by signal 9" in seen.broken
        assert 64 <= len(seen.frames) < 200
        assert len(seen.report.lost) == 200 - len(seen.frames)


def test_bits_that_flipped_cost_the_frames_they_hit(folder):
    path = flipped(write(folder / "flip.mp4", numbered(150, 128, 192), fps=5, gop=25), 6, seed=1)
    with scan(path, np.arange(150), NEAR) as seen:
        assert seen.report.lost  # else the video is not damaged enough for this test
        assert seen.broken == ""
        assert len(seen.frames) + len(seen.report.lost) == 150


def test_a_unit_that_cannot_be_read_again_is_left_out(video, tmp_path):
    selected = select_frames(
        video, probe(video, isolated=False), replace(LONG, look=5.0), selector=MaxMin(), temporal_patch_size=2
    )
    frames, report = NEAR.read(video, selected.frames)
    gone = int(selected.frames[3])
    left = selected.frames != gone

    def read(self, path, indices, progress):
        kept = replace(frames, pixels=frames.pixels[left], seconds=frames.seconds[left])
        return kept, replace(report, lost=(gone,), delivered=7)

    class Losing(Sampling):
        pass

    Losing.read = read
    got, chosen, told = read_selected(video, selected, Losing(isolated=False))
    assert chosen.tolist() == np.delete(selected.chosen, 1).tolist()
    assert np.array_equal(got.pixels, np.delete(frames.pixels, [2, 3], axis=0))
    assert told.lost == (gone,)
    report = replace(report, lost=tuple(selected.frames[::2].tolist()))
    Losing.read = lambda *_, **__: (frames, report)
    with pytest.raises(ValueError, match=rf"{video}: .*could not be read"):
        read_selected(video, selected, Losing(isolated=False))


# What is chosen


def test_frames_that_slack_moved_are_told_with_their_own_times(video):
    info = probe(video, isolated=False)
    assert info.keyframes.tolist() == list(range(0, 200, 10))
    sampling = replace(LONG, end=39, fps=5, look=2.5, slack=1.0)
    selected = select_frames(video, info, sampling, selector=MaxMin())
    assert np.isin(selected.scanned, info.keyframes).all()
    frames, _, _ = read_selected(video, selected, sampling)
    assert np.array_equal(frames.seconds, info.seconds[selected.frames])


@pytest.mark.parametrize("name", [name for name in KEYFRAMES if not KEYFRAMES.get(name).asks])
@pytest.mark.parametrize("temporal_patch_size", [1, 2])
def test_choosing_is_as_if_all_small_frames_were_at_hand(video, name, temporal_patch_size):
    sampling, selector = replace(LONG, fps=5, look=2.5), KEYFRAMES.get(name)()
    selected = select_frames(
        video,
        probe(video, isolated=False),
        sampling,
        selector=selector,
        temporal_patch_size=temporal_patch_size,
        count=lambda units: units - 1,
    )
    small, _ = NEAR.read(video, sampling.scan_indices(probe(video, isolated=False)), low_res_scan.LOOK)
    rows = ColorLayout().describe(small.pixels).reshape(len(small) // temporal_patch_size, -1)
    want = selector.select(rows, 8 // temporal_patch_size - 1, seconds=small.seconds[::temporal_patch_size])
    assert selected.chosen.tolist() == want.tolist()
    assert (len(selected.scanned), selected.given, len(selected.frames)) == (
        100,
        8 // temporal_patch_size,
        8 - temporal_patch_size,
    )


def test_without_a_selector_the_candidates_are_all(video):
    selected = select_frames(video, probe(video, isolated=False), replace(LONG, look=5.0))
    assert np.array_equal(selected.frames, LONG.candidates(probe(video, isolated=False)))
    assert (selected.given, len(selected.chosen)) == (8, 8)


def test_a_stretch_is_all_that_is_decoded(folder):
    """The video is broken outside of the stretch: who decodes there meets failures."""
    path = write(folder / "stretch.mp4", numbered(200, 128, 192), fps=5, gop=25)
    data = bytearray(path.read_bytes())
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    third = (end - start) // 3
    data[start + third : start + 2 * third] = bytes(third)  # about the frames 67 to 133
    path.write_bytes(data)
    for stretch in ((30, 39), (0, 10)):
        sampling = replace(LONG, start=stretch[0], end=stretch[1], fps=5, look=4.0)
        selected = select_frames(path, probe(path, isolated=False), sampling, selector=MaxMin())
        assert (selected.report.decode_failures, selected.report.lost, selected.broken) == (0, (), "")
        assert stretch[0] * 5 <= selected.scanned.min() <= selected.scanned.max() < stretch[1] * 5
    whole = select_frames(path, probe(path, isolated=False), replace(LONG, fps=5, look=5.0), selector=MaxMin())
    assert "damaged" in whole.broken
    # Both sound parts are seen; a part of a group of images may go with the gap.
    assert np.setdiff1d(np.arange(200), whole.scanned).tolist() == list(whole.report.lost)
    assert whole.scanned.tolist()[:50] == list(range(50))
    assert whole.scanned.tolist()[-25:] == list(range(175, 200))
    assert whole.report.delivered + len(whole.report.lost) == 200


def test_what_cannot_be_is_said_before_anything_is_read(video):
    def refuse(units):
        raise ValueError(f"{units} units cannot be")

    told = []
    with pytest.raises(ValueError, match="8 units cannot be"):
        select_frames(
            video,
            probe(video, isolated=False),
            LONG,
            selector=MaxMin(),
            count=refuse,
            progress=lambda *given: told.append(given),
        )
    assert not told


def test_closed_rows_are_empty():
    held = DiskBackedRows(4)
    assert (held.rows.shape, len(held)) == ((0, 0), 0)
    held.add(np.ones((2, 2), np.float32))
    held.close()
    held.close()
    assert held.rows.size == 0
