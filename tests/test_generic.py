"""The generic adapter: whose placeholders are whose, what it refuses, and classes that nobody wrote an adapter for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from transformers import (
    AyaVisionConfig,
    AyaVisionForConditionalGeneration,
    CLIPVisionConfig,
    Cohere2Config,
    Cohere2VisionConfig,
    Cohere2VisionForConditionalGeneration,
    GemmaConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MllamaConfig,
    MllamaForConditionalGeneration,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    SiglipVisionConfig,
    VipLlavaConfig,
    VipLlavaForConditionalGeneration,
)

from tests.checks import check_close, check_same
from tests.families import FAMILIES, IMAGE, TEXT
from tests.families.common import VISION, spread
from tests.grid import SEVERAL, fresh, generate, kept_by_row, steps
from vtc import adapters, reduce_tokens, restore
from vtc.adapters.generic import Generic
from vtc.adapters.placeholders import arranged, partition

SIGLIP = SiglipVisionConfig(**VISION, image_size=28, patch_size=7, vision_use_head=False)
WINDOWS = Cohere2Config(**TEXT, head_dim=16, sliding_window=8)


def vip_llava() -> nn.Module:
    tower = CLIPVisionConfig(**VISION, image_size=28, patch_size=7)
    config = dict(vision_config=tower, text_config=LlamaConfig(**TEXT), image_token_index=IMAGE)
    return VipLlavaForConditionalGeneration(VipLlavaConfig(**config, vision_feature_layers=[-1, -2]))


def llava_pixtral() -> nn.Module:
    tower = dict(VISION, model_type="pixtral", image_size=56, patch_size=7, head_dim=16)
    config = dict(vision_config=tower, text_config=LlamaConfig(**TEXT), image_token_index=IMAGE)
    options = dict(vision_feature_layer=-1, vision_feature_select_strategy="full")
    return LlavaForConditionalGeneration(LlavaConfig(**config, **options))


def aya_vision() -> nn.Module:
    config = dict(vision_config=SIGLIP, text_config=WINDOWS, image_token_index=IMAGE, downsample_factor=2)
    return AyaVisionForConditionalGeneration(AyaVisionConfig(**config))


def cohere2_vision() -> nn.Module:
    config = dict(vision_config=SIGLIP, text_config=WINDOWS, image_token_id=IMAGE, downsample_factor=2)
    return Cohere2VisionForConditionalGeneration(Cohere2VisionConfig(**config))


def paligemma() -> nn.Module:
    text = GemmaConfig(**{**TEXT, "head_dim": 16})
    config = dict(vision_config=SIGLIP, text_config=text, image_token_index=IMAGE, projection_dim=64, hidden_size=64)
    return PaliGemmaForConditionalGeneration(PaliGemmaConfig(**config))


def idefics3() -> nn.Module:
    tower = dict(VISION, image_size=28, patch_size=7)
    config = dict(vision_config=tower, text_config=LlamaConfig(**TEXT), image_token_id=IMAGE, scale_factor=2)
    return Idefics3ForConditionalGeneration(Idefics3Config(**config))


TOKENS = {vip_llava: 16, llava_pixtral: 16, aya_vision: 4, cohere2_vision: 4, paligemma: 16, idefics3: 4}
every_class = pytest.mark.parametrize("build", TOKENS, ids=lambda build: build.__name__)


def prompt(build: Callable[[], nn.Module], model: nn.Module) -> dict[str, torch.Tensor]:
    """Two rows of one picture each, as the class's processor would write them."""
    count = TOKENS[build]
    ids = torch.tensor([[1, 5, 5, 5, *[IMAGE] * count, 6, 7], [1, 8, 9, 8, *[IMAGE] * count, 9, 11]])
    inputs = dict(input_ids=ids, attention_mask=torch.ones_like(ids))
    inputs["pixel_values"] = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    model.generation_config.suppress_tokens = [IMAGE]
    if build is llava_pixtral:
        inputs["image_sizes"] = torch.tensor([[28, 28], [28, 28]])
    if build is idefics3:
        inputs["pixel_values"] = inputs["pixel_values"][:, None]
    if build is paligemma:
        inputs["token_type_ids"] = torch.zeros_like(ids)
    return inputs


