"""How `small-llava` is trained: its sequences against plain masked attention, its examples and its targets."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaModel

from tools.train_embedded.labels import FIELDS
from tools.train_embedded.optim import use_attention
from tools.train_embedded.small_llava.examples import EasyVqa, describe, scene_example
from tools.train_embedded.small_llava.packing import Dialogue, bin_attention, fill_bins
from tools.train_embedded.small_llava.plain_english import prompts
from tools.train_embedded.small_llava.targets import Targets
from vtc.embedded.scene import Scene
from vtc.embedded.spec import COLORS, SHAPES

HEAD = 7


def dialogue(length: int, rng: np.random.Generator, answered: int = 2) -> Dialogue:
    ids = rng.integers(1, 60, length).tolist()
    return Dialogue(ids, [0.0] * (length - answered) + [1.0] * answered)


def rows(lengths: list[list[int]]) -> list[list[Dialogue]]:
    rng = np.random.default_rng(0)
    return [[dialogue(n, rng) for n in row] for row in lengths]


def test_every_token_of_every_dialogue_is_in_one_bin():
    given = rows([[5, 9, 3, 12, 4], [8, 8]])
    bins = fill_bins(given, size=16, most=None)
    for i, row in enumerate(given):
        for number, one in enumerate(row):
            at = bins.which[i] == number
            assert bins.ids[i][at].tolist() == one.ids
            assert bins.weight[i][at].tolist() == pytest.approx(one.weights)
            assert bins.places[i][at].tolist() == list(range(len(one.ids)))
    assert (bins.which >= 0).sum() == sum(len(d.ids) for row in given for d in row)


def test_what_does_not_fit_is_left_out_and_a_long_dialogue_makes_longer_bins():
    bins = fill_bins(rows([[5, 9, 3, 12, 4]]), size=16, most=1)
    assert bins.ids.shape == (1, 1, 16)
    assert set(bins.which.flatten().tolist()) == {-1, 0, 1}
    assert fill_bins(rows([[20, 4]]), size=16).ids.shape == (1, 2, 20)


def small_model() -> LlamaModel:
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=48,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=8,
        initializer_range=0.3,
    )
    return LlamaModel(config).eval()


@torch.no_grad()
def test_a_packed_dialogue_is_what_it_would_be_alone():
    model = small_model()
    given = rows([[5, 9, 3, 12, 4], [8, 8]])
    bins = fill_bins(given, size=16, most=None)
    head = torch.randn(2, HEAD, 48)
    alone = [
        [
            model(inputs_embeds=torch.cat([head[i : i + 1], model.embed_tokens(torch.tensor([d.ids]))], 1))
            .last_hidden_state[0, HEAD:]
            for d in row
        ]
        for i, row in enumerate(given)
    ]  # fmt: skip
    use_attention(model, bin_attention)
    n, t = bins.ids.shape[1:]
    positions = torch.cat([torch.arange(HEAD).expand(2, -1), bins.places.flatten(1) + HEAD], 1)
    packed = model(
        inputs_embeds=torch.cat([head, model.embed_tokens(bins.ids).flatten(1, 2)], 1),
        attention_mask=bins.mask,
        position_ids=positions,
        use_cache=False,
    ).last_hidden_state[:, HEAD:]
    packed = packed.view(2, n, t, -1)
    for i, row in enumerate(alone):
        for number, expected in enumerate(row):
            torch.testing.assert_close(packed[i][bins.which[i] == number], expected, atol=1e-5, rtol=1e-4)


class Letters:
    """A tokenizer of one token a letter."""

    def __call__(self, text, add_special_tokens=False):
        return type("Encoded", (), {"input_ids": [ord(letter) for letter in text]})


def test_a_target_holds_the_words_for_what_its_patch_shows():
    embeddings = nn.functional.normalize(torch.randn(256, 600), dim=1)
    targets = Targets(Letters(), embeddings)
    example = scene_example(0)
    wanted = targets.of_patches(example.patches[None])[0]
    names = list(FIELDS)
    for words, field in ((COLORS, "color"), (SHAPES, "shape")):
        labels = example.patches[:, names.index(field)]
        table = torch.stack([targets.word(word) for word in words])
        for label in set(labels.tolist()) - {0, len(SHAPES) + 1}:
            scores = (
                wanted[torch.from_numpy(labels == label)] - wanted[torch.from_numpy(labels == 0)].mean(0)
            ) @ table.T
            assert scores.mean(0).argmax() == label - 1, words[label - 1]


def test_an_image_of_easy_vqa_gets_its_shape_where_it_is(tmp_path):
    import cv2
    from PIL import Image

    (tmp_path / "train" / "images").mkdir(parents=True)
    pixels = np.full((64, 64, 3), 240, np.uint8)
    cv2.rectangle(pixels, (8, 32), (23, 47), (0, 128, 128), -1)
    Image.fromarray(pixels).save(tmp_path / "train" / "images" / "3.png")
    asked = [["what is the shape?", "rectangle", 3], ["what color is it?", "teal", 3], ["is it red?", "no", 3]]
    (tmp_path / "train" / "questions.json").write_text(json.dumps(asked))
    easy = EasyVqa(tmp_path)
    assert easy.named == [3]
    covered, shape, color, at = easy.patches(3)
    assert (shape, color) == ("rectangle", "teal")
    assert np.flatnonzero(covered).tolist() == [r * 16 + c for r in range(8, 12) for c in range(2, 6)]
    assert at == (0.25, 0.625)


def test_a_description_names_everything_row_by_row():
    scene = next(s for s in map(Scene, range(99)) if len(s.things) > 2 and s.plates)
    text = describe(scene)
    assert text.count(" at the ") == len(scene.things) + len(scene.plates)
    assert f"with {scene.plates[0].text}" in text
    assert all(thing.name in text for thing in scene.things)


def test_what_is_asked_as_a_test_of_english_is_not_trained():
    assert not any("France" in prompt for prompt in prompts())
    assert len(set(prompts())) == len(prompts())
