"""Plain questions and the language model's own answers, so that training on images does not cost it its English.

`python -m tools.train_embedded.small_llava.plain_english FOLDER OUT.json` asks the language model in FOLDER.
"""

import argparse
import json
from itertools import product
from pathlib import Path
from typing import Any

import torch

COUNTRIES = (
    "Italy, Spain, Germany, Japan, Egypt, Brazil, Canada, India, Greece, Norway, Sweden, Poland, "
    "Portugal, Mexico, Peru, Kenya, Turkey, Austria, Ireland, Cuba, Chile, Finland, Denmark, Hungary, "
    "Thailand"
)
THINGS = "banana, sky, grass, tomato, snow, coal, lemon, carrot, blood, chocolate, ocean, milk"
TOPICS = "dogs, the sea, winter, a small village, music, books, trains, the moon, coffee, bicycles, gardens, mountains"
WORDS = "happy, big, fast, cold, dark, old, rich, quiet, strong, early, hard, clean"
TEMPLATES = (
    ("What is the capital of {}?", COUNTRIES),
    (
        "Which language do people speak in {}?",
        "Italy, Spain, Germany, Japan, Egypt, Brazil, Canada, India, Greece, Norway, Sweden, Poland",
    ),
    ("What color is {} usually?", THINGS),
    ("Write one sentence about {}.", TOPICS),
    ("Tell me something about {}.", TOPICS),
    ("What is the opposite of {}?", WORDS),
    ("Use the word {} in a sentence.", WORDS),
)
SINGLE = (
    "Who wrote Hamlet?",
    "What is photosynthesis?",
    "How many days are in a week?",
    "How many legs does a spider have?",
    "Name three fruits.",
    "Name the planets of the solar system.",
    "What do bees make?",
    "What is the largest ocean?",
    "Why is the sky blue?",
    "What is water made of?",
    "Hello!",
    "Who are you?",
    "What can you do?",
    "Give me a short recipe for soup.",
    "How do I boil an egg?",
    "What is a triangle?",
    "What is a rectangle?",
    "How many sides does a square have?",
    "What is a primary color?",
    "Which colors make green?",
    "Count from one to five.",
    "What is the first letter of the alphabet?",
    "Is the earth round?",
    "Do fish swim?",
    "Can a stone fly?",
    "Say thank you in French.",
    "What does a doctor do?",
    "What is a computer?",
    "Where do penguins live?",
    "When do leaves fall?",
)


def prompts() -> list[str]:
    """The questions; the capital of France is not among them, so that it can be asked as a test."""
    sums = [f"What is {a} plus {b}?" for a, b in product((1, 2, 3, 4), (2, 5))]
    return [form.format(word) for form, words in TEMPLATES for word in words.split(", ")] + sums + list(SINGLE)


@torch.no_grad()
def answers(model: Any, tokenizer: Any, questions: list[str], most: int = 48, batch: int = 16) -> list[str]:
    """The greedy answers of `model` to `questions`, at most `most` tokens each."""
    tokenizer.padding_side = "left"
    out = []
    for start in range(0, len(questions), batch):
        chats = [[{"role": "user", "content": q}] for q in questions[start : start + batch]]
        texts = tokenizer.apply_chat_template(chats, add_generation_prompt=True, tokenize=False)
        inputs = tokenizer(texts, padding=True, return_tensors="pt", add_special_tokens=False)
        made = model.generate(**inputs, do_sample=False, max_new_tokens=most)
        out += tokenizer.batch_decode(made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=False)
    return out


def main(arguments: list[str] | None = None) -> None:
    """Entry point; see the module's docstring."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    parser = argparse.ArgumentParser(prog="tools.train_embedded.small_llava.plain_english", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args(arguments)
    model = AutoModelForCausalLM.from_pretrained(options.folder).eval()
    asked = prompts()
    given = answers(model, AutoTokenizer.from_pretrained(options.folder), asked)
    options.out.write_text(json.dumps(list(zip(asked, given, strict=True)), indent=0))


if __name__ == "__main__":
    main()
