"""Small videos for tests, written by PyAV: frames that say their own number, in any container, whole or damaged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

TICKS = 90_000
"""Ticks a second of videos whose frames come at times of their own."""
BITS, COLUMNS = 12, 4
"""A number's bits; with four of check they are 16 blocks, four by four."""


def write(
    path: Path,
    frames: Iterable[np.ndarray],
    *,
    fps: float = 30,
    seconds: Sequence[float] | None = None,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    gop: int = 12,
    b_frames: int = 0,
    rotation: int = 0,
    flipped: bool = False,
    start: float = 0.0,
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    sound: bool = False,
) -> Path:
    """Writes `frames`, uint8 RGB (or RGBA) `[H, W, 3]` each, to `path`; the suffix says the container.

    Args:
        fps: frames a second, unless `seconds` gives the time of each.
        start: seconds added to all times; may be negative.
        rotation: degrees counter-clockwise that a player turns the images by; `flipped` mirrors them left to right.
        pixels: FFmpeg's name of the stored pixel format.
        options, muxer: of the encoder and of the container, as FFmpeg spells them.
        sound: adds a track of silence.
    """
    rate = Fraction(fps).limit_denominator(1001)
    base = 1 / rate if seconds is None and start == 0 else Fraction(1, TICKS)
    shift = round(start / base)
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = None
        track = container.add_stream("aac", rate=48_000, layout="mono") if sound else None
        for number, frame in enumerate(frames):
            if stream is None:
                stream = container.add_stream(codec, rate=rate, options={"bf": str(b_frames), **(options or {})})
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt, stream.codec_context.gop_size = pixels, gop
                stream.codec_context.time_base = base
                stream.codec_context.thread_count = 1
                if rotation or flipped:
                    stream.set_display_rotation(rotation, hflip=flipped)
            image = av.VideoFrame.from_ndarray(frame, format="rgba" if frame.shape[2] == 4 else "rgb24")
            time = number / rate if seconds is None else Fraction(seconds[number])
            image.pts, image.time_base = round(time / base) + shift, base
            container.mux(stream.encode(image))
        if stream is not None:
            container.mux(stream.encode(None))
        if track is not None:
            _silence(container, track)
    return path


