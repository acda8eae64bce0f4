"""Bad input: a clear error, or a loss that is told; never a hang, never a frame that is another one in silence."""

from __future__ import annotations

import math
import os
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

import vtc
from tests.video.videos import (
    cut,
    flipped,
    number_of,
    numbered,
    video,
    write,
)
from vtc.video.reading import (
    Limits,
    available,
    frames,
    probe,
)

COUNT = 120


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="session")
def videos(folder) -> dict[str, Path]:
    """Videos of `COUNT` frames to be damaged."""
    options = {"deadline": "realtime", "cpu-used": "8"}
    kinds = {
        "fast.mp4": {"muxer": {"movflags": "faststart"}, "b_frames": 2},
        "plain.mp4": {},
        "b.mkv": {"b_frames": 2},
        "b.ts": {"b_frames": 2},
        "vp9.webm": {"codec": "libvpx-vp9", "options": options},
    }
    return {name: write(folder / name, numbered(COUNT, 96, 128), gop=24, **kind) for name, kind in kinds.items()}


def refused(path: Path, error: type[Exception], *words: str) -> None:
    """Both ways in raise that, naming the file."""
    for way in (probe, frames):
        with pytest.raises(error) as told:
            way(path, isolated=False)
        for word in (path.name, *words):
            assert word in str(told.value)


def test_what_is_no_video_is_refused(tmp_path, folder):
    refused(tmp_path / "none.mp4", FileNotFoundError, "no such file")
    refused(tmp_path, IsADirectoryError, "directory")
    (tmp_path / "empty.mp4").touch()
    refused(tmp_path / "empty.mp4", ValueError, "0 bytes")
    (tmp_path / "text.mp4").write_text("this is no video at all\n" * 100)
    refused(tmp_path / "text.mp4", ValueError, "no video")
    os.mkfifo(tmp_path / "pipe.mp4")
    refused(tmp_path / "pipe.mp4", OSError, "regular")


def test_sound_is_no_video(tmp_path):
    with av.open(str(tmp_path / "sound.m4a"), "w") as container:
        track = container.add_stream("aac", rate=48_000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 48_000
        container.mux([*track.encode(silence), *track.encode(None)])
    refused(tmp_path / "sound.m4a", ValueError, "sound only")


STILLS = ["png", "jpg", "webp", "bmp", "tif", "gif", "ico"]
if ".avif" in Image.registered_extensions():  # Pillow writes it from 11.3 on
    STILLS.append("avif")


@pytest.mark.parametrize("suffix", STILLS)
def test_a_still_image_is_sent_to_where_images_go(tmp_path, suffix):
    path = tmp_path / f"still.{suffix}"
    Image.fromarray(np.full((32, 32, 3), 90, dtype=np.uint8)).save(path)
    refused(path, ValueError, "image", "load_image")


def test_so_is_a_photograph():
    for path in (Path(vtc.__file__).parent / "embedded" / "photographs").glob("*.jpg"):
        refused(path, ValueError, "image", "load_image")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{other}\n#EXT-X-ENDLIST\n"),
        ("list.txt", "ffconcat version 1.0\nfile {other}\n"),
        ("list.mp4", "ffconcat version 1.0\nfile {other}\n"),
    ],
)
def test_playlists_that_name_other_files_stay_closed(folder, tmp_path, name, text):
    other = video(folder, "ts-b")
    (tmp_path / other.name).write_bytes(other.read_bytes())
    (tmp_path / name).write_text(text.format(other=other.name))
    # Control: FFmpeg itself follows it.
    if name != "list.mp4":
        with av.open(str(tmp_path / name), options={"safe": "0"} if "concat" in text else {}) as container:
            assert container.streams.video
    refused(tmp_path / name, ValueError, "no video")


@pytest.mark.parametrize("name", ["a:b.mp4", "http:x.mp4", "100%.mp4", "-i.mp4", "%03d.mp4", "ä b?.mp4"])
def test_names_are_names(folder, tmp_path, name, monkeypatch):
    (tmp_path / name).write_bytes(video(folder, "mp4").read_bytes())
    monkeypatch.chdir(tmp_path)
    with frames(name, indices=[3], isolated=False) as reading:
        assert [number_of(frame.pixels) for frame in reading] == [3]


