"""How often an embedded model answers exactly right on unseen scenes, with all of its visual tokens or with fewer.

`python -m vtc.tiny.evaluate tiny-llava --n 200 [--recipe kcenter --keep 0.25 --positions compact]`
"""

import argparse
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from PIL import Image

from vtc import reduce_tokens
from vtc.tiny import NAMES, path
from vtc.tiny.questions import SKILLS, Question
from vtc.tiny.world import HELD_OUT, Scene


def load(name: str) -> tuple[Any, Any]:
    """The stock processor and fp32 model of the embedded model `name`, from the installation alone."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    directory = path(name)
    processor = AutoProcessor.from_pretrained(directory, local_files_only=True)
    return processor, AutoModelForImageTextToText.from_pretrained(directory, local_files_only=True).eval()


def prompt(processor: Any, question: str) -> str:
    """The chat prompt of one `question` about one picture."""
    content = [{"type": "image"}, {"type": "text", "text": question}]
    return processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)


@torch.no_grad()
def answer(model: Any, processor: Any, images: list[Image.Image], questions: list[str]) -> list[str]:
    """Greedy answers to `questions[i]` about `images[i]`, one left-padded batch."""
    texts = [prompt(processor, q) for q in questions]
    inputs = processor(images=images, text=texts, padding=True, return_tensors="pt").to(model.device)
    out = model.generate(**inputs, do_sample=False, max_new_tokens=6)
    return processor.batch_decode(out[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)


def exact(given: str, truth: str) -> bool:
    """Exact match, blind to case and outer blanks."""
    return given.strip().lower() == truth.strip().lower()


def asked(seeds: Iterable[int], per_scene: int | None = None) -> Iterator[tuple[Scene, Question]]:
    """The questions of each seed's scene, all or the first `per_scene` of them."""
    for seed in seeds:
        scene = Scene(seed)
        for question in scene.questions[:per_scene]:
            yield scene, question


def exact_match(
    model: Any, processor: Any, seeds: Iterable[int], per_scene: int | None = None, batch: int = 64
) -> dict[str, tuple[int, int]]:
    """Right answers and questions by skill, and under "all"; skills that were not asked are left out."""
    tally = {skill: [0, 0] for skill in ("all", *SKILLS)}
    todo = list(asked(seeds, per_scene))
    for start in range(0, len(todo), batch):
        part = todo[start : start + batch]
        given = answer(model, processor, [s.image for s, _ in part], [q.question for _, q in part])
        for (_, question), text in zip(part, given, strict=True):
            for skill in ("all", question.skill):
                tally[skill][0] += exact(text, question.answer)
                tally[skill][1] += 1
    return {skill: (right, n) for skill, (right, n) in tally.items() if n}


def main(arguments: list[str] | None = None) -> None:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="vtc.tiny.evaluate", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--n", type=int, default=200, help="unseen scenes")
    parser.add_argument("--first", type=int, default=HELD_OUT, help="the first scene's seed")
    parser.add_argument("--per-scene", type=int, default=None, help="at most this many questions a scene")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--recipe", help="wrap the model with this recipe; default: all visual tokens")
    parser.add_argument("--keep", type=float, help="the share of visual tokens to keep; default: the recipe's own")
    parser.add_argument("--positions", help="original or compact; default: the recipe's own")
    options = parser.parse_args(arguments)
    if options.first < HELD_OUT:
        parser.error(f"--first={options.first} is a training seed; unseen ones start at {HELD_OUT}")
    processor, model = load(options.name)
    if options.recipe:
        reduce_tokens(model, options.recipe, keep=options.keep, positions=options.positions)
    seeds = range(options.first, options.first + options.n)
    for skill, (right, n) in exact_match(model.to(options.device), processor, seeds, options.per_scene).items():
        print(f"{skill:10} {right / n:6.1%}  {right} of {n}")


if __name__ == "__main__":
    main()
