"""Videos drawn from an integer seed, in which objects appear, leave, move, change color and shots are cut.

The rules are `vtc.embedded.video_spec`. Coordinates are units (`spec.UNIT` pixels by default), origin at the top left.
"""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .placement import draw_share, pick
from .spec import HELD_OUT, UNIT, VALIDATION
from .video_parts import (
    Actor,
    State,
    Take,
    VideoEvent,
)
from .video_script import SCRIPT, write
from .video_spec import (
    FPS,
    KINDS,
    PIXELS,
    SHARES,
)

if TYPE_CHECKING:
    from .questions import SceneQuestion

__all__ = ["HELD_OUT", "VALIDATION", "Actor", "State", "Take", "Video", "VideoEvent"]


class Video:
    """The video of `seed`: the same things, pixels and questions in every process.

    Attributes: `kind` (of `video_spec.KINDS`), `frames` (how many), `fps`, `takes` (what each shot shows), `shots` (the
    first frame of each), `actors` (of all shots). A frame is one unit wide and high. Raises ValueError for a negative
    seed.
    """

    width = height = 1.0
    fps = FPS

    def __init__(self, seed: int, shifted: bool = False) -> None:
        """Write the script of `seed` (0 or more); `shifted`: on grounds, in fonts and sizes that are never trained."""
        if seed < 0:
            raise ValueError(f"seed={seed} must be 0 or more")
        self.seed, self.shifted = seed, shifted
        rng = np.random.Generator(np.random.PCG64([seed, SCRIPT]))
        self.kind = draw_share(rng, SHARES)
        self.frames = pick(rng, KINDS[self.kind].frames)
        self.takes: tuple[Take, ...] = tuple(write(rng, seed, self.kind, self.frames, shifted))
        self.shots: tuple[int, ...] = tuple(take.span[0] for take in self.takes)
        self.actors: tuple[Actor, ...] = tuple(actor for take in self.takes for actor in take.actors)

    def __repr__(self) -> str:
        """Describe the events for a person."""
        return f"Video({self.seed}: {self.frames} frames, {', '.join(f'{e.frame} {e.name}' for e in self.events)})"

    @cached_property
    def events(self) -> tuple[VideoEvent, ...]:
        """All that happens, by frame."""
        cuts = [VideoEvent(take.span[0], "soft cut" if take.soft else "hard cut") for take in self.takes[1:]]
        return tuple(sorted([*cuts, *(e for actor in self.actors for e in actor.events)], key=lambda e: e.frame))

    def take(self, i: int) -> Take:
        """The take that frame `i` belongs to; the two frames of a soft cut belong one to each.

        Raises ValueError for a frame that the video does not have.
        """
        if not 0 <= i < self.frames:
            raise ValueError(f"i={i} is no frame of this video; it has frames 0 to {self.frames - 1}")
        return next(take for take in self.takes if i < take.span[1])

    def state(self, i: int) -> State:
        """The things and plates that frame `i` shows; `labels.patch_labels` reads it as it reads a scene."""
        return self.take(i).state(i)

    def frame(self, i: int, unit: int = UNIT) -> np.ndarray:
        """Frame `i`, uint8 RGB `[unit, unit, 3]`; ValueError for a frame that the video does not have."""
        from .video_draw import draw_frames

        return next(draw_frames(self, unit, [i]))

    def pixels(self, unit: int = UNIT) -> np.ndarray:
        """All frames, uint8 RGB `[frames, unit, unit, 3]`."""
        from .video_draw import draw_frames

        return np.stack(list(draw_frames(self, unit, range(self.frames))))

    def save(self, path: str | Path, unit: int = PIXELS) -> Path:
        """Write the video to `path`, H.264 in the container that its suffix names, and return the path.

        By default it is as large as models are shown it. Colors are kept to a level or two. `unit` must be even.
        """
        from .video_draw import encode

        return encode(self, Path(path), unit)

    @cached_property
    def questions(self) -> "list[SceneQuestion]":
        """Questions with exact answers, each labelled by its skill; never an ambiguous one."""
        from .video_questions import ask

        return ask(self)
