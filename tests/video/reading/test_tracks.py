"""Which of several tracks is read, and what is said of the others."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from tests.video.videos import write
from vtc.video import Sampling
from vtc.video.reading import frames, probe

NONE, DEFAULT = Disposition(0), Disposition.default
COVER, THUMBNAILS, STILL = Disposition.attached_pic, Disposition.timed_thumbnails, Disposition.still_image


def tracks(path: Path, *given: tuple[tuple[int, int], int, Disposition], sound: bool = False) -> Path:
    """Writes a file of tracks: the size of each, its frames, its marks."""
    with av.open(str(path), "w") as out:
        if sound:
            out.add_stream("aac", rate=8000)
        streams = []
        for (width, height), count, marks in given:
            stream = out.add_stream("mjpeg" if marks & COVER else "libx264", rate=10)
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuvj420p" if marks & COVER else "yuv420p"
            stream.disposition = marks
            streams.append((stream, count))
        for stream, count in streams:
            for i in range(count):
                pixels = np.full((stream.height, stream.width, 3), 20 * i % 255, np.uint8)
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=stream.pix_fmt)
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
    return path


POSTER, VIDEO, OTHER = ((64, 64), 1), ((160, 96), 20), ((96, 160), 20)


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
@pytest.mark.parametrize(
    ("marks", "read"),
    [
        ((NONE, DEFAULT), 1),
        ((DEFAULT, NONE), 0),
        ((DEFAULT, DEFAULT), 0),
        ((NONE, NONE), 0),
    ],
)
def test_the_default_is_read_and_else_the_first(tmp_path, suffix, marks, read):
    path = tracks(tmp_path / f"x.{suffix}", (*POSTER, marks[0]), (*VIDEO, marks[1]))
    info = probe(path)
    assert (info.track, info.width, info.frames) == (read, [64, 160][read], [1, 20][read])
    if suffix == "mkv" or any(marks):  # an mp4 has at least one
        assert [track.default for track in info.tracks] == [bool(mark) for mark in marks]
    assert [one.index for one in info.others] == [1 - read]
    with frames(path) as reading:
        assert next(reading).pixels.shape == [(64, 64, 3), (96, 160, 3)][read]


def test_what_accompanies_a_video_is_not_it(tmp_path):
    path = tracks(tmp_path / "x.mp4", (*POSTER, COVER), (*VIDEO, NONE))
    info = probe(path)
    cover = next(track for track in info.tracks if track.kind)
    assert (info.width, info.frames, cover.kind) == (160, 20, "cover image")
    assert info.choice == ""
    assert "has track " in str(info)
    assert "cover image" in str(info)


def test_a_cover_alone_is_no_video(tmp_path):
    path = tracks(tmp_path / "x.mp4", (*POSTER, COVER), sound=True)
    with pytest.raises(ValueError, match=r"has sound only|no track of images"):
        probe(path)


def test_a_track_can_be_named(tmp_path):
    path = tracks(tmp_path / "x.mkv", (*VIDEO, NONE), (*OTHER, DEFAULT), sound=True)
    numbers = [track.index for track in probe(path).tracks]
    for number, shape in zip(numbers, ((96, 160, 3), (160, 96, 3)), strict=True):
        assert probe(path, track=number).track == number
        assert probe(path, track=np.int64(number)).track == number
        for isolated in (True, False):
            with frames(path, track=number, isolated=isolated) as reading:
                assert next(reading).pixels.shape == shape
        seen, _ = Sampling(track=number).read(path, np.arange(3))
        assert seen.pixels.shape[1:] == shape
    assert asdict(probe(path, isolated=False).tracks[0]) == asdict(probe(path).tracks[0])


@pytest.mark.parametrize("isolated", [True, False])
def test_a_track_that_is_not_there_names_those_that_are(tmp_path, isolated):
    path = tracks(tmp_path / "x.mkv", (*VIDEO, NONE), (*OTHER, DEFAULT))
    wanted = r"track=7 is no track of images in .*, which has track 0 \(h264, 160 x 96\); track 1 \(h264, 96 x 160"
    with pytest.raises(ValueError, match=wanted):
        probe(path, track=7, isolated=isolated)


@pytest.mark.parametrize(("track", "kind"), [(-1, ValueError), (True, TypeError), ("1", TypeError), (1.0, TypeError)])
def test_what_is_no_number_of_a_track(tmp_path, track, kind):
    with pytest.raises(kind, match="track="):
        probe(tmp_path / "x.mkv", track=track)
    with pytest.raises(kind, match="track="):
        Sampling(track=track)


@pytest.mark.parametrize("backend", ["opencv", "decord"])
def test_other_backends_read_the_same_track_or_refuse(tmp_path, backend):
    two = tracks(tmp_path / "x.mkv", (*VIDEO, NONE), (*VIDEO, DEFAULT))
    with pytest.raises(ValueError, match="several tracks"):
        list(frames(two, backend=backend))
    cover = tracks(tmp_path / "y.mp4", (*VIDEO, NONE), (*POSTER, COVER))
    with frames(cover, backend=backend) as reading, frames(cover) as right:
        assert [one.index for one in reading] == [one.index for one in right] == list(range(20))


def test_several_are_told(tmp_path):
    path = tracks(tmp_path / "x.mkv", (*VIDEO, NONE), (*OTHER, DEFAULT), sound=True)
    info = probe(path)
    assert f"track {info.track} (h264, 96 x 160, default) is read; there are track" in info.choice
    assert info.choice in str(info)
    assert info.audio == ("aac",)
    assert "has sound (aac), which is not used" in str(info)
    plain = probe(write(tmp_path / "plain.mp4", [np.zeros((64, 64, 3), np.uint8)] * 3))
    assert (plain.choice, plain.audio, "track" in str(plain), "sound" in str(plain)) == ("", (), False, False)