@every_class
def test_classes_that_nobody_wrote_an_adapter_for(build):
    model = spread(build())
    inputs = prompt(build, model)
    want = steps(generate(model, inputs))
    assert isinstance(adapters.find(model), Generic)
    check_same(steps(generate(reduce_tokens(model, "kcenter", keep=1.0), inputs)), want, "logits with all tokens")
    reduce_tokens(model, "kcenter-mean", keep=0.5)
    together = steps(generate(model, inputs))
    assert [item.after for item in model.vtc.report.items] == model.vtc.count(**inputs) == [TOKENS[build] // 2] * 2
    assert not torch.equal(together, want)
    chosen = kept_by_row(model, 2)
    for row in range(2):
        alone = generate(model, {name: value[row : row + 1] for name, value in inputs.items()})
        assert kept_by_row(model, 1) == [chosen[row]]
        check_close(steps(alone)[0], together[row], f"row {row}: logits")
    check_same(steps(generate(restore(model), inputs)), want, "logits after undoing")


def shared(rows: list[list[int]], *sizes: tuple[int, int]) -> list[tuple[int, ...]]:
    width = max(map(len, rows))
    return partition(torch.tensor([[0] * (width - len(row)) + row for row in rows]), IMAGE, sizes)


def test_a_run_each():
    assert shared([[1, *[IMAGE] * 4, 5, *[IMAGE] * 6], [*[IMAGE] * 2, 7]], (2, 2), (2, 3), (1, 2)) == [(4,), (6,), (2,)]


def test_lines_that_one_token_parts_are_one_picture():
    first = [IMAGE] * 3 + [70] + [IMAGE] * 3 + [71]
    second = [IMAGE] * 2 + [70] + [IMAGE] * 2 + [70] + [IMAGE] * 2 + [71]
    assert shared([[1, *first, 5, *second], [*first, 9]], (20, 30), (30, 20), (20, 30)) == [(3, 3), (2, 2, 2), (3, 3)]


def test_pictures_side_by_side_share_a_run_evenly():
    assert shared([[1, *[IMAGE] * 8, 5]], (2, 2), (2, 2)) == [(4,), (4,)]


@pytest.mark.parametrize(
    ("rows", "sizes"),
    [([[1, *[IMAGE] * 7, 5]], 2), ([[1, IMAGE, 5]], 2), ([[1, IMAGE, 5, 6, IMAGE, 5, 6, IMAGE]], 2), ([[1, 5]], 1)],
    ids=["odd", "fewer", "more", "none"],
)
def test_what_fits_no_rule_is_refused(rows, sizes):
    with pytest.raises(ValueError, match=r"input_ids hold \[.*\] placeholders .*CONTRIBUTING"):
        shared(rows, *[(4, 4)] * sizes)


def test_two_ways_of_breaking_that_fit_alike_are_refused():
    row = [IMAGE, 70, IMAGE, 71, IMAGE, 70, IMAGE, 71, IMAGE]
    with pytest.raises(ValueError, match="in two ways that fit alike"):
        shared([row], (4, 4), (4, 4), (4, 4))


@pytest.mark.parametrize(
    ("lines", "size", "grid"),
    [
        ((3, 3), (9, 9), (2, 3)),
        ((6,), (20, 30), (2, 3)),
        ((9,), (7, 8), (3, 3)),
        ((6,), (7, 8), (1, 6)),
        ((2, 3), (4, 4), (1, 5)),
    ],
    ids=str,
)
def test_the_grid_of_a_picture_as_far_as_it_can_be_told(lines, size, grid):
    assert arranged(lines, *size).grids == ((1, *grid),)


def test_a_class_without_the_seam_is_told_what_is_missing():
    text = dict(TEXT, model_type="mllama_text_model", cross_attention_layers=[1])
    tower = dict(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_global_layers=1, attention_heads=2)
    tower["intermediate_layers_indices"] = [0]
    with torch.device("meta"):
        model = MllamaForConditionalGeneration(MllamaConfig(vision_config=tower, text_config=text))
    with pytest.raises(ValueError, match=r"'MllamaForConditionalGeneration' .*takes no `mm_encoder_outputs`"):
        reduce_tokens(model)


def test_a_config_without_a_placeholder_is_told_so():
    model = spread(vip_llava())
    vars(model.config)["image_token_index"] = None  # past the config's own check of types
    with pytest.raises(ValueError, match="its config has no `image_token_id`"):
        reduce_tokens(model)


@pytest.mark.parametrize("name", ["smolvlm", "mistral3", "gemma3"])
def test_media_that_it_cannot_tell_apart_are_refused(name):
    family = next(f for f in FAMILIES if f.name == name)
    model, inputs = reduce_tokens(fresh(family), "kcenter", keep=0.5), family.inputs(SEVERAL)
    with pytest.raises(ValueError, match=r"pixel_values is .*expected a tensor .* needs an adapter of its own"):
        model(**{**inputs, "pixel_values": inputs["pixel_values"].flatten()})
    with pytest.raises(ValueError, match="pixel_values_videos"):
        model(**{**inputs, "pixel_values_videos": torch.zeros(1, 2, 3, 8, 8)})


def test_pictures_of_other_lengths_than_their_placeholders_are_found():
    """One placeholder goes from the first picture to the second: the runs fit in number, the features do not."""
    family = next(f for f in FAMILIES if f.name == "gemma3")
    inputs = family.inputs([[3, (1,), 4, (2,), 5]])
    ids = inputs["input_ids"][0].tolist()
    places = [i for i, token in enumerate(ids) if token == IMAGE]
    moved = [5 if i == places[0] else token for i, token in enumerate(ids)]
    moved[places[-1] + 1] = IMAGE
    inputs["input_ids"] = torch.tensor([moved])
    with pytest.raises(ValueError, match=r"encoded to 9 tokens, but input_ids hold 8 placeholders"):
        reduce_tokens(fresh(family), "kcenter", keep=0.5)(**inputs)
