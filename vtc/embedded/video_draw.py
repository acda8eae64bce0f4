"""Pixels of a video: the drawing of scenes, frame by frame; soft cuts are mixed in integers."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from .backgrounds import ground
from .draw import RGB, draw_plate, draw_thing
from .objects import Thing
from .video import Video
from .video_parts import Take
from .video_script import COLORING
from .video_spec import FADE


def draw_frames(video: Video, unit: int, frames: Iterable[int]) -> Iterator[np.ndarray]:
    """Each of `frames`, uint8 RGB `[unit, unit, 3]`; the same pixels for the same seed, frame and unit."""
    grounds: dict[int, np.ndarray] = {}
    tints = _tints(video)

    def draw(take: Take, i: int) -> np.ndarray:
        shot = take.span[0]
        if shot not in grounds:
            rng = np.random.Generator(np.random.PCG64(take.entropy))
            grounds[shot] = ground(rng, take.ground, unit, unit)
        return _draw_take(take, i, grounds[shot].copy(), tints[shot], unit)

    for i in frames:
        take = video.take(i)
        other = _fading(video, take, i)
        image = draw(take, i)
        if other:
            # Two thirds of the take that the frame counts as, one third of the other.
            image = ((image.astype(np.int32) * FADE + draw(other, i)) // (FADE + 1)).astype(np.uint8)
        yield image


def encode(video: Video, path: Path, unit: int) -> Path:
    """See `Video.save`."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=video.fps, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = unit, unit, "yuv444p"
        for frame in draw_frames(video, unit, range(video.frames)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def _tints(video: Video) -> dict[int, np.ndarray]:
    """How far the color of each actor is from the color's usual RGB, `[actors, 3]`, by the first frame of its shot."""
    rng = np.random.Generator(np.random.PCG64([video.seed, COLORING]))
    return {take.span[0]: rng.integers(-14, 15, (len(take.actors), 3)) for take in video.takes}


def _fading(video: Video, take: Take, i: int) -> Take | None:
    """The other take that a soft cut mixes into frame `i` of `take`, if there is one."""
    at = video.takes.index(take)
    if take.soft and i == take.span[0]:
        return video.takes[at - 1]
    if i == take.span[1] - 1 and at + 1 < len(video.takes) and video.takes[at + 1].soft:
        return video.takes[at + 1]
    return None


def _draw_take(take: Take, i: int, image: np.ndarray, tints: np.ndarray, unit: int) -> np.ndarray:
    """What `take` shows in frame `i`, drawn onto its ground."""
    for actor, item in take.items(i):
        if isinstance(item, Thing):
            draw_thing(image, item, np.clip(np.array(RGB[item.color]) + tints[actor], 0, 255), unit)
        else:
            draw_plate(image, item, unit)
    return image
