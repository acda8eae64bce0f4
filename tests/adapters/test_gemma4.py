"""Gemma 4 beyond the grid: mixed media, sound, the real processor, no encoder at all, and what is refused."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.gemma4 import Gemma4ImageProcessor, Gemma4VideoProcessor
from transformers.models.gemma4.feature_extraction_gemma4 import Gemma4AudioFeatureExtractor
from transformers.models.gemma4.processing_gemma4 import Gemma4Processor
from transformers.video_utils import VideoMetadata

from tests import oracle
from tests.adapters.test_processors import stripes
from tests.check_models import checked
from tests.checks import check_close, check_decoding, check_forward, check_given, check_same, kept_columns
from tests.families import END, IMAGE, PAD, START, VIDEO, VOCAB, Family, visual
from tests.families.gemma4 import AUDIO, GEMMA4, PATCH, UNIFIED, gemma4, gemma4_inputs, small, unified
from tests.grid import fresh, generate, kept_by_row, steps, stock, watching
from tests.names import CACHE
from vtc import Recipe, adapters, reduce_tokens
from vtc.recipes.composition import POSITIONS
from vtc.stages import KCenter, Mean, Resize, Stride

LARGE = Family("gemma4", gemma4, gemma4_inputs, resizes=True, layers="sliding")
SMALL = Family("gemma4-small", small, gemma4_inputs, resizes=True, layers="sliding")
every_kind = pytest.mark.parametrize("family", [LARGE, SMALL, UNIFIED], ids=lambda family: family.name)
# (seed, height, width) is an image, (seed, frames, height, width) a video.
MIXED = [[3, (1, 8, 6), 4, (2, 2, 4, 8), 5], [2, (3, 3, 4, 4), 2, (5, 4, 6), 2, (6, 1, 4, 4), 3], [9]]
RECIPES = (
    Recipe((KCenter(),), keep=0.3, name="kcenter"),
    Recipe((Stride(), Mean()), keep=0.4, name="stride-mean"),
    Recipe((Resize(),), keep=0.5, name="resize"),
)


@every_kind
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("positions", POSITIONS)
def test_images_and_videos_in_one_prompt_are_as_the_oracle_has_them(family, recipe, positions):
    recipe = replace(recipe, positions=positions)
    inputs, model = family.inputs(MIXED), fresh(family)
    plans = oracle.plans(stock(family), family, inputs, recipe)
    reduce_tokens(model, recipe)
    with watching(model) as calls:
        out = generate(model, inputs, tokens=3)
    check_given(calls[0], plans)
    check_decoding(stock(family), plans, out.sequences, steps(out))
    with torch.no_grad():
        check_forward(stock(family), plans, model(**inputs).logits)
    report = model.vtc.report
    assert [(item.modality, item.row) for item in report.items] == [
        *[("image", 0), ("image", 1)],
        *[("video", 0), ("video", 1), ("video", 1)],
    ]
    assert [item.after for item in report.items] == model.vtc.count(**inputs)
    assert {unit.kind for item in report.items if item.modality == "video" for unit in item.units} == {"frame"}


@every_kind
def test_keeping_all_is_the_stock_model_and_a_batch_equals_its_singles(family):
    inputs, model = family.inputs(MIXED), fresh(family)
    want = steps(generate(fresh(family), inputs))
    reduce_tokens(model, Recipe((KCenter(),), keep=1.0))
    check_same(steps(generate(model, inputs)), want, "logits")
    reduce_tokens(model, Recipe((KCenter(), Mean()), keep=0.3))
    together = generate(model, inputs)
    chosen = kept_by_row(model, 3)
    for r, row in enumerate(MIXED):
        alone = generate(model, family.inputs([row]))
        assert kept_by_row(model, 1) == [chosen[r]]
        check_close(steps(together)[r], steps(alone)[0], f"row {r}: logits")


@pytest.mark.parametrize("family", [LARGE, UNIFIED], ids=lambda family: family.name)
def test_tokens_of_an_image_that_do_not_see_each_other_are_found(family, monkeypatch):
    """A control: without their types, shortened as the ids are, they see only what is before them."""
    inputs, model = family.inputs(MIXED), reduce_tokens(fresh(family), RECIPES[0])
    plans = oracle.plans(stock(family), family, inputs, RECIPES[0])
    with torch.no_grad():
        check_forward(stock(family), plans, model(**inputs).logits)
        untyped = {name: value for name, value in inputs.items() if name != "mm_token_type_ids"}
        with pytest.raises(AssertionError):
            check_forward(stock(family), plans, model(**untyped).logits)
    monkeypatch.setattr(oracle, "_attention", lambda model, plan, embeds: torch.ones(1, embeds.shape[1]).long())
    with torch.no_grad(), pytest.raises(AssertionError):
        check_forward(stock(family), plans, model(**inputs).logits)


@pytest.mark.parametrize("family", [LARGE, UNIFIED], ids=lambda family: family.name)
def test_an_image_behind_a_cache_sees_itself_both_ways(family, monkeypatch):
    """The model reads types by column of all that it has seen, also where only the new ids are given."""
    model, inputs = reduce_tokens(fresh(family), RECIPES[0]), family.inputs([[3, (1, 8, 6), 5]])
    model.generation_config.suppress_tokens = [IMAGE, VIDEO]
    first, new = generate(model, inputs, tokens=3), family.inputs([[2, (4, 6, 8), 3]])
    held, media = first[CACHE], ("pixel_values", "image_position_ids")
    ids = torch.cat([first.sequences, new["input_ids"][:, 1:]], dim=1)
    given = dict(attention_mask=torch.ones_like(ids), mm_token_type_ids=(ids == IMAGE).long())
    want = generate(model, {**given, "input_ids": ids, **{n: torch.cat([inputs[n], new[n]]) for n in media}})
    behind = slice(first.sequences.shape[1] - 1, None)  # the last generated token is in no cache yet
    given |= dict(input_ids=ids[:, behind], mm_token_type_ids=given["mm_token_type_ids"][:, behind])
    given |= {n: new[n] for n in media}
    check_close(steps(generate(model, {**given, CACHE: copy.deepcopy(held)})), steps(want), "logits")
    monkeypatch.setattr(model.vtc._wrapped.adapter, "types_of_all", False)
    with pytest.raises(AssertionError):
        check_close(steps(generate(model, {**given, CACHE: copy.deepcopy(held)})), steps(want), "logits")


@pytest.mark.parametrize("way", ["forward", "generate"])
@pytest.mark.parametrize("family", [LARGE, UNIFIED], ids=lambda family: family.name)
def test_text_behind_a_cache_is_no_part_of_an_image(family, way):
    """Types of the whole conversation are as long as it was: at the columns of new text they may name an image."""
    model, inputs = reduce_tokens(fresh(family), RECIPES[0]), family.inputs([[3, (1, 8, 12), 1]])
    model.generation_config.suppress_tokens = [IMAGE, VIDEO]
    first = generate(model, inputs, tokens=2)
    ids = torch.cat([first.sequences, torch.tensor([[50, 51, 52, 53]])], dim=1)
    typed = dict(attention_mask=torch.ones_like(ids), mm_token_type_ids=(ids == IMAGE).long())
    media = {name: inputs[name] for name in ("pixel_values", "image_position_ids")}
    if way == "generate":
        want = steps(generate(model, {**typed, **media, "input_ids": ids}))
        got = steps(generate(model, {**typed, "input_ids": ids, CACHE: first[CACHE]}))
        check_close(got, want, "logits")
        return
    with torch.no_grad():
        want = model(input_ids=ids, **typed, **media).logits[:, -5:]
        got = model(input_ids=ids[:, -5:], **typed, **{CACHE: first[CACHE]}).logits
    check_close(got, want, "logits")


def test_other_per_layer_embeddings_are_found(monkeypatch):
    """A control: what the model looks up for each id is that of the kept ones."""
    inputs, model = SMALL.inputs(MIXED), reduce_tokens(fresh(SMALL), RECIPES[0])
    plans = oracle.plans(stock(SMALL), SMALL, inputs, RECIPES[0])
    late = [replace(plan, ids=[*plan.ids[1:], None]) for plan in plans]
    with torch.no_grad(), pytest.raises(AssertionError):
        check_forward(stock(SMALL), late, model(**inputs).logits)


@every_kind
def test_what_fills_an_image_up_is_no_token(family):
    inputs = family.inputs([[3, (1, 8, 6), 4, (3, 4, 4), 2]])
    other = {name: value.clone() for name, value in inputs.items()}
    empty = (inputs["image_position_ids"] == -1).all(dim=-1)
    assert bool(empty.any())
    other["pixel_values"][empty] = 7.0
    model = reduce_tokens(fresh(family), RECIPES[0])
    got = [(steps(generate(model, given)), kept_by_row(model, 1)) for given in (inputs, other)]
    check_close(got[0][0], got[1][0], "logits")
    assert got[0][1] == got[1][1]
    assert model.vtc.report.before == 12 + 4 == int(visual(inputs["input_ids"], model).sum())


def test_videos_stacked_as_by_older_processors_are_the_same_items():
    inputs = GEMMA4[1].inputs([[3, (1, 2, 4, 8), 4, (2, 2, 4, 6), 5]])
    adapter = adapters.find(stock(GEMMA4[1]))
    stacked = dict(inputs)
    del stacked["num_frames_per_video"]
    for name in ("pixel_values_videos", "video_position_ids"):
        stacked[name] = inputs[name].unflatten(0, (2, 2))
    for one, other in zip(adapter.media(inputs), adapter.media(stacked), strict=True):
        assert one.key == other.key
        assert one.layout.grids == other.layout.grids


# Sound

SPEECH = dict(
    hidden_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    subsampling_conv_channels=(128, 4),
    output_proj_dims=64,
    use_clipped_linears=False,
)
ALOUD = {
    "gemma4": partial(gemma4, "eager", audio=SPEECH),
    "gemma4-small": partial(small, "eager", audio=SPEECH),
    "gemma4-unified": partial(unified, audio=dict(audio_embed_dim=16)),
}


@every_kind
@torch.no_grad()
def test_sound_beside_an_image_goes_on_untouched(family):
    model, inputs = ALOUD[family.name](), family.inputs([[3, (1, 8, 6), 5]])
    count, width = (3, 16) if family is UNIFIED else (3, 128)
    frames = count if family is UNIFIED else 4 * count
    heard = torch.randn(1, frames, width, generator=torch.Generator().manual_seed(5))
    ids = torch.cat([inputs["input_ids"], torch.tensor([[95, *[AUDIO] * count, 96, 7, 8]])], dim=1)
    inputs |= dict(input_ids=ids, attention_mask=torch.ones_like(ids))
    inputs["mm_token_type_ids"] = (ids == IMAGE).long() + 3 * (ids == AUDIO).long()
    sound = dict(input_features=heard, input_features_mask=torch.ones(1, frames, dtype=torch.bool))
    stock_model = ALOUD[family.name]()
    want = stock_model(**inputs, **sound).logits
    check_same(reduce_tokens(model, keep=1.0)(**inputs, **sound).logits, want, "logits")
    reduce_tokens(model, RECIPES[0])
    got = model(**inputs, **sound).logits
    (columns,) = kept_columns(inputs, model.vtc.report, model)
    assert set(torch.nonzero(ids[0] == AUDIO).flatten().tolist()) < set(columns)
    encoded = stock_model.model.get_image_features(inputs["pixel_values"], inputs["image_position_ids"])
    rows = torch.cat(encoded.pooler_output)[model.vtc.report.items[0].reduction.anchor]
    short = {name: inputs[name][:, columns] for name in ("input_ids", "attention_mask", "mm_token_type_ids")}
    outputs = {"image": BaseModelOutputWithPooling(pooler_output=[rows])}
    slow = partial(stock_model, **short, position_ids=torch.tensor([columns]), mm_encoder_outputs=outputs)
    check_close(got[0, columns], slow(**sound).logits[0], "logits")
    with pytest.raises(AssertionError):  # other sound is heard
        check_close(got[0, columns], slow(**{**sound, "input_features": -heard}).logits[0], "logits")
    said = [generate(m, {**inputs, **sound}, tokens=2).sequences.shape for m in (model, stock_model)]
    assert said[0] == said[1]


# The real processor

NAMES = {
    "image_token": ("<|image|>", IMAGE),
    "audio_token": ("<|audio|>", AUDIO),
    "boi_token": ("<|image>", START),
    "eoi_token": ("<image|>", END),
    "boa_token": ("<|audio>", 95),
    "eoa_token": ("<audio|>", 96),
}


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = {"<|video|>": VIDEO, "<pad>": PAD, "[UNK]": 3, **dict(NAMES.values())}
    free = iter(i for i in range(VOCAB) if i not in special.values())
    words = {word: next(free) for word in ["<s>", "</s>", *(f"w{i}" for i in range(60)), *"0123456789:"]}
    core = Tokenizer(models.WordLevel({**words, **special}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="[UNK]",
        padding_side="left",
        extra_special_tokens={name: word for name, (word, _) in NAMES.items()},
        additional_special_tokens=["<|video|>"],
    )


def processor(most: int = 70):
    options = dict(patch_size=PATCH, max_soft_tokens=most)
    return Gemma4Processor(
        Gemma4AudioFeatureExtractor(), Gemma4ImageProcessor(**options), tokenizer(), Gemma4VideoProcessor(**options)
    )


@pytest.mark.parametrize("family", [LARGE, SMALL], ids=lambda family: family.name)
def test_images_of_unlike_shapes_as_the_real_processor_gives_them(family):
    inputs = dict(
        processor()(
            images=[[stripes(64, 40)], [stripes(32, 96), stripes(20, 20)]],
            text=["w1 w2 <|image|> w3", "<|image|> w4 w5 <|image|> w6 w7 w8"],
            padding=True,
            return_tensors="pt",
        )
    )
    plain = generate(fresh(family), inputs)
    model = reduce_tokens(fresh(family), "kcenter", keep=1.0)
    check_same(steps(generate(model, inputs)), steps(plain), "logits")
    reduce_tokens(model, "kcenter", keep=0.25)
    out = generate(model, inputs)
    check_same(out.sequences[:, : inputs["input_ids"].shape[1]], inputs["input_ids"], "prompt")
    report = model.vtc.report
    grids = [unit.grid for item in report.items for unit in item.units]
    assert [height * width for _, height, width in grids] == [item.before for item in report.items]
    assert grids[0][2] > grids[0][1]
    assert grids[1][1] > grids[1][2]
    assert grids[2][1] == grids[2][2]
    assert report.before == int((inputs["input_ids"] == IMAGE).sum()) < inputs["image_position_ids"].shape[1] // 9 * 3
    assert [item.row for item in report.items] == [0, 1, 1]
    assert [item.after for item in report.items] == model.vtc.count(**inputs)


@pytest.mark.parametrize("family", [LARGE, SMALL], ids=lambda family: family.name)
def test_videos_as_the_real_processor_gives_them(family):
    shade = [np.asarray(stripes(*size)) for size in ((64, 40), (32, 32))]
    videos = [np.stack([np.roll(s, 3 * t, axis=0) for t in range(n)]) for s, n in zip(shade, (4, 3), strict=True)]
    facts = [VideoMetadata(total_num_frames=len(v), fps=2.0, frames_indices=list(range(len(v)))) for v in videos]
    inputs = dict(
        processor()(
            videos=videos,
            text=["w1 w2 <|video|> w3 w4 w5", "w6 <|video|> w7"],
            padding=True,
            return_tensors="pt",
            do_sample_frames=False,
            video_metadata=facts,
        )
    )
    plain = generate(fresh(family), inputs)
    model = reduce_tokens(fresh(family), "kcenter", keep=1.0)
    check_same(steps(generate(model, inputs)), steps(plain), "logits")
    for recipe in ("kcenter", "keyframes"):
        reduce_tokens(model, recipe, keep=0.5)
        generate(model, inputs)
        report = model.vtc.report
        assert [len(item.units) for item in report.items] == [4, 3]
        assert [item.after for item in report.items] == model.vtc.count(**inputs)
        assert report.before == int((inputs["input_ids"] == VIDEO).sum())


def test_finer_pixels_cost_what_the_default_does():
    model = reduce_tokens(fresh(SMALL), "kcenter", keep=70)
    given = dict(images=[[stripes(64, 40)]], text=["w1 <|image|> w3"], return_tensors="pt")
    before, after = [], []
    for most in (70, 280):
        generate(model, dict(processor()(**given, images_kwargs={"max_soft_tokens": most})), tokens=1)
        before.append(model.vtc.report.before)
        after.append(model.vtc.report.after)
    assert before[1] > 3.5 * before[0]
    assert after == [before[0], 70]


@pytest.mark.parametrize("small_grid", [(3, 4), (2, 2)], ids=str)
def test_a_resized_image_is_nearly_what_the_processor_makes_of_the_smaller_one(small_grid):
    cell = 3 * PATCH
    image = stripes(8 * cell, 6 * cell)
    own = Gemma4ImageProcessor(patch_size=PATCH, max_soft_tokens=70, do_resize=False)
    adapter = adapters.find(stock(LARGE))
    (item,) = adapter.media(dict(own(images=image, return_tensors="pt")))
    assert item.layout.grids == ((1, 6, 8),)
    check_close(adapter.resized(item, 6, 8).inputs["pixel_values"], item.inputs["pixel_values"][:, : 6 * 8 * 9], "")
    want = torch.tensor(list(image.tobytes())).view(6 * cell, 8 * cell, 3).permute(2, 0, 1) / 255
    torch.testing.assert_close(adapter.pixels(item), want, rtol=0, atol=1e-5)
    got = adapter.resized(item, *small_grid)
    smaller = own(images=image.resize((small_grid[1] * cell, small_grid[0] * cell)), return_tensors="pt")
    count = got.inputs["pixel_values"].shape[1]
    assert count == small_grid[0] * small_grid[1] * 9
    check_same(got.inputs["position_ids"], smaller["image_position_ids"][:, :count], "places")
    assert (got.inputs["pixel_values"] - smaller["pixel_values"][:, :count]).abs().mean() < 0.02


# What is refused


def spoilt(**changes):
    return {**GEMMA4[1].inputs([[3, (1, 2, 4, 8), 4, (2, 6, 6), 2]]), **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"video_position_ids": None}, "video_position_ids is missing"),
        ({"num_frames_per_video": None}, "num_frames_per_video is missing"),
        ({"num_frames_per_video": torch.tensor([7])}, r"num_frames_per_video=\[7\] counts 7 frames, .* holds"),
        ({"pixel_values_videos": torch.zeros(3, 3, 24, 24)}, r"pixel_values_videos .*video_position_ids is \(\d"),
        ({"pixel_values_videos": torch.zeros(24, 24)}, r"pixel_values_videos is \(24, 24\); expected"),
        ({"pixel_values_videos": [torch.zeros(24, 24)]}, "pixel_values_videos is list; expected"),
    ],
    ids=["places", "numbers", "counts", "unlike", "axes", "list"],
)
def test_media_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        reduce_tokens(fresh(GEMMA4[1]), RECIPES[0])(**spoilt(**changes))


@pytest.mark.parametrize("how", ["gap", "order", "cut", "none"])
def test_places_that_are_no_whole_grid_are_refused(how):
    inputs = LARGE.inputs([[3, (1, 8, 6), 4]])
    places = inputs["image_position_ids"].clone()
    if how == "gap":
        places[0, 5] = -1
    elif how == "order":
        places[0, :2] = places[0, :2].flip(0)
    elif how == "cut":
        places[0, 9 * 11 :] = -1
    else:
        places[:] = -1
    with pytest.raises(ValueError, match=r"image_position_ids: entry 0 has \d+ patches .*a whole grid in rows"):
        reduce_tokens(fresh(LARGE), RECIPES[0])(**{**inputs, "image_position_ids": places})


@pytest.mark.parametrize(
    ("family", "recipe", "message"),
    [
        (LARGE, "tome", r"'encoder/tome' folds tokens inside the vision tower.*3 x 3 patches.*use a selector"),
        (UNIFIED, "tome", r"'encoder/tome' folds tokens inside the vision tower, and .*has none; use a selector"),
        (LARGE, "layerwise", r"layers of kind \['sliding_attention'\].*'kcenter'"),
        (UNIFIED, "cls", r"cue 'attention': Gemma4UnifiedForConditionalGeneration has no vision tower.*'kcenter'"),
        (UNIFIED, "todre", r"cue .*has no vision tower"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_recipes_that_the_model_cannot_run_say_why(family, recipe, message):
    with pytest.raises(ValueError, match=message):
        reduce_tokens(fresh(family), recipe)


def test_a_model_without_a_tower_has_nothing_to_leave_out():
    model = fresh(LARGE)
    model.config.vision_config = None
    with pytest.raises(ValueError, match=r"vision_config=None: .*load a checkpoint with a vision tower"):
        reduce_tokens(model)


def test_the_unified_model_gives_its_features_before_they_are_projected():
    model = fresh(UNIFIED)
    adapter = adapters.find(model)
    hooks = adapter.listen(["encoder_features"])
    inputs = UNIFIED.inputs([[3, (1, 8, 6), 4, (2, 4, 4), 1]])
    with torch.no_grad():
        found = adapter.encode(adapter.media(inputs), ["encoder_features"])
    for hook in hooks:
        hook.remove()
    for item in found:
        again = model.model.embed_vision.multimodal_embedder(item.cue("encoder_features"))
        check_close(again, item.features, "features")


@every_kind
def test_every_invariant_of_vtc_check_holds(family):
    result = checked(fresh(family), [Recipe((KCenter(), Mean()), keep=0.3, name="kcenter-mean")], family)
    assert [row.name for row in result.rows if row.holds is False] == []
    assert {row.name for row in result.rows if row.holds} >= {"two turns = a slow run with no cache"}
