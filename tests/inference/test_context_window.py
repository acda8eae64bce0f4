"""How many tokens a model can take, and that no answer is longer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from PIL import Image

from vtc.inference.asking import answer, prompt
from vtc.inference.context_window import context_of
from vtc.inference.loading import load


def config(**fields):
    return SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: SimpleNamespace(**fields)))


@pytest.mark.parametrize(
    ("fields", "context"),
    [
        ({}, None),
        ({"max_position_embeddings": 4096}, 4096),
        ({"max_position_embeddings": 100, "rope_scaling": {"type": "yarn", "factor": 4.0}}, 400),
        (
            {
                "max_position_embeddings": 400,
                "rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 100},
            },
            400,
        ),
        ({"max_position_embeddings": 100, "rope_parameters": {"rope_type": "default", "factor": 4.0}}, 100),
    ],
)
def test_what_a_model_takes(fields, context):
    assert context_of(config(**fields)) == context


def test_an_answer_is_no_longer_than_the_context(monkeypatch):
    model, processor = load("tiny-llava")
    asked, given = [], prompt(model, processor, Image.new("RGB", (96, 96), "red"), "what color is it?")
    monkeypatch.setattr(model, "generate", lambda **options: asked.append(options) or options["input_ids"])
    for longest in (5, 10**12):
        answer(model, processor, given, longest)
    assert [options["max_new_tokens"] for options in asked] == [5, 8192]
