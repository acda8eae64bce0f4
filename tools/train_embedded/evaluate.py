"""How often an embedded model answers exactly right on unseen scenes, with all of its visual tokens or with fewer.

`python -m tools.train_embedded.evaluate tiny-llava --n 200 [--recipe kcenter --keep 0.25 --positions compact]`
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from tools.train_embedded.model_specs import MODEL_SPECS
from vtc import reduce_tokens
from vtc.embedded import VIEW_OF, path
from vtc.embedded.exam import asked, asked_videos, exact
from vtc.embedded.questions import SKILLS, SceneQuestion
from vtc.embedded.scene import Scene
from vtc.embedded.spec import HELD_OUT, VALIDATION
from vtc.embedded.video import Video
from vtc.embedded.video_spec import PIXELS
from vtc.embedded.video_spec import SKILLS as VIDEO_SKILLS


def load(name: str, directory: Path | None = None) -> tuple[Any, Any]:
    """The stock processor and fp32 model of the embedded model `name`, from the installation or from `directory`."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    directory = directory or path(name)
    processor = AutoProcessor.from_pretrained(directory, local_files_only=True)
    return processor, AutoModelForImageTextToText.from_pretrained(directory, local_files_only=True).eval()


def prompt(processor: Any, question: str, medium: str | None = "image") -> str:
    """The chat prompt of one `question` about one `medium`, "image" or "video", or about none."""
    content = [*([{"type": medium}] if medium else []), {"type": "text", "text": question}]
    return processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)


@torch.no_grad()
def answer(model: Any, processor: Any, images: list[Image.Image] | None, questions: list[str]) -> list[str]:
    """Greedy answers to `questions[i]` about `images[i]` (None: text alone), one left-padded batch."""
    texts = [prompt(processor, q, None if images is None else "image") for q in questions]
    # InternVL's processor takes the images of a batch row by row.
    media = {} if images is None else {"images": [[image] for image in images]}
    return _generate(model, processor, processor(text=texts, padding=True, return_tensors="pt", **media))


@torch.no_grad()
def answer_videos(model: Any, processor: Any, videos: list[Video], questions: list[str]) -> list[str]:
    """Greedy answers to `questions[i]` about all frames of `videos[i]`, one left-padded batch."""
    texts = [prompt(processor, q, "video") for q in questions]
    facts = [[{"fps": video.fps, "total_num_frames": video.frames}] for video in videos]
    frames = [[video.pixels(PIXELS)] for video in videos]
    options = {"padding": True, "return_tensors": "pt", "do_sample_frames": False}
    return _generate(model, processor, processor(text=texts, videos=frames, video_metadata=facts, **options))


def _generate(model: Any, processor: Any, inputs: Any) -> list[str]:
    inputs = inputs.to(model.device)
    out = model.generate(**inputs, do_sample=False, max_new_tokens=6)
    return processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def exact_match(
    model: Any,
    processor: Any,
    todo: Iterable[tuple[Scene | Video, SceneQuestion]],
    batch: int = 64,
    blind: bool = False,
) -> dict[str, tuple[int, int]]:
    """Right answers and questions by skill, and under "all"; skills that were not asked are left out.

    `todo` is about scenes or about videos alone. `blind`: the questions alone, without the images.
    """
    tally = {skill: [0, 0] for skill in ("all", *SKILLS, *VIDEO_SKILLS)}
    todo = list(todo)
    for start in range(0, len(todo), batch):
        part = todo[start : start + batch]
        videos = [shown for shown, _ in part if isinstance(shown, Video)]
        images = None if blind else [shown.image for shown, _ in part if isinstance(shown, Scene)]
        questions = [q.question for _, q in part]
        if videos and not blind:
            given = answer_videos(model, processor, videos, questions)
        else:
            given = answer(model, processor, images, questions)
        for (_, question), text in zip(part, given, strict=True):
            for skill in ("all", question.skill):
                tally[skill][0] += exact(text, question.answer)
                tally[skill][1] += 1
    return {skill: (right, n) for skill, (right, n) in tally.items() if n}


def main(arguments: list[str] | None = None) -> None:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="tools.train_embedded.evaluate", description=__doc__)
    parser.add_argument("name", choices=tuple(VIEW_OF))
    parser.add_argument("--n", type=int, default=200, help="unseen scenes")
    parser.add_argument("--first", type=int, default=HELD_OUT, help="the first scene's seed")
    parser.add_argument("--per-scene", type=int, default=None, help="at most this many questions a scene")
    parser.add_argument("--videos", action="store_true", help="videos in place of images")
    parser.add_argument("--shifted", action="store_true", help="grounds, sizes and fonts that no training saw")
    parser.add_argument("--blind", action="store_true", help="the questions alone, without the images")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--recipe", help="wrap the model with this recipe; default: all visual tokens")
    parser.add_argument(
        "--keep", type=float, help="the share of visual tokens to keep, at most 1; default: the recipe's own"
    )
    parser.add_argument("--positions", help="original or compact; default: the recipe's own")
    parser.add_argument("--weights", type=Path, help="a directory with this model's weights; default: the packaged")
    options = parser.parse_args(arguments)
    if not HELD_OUT <= options.first < VALIDATION:
        parser.error(f"--first={options.first} is no unseen seed; those are {HELD_OUT} to {VALIDATION - 1}")
    for name in ("n", "per_scene"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')}={value} must be 1 or more")
    if options.videos and not (options.name in MODEL_SPECS and MODEL_SPECS[options.name].videos):
        parser.error(f"--videos: {options.name} was not trained on videos")
    if options.recipe is None and (options.keep is not None or options.positions is not None):
        parser.error("--keep and --positions need a --recipe")
    processor, model = load(options.name, options.weights)
    if options.recipe:
        reduce_tokens(model, options.recipe, keep=options.keep, positions=options.positions)
    seeds = range(options.first, options.first + options.n)
    todo: Iterable[tuple[Scene | Video, SceneQuestion]] = (
        asked_videos(seeds, options.per_scene, options.shifted)
        if options.videos
        else asked(seeds, options.per_scene, options.name, options.shifted)
    )
    batch = 16 if options.videos else 64
    for skill, (right, n) in exact_match(model.to(options.device), processor, todo, batch, options.blind).items():
        print(f"{skill:10} {right / n:6.1%}  {right} of {n}")


if __name__ == "__main__":
    main()
