"""GLM-4.1V beyond the grid: its processor's prompts, further classes, videos by every recipe, decoder stages."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    Glm4vImageProcessor,
    Glm4vProcessor,
    Glm4vVideoProcessor,
    PreTrainedTokenizerFast,
)
from transformers.video_utils import VideoMetadata

from tests.adapters.test_cues import ROWS, known
from tests.adapters.test_processors import stripes
from tests.checks import check_close, check_decoding, check_same, footprint
from tests.encoders import ENCODERS
from tests.families import END, IMAGE, START, VIDEO, VOCAB
from tests.families.glm4v import GLM4V, GLM_OTHERS, glm4v
from tests.grid import SEVERAL, fresh, generate, steps, stock
from tests.oracle import plans
from tests.reduction.decoder.common import BATCHES, recipe, told, wrapped
from tests.reduction.test_videos import video
from tests.video.videos import write
from vtc import Recipe, adapters, named_recipes, reduce_tokens
from vtc.adapters import Glm4V
from vtc.stages import KCenter
from vtc.video import Sampling, ask

SPECIAL = {
    "<|image|>": IMAGE,
    "<|video|>": VIDEO,
    "<|begin_of_image|>": START,
    "<|end_of_image|>": END,
    "<|begin_of_video|>": 95,
    "<|end_of_video|>": 96,
    "<pad>": 0,
    "[UNK]": 3,
}
WRAPPED = {kind: f"<|begin_of_{kind}|><|{kind}|><|end_of_{kind}|>" for kind in ("image", "video")}
TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }} {% else %}"
    "<|begin_of_{{ c['type'] }}|><|{{ c['type'] }}|><|end_of_{{ c['type'] }}|>{% endif %}{% endfor %}{% endfor %}"
)
VIDEOS = [found.name for found in named_recipes() if found.is_video_recipe]
every_other = pytest.mark.parametrize("family", GLM_OTHERS, ids=lambda family: family.name)


def glm_processor() -> Glm4vProcessor:
    free = iter(i for i in range(VOCAB) if i not in SPECIAL.values())
    words = {word: next(free) for word in ["<s>", "</s>", *(f"w{i}" for i in range(60)), *map(str, range(10))]}
    core = Tokenizer(models.WordLevel({**words, **SPECIAL}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="[UNK]",
        padding_side="left",
        additional_special_tokens=list(SPECIAL)[:6],
    )
    size = {"shortest_edge": 8 * 8, "longest_edge": 96 * 96 * 16}
    options = dict(patch_size=4, merge_size=2, temporal_patch_size=2, size=size)
    made = Glm4vProcessor(Glm4vImageProcessor(**options), tokenizer, Glm4vVideoProcessor(**options))
    made.chat_template = TEMPLATE
    return made


def with_video() -> dict[str, torch.Tensor]:
    metadata = [[VideoMetadata(total_num_frames=8, fps=2.0, frames_indices=list(range(8)))]]
    made = glm_processor()(
        videos=[video(8, 64, 40)],
        text=[f"w1 {WRAPPED['video']} w2"],
        return_tensors="pt",
        do_sample_frames=False,
        video_metadata=metadata,
    )
    return {name: value for name, value in made.items() if isinstance(value, torch.Tensor)}


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("video") / "video.mp4", video(16, 64, 48), fps=2)


@every_other
def test_other_classes_have_the_adapter(family):
    model = family.build()
    assert type(adapters.find(model)) is Glm4V
    model.__class__ = type("Mine", (type(model),), {})
    assert type(adapters.find(model)) is Glm4V


@every_other
@torch.no_grad()
def test_cues_of_other_classes_are_what_the_stock_tower_computes(family):
    """The attention of GLM-OCR norms queries and keys; the others are built in other files."""
    encoder, eager, model = ENCODERS[family.name], stock(family, "eager"), fresh(family)
    adapter, inputs, names = adapters.find(model), family.inputs(ROWS), known(family)
    hooks = adapter.listen(names)
    tokens = adapter.encode(adapter.media(inputs), names)
    for hook in hooks:
        hook.remove()
    for item, image in zip(tokens, encoder.images(inputs), strict=True):
        want = encoder.cues(eager, image)
        check_close(item.features, encoder.features(eager, image), "features")
        for name in names:
            check_close(item.cue(name), want[name], name)
            if name in ("keys", "encoder_features"):  # a control: a neighbour's are others
                with pytest.raises(AssertionError):
                    check_close(item.cue(name).roll(1, 0), want[name], name)


@every_other
def test_other_classes_decode_as_the_prompt_made_by_hand(family):
    chosen, inputs = Recipe((KCenter(),), keep=0.4), family.inputs(SEVERAL)
    out = generate(reduce_tokens(fresh(family), chosen), inputs)
    check_decoding(stock(family), plans(stock(family), family, inputs, chosen), out.sequences, steps(out))


def test_images_of_unlike_sizes_as_the_real_processor_gives_them():
    processor, model, slot = glm_processor(), glm4v(), WRAPPED["image"]
    inputs = processor(
        images=[[stripes(64, 40)], [stripes(32, 96), stripes(16, 16)]],
        text=[f"w1 w2 {slot} w3", f"{slot} w4 w5 {slot} w6 w7 w8"],
        padding=True,
        return_tensors="pt",
    )
    want = steps(generate(model, inputs))
    reduce_tokens(model, "cls", keep=1.0)
    check_same(steps(generate(model, inputs)), want, "logits")
    reduce_tokens(model, "cls-mean", keep=0.5)
    generate(model, inputs)
    items = model.vtc.report.items
    assert [unit.grid for item in items for unit in item.units] == [
        (1, h // 2, w // 2) for _, h, w in inputs["image_grid_thw"].tolist()
    ]
    assert [item.row for item in items] == [0, 1, 1]
    assert [item.after for item in items] == model.vtc.count(**inputs)


@torch.no_grad()
def test_frames_left_out_leave_their_own_tokens_and_every_position():
    """Of a frame without tokens its start, its end and its timestamp go on, where they stood."""
    inputs, model = with_video(), glm4v()
    ids = inputs["input_ids"][0].tolist()
    assert ids.count(START) == ids.count(END) == int(inputs["video_grid_thw"][0, 0]) == 4
    assert set(inputs["mm_token_type_ids"][0].tolist()) == {0, 2}
    bare = glm4v()
    before = bare.model.get_rope_index(**{k: v for k, v in inputs.items() if "pixel" not in k})[0]
    reduce_tokens(model, "keyframes", keep=0.5)
    seen = []
    model.get_decoder().register_forward_pre_hook(lambda m, a, k: seen.append(k["position_ids"]), with_kwargs=True)
    model(**inputs)
    (item,) = model.vtc.report.items
    assert item.layout.kinds == ("frame",) * 4
    places = [i for i, token in enumerate(ids) if token == IMAGE]
    kept = {places[k] for k in item.reduction.anchor.tolist()}
    columns = [i for i, token in enumerate(ids) if token != IMAGE or i in kept]
    frames = {int(item.layout.unit[k]) for k in item.reduction.anchor.tolist()}
    assert len(frames) == 2
    assert torch.equal(seen[0][-3:, 0], before[:, 0, columns])
    assert not torch.equal(seen[0][-3:, 0], before[:, 0, : len(columns)])


@torch.no_grad()
def test_frames_are_encoded_apart():
    """What `with_frames` rests on: the tokens of a frame do not depend on the others."""
    adapter, chosen = adapters.find(glm4v()), torch.tensor([0, 2])
    (item,) = adapter.media(with_video())
    (whole,), (some,) = adapter.encode([item], ()), adapter.encode([adapter.with_frames(item, chosen)], ())
    check_close(some.features, whole.features[torch.isin(item.layout.unit, chosen)], "features")
    with pytest.raises(AssertionError):
        check_close(some.features, whole.features[torch.isin(item.layout.unit, torch.tensor([0, 1]))], "features")


def test_there_are_recipes_to_be_tried():
    assert {"video", "keyframes", "clip-budget", "dycoke"} <= set(VIDEOS)


@pytest.mark.parametrize("name", VIDEOS)
def test_a_file_is_answered_by_every_recipe_of_videos(name, path):
    model = glm4v()
    before = footprint(model)
    near = Sampling(isolated=False)
    answer = ask(model, glm_processor(), path, "w1 w2", name, keep=0.4, sampling=near, max_new_tokens=2)
    assert answer.calls[-1].tokens_kept == answer.report.after < answer.prepared.tokens
    assert footprint(model) == before


def test_images_and_videos_in_one_call_are_refused_as_the_stock_model_refuses_them():
    images = GLM4V[0].inputs([[3, (1, 4, 4), 2]])
    both = {**with_video(), **{name: images[name] for name in ("pixel_values", "image_grid_thw")}}
    both["input_ids"] = torch.cat([both["input_ids"], images["input_ids"]], dim=1)
    both["attention_mask"] = torch.ones_like(both["input_ids"])
    both["mm_token_type_ids"] = torch.cat([both["mm_token_type_ids"], images["mm_token_type_ids"]], dim=1)
    model = glm4v()
    with pytest.raises(ValueError, match="Image features and image tokens do not match"):
        model(**both)
    with pytest.raises(ValueError, match=r"pixel_values and pixel_values_videos: Glm4vFor.*one kind in a call"):
        reduce_tokens(model, "kcenter")(**both)


@pytest.mark.parametrize("schedule", ["pyramid", "two-stages"])
@pytest.mark.parametrize("family", GLM4V, ids=lambda family: family.name)
def test_stages_inside_the_language_model_equal_the_masked_run(family, schedule):
    inputs, model = family.inputs(BATCHES["uneven"]), wrapped(family, recipe(schedule, before=0.5))
    out = generate(model, inputs)
    check_decoding(stock(family), told(model, family, inputs), out.sequences, steps(out))
