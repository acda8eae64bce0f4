"""Pixels of a film: the drawing of scenes, frame by frame; soft cuts are mixed in integers."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from .backgrounds import ground
from .draw import RGB, draw_plate, draw_thing
from .objects import Thing
from .video import Film
from .video_parts import Take
from .video_script import COLORING
from .video_spec import FADE


def draw_frames(film: Film, unit: int, frames: Iterable[int]) -> Iterator[np.ndarray]:
    """Each of `frames`, uint8 RGB `[unit, unit, 3]`; the same pixels for the same seed, frame and unit."""
    grounds: dict[int, np.ndarray] = {}
    tints = _tints(film)

    def draw(take: Take, i: int) -> np.ndarray:
        shot = take.span[0]
        if shot not in grounds:
            rng = np.random.Generator(np.random.PCG64(take.entropy))
            grounds[shot] = ground(rng, take.ground, unit, unit)
        return _draw_take(take, i, grounds[shot].copy(), tints[shot], unit)

    for i in frames:
        take = film.take(i)
        other = _fading(film, take, i)
        picture = draw(take, i)
        if other:
            # Two thirds of the take that the frame counts as, one third of the other.
            picture = ((picture.astype(np.int32) * FADE + draw(other, i)) // (FADE + 1)).astype(np.uint8)
        yield picture


def encode(film: Film, path: Path, unit: int) -> Path:
    """See `Film.save`."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=film.fps, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = unit, unit, "yuv444p"
        for frame in draw_frames(film, unit, range(film.frames)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def _tints(film: Film) -> dict[int, np.ndarray]:
    """How far the color of each actor is from the color's usual RGB, `[actors, 3]`, by the first frame of its shot."""
    rng = np.random.Generator(np.random.PCG64([film.seed, COLORING]))
    return {take.span[0]: rng.integers(-14, 15, (len(take.actors), 3)) for take in film.takes}


def _fading(film: Film, take: Take, i: int) -> Take | None:
    """The other take that a soft cut mixes into frame `i` of `take`, if there is one."""
    at = film.takes.index(take)
    if take.soft and i == take.span[0]:
        return film.takes[at - 1]
    if i == take.span[1] - 1 and at + 1 < len(film.takes) and film.takes[at + 1].soft:
        return film.takes[at + 1]
    return None


def _draw_take(take: Take, i: int, picture: np.ndarray, tints: np.ndarray, unit: int) -> np.ndarray:
    """What `take` shows in frame `i`, drawn onto its ground."""
    for actor, item in take.items(i):
        if isinstance(item, Thing):
            draw_thing(picture, item, np.clip(np.array(RGB[item.color]) + tints[actor], 0, 255), unit)
        else:
            draw_plate(picture, item, unit)
    return picture
