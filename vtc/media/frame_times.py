"""When frames are shown, as it is stated to models that know a step from frame to frame and no timestamps.

Models hear of time in three ways. Qwen3-VL, GLM-4V and others read timestamps as text, which their processors write
from `VideoFrames.metadata`: those are times of the video, so that a stretch from 54 s on begins with `<54.2 seconds>`,
the middle of its first two frames. Qwen2.5-VL and the Omni models place frames along an axis by the seconds from one
unit of frames to the next; there positions begin at 0 with the first frame that is shown, wherever in the video that
lies. Others (LLaVA-OneVision, InternVL, Qwen2-VL) know the order of frames alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .video_frames import TICKS, VideoFrames

PER_UNIT = "second_per_grid_ts"
"""Qwen2.5-VL's argument: seconds from one unit of frames to the next, `[videos]`."""
STEPS = (PER_UNIT, "video_second_per_grid")
"""That argument as families call it."""
NUDGE = 0.5 / TICKS
"""Seconds that times may come out late, so that the model's rounding down does not make them a position early."""


def state_times(inputs: Any, videos: Sequence[VideoFrames]) -> None:
    """Put the times of the frames that are shown into `inputs`, where the model takes a step between frames.

    Processors derive that step from the length of the whole video, so that frames of a stretch, or some chosen ones,
    come out spread over all of it. Where units of frames are evenly spaced the step is theirs. Where they are not,
    Qwen2.5-VL gets `[videos, units]` steps in place of `[videos]`: its positions are the unit's number times the step,
    so that a step of `time / number` puts each unit at its own time. If videos of unlike numbers of units share a call,
    and for other models, it is the mean step.

    Args:
        inputs: what the processor made; changed in place.
        videos: the videos among the media, in order.
    """
    for name in STEPS:
        if inputs.get(name) is None or not videos:
            continue
        starts = [_starts(video, int(grid[0])) for video, grid in zip(videos, inputs["video_grid_thw"], strict=True)]
        given = [float(step) for step in inputs[name]]
        steps = [_mean_step(*one) for one in zip(videos, starts, given, strict=True)]
        alike = len({len(one) for one in starts}) == 1
        if name == PER_UNIT and alike and not all(map(_even, starts, steps)):
            inputs[name] = torch.tensor(np.stack([*map(_own_steps, starts, steps)]), dtype=torch.float32)
        else:
            inputs[name] = torch.tensor(steps, dtype=torch.float32)


def on_device(model: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """`inputs` on the model's device and in its dtype, but for times: in bf16 these would be off by up to 0.4 %."""

    def one(name: str, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(one(name, part) for part in value)
        if not isinstance(value, Tensor):
            return value
        cast = value.is_floating_point() and name not in STEPS
        return value.to(model.device, model.dtype if cast else None)

    return {name: one(name, value) for name, value in inputs.items()}


def _starts(video: VideoFrames, units: int) -> NDArray[np.float64]:
    """`[units]` when each unit of frames begins; a last unit that is not full repeats its last frame."""
    starts = video.seconds[:: -(-len(video) // units)]
    assert len(starts) == units, f"{len(video)} frames in {units} units"
    return starts


def _mean_step(video: VideoFrames, starts: NDArray[np.float64], given: float) -> float:
    """Seconds from one unit to the next; of a single one, how long it lasts; `given` where one frame is all."""
    if len(starts) > 1:
        step = (starts[-1] - starts[0]) / (len(starts) - 1)
    elif len(video) > 1:
        step = (video.seconds[-1] - video.seconds[0]) * len(video) / (len(video) - 1)
    else:
        return given
    return round(float(step), 6)  # a step of 1 s must not come out as a little less


def _even(starts: NDArray[np.float64], step: float) -> bool:
    away = starts - starts[0] - step * np.arange(len(starts))
    return float(np.abs(away).max()) <= 1 / TICKS


def _own_steps(starts: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """`[units]` steps that, times the unit's number, give its time after the first; the first unit's plays no part."""
    number = np.arange(1, len(starts))
    return np.concatenate([[step], (starts[1:] - starts[0] + NUDGE) / number])
