"""The generic adapter on classes that nobody wrote one for: it works exactly, or says what is missing."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
import transformers as hf
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

from tests.checks import check_close, check_same
from tests.families import (
    FAMILIES,
    IMAGE,
    TEXT,
    text,
)
from tests.families.odd import ODD, plain
from tests.families.odd_grids import LLAMA4
from tests.grid import kept, stock
from vtc import Recipe, reduce_tokens
from vtc.adapters import find
from vtc.adapters.placeholders import arranged, partition
from vtc.stages import Cls, Stride

ROWS = [[3, 1, 4, 2, 5], [2, 3, 6]]
HALF = Recipe((Stride(),), keep=0.4)
SMOLVLM, MISTRAL3, GEMMA3 = (next(f for f in FAMILIES if f.name == name) for name in ("smolvlm", "mistral3", "gemma3"))
ODD_ONE = ODD[0]
PADDLE = next(odd for odd in ODD if odd.name.startswith("Paddle"))


@torch.no_grad()
def test_llama4_projects_what_is_kept():
    """Its planes carry what the model projects itself. The stock class of transformers 5.24 fails: then both do."""
    model, inputs = LLAMA4.build(), LLAMA4.inputs(ROWS[1:])
    bare = copy.deepcopy(model)
    reduce_tokens(model, HALF)
    try:
        bare(**inputs)
    except AttributeError as error:
        with pytest.raises(AttributeError, match=str(error)[-20:]):
            model(**inputs)
        assert [item.after for item in model.vtc.report.items] == model.vtc.count(**inputs)
        return
    got, (anchor,) = model(**inputs).logits[0], kept(model)
    output = bare.get_image_features(inputs["pixel_values"], return_dict=True)
    output.last_hidden_state = output.last_hidden_state.reshape(-1, output.last_hidden_state.shape[-1])[anchor][None]
    places = torch.nonzero(inputs["input_ids"][0] == IMAGE).flatten().tolist()
    gone = {column for i, column in enumerate(places) if i not in anchor}
    columns = [c for c in range(inputs["input_ids"].shape[1]) if c not in gone]
    short = {name: inputs[name][:, columns] for name in ("input_ids", "attention_mask")}
    positions = torch.tensor(columns)[None]
    check_close(got[columns], bare(**short, position_ids=positions, mm_encoder_outputs={"image": output}).logits[0], "")


def line(*parts: int | str) -> list[int]:
    """A number is that many placeholders; `b` and `e` are single tokens, `t` two."""
    words = {"b": [94], "e": [92], "t": [5, 6]}
    return [t for part in parts for t in ([IMAGE] * part if isinstance(part, int) else words[part])]


@pytest.mark.parametrize(
    ("rows", "sizes", "want"),
    [
        ([line("t", 9, "t", 4)], [(6, 6), (4, 4)], [(9,), (4,)]),
        ([line(9, "e", 9, "e")], [(6, 6), (6, 6)], [(9,), (9,)]),
        ([line("t", 3, "b", 3, "e", "t")], [(4, 6)], [(3, 3)]),
        ([line(2, "b", 2, "b", 2, "e", 4, "b", 4, "e")], [(6, 4), (4, 8)], [(2, 2, 2), (4, 4)]),
        ([line(2, "b", 2, "e", 3, "e")], [(4, 4), (2, 6)], [(2, 2), (3,)]),
        ([line(3, "b", 3, "e", 3, "e")], [(4, 6), (2, 6)], [(3, 3), (3,)]),
        ([line(3, "b", 3, "e", 3, "e")], [(2, 6), (4, 6)], [(3,), (3, 3)]),
        ([line("t", 18, "t")], [(6, 6), (6, 6)], [(9,), (9,)]),
        ([line(9, "t", 18)], [(6, 6)] * 3, [(9,)] * 3),
        ([line(2, "b", 2, "e"), line(2, "b", 2, "e")], [(4, 4)] * 2, [(2, 2)] * 2),
        ([line(2, "b", 2), line("e", 2, "b", 2)], [(4, 4)] * 2, [(2, 2)] * 2),
    ],
    ids=str,
)
def test_placeholders_are_shared_by_runs_by_lines_or_equally(rows, sizes, want):
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    assert partition(ids, IMAGE, sizes) == want


@pytest.mark.parametrize(
    ("row", "count"),
    [(line("t", 9), 2), (line(9, "t", 9, "t", 9), 2), (line(9, "t", 8, "t"), 3), (line("t"), 1), (line("t", 3), 0)],
    ids=str,
)
def test_placeholders_that_are_nobodys_are_refused(row, count):
    message = rf"placeholders \(id 90\) by row, in \d runs, and pixel_values {count} images.*100 lines.*CONTRIBUTING"
    with pytest.raises(ValueError, match=message):
        partition(torch.tensor([row]), IMAGE, [(6, 6)] * count)


def test_two_ways_that_fit_alike_are_refused():
    row = torch.tensor([line(3, "b", 3, "e", 3, "b", 3, "e")])
    assert partition(row, IMAGE, [(4, 6)] * 2) == [(3, 3), (3, 3)]
    with pytest.raises(ValueError, match=r"input_ids .*2 images.*\[\(3,\), \(3, 3\)\].*\[\(3, 3\), \(3,\)\]"):
        partition(torch.tensor([line(3, "b", 3, "e", 3)]), IMAGE, [(4, 4), (4, 4)])


@pytest.mark.parametrize(
    ("lines", "size", "grid"),
    [
        ((3, 3), (4, 6), (1, 2, 3)),
        ((3, 2), (4, 6), (1, 1, 5)),
        ((9,), (24, 24), (1, 3, 3)),
        ((8,), (16, 32), (1, 2, 4)),
        ((36,), (96, 24), (1, 12, 3)),
        ((9,), (20, 24), (1, 3, 3)),
        ((5,), (24, 24), (1, 1, 5)),
        ((1,), (24, 24), (1, 1, 1)),
    ],
    ids=str,
)
def test_the_grid_is_lines_or_the_shape_of_the_image_or_a_square(lines, size, grid):
    assert arranged(lines, *size).grids == (grid,)
    assert len(arranged(lines, *size)) == sum(lines)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nn.Linear(2, 2), "it has no `generate`"),
        (lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**TEXT)), "its forward takes no `mm_encoder_outputs`"),
        (
            lambda: hf.JanusForConditionalGeneration.__new__(hf.JanusForConditionalGeneration),
            "its `generate` is not that of transformers",
        ),
        (lambda: without(copy.deepcopy(stock(GEMMA3)), "image_token_id"), "its config has no `image_token_id`"),
        (
            lambda: without(PADDLE.build(), "spatial_merge_size", "vision_config"),
            "its vision_config has no `spatial_merge_size`, `merge_size`",
        ),
    ],
)
def test_a_class_without_a_part_is_told_which(build, message):
    model = build()
    with pytest.raises(ValueError, match=rf"has no adapter.*known: .*LlavaForC.*since {message}"):
        reduce_tokens(model)


def without(model: nn.Module, name: str, part: str = "") -> nn.Module:
    """The model with a config that lacks `name`."""
    own = getattr(model.config, part) if part else model.config
    known = {key: value for key, value in own.__dict__.items() if not key.startswith("image_token")}
    known.pop(name, None)
    if part:
        known = {**model.config.__dict__, part: SimpleNamespace(**known), "image_token_id": IMAGE}
    model.config = SimpleNamespace(**known)
    return model


def test_videos_and_other_pixels_are_refused():
    inputs = SMOLVLM.inputs([[3, (1, 6, 6), 2]])
    model = reduce_tokens(copy.deepcopy(stock(SMOLVLM)), HALF)
    images, paddle = PADDLE.inputs(ROWS), reduce_tokens(PADDLE.build(), HALF)
    with pytest.raises(ValueError, match=r"pixel_values_videos: .*PaddleOCRVLForConditionalGeneration"):
        paddle.vtc.count(**{**images, "pixel_values_videos": images["pixel_values"]})
    with pytest.raises(ValueError, match=r"pixel_values is \(3, 24, 24\); expected .*SmolVLM"):
        model(**{**inputs, "pixel_values": inputs["pixel_values"][0, 0]})
    with pytest.raises(ValueError, match=r"pixel_values holds 1 x 1 images, pixel_attention_mask is \(2, 1, 24, 24\)"):
        model(**{**inputs, "pixel_attention_mask": inputs["pixel_attention_mask"].repeat(2, 1, 1, 1)})


def test_arguments_of_the_encoder_are_the_configs():
    model, inputs = reduce_tokens(copy.deepcopy(stock(MISTRAL3)), HALF), MISTRAL3.inputs([[3, (1, 4, 6), 2]])
    want = model(**inputs).logits
    check_same(model(**inputs, vision_feature_layer=-1).logits, want, "logits")
    with pytest.raises(ValueError, match=r"vision_feature_layer=-2.*model\.config"):
        model(**inputs, vision_feature_layer=-2)
    for given in (inputs["image_sizes"].tolist(), inputs["image_sizes"].numpy()):
        check_same(model(**{**inputs, "image_sizes": given}).logits, want, "logits")
    del inputs["image_sizes"]
    with pytest.raises(ValueError, match="image_sizes is missing"):
        model(**inputs)


def test_a_cue_is_refused_with_the_remedy():
    for model in (copy.deepcopy(stock(SMOLVLM)), PADDLE.build()):
        with pytest.raises(ValueError, match=r"cue 'attention': .*encoder of \w+For\w+.*'kcenter'"):
            reduce_tokens(model, Recipe((Cls(),)))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda out: BaseModelOutput(out.last_hidden_state), "answers no `pooler_output`"),
        (lambda out: out.pooler_output, "answers no `pooler_output`"),
        (lambda out: {**out, "indicators": torch.ones(1)}, "answers indicators beside features"),
        (lambda out: {**out, "pooler_output": out.pooler_output[:, 1:]}, r"encoded to 8 tokens, but input_ids hold 9"),
    ],
)
def test_an_encoder_that_answers_otherwise_is_refused(answer, message):
    model = copy.deepcopy(stock(GEMMA3))
    encode = model.model.get_image_features

    class Answer(dict):
        __getattr__ = dict.get

    def odd(pixel_values, **kwargs):
        out = answer(encode(pixel_values, **kwargs))
        return Answer(out) if type(out) is dict else out

    model.model.get_image_features = odd
    reduce_tokens(model, HALF)
    with pytest.raises(ValueError, match=message):
        model(**GEMMA3.inputs([[3, (1, 6, 6), 2]]))


def test_two_answers_of_unlike_containers_are_each_given_back():
    """Mistral 3 concatenates a list, Gemma 3 takes a tensor: neither takes the other's."""
    for family, kind in ((MISTRAL3, list), (SMOLVLM, list), (GEMMA3, torch.Tensor)):
        model = reduce_tokens(copy.deepcopy(stock(family)), HALF)
        seen = []
        inner = model.model.forward
        model.model.forward = lambda *a, inner=inner, seen=seen, **k: (
            seen.append(k["mm_encoder_outputs"]) or inner(*a, **k)
        )
        model(**family.inputs([[3, (1, 6, 6), 2, (2, 6, 6), 1]]))
        assert isinstance(seen[0]["image"].pooler_output, kind)