def test_no_frames_one_frame(tmp_path):
    with av.open(str(tmp_path / "none.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        container.start_encoding()
    refused(tmp_path / "none.mp4", ValueError)
    path = write(tmp_path / "one.mp4", numbered(1))
    for backend in available():
        with frames(path, backend=backend, isolated=False) as reading:
            assert [number_of(frame.pixels) for frame in reading] == [0]
        assert reading.info.duration == pytest.approx(1 / 30)
        assert reading.info.fps == pytest.approx(30)


@pytest.mark.parametrize("name", ["fast.mp4", "b.mkv", "vp9.webm"])
@pytest.mark.parametrize("backend", available())
def test_a_video_that_was_cut_short_gives_what_is_there_and_says_so(videos, name, backend):
    path = cut(videos[name], 0.6)
    with frames(path, backend=backend, isolated=False, end=1.0) as reading:
        assert [number_of(frame.pixels) for frame in reading] == list(range(30))
    info = reading.info
    assert 30 < info.frames < COUNT
    assert info.truncated
    assert "cut short" in str(info)
    assert not probe(videos[name], isolated=False).truncated


@pytest.mark.parametrize("name", ["fast.mp4", "b.mkv", "vp9.webm"])
def test_the_packet_that_was_cut_is_told(videos, name):
    with frames(cut(videos[name], 0.6), isolated=False) as reading:
        told = {frame.index: number_of(frame.pixels) for frame in reading}
    report, last = reading.report, reading.info.frames - 1
    assert sorted({*told, *report.lost}) == list(range(last + 1))
    wrong = {index for index, number in told.items() if number != index}
    assert wrong <= set(report.damaged)
    assert set(report.damaged) <= set(range(last - 30, last + 1))


def test_an_mp4_without_its_index_is_refused(videos):
    refused(cut(videos["plain.mp4"], 0.6), ValueError, "cut short")


@pytest.mark.parametrize("name", ["fast.mp4", "plain.mp4", "b.mkv", "b.ts"])
def test_bit_errors_are_told(videos, name):
    """A frame that shows another number, or none, is reported as lost or as damaged."""
    failed = 0
    for seed in range(5):
        with frames(flipped(videos[name], 3, seed), isolated=False) as reading:
            told = {frame.index: number_of(frame.pixels) for frame in reading}
        report = reading.report
        assert report.delivered == len(told)
        assert sorted({*told, *report.lost}) == list(range(reading.info.frames))
        assert (report.decode_failures > 0) >= bool(report.lost)
        failed += report.decode_failures
        wrong = {index for index, number in told.items() if number != index}
        if report.decode_failures:
            assert len(wrong - set(report.damaged)) <= 2, "concealed damage that FFmpeg does not tell is rare"
    assert failed or name == "b.ts"


def test_frames_that_cannot_be_read_are_skipped_replaced_or_raised(videos):
    path = broken(videos)
    with frames(path, isolated=False) as reading:
        delivered = [frame.index for frame in reading]
    lost = reading.report.lost
    assert lost
    assert delivered == [index for index in range(COUNT) if index not in lost]

    with frames(path, isolated=False, on_error="nearest") as reading:
        taken = {frame.index: frame for frame in reading}
    report = reading.report
    assert list(taken) == list(range(COUNT))
    assert tuple(report.replaced) == lost
    assert report.lost == ()
    assert report.delivered == report.asked == COUNT
    for index, source in report.replaced.items():
        readable = set(delivered)
        assert source == min(readable, key=lambda other: (abs(other - index), other))
        assert np.array_equal(taken[index].pixels, taken[source].pixels)
        assert taken[index].seconds == reading.info.seconds[index]

    with frames(path, isolated=False, on_error="raise") as reading:
        before = []
        with pytest.raises(ValueError, match=rf"frame {lost[0]} .*\({lost[0]} of {COUNT} "):
            before.extend(frame.index for frame in reading)
        assert reading.report.lost == lost[:1]


def broken(videos: dict[str, Path]) -> Path:
    """A video of which some packets cannot be decoded."""
    path, target = videos["plain.mp4"], videos["plain.mp4"].with_stem("broken")
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for number in (30, 31, 32, 77):
        at, size = packets[number]
        data[at + 4 : at + size] = b"\xff" * (size - 4)
    target.write_bytes(data)
    return target


@pytest.mark.parametrize("indices", [[31], [10, 31, 90], [76, 77, 78]], ids=str)
def test_a_lost_frame_is_lost_whatever_way_it_is_looked_for(videos, indices):
    path = broken(videos)
    with frames(path, indices=indices, isolated=False) as reading:
        told = [frame.index for frame in reading]
    assert told == [index for index in indices if index not in (31, 77)]
    assert set(reading.report.lost) == {31, 77} & set(indices)


@pytest.mark.parametrize("backend", sorted(set(available()) - {"pyav"}))
def test_other_backends_lose_the_same_frames_or_refuse(videos, backend):
    path = broken(videos)
    try:
        with frames(path, backend=backend, isolated=False) as reading:
            told = {frame.index for frame in reading}
        outcome = told.isdisjoint({30, 31, 32, 77})
    except ValueError as error:
        outcome = "use backend='pyav'" in str(error)
    assert outcome


def test_too_many_failures_end_a_reading(videos):
    path = broken(videos)
    with (
        frames(path, isolated=False, limits=Limits(failures=2)) as reading,
        pytest.raises(ValueError, match=r"3 packets .* 2 may fail.*Limits\(failures"),
    ):
        list(reading)
    with pytest.raises(ValueError, match=r"broken\.mp4 is closed"):
        next(reading)


@pytest.mark.parametrize("limit", [{"pixels": 96 * 64 - 1}, {"seconds": 1.5}, {"frames": 59}])
def test_limits_hold_before_anything_is_decoded(folder, limit):
    name = next(iter(limit))
    for path in (video(folder, "mp4"), video(folder, "h264-raw")):
        if not (name == "seconds" and path.suffix == ".h264"):
            with pytest.raises(ValueError, match=rf"{name}.*Limits\({name}="):
                probe(path, isolated=False, limits=Limits(**limit))
    exact = Limits(pixels=96 * 64, seconds=2, frames=60)
    assert probe(video(folder, "mp4"), isolated=False, limits=exact).frames == 60


def test_8k_is_read_and_twice_that_is_not(tmp_path):
    red = np.zeros((4320, 7680, 3), dtype=np.uint8)
    red[..., 0] = 200
    path = write(tmp_path / "8k.mov", [red], codec="mjpeg", pixels="yuvj420p")
    with frames(path, resize=192, isolated=False) as reading:
        pixels = next(reading).pixels
    assert pixels.shape == (108, 192, 3)
    assert np.abs(pixels.astype(int) - (200, 0, 0)).max() <= 6
    with pytest.raises(ValueError, match="pixels"):
        probe(path, isolated=False, limits=Limits(pixels=4096 * 2160))


def test_a_stream_may_grow_within_the_limit_alone(tmp_path):
    """A first image within the limit does not let a later one in."""
    small, large = (write(tmp_path / f"{n}.ts", numbered(30, 64 * n, 96 * n)) for n in (1, 4))
    both = tmp_path / "grows.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    with frames(both, isolated=False) as reading:
        assert {frame.pixels.shape for frame in reading} == {(64, 96, 3)}
    assert max(reading.report.resized) >= 30
    with frames(both, isolated=False, limits=Limits(pixels=96 * 64)) as reading:
        assert all(number_of(frame.pixels) == frame.index for frame in reading)
        assert max(set(range(reading.info.frames)) - set(reading.report.lost)) < 30


@example(name="b.ts", share=0.9228801092897453, bits=13, seed=180)  # damage that looks like a further stream
@given(
    name=st.sampled_from(["fast.mp4", "b.mkv", "b.ts", "vp9.webm"]),
    share=st.floats(0.02, 1.0),
    bits=st.integers(0, 40),
    seed=st.integers(0, 1000),
)
def test_whatever_is_broken_ends_in_an_error_or_an_account(videos, name, share, bits, seed):
    path = cut(videos[name], share)
    if path.stat().st_size:
        path = flipped(path, bits, seed, span=(0.0, 1.0))
    try:
        with frames(path, isolated=False, end=math.inf, start=0.0) as reading:
            indices = [frame.index for frame in reading]
    except (ValueError, OSError) as error:
        assert path.name in str(error)  # noqa: PT017
        return
    report = reading.report
    assert sorted([*indices, *report.lost]) == list(range(reading.info.frames))
    assert report.delivered == len(indices)
    assert len(reading.info.seconds) == reading.info.frames
    assert (np.diff(reading.info.seconds) > 0).all()


def test_where_decord_fails_at_a_sound_frame_it_is_there_all_the_same(folder, monkeypatch):
    import decord

    taken, real = [], decord.VideoReader.__getitem__

    def now_and_then(reader, place):
        taken.append(place)
        if len(taken) % 3 == 0:
            raise decord.DECORDError("Error while feeding the filter graph")
        return real(reader, place)

    monkeypatch.setattr(decord.VideoReader, "__getitem__", now_and_then)
    with frames(video(folder, "mp4"), backend="decord", indices=range(20), isolated=False) as reading:
        assert [number_of(frame.pixels) for frame in reading] == list(range(20))
    assert reading.report.decode_failures == len(taken) // 3 > 0


def test_an_address_is_told():
    for read in (probe, frames):
        with pytest.raises(ValueError, match=r"https://example\.org/video\.mp4 is an address"):
            read("https://example.org/video.mp4")


def test_a_pyav_that_converts_colours_wrongly_is_refused(folder, monkeypatch):
    path = video(folder, "mp4")
    monkeypatch.setattr("vtc.video.reading.opening.PYAV", 16)
    with pytest.raises(OSError, match=rf"PyAV {av.__version__} .*'av>=17'"):
        probe(path, isolated=False)
