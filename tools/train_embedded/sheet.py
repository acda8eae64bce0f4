"""A sheet of scenes and videos of the drawn world: `python -m tools.train_embedded.sheet docs/world.png`."""

import argparse
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image

from vtc.embedded.scene import Scene
from vtc.embedded.spec import KINDS
from vtc.embedded.video import Video

SIDE, ACROSS = 112, 8


def scenes(kind: str, n: int, shifted: bool = False) -> list[np.ndarray]:
    """The first `n` square images of training scenes of `kind`, uint8 `[112, 112, 3]`."""
    found = (Scene(seed, "native", shifted) for seed in count())
    squares = (s for s in found if s.kind == kind and s.aspect == 1)
    return [_small(next(squares).pixels()) for _ in range(n)]


def strip(seed: int) -> np.ndarray:
    """Eight frames of a video, evenly spaced, side by side."""
    video = Video(seed)
    frames = np.linspace(0, video.frames - 1, ACROSS).round().astype(int)
    return np.concatenate([_small(video.frame(int(i))) for i in frames], 1)


def _small(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX))


def main(arguments: list[str] | None = None) -> None:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="tools.train_embedded.sheet", description=__doc__)
    parser.add_argument("file", type=Path, help="the PNG to write")
    options = parser.parse_args(arguments)
    rows = [np.concatenate(scenes(kind, ACROSS), 1) for kind in KINDS]
    rows += [np.concatenate([p for kind in KINDS for p in scenes(kind, 2, shifted=True)][:ACROSS], 1)]
    rows += [strip(seed) for seed in (1, 2, 3)]
    Image.fromarray(np.concatenate(rows)).quantize(128).save(options.file, optimize=True)


if __name__ == "__main__":
    main()
