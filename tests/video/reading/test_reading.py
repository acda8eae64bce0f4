"""One contract for all backends: each frame asked for is that frame, or its loss is told, or the file is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.video.videos import (
    EVEN,
    FRAMES,
    UNEVEN,
    UNTIMED,
    number_of,
    numbered,
    uneven,
    video,
    write,
)
from vtc.video.reading import available, frames, probe

REFUSED = {
    "opencv": {*UNTIMED, "mpg", "avi"},
    "decord": {*UNTIMED, "ts-b", "ts-negative", "ts-vfr", "mpg", "avi", "mp4-open-gop"},
    "torchcodec": {*UNTIMED, "ts-b", "ts-negative", "ts-vfr", "mpg", "avi"},
}
"""Files on which a backend is not exact. It says so, and names one that is."""
CASES = [(backend, name) for backend in available() for name in (*EVEN, *UNEVEN, *UNTIMED)]
EXACT = [(backend, name) for backend, name in CASES if name not in REFUSED.get(backend, set())]


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("videos")


def numbers(path: Path, **options) -> list[int | None]:
    with frames(path, isolated=False, **options) as reading:
        return [number_of(frame.pixels) for frame in reading]


@pytest.mark.parametrize(("backend", "name"), EXACT)
def test_all_frames_come_in_order_each_with_its_time(folder, backend, name):
    with frames(video(folder, name), backend=backend, isolated=False) as reading:
        taken = list(reading)
    assert [number_of(frame.pixels) for frame in taken] == list(range(FRAMES))
    assert [frame.index for frame in taken] == list(range(FRAMES))
    assert np.array_equal([frame.seconds for frame in taken], reading.info.seconds)
    report = reading.report
    assert (report.asked, report.delivered, report.lost, report.replaced) == (FRAMES, FRAMES, (), {})
    assert (report.decode_failures, report.damaged) == (0, ())


@pytest.mark.parametrize(("backend", "name"), EXACT)
@pytest.mark.parametrize("indices", [[0, 59], [1, 2, 13, 30, 58], [24, 48]], ids=str)
def test_frames_by_index_are_those(folder, backend, name, indices):
    assert numbers(video(folder, name), indices=indices, backend=backend) == indices


@pytest.mark.parametrize("name", ["mp4-vfr", "ts-vfr", "mkv-vfr", "mp4-open-gop", "ts-negative"])
@given(chosen=st.sets(st.integers(0, FRAMES - 1), min_size=1, max_size=6))
@settings(max_examples=10)
def test_any_choice_is_exact(folder, name, chosen):
    assert numbers(video(folder, name), indices=sorted(chosen)) == sorted(chosen)


@pytest.mark.parametrize(("backend", "name"), [case for case in CASES if case not in EXACT])
def test_a_backend_that_is_not_exact_on_a_file_refuses_it(folder, backend, name):
    with pytest.raises(ValueError, match="use backend='pyav'"):
        numbers(video(folder, name), backend=backend)


@pytest.mark.parametrize(("backend", "name"), [case for case in CASES if case not in EXACT])
def test_such_a_backend_never_gives_another_frame(folder, backend, name):
    for index in (0, 13, 30, FRAMES - 1):
        try:
            given = numbers(video(folder, name), indices=[index], backend=backend)
        except ValueError as error:
            given = [index] if "use backend='pyav'" in str(error) else [error]
        assert given == [index]


def test_left_alone_decord_does(folder):
    """Control: on open GOPs and in MPEG-TS the library itself hands over other frames."""
    decord = pytest.importorskip("decord")
    for name in ("mp4-open-gop", "ts-b"):
        reader = decord.VideoReader(str(video(folder, name)), num_threads=1)
        told = [reader[index].asnumpy().reshape(64, -1)[:, : 3 * 96].reshape(64, 96, 3) for index in (13, 30)]
        assert [number_of(pixels) for pixels in told] != [13, 30]


@pytest.mark.parametrize("name", UNEVEN)
def test_variable_rates_keep_the_times_of_the_file(folder, name):
    info = probe(video(folder, name), isolated=False)
    assert info.is_vfr
    assert np.allclose(info.seconds, uneven(), atol=6e-4)
    times = np.array(uneven())
    middles = (times[:-1] + times[1:]) / 2
    assert numbers(info.path, seconds=middles) == list(range(FRAMES - 1))
    # Control: the frame at index / fps, as other loaders have it, is another one.
    assert numbers(info.path, indices=[round(times[30] * info.fps)]) != [30]


def test_numbers_tell_a_wrong_frame(folder):
    """Control for this file: reading numbers off frames would show a frame too late, or none."""
    late = numbers(video(folder, "mp4"), indices=list(range(1, 6)))
    assert late == [1, 2, 3, 4, 5] != list(range(5))
    assert number_of(np.zeros((64, 96, 3), dtype=np.uint8)) is None


@pytest.mark.parametrize("backend", available())
@pytest.mark.parametrize(("resize", "shape"), [(48, (32, 48)), (400, (64, 96)), ((40, 80), (80, 40)), (None, (64, 96))])
def test_frames_are_resized_while_decoding(folder, backend, resize, shape):
    with frames(video(folder, "mp4"), indices=[7, 20], resize=resize, backend=backend, isolated=False) as reading:
        taken = list(reading)
    for frame in taken:
        assert frame.pixels.shape == (*shape, 3)
        assert frame.pixels.dtype == np.uint8
        assert frame.pixels.flags.c_contiguous
        assert frame.pixels.flags.writeable
        assert number_of(frame.pixels) == frame.index


@pytest.mark.parametrize("backend", available())
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotation_is_applied(tmp_path, backend, rotation):
    stored = [np.rot90(frame, k=-rotation // 90).copy() for frame in numbered(6)]
    path = write(tmp_path / "turned.mp4", stored, rotation=rotation)
    with frames(path, indices=[1, 4], resize=(48, 32), backend=backend, isolated=False) as reading:
        assert [number_of(frame.pixels) for frame in reading] == [1, 4]
    info = reading.info
    assert (info.width, info.height, info.rotation) == (96, 64, -rotation % 360)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_mirrored_videos_are_put_right(tmp_path, rotation):
    path = write(tmp_path / "mirrored.mp4", numbered(3, 64, 64), rotation=rotation, flipped=True)
    with frames(path, isolated=False) as reading:
        first = next(reading).pixels
    assert reading.info.mirrored
    plain = write(tmp_path / "plain.mp4", numbered(3, 64, 64))
    with frames(plain, isolated=False) as reading:
        stored = next(reading).pixels
    # The stored image, turned as `Info` says and then mirrored.
    info = probe(path, isolated=False)
    assert np.array_equal(first, np.rot90(stored, k=-info.rotation // 90)[:, ::-1])
    for backend in set(available()) & {"opencv", "decord"}:
        with pytest.raises(ValueError, match="mirrored"):
            numbers(path, backend=backend)


@pytest.mark.parametrize("backend", sorted(set(available()) - {"pyav"}))
@pytest.mark.parametrize("name", ["mp4-b", "webm-vp9", "mp4-vfr"])
def test_backends_agree_on_pixels(folder, backend, name):
    for resize in (None, 40):
        taken = []
        for way in ("pyav", backend):
            with frames(video(folder, name), indices=[3, 50], resize=resize, backend=way, isolated=False) as reading:
                taken.append(np.stack([frame.pixels for frame in reading]).astype(int))
        assert np.abs(taken[0] - taken[1]).mean() < 1.0


def test_an_edit_list_hides_frames(tmp_path):
    path = write(tmp_path / "edited.mp4", numbered(60), start=-0.5)
    info = probe(path, isolated=False)
    assert info.frames == 45
    assert not info.truncated
    assert numbers(path) == list(range(15, 60))
    assert numbers(path, indices=[0, 5, 44]) == [15, 20, 59]


def test_a_gif_is_a_video(tmp_path):
    path = write(tmp_path / "moving.gif", numbered(12), codec="gif", pixels="rgb8", fps=10)
    assert numbers(path) == list(range(12))


@pytest.mark.parametrize(("codec", "suffix"), [("ffv1", "mkv"), ("png", "mov")])
def test_transparent_parts_become_white(tmp_path, codec, suffix):
    frame = np.full((32, 32, 4), 255, dtype=np.uint8)
    frame[:, :, 1:3] = 0
    frame[:, :16, 3], frame[:, 16:24, 3] = 0, 128
    pixels = "rgba" if codec == "png" else "yuva444p"
    path = write(tmp_path / f"clear.{suffix}", [frame] * 3, codec=codec, pixels=pixels)
    with frames(path, indices=[1], isolated=False) as reading:
        shown = next(reading).pixels.astype(int)
    assert reading.info.alpha == "on white"
    for column, colour in ((4, (255, 255, 255)), (20, (255, 127, 127)), (28, (255, 0, 0))):
        assert np.abs(shown[:, column] - colour).max() <= 6
    for backend in set(available()) - {"pyav"}:
        with pytest.raises(ValueError, match="transparent"):
            numbers(path, backend=backend)


def test_transparency_beside_the_images_is_said_to_be_ignored(tmp_path):
    options = {"deadline": "realtime", "cpu-used": "8"}
    path = write(tmp_path / "a.webm", numbered(4), codec="libvpx-vp9", pixels="yuva420p", options=options)
    info = probe(path, isolated=False)
    assert info.alpha == "ignored"
    assert "alpha ignored" in str(info)


def test_a_second_frame_of_the_same_time_is_told_by_its_place(folder, tmp_path):
    """Frames that share a timestamp cannot be told by it: then the place in the whole video does."""
    path = write(tmp_path / "twice.h264", numbered(20))
    assert numbers(path, indices=[0, 7, 19]) == [0, 7, 19]
    info = probe(path, isolated=False)
    assert not info.timed
    assert "no timestamps" in str(info)
