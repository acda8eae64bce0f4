"""Questions about images and videos as a model takes them, by its processor's own chat template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from PIL import Image

from vtc.adapters import find
from vtc.media.frame_times import on_device, state_times
from vtc.media.video_frames import VideoFrames

Medium = Image.Image | VideoFrames


def frames_are_images(model: Any) -> bool:
    """Whether videos reach `model` as images, so that a recipe needs `images_as="frames"` to share over frames."""
    return "video" not in find(model).placeholders


def inputs(
    model: Any, processor: Any, questions: Sequence[str], media: Sequence[Medium] | None = None
) -> Mapping[str, Any]:
    """`processed`, on the model's device and in its dtype."""
    return on_device(model, processed(processor, questions, media))


def processed(processor: Any, questions: Sequence[str], media: Sequence[Medium] | None = None) -> Any:
    """Return the processor's inputs for `questions[i]` about `media[i]`, or about nothing, padded left.

    No frame is left out. A processor that takes no videos gets the frames as images. Times are those of the frames
    that are shown, as the model takes them (`vtc.media.frame_times`).
    """
    content: list[list[dict[str, Any]]] = [[{"type": "text", "text": question}] for question in questions]
    options: dict[str, Any] = {"padding": True} if len(questions) > 1 else {}
    for parts, medium in zip(content, media or (), strict=media is not None):
        if isinstance(medium, Image.Image):
            parts.insert(0, {"type": "image", "image": medium})
        elif getattr(processor, "video_processor", None) is None:
            parts[:0] = [{"type": "image", "image": Image.fromarray(frame)} for frame in medium.pixels]
        else:
            parts.insert(0, {"type": "video", "video": medium.pixels})
            options["do_sample_frames"] = False
            options.setdefault("video_metadata", []).append([medium.metadata()])
    with _padding_left(processor.tokenizer):
        made = processor.apply_chat_template(
            [[{"role": "user", "content": parts}] for parts in content],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs=options,
        )
    state_times(made, [medium for medium in media or () if isinstance(medium, VideoFrames)])
    return made


@contextmanager
def _padding_left(tokenizer: Any) -> Iterator[None]:
    before = tokenizer.padding_side
    tokenizer.padding_side = "left"
    try:
        yield
    finally:
        tokenizer.padding_side = before
