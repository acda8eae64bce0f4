"""Names: a class name stands for one thing in the tree, and identifiers are the field's words."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("vtc", "adapters", "video", "tools")
PRIVATE = {
    "film": "video",
    "films": "videos",
    "picture": "image",
    "pictures": "images",
    "enrol": "register",
    "anew": "overwrite, again",
    "eye": "vision tower, reference encoder",
    "mind": "language model",
    "drill": "hard questions",
    "drilled": "hard questions",
    "bank": "data set",
    "graft": "weight transfer",
    "student": "model spec; a student is distilled from a teacher",
    "students": "model specs",
    "learner": "optimizer",
    "taught": "trained",
    "studio": "application state",
    "desk": "inference lock",
    "player": "loaded model",
    "artist": "overlay renderer",
    "arm": "variant",
    "arms": "variants",
    "trial": "run of a check",
    "trials": "runs of a check",
    "told": "by what it is: a callback, a prompt, a ratio",
    "untold": "by what it is",
    "said": "by what it is: a generation, a text",
    "hearing": "recording of a module's inputs",
    "heard": "recorded inputs, generated text",
    "looked": "scanned, selected, checked",
    "unlead": "release of a cache",
    "led": "claimed by a wrapped call",
    "spill": "rows in memory or on disk",
    "account": "token usage",
}
"""Words that only this project would use so, and what to write in their place."""
ALLOWED = {
    ("vtc/check/masked_reference.py", "eye"): "torch.eye, an identity matrix",
    ("tools/train_embedded/model_specs/start.py", "eye"): "torch.eye, an identity matrix",
    ("tools/train_embedded/model_specs/weight_transfer.py", "eye"): "torch.eye, an identity matrix",
}
"""Identifiers that hold a private word and may, by file. What strings hold is free: the questions that the embedded
models were trained on, row columns and keys of JSON files are data."""


def sources() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from sorted((ROOT / folder).rglob("*.py"))


def classes(source: str) -> Iterator[str]:
    """Every class that a module defines, private and nested ones too."""
    return (node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef))


def words(identifier: str) -> list[str]:
    """The words of a snake_case or CamelCase name, in lower case."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", identifier)]


def identifiers(source: str) -> set[str]:
    """Every identifier of a module: names, attributes, arguments and keywords of calls."""
    found = {t.string for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type == tokenize.NAME}
    for node in ast.walk(ast.parse(source)):  # names inside f-strings are no tokens before Python 3.12
        if isinstance(node, ast.JoinedStr):
            found |= {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
            found |= {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
    return found


def private(source: str, path: str = "") -> list[str]:
    """Identifiers of a module that hold a private word, each with what to write."""
    return [
        f"{name}: write {PRIVATE[word]}"
        for name in sorted(identifiers(source))
        if (path, name) not in ALLOWED
        for word in words(name)
        if word in PRIVATE
    ]


def test_a_class_name_stands_for_one_thing():
    found = defaultdict(list)
    for path in sources():
        for name in classes(path.read_text()):
            found[name].append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


@pytest.mark.parametrize("folder", FOLDERS)
def test_identifiers_are_the_fields_words(folder):
    paths = {str(path.relative_to(ROOT)): path.read_text() for path in sorted((ROOT / folder).rglob("*.py"))}
    found = {path: private(source, path) for path, source in paths.items()}
    assert {path: names for path, names in found.items() if names} == {}


def test_names_that_are_wrong_are_found():
    source = (
        'class PictureTab:\n    class _Film: ...\ndef f(anew): return x.told_mind, f"{studio.desk}", g(enrolled=1)\n'
    )
    assert list(classes(source)) == ["PictureTab", "_Film"]
    found = {line.partition(":")[0] for line in private(source)}
    assert found == {"PictureTab", "_Film", "anew", "told_mind", "studio", "desk"}
    assert private("torch.eye(3)\n") != private("torch.eye(3)\n", "vtc/check/masked_reference.py") == []


@pytest.mark.parametrize(("path", "name"), ALLOWED)
def test_what_is_allowed_is_still_there(path, name):
    assert name in identifiers((ROOT / path).read_text())
