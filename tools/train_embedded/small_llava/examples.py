"""Training examples: an image with what its patches show, and dialogues about it in the language model's tokens."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tools.train_embedded.hard_examples import hard_questions
from tools.train_embedded.labels import look_facts, patch_labels
from tools.train_embedded.small_llava.model import SIDE
from tools.train_embedded.small_llava.packing import Dialogue
from vtc.embedded.objects import Plate, Thing
from vtc.embedded.placement import pick
from vtc.embedded.questions import SceneQuestion, every_question
from vtc.embedded.scene import Scene

MOST_QUESTIONS = 24
DESCRIBE = (
    "describe the picture.",
    "describe the image.",
    "what is in the picture?",
    "what do you see?",
    "describe what you see.",
)
DESCRIPTION_WEIGHT = 0.25  # of each token: a description has thirty
END_WEIGHT = 0.3
WEIGHTS = {"relation": 3.0, "nearest": 2.0, "count": 2.0, "text": 2.5}
OWN_STREAM = 11  # random numbers apart from those of the scene's own questions
TWO_TURNS = 0.15


@dataclass(frozen=True)
class TrainingExample:
    """pixels uint8 [128, 128, 3]; patches uint8 [256, fields] and facts (None where nobody labelled them)."""

    pixels: np.ndarray
    patches: np.ndarray | None
    facts: np.ndarray | None
    questions: list[SceneQuestion]
    description: str | None = None


def scene_example(seed: int, questions: str = "own") -> TrainingExample:
    """The drawn scene of `seed`, half resized as the processor does, half by area averages.

    `questions`: its `own`, which a model is scored on, `every` one, or `hard` ones.
    """
    scene = Scene(seed)
    resample = Image.Resampling.BICUBIC if seed % 2 else Image.Resampling.BOX
    pixels = np.asarray(scene.image.resize((SIDE, SIDE), resample))
    look = ((0.0, 0.0, scene.width, scene.height), (SIDE, SIDE))
    rng = np.random.Generator(np.random.PCG64([seed, OWN_STREAM]))
    asked = {
        "own": lambda: scene.questions,
        "every": lambda: every_question(scene, rng),
        "hard": lambda: hard_questions(scene, MOST_QUESTIONS),
    }[questions]()
    return TrainingExample(
        pixels, patch_labels(scene, look), look_facts(scene, look), [_spelled(q) for q in asked], describe(scene)
    )


def _spelled(question: SceneQuestion) -> SceneQuestion:
    """The same with a plate's letters as they are written: upper case."""
    if question.skill not in ("text", "fine"):
        return question
    return SceneQuestion(question.question, question.answer.upper(), question.skill)


def describe(scene: Scene) -> str:
    """Everything in `scene`, row by row: "a red star at the top left, a white plate with K7H at the center"."""
    items: list[Thing | Plate] = [*scene.things, *scene.plates]
    items.sort(key=lambda i: (int(i.y / scene.height * 3), int(i.x / scene.width * 3), i.x))
    return ", ".join(f"a {_name(item)} at the {scene.place_of(item.x, item.y)}" for item in items) or "nothing"


def _name(item: Thing | Plate) -> str:
    if isinstance(item, Plate):
        return f"{item.name} with {item.text}"
    return f"striped {item.name}" if item.striped else item.name


class EasyVqa:
    """The images and questions of a split of easy-VQA in the folder `root`, the package's `data`."""

    def __init__(self, root: Path, split: str = "train") -> None:
        """Read the questions."""
        self.folder = root / split
        self.questions: dict[int, list[SceneQuestion]] = {}
        for question, answer, image in json.loads((self.folder / "questions.json").read_text()):
            self.questions.setdefault(image, []).append(SceneQuestion(question, answer, "easy-vqa"))
        self.images = sorted(self.questions)
        self.named = [i for i in self.images if len(self._words(i)) == 2]  # both shape and color are told by answers

    def _words(self, image: int) -> set[str]:
        return {q.answer for q in self.questions[image]} - {"yes", "no"}

    def example(self, image: int) -> TrainingExample:
        """The image number `image` with all its questions."""
        with Image.open(self.folder / "images" / f"{image}.png") as opened:
            pixels = np.asarray(opened.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        return TrainingExample(pixels, None, None, self.questions[image])

    def patches(self, image: int) -> tuple[np.ndarray, str, str, tuple[float, float]]:
        """What an image of `named` shows: patches (bool `[256]`), shape, color, centre (shares of the image)."""
        example = self.example(image)
        pixels = example.pixels.astype(int)
        differs = (np.abs(pixels - pixels[0, 0]).max(-1) > 24).reshape(16, 8, 16, 8).mean((1, 3)) > 0.25
        shape, color = sorted(self._words(image), key=lambda word: word not in ("circle", "rectangle", "triangle"))
        rows, columns = np.nonzero(differs) if differs.any() else (np.array([8]), np.array([8]))
        return differs.reshape(-1), shape, color, ((columns.mean() + 0.5) / 16, (rows.mean() + 0.5) / 16)


class Wording:
    """Dialogues in the tokens of a language model."""

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer` is that of SmolLM2."""
        self._tokenizer = tokenizer
        self.opening = self._ids("<|im_start|>user\n")
        self.after_image = self._ids("\n")
        self._asked, self._end = self._ids("<|im_end|>\n<|im_start|>assistant\n"), self._ids("<|im_end|>")
        self._next = self._ids("\n<|im_start|>user\n")

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False).input_ids)

    def answer(self, text: str) -> list[int]:
        """The tokens of an answer; a plate's letters are spelled one by one."""
        words = text.split(" ")
        spelled = [w.rstrip(",") for w in words if w.rstrip(",").isupper() or w.rstrip(",").isdigit()]
        out: list[int] = []
        for i, word in enumerate(words):
            bare = word.rstrip(",")
            blank = " " if i else ""
            if bare in spelled:
                out += self._ids(blank) if blank else []
                out += [token for letter in bare for token in self._ids(letter)] + self._ids(word[len(bare) :])
            else:
                out += self._ids(blank + word)
        return out

    def turn(self, question: str, answer: str, weight: float = 1.0) -> Dialogue:
        """One question and its answer, whose tokens share `weight`."""
        asked, given = self._ids(question) + self._asked, self.answer(answer)
        weights = [0.0] * len(asked) + [weight] * len(given) + [weight * END_WEIGHT]
        return Dialogue(asked + given + self._end, weights)

    def dialogues(self, example: TrainingExample, rng: np.random.Generator) -> list[Dialogue]:
        """The questions about an image, most by themselves, some in pairs; and its description."""
        out: list[Dialogue] = []
        for i in rng.permutation(len(example.questions)):
            asked = example.questions[i]
            text = asked.question[0].upper() + asked.question[1:] if rng.random() < 0.3 else asked.question
            turn = self.turn(text, asked.answer, WEIGHTS.get(asked.skill, 1.0))
            if out and rng.random() < TWO_TURNS:
                before = out.pop()
                between = before.weights + [0.0] * len(self._next)
                turn = Dialogue(before.ids + self._next + turn.ids, between + turn.weights)
            out.append(turn)
        if example.description is not None:
            out.insert(0, self.turn(pick(rng, DESCRIBE), example.description, DESCRIPTION_WEIGHT))
        return out