def _silence(container: av.container.OutputContainer, track: av.AudioStream) -> None:
    """A second of silence."""
    for at in range(0, 48_000, 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, at, Fraction(1, 48_000)
        container.mux(track.encode(frame))
    container.mux(track.encode(None))


def numbered(count: int, height: int = 64, width: int = 96, first: int = 0) -> Iterator[np.ndarray]:
    """`count` frames `[height, width, 3]` that show their numbers, from `first` on."""
    return (image(number, height, width) for number in range(first, first + count))


def image(number: int, height: int = 64, width: int = 96) -> np.ndarray:
    """One frame that shows `number` as black and white blocks; left of the middle reddish, right of it bluish."""
    blocks = (np.array(_bits(number)).reshape(-1, COLUMNS) * 255).astype(np.uint8)
    rows = np.arange(height) * len(blocks) // height
    columns = np.arange(width) * COLUMNS // width
    grey = blocks[rows][:, columns]
    frame = np.repeat(grey[..., None] // 2 + 32, 3, axis=2)
    frame[:, : width // 2, 0] += 64
    frame[:, width // 2 :, 2] += 64
    return frame


def number_of(pixels: np.ndarray) -> int | None:
    """The number that a frame shows, at any size; None where its check does not hold (damaged, turned, mirrored)."""
    height, width = pixels.shape[:2]
    rows = (np.arange(BITS // COLUMNS + 1) * 2 + 1) * height // (2 * (BITS // COLUMNS + 1))
    columns = (np.arange(COLUMNS) * 2 + 1) * width // (2 * COLUMNS)
    read = (pixels[rows][:, columns, 1] > 95).astype(int).ravel().tolist()
    number = int("".join(map(str, read[:BITS])), 2)
    return number if read == _bits(number) else None


EVEN = {
    "mp4": {},
    "mp4-b": {"b_frames": 3},
    "mp4-all-keys": {"gop": 1},
    "mp4-one-key": {"gop": 600, "b_frames": 2, "options": {"sc_threshold": "0"}},
    "mp4-open-gop": {"b_frames": 3, "options": {"x264-params": "open-gop=1:scenecut=0"}},
    "mp4-sound": {"sound": True},
    "mp4-late": {"start": 2.0},
    "mp4-10bit": {"codec": "libx265", "pixels": "yuv420p10le", "options": {"x265-params": "log-level=0:pools=none"}},
    "mp4-odd": {"codec": "libx264", "pixels": "yuv444p"},
    "mkv-b": {"b_frames": 3},
    "webm-vp8": {"codec": "libvpx", "options": {"deadline": "good", "auto-alt-ref": "1", "lag-in-frames": "16"}},
    "webm-vp9": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "ts-b": {"b_frames": 3},
    "ts-negative": {"b_frames": 2, "start": -0.5, "muxer": {"avoid_negative_ts": "disabled"}},
    "mpg": {"codec": "mpeg2video", "b_frames": 2},
    "avi": {"codec": "mpeg4", "b_frames": 2},
}
"""Videos of an even rate, by name: the container, and what is special. All backends read them or say why not."""

UNEVEN = {"mp4-vfr": {"b_frames": 3}, "mkv-vfr": {"b_frames": 3}, "ts-vfr": {"b_frames": 2}}
"""Videos whose frames are shown for one to eight sixtieths of a second."""

UNTIMED = {"h264-raw": {"b_frames": 2}, "mkv-negative": {"start": -0.5, "muxer": {"avoid_negative_ts": "disabled"}}}
"""Videos whose packets have no timestamps, or none that FFmpeg hands on."""

FRAMES = 60


def uneven(count: int = FRAMES) -> list[float]:
    """Times of frames at gaps that vary, from 0 on."""
    gaps = np.random.default_rng(0).integers(1, 9, count - 1) / 60
    return [0.0, *np.cumsum(gaps).tolist()]


def video(folder: Path, name: str) -> Path:
    """The video of that name with `FRAMES` numbered frames, written to `folder` unless it is there."""
    options = {**EVEN, **UNEVEN, **UNTIMED}[name]
    path = folder / f"{name}.{name.split('-')[0]}"
    if not path.exists():
        size = (63, 97) if name == "mp4-odd" else (64, 96)
        write(path, numbered(FRAMES, *size), seconds=uneven() if name in UNEVEN else None, **options)
    return path


def cut(path: Path, share: float) -> Path:
    """A copy of `path` that ends after `share` of its bytes."""
    data = path.read_bytes()
    short = path.with_stem(f"{path.stem}-cut")
    short.write_bytes(data[: int(len(data) * share)])
    return short


def flipped(path: Path, count: int, seed: int = 0, span: tuple[float, float] = (0.3, 0.7)) -> Path:
    """A copy of `path` with `count` bits flipped within `span` of its bytes."""
    data, generator = bytearray(path.read_bytes()), np.random.default_rng(seed)
    for at in generator.integers(int(len(data) * span[0]), int(len(data) * span[1]), count):
        data[at] ^= 1 << int(generator.integers(8))
    broken = path.with_stem(f"{path.stem}-bits{count}-{seed}")
    broken.write_bytes(data)
    return broken


def _bits(number: int) -> list[int]:
    """The bits of `number` and four of check, so that no turn or mirror image of a number is one."""
    if not 0 <= number < 2**BITS:
        raise ValueError(f"number={number} has no place in {BITS} bits")
    check = (number * 7 + 3) % 13
    return [int(bit) for bit in f"{number:0{BITS}b}{check:04b}"]
