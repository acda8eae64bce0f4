"""What `vtc probe` does: it says what videos are, and loads no model code for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from vtc.video.reading import Info, frames, probe

from .console import say_error, shown


def describe(paths: Sequence[Path], *, as_json: bool, track: int | None = None, reader: str = "pyav") -> bool:
    """Print what each video is, and whether all could be read.

    Args:
        paths: of video files.
        as_json: one JSON object a line, of numbers and texts; of a file that is no video, `path` and `error`.
        track: which track of each; None: the one that players show.
        reader: a decoding library that must be able to read the first frame of each.
    """
    good = True
    for path in paths:
        try:
            info = _read(path, track, reader)
        except (OSError, TypeError, ValueError) as problem:
            good = False
            if as_json:
                print(json.dumps({"path": str(path), "error": str(problem)}))
            else:
                say_error(str(problem))
            continue
        if as_json:
            print(json.dumps(facts(info)))
        else:
            Console().print(shown(str(info)), highlight=False, soft_wrap=True)
    return good


def _read(path: Path, track: int | None, reader: str) -> Info:
    """What the video is.

    Raises:
        OSError, ValueError: it cannot be read, or not by `reader`.
    """
    info = probe(path, track=track)
    if reader != "pyav":
        with frames(path, indices=[0], track=track, backend=reader, on_error="raise") as reading:
            next(reading)
    return info


def facts(info: Info) -> Mapping[str, Any]:
    """What JSON can hold of `info`: keyframes as their number, times left out."""
    known = {field.name: getattr(info, field.name) for field in fields(info)}
    single = {name: value for name, value in known.items() if np.ndim(value) == 0}
    tracks = [asdict(track) for track in info.tracks]
    rest = {"tracks": tracks, "audio": list(info.audio), "truncated": info.truncated}
    return {**single, "keyframes": len(info.keyframes), **rest}