def test_images_of_zeros_are_padding_and_cropped_pixels_count_only():
    adapter = find(copy.deepcopy(stock(SMOLVLM)))
    uneven = SMOLVLM.inputs([[3, (1, 12, 6), 2], [2, (2, 6, 6), 1]])
    assert uneven["pixel_values"].shape[:2] == (2, 3)
    assert len(adapter.media(uneven)) == 4
    inputs = MISTRAL3.inputs([[3, (1, 4, 6), 2, (2, 8, 8), 1]])
    dirty = {**inputs, "pixel_values": inputs["pixel_values"].clone()}
    dirty["pixel_values"][0, :, 16:] = 7.0
    adapter = find(copy.deepcopy(stock(MISTRAL3)))
    keys = [[media.key for media in adapter.media(given)] for given in (inputs, dirty)]
    assert keys[0] == keys[1]


def test_prompts_of_ids_only():
    model, odd = reduce_tokens(ODD_ONE.build(), HALF), ODD_ONE
    inputs = odd.inputs(ROWS)
    with pytest.raises(ValueError, match="input_ids"):
        model.vtc.count(pixel_values=inputs["pixel_values"])
    ids = torch.tensor([text(5, 1)])
    assert model(input_ids=ids).logits.shape[1] == 5
    assert model.vtc.report.items == ()


def test_images_without_text_between_share_a_run():
    odd = ODD_ONE
    model = reduce_tokens(odd.build(), HALF)
    inputs = plain(36, apart=False)([[3, 1, 0, 2, 4]])
    assert model.vtc.count(**inputs) == [14, 14]
