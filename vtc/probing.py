"""What `vtc probe` does: it says what videos are, and loads no model code for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

from vtc.video.reader import Info, probe

from .console import say_error


def describe(paths: Sequence[Path], *, as_json: bool) -> bool:
    """Prints what each video is, and whether all could be read.

    Args:
        paths: of video files.
        as_json: one JSON object a line, of numbers and texts; of a file that is no video, `path` and `error`.
    """
    good = True
    for path in paths:
        try:
            info = probe(path)
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
            Console().print(escape(str(info)), highlight=False, soft_wrap=True)
    return good


def facts(info: Info) -> Mapping[str, Any]:
    """What JSON can hold of `info`: keyframes as their number, times left out."""
    known = {field.name: getattr(info, field.name) for field in fields(info)}
    single = {name: value for name, value in known.items() if np.ndim(value) == 0}
    return {**single, "keyframes": len(info.keyframes), "truncated": info.truncated}
