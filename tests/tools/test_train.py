"""What training rests on: packing many dialogues behind images changes nothing, and a killed run goes on."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText

import vtc.embedded
from tools.train_embedded import train
from tools.train_embedded.dataset import (
    LABELS,
    load_dataset,
    look_pixels,
    make_dataset,
    video_pixels,
)
from tools.train_embedded.labels import FIELDS, patch_labels
from tools.train_embedded.model_specs import MODEL_SPECS
from tools.train_embedded.model_specs.base import PATCH
from tools.train_embedded.model_specs.weight_transfer import load_language_model
from tools.train_embedded.optim import (
    MixedOptimizer,
    cosine,
    plain_attention,
    use_attention,
)
from tools.train_embedded.packed_positions import in_a_row
from tools.train_embedded.packing import LEAD, draw_steps, pack
from tools.train_embedded.train_language import answer_logits, around, block_attention
from vtc.embedded import video_spec
from vtc.embedded.scene import Scene
from vtc.embedded.spec import SHAPES, SYMBOLS
from vtc.embedded.video import Video

every_model = pytest.mark.parametrize("name", MODEL_SPECS)


@pytest.fixture(scope="module")
def banks():
    return {name: make_dataset(model_spec, 0, 8, workers=1) for name, model_spec in MODEL_SPECS.items()}


@every_model
@pytest.mark.parametrize(("together", "chatter"), [(1, False), (2, True)])
def test_packed_dialogues_answer_as_they_would_alone(name, together, chatter, banks):
    torch.manual_seed(0)
    model_spec, group = MODEL_SPECS[name], max(banks[name], key=len)
    stock, packing = model_spec.build_model(), model_spec.build_model()
    packing.load_state_dict(stock.state_dict())
    use_attention(model_spec.language_model(packing), block_attention)
    rows = np.arange(2 * together).reshape(2, together)
    visual = torch.randn(2, together, model_spec.tokens(group.size) * group.looks, 128)
    before, after = around(model_spec)
    length = visual.shape[2] + len(before) + len(after)
    packed = pack(group, rows, np.random.default_rng(0), length, 7, turns=3, spread=True, chatter=chatter)
    logits, truth, _, _ = answer_logits(model_spec, packing, packed, visual, group)
    blocks, embed = packed.ids.shape[1:], stock.get_input_embeddings()
    place = model_spec.positions(packed.steps, blocks, together, group.size, group.looks)
    head, t = len(packed.lead) + together * length, packed.ids.shape[2]
    alone, wanted = [], []
    for row in range(2):
        images = [part for v in visual[row] for part in (embed(before), v, embed(after))]
        for j, ids in enumerate(packed.ids[row]):
            ids = ids[ids > 0]
            embeds = torch.cat([embed(packed.lead), *images, embed(ids)])[None]
            start = head + j * t
            mine = place[..., row, :]
            position = torch.cat([mine[..., :head], mine[..., start : start + len(ids)]], -1)
            position = position[None] if position.ndim == 1 else position[:, None]
            mask = torch.ones(embeds.shape[:2], dtype=torch.long)
            out = model_spec.language_model(stock)(inputs_embeds=embeds, position_ids=position, attention_mask=mask)
            labels = packed.labels[row, j, 1 : len(ids)]
            alone.append(stock.lm_head(out.last_hidden_state)[0, head:-1][labels >= 0])
            wanted.append(labels[labels >= 0])
    torch.testing.assert_close(logits, torch.cat(alone), atol=1e-4, rtol=1e-4)
    assert torch.equal(truth, torch.cat(wanted))


@every_model
def test_training_sees_what_the_stock_model_sees(name):
    """Looks are the processor's pixels, and tokens those of the stock `get_image_features`."""
    model_spec = MODEL_SPECS[name]
    model, processor = model_spec.build_model().eval(), model_spec.build_processor()
    model_spec.prepare(model)
    for seed in range(1, 40, 6):  # odd ones are resampled as the processor does
        scene = Scene(seed, model_spec.view)
        inputs = processor.image_processor(scene.image, return_tensors="pt")
        mine = torch.from_numpy(look_pixels(model_spec, scene)).permute(0, 3, 1, 2) / 127.5 - 1
        with torch.no_grad():
            features = torch.cat(list(model.get_image_features(**inputs).pooler_output)).flatten(0, -2)
            tokens, _ = model_spec.encode(model, mine)
        # The processor's resizing and ours differ by some 255ths where edges are sharp.
        assert (tokens.flatten(0, 1) - features).norm() < 0.01 * features.norm()
        assert model_spec.tokens(model_spec.looks(scene)[0][1]) == tokens.shape[1]


def test_tiny_qwen_is_trained_at_the_positions_that_the_stock_model_gives():
    model_spec = MODEL_SPECS["tiny-qwen"]
    model, processor = model_spec.build_model(), model_spec.build_processor()
    for images, seeds in ((1, (1, 2, 3, 4, 5, 6)), (2, (1, 7))):
        for seed in seeds:
            scene = Scene(seed, "native")
            content = [{"type": "image"}] * images + [{"type": "text", "text": "what is it?"}]
            text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
            inputs = processor(images=[[scene.image] * images], text=[text], return_tensors="pt")
            length = inputs.input_ids.shape[1]
            stock, _ = model.model.get_rope_index(
                inputs.input_ids,
                mm_token_type_ids=inputs.mm_token_type_ids,
                image_grid_thw=inputs.image_grid_thw,
            )
            size = model_spec.canvas(scene)
            words = length - len(LEAD) - images * (model_spec.tokens(size) + 2)
            mine = model_spec.positions(torch.ones(1, length), (1, words), images, size, 1)
            assert torch.equal(mine, stock)
            spread = torch.from_numpy(draw_steps(1, length, np.random.default_rng(seed), spread=True))
            wide = model_spec.positions(spread, (1, words), images, size, 1)
            assert (wide[0].diff() >= 0).all()
            assert wide.max() > stock.max() or (spread == 1).all()


def test_tiny_qwen_is_trained_on_videos_as_the_stock_model_sees_them():
    model_spec = MODEL_SPECS["tiny-qwen"]
    model, processor = model_spec.build_model().eval(), model_spec.build_processor()
    model_spec.prepare(model)
    for seed in (1, 3, 5):
        video = Video(seed)
        frames = video_pixels(model_spec, video)
        given = {"do_sample_frames": False, "video_metadata": [{"fps": video.fps, "total_num_frames": video.frames}]}
        content = [{"type": "video"}, {"type": "text", "text": "what appears?"}]
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        inputs = processor(videos=[frames], text=[text], return_tensors="pt", **given)
        looks, length = video.frames // 2, inputs.input_ids.shape[1]
        pairs = np.concatenate([frames[::2], frames[1::2]], -1)
        with torch.no_grad():
            out = model.model.get_video_features(inputs.pixel_values_videos, inputs.video_grid_thw).pooler_output[0]
            tokens, _ = model_spec.encode(model, torch.from_numpy(pairs).permute(0, 3, 1, 2) / 127.5 - 1)
        torch.testing.assert_close(tokens.flatten(0, 1), out, atol=1e-4, rtol=1e-3)
        stock, _ = model.model.get_rope_index(
            inputs.input_ids,
            mm_token_type_ids=inputs.mm_token_type_ids,
            video_grid_thw=inputs.video_grid_thw,
            second_per_grid_ts=inputs.get("second_per_grid_ts"),
        )
        words = length - len(LEAD) - looks * 36 - 2
        assert torch.equal(model_spec.positions(torch.ones(1, length), (1, words), 1, (96, 96), looks), stock)


def test_videos_are_labelled_frame_by_frame():
    model_spec = MODEL_SPECS["tiny-qwen"]
    groups = make_dataset(model_spec, 0, 4, workers=1, videos=40)
    videos = [g for g in groups if g.channels == 6]
    assert {g.looks for g in videos} == {4, 6, 8}
    assert sum(map(len, videos)) == 40
    for group in videos:
        first, second = group.patches[..., : len(FIELDS)], group.patches[..., len(FIELDS) :]
        same = (group.pixels[..., :3] == group.pixels[..., 3:]).all((2, 3, 4))
        assert (first[same] == second[same]).all()
        assert (first != second).any()
        assert {LABELS[s] for s in group.skill[group.answer > 0]} <= set(video_spec.SKILLS)
    with pytest.raises(ValueError, match="tiny-llava is not trained on videos"):
        MODEL_SPECS["tiny-llava"].video_looks(Video(0))


@pytest.mark.parametrize("name", ["tiny-llava", "tiny-qwen"])
def test_heads_start_at_their_neighbour(name):
    """A new tower's first block looks to the right, left, below and above: its attention is largest there."""
    model_spec = MODEL_SPECS[name]
    model, seen = model_spec.build_model().eval(), []
    model_spec.prepare(model)

    def record(module, query, key, value, mask=None, scaling=None, **_):
        share = ((query * scaling) @ key.transpose(-1, -2)).softmax(-1)
        seen.append(share)
        return (share @ value).transpose(1, 2), None

    use_attention(model_spec.tower(model), record)
    with torch.no_grad():
        model_spec.encode(
            model, 0.3 * torch.randn(1, 3, 96 if name == "tiny-qwen" else 112, 96 if name == "tiny-qwen" else 112)
        )
    share = seen[0][0]
    if name == "tiny-qwen":
        inside, (row, column) = share, (5, 5)
        order = torch.arange(144).view(1, 144, 1)
        grid = model_spec.by_token(order, (96, 96)).flatten().argsort().view(12, 12)
    else:
        inside, (row, column) = share[:, 1:, 1:], (5, 5)
        grid = torch.arange(196).view(14, 14)
    looked = inside[:, grid[row, column]].argmax(-1).tolist()
    expected = [grid[row, column + 1], grid[row, column - 1], grid[row + 1, column], grid[row - 1, column]]
    assert looked == [int(e) for e in expected]


def test_a_copied_tower_encodes_nearly_as_the_first_one_did():
    clip, vit = MODEL_SPECS["tiny-llava"], MODEL_SPECS["tiny-internvl"]
    trained, new = clip.build_model().eval(), vit.build_model().eval()
    clip.prepare(trained)
    dataset = make_dataset(vit, 0, 4, workers=1)[0]
    pixels = torch.from_numpy(dataset.pixels[:, -1]).permute(0, 3, 1, 2) / 127.5 - 1
    before = vit.encode(new, pixels)[1]
    vit.start_vision_from(new, clip, trained)
    tower = clip.tower(trained)
    patches = tower.embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
    places = tower.embeddings.position_embedding.weight
    patches = patches + places[1:].view(14, 14, -1)[1:13, 1:13].reshape(144, -1)
    first = (tower.embeddings.class_embedding + places[0]).expand(len(patches), 1, -1)
    hidden = tower.pre_layrnorm(torch.cat([first, patches], 1))
    for layer in tower.encoder.layers[:-1]:
        hidden = layer(hidden, None)
    after = vit.encode(new, pixels)[1]
    assert (after - hidden).norm() < 0.6 * hidden.norm()
    assert (before - hidden).norm() > 0.9 * hidden.norm()
    with pytest.raises(ValueError, match=r"tower of tiny-qwen .*tiny-llava"):
        MODEL_SPECS["tiny-qwen"].start_vision_from(None, clip, trained)


@pytest.mark.parametrize("name", ["tiny-qwen", "tiny-internvl"])
def test_the_language_model_can_start_from_that_of_another_model(name):
    directory = vtc.embedded.path("tiny-llava")
    theirs = AutoModelForImageTextToText.from_pretrained(directory, local_files_only=True)
    model_spec = MODEL_SPECS[name]
    model = model_spec.build_model()
    tower = {n: p.clone() for n, p in model_spec.tower(model).named_parameters()}
    load_language_model(model, directory)
    ids = torch.arange(7, 19)[None]
    first = model_spec.language_model(model)(input_ids=ids.T).last_hidden_state
    second = model_spec.language_model(theirs)(input_ids=ids.T).last_hidden_state
    found, expected = model.lm_head(first), theirs.lm_head(second)  # the norms' epsilons differ a little
    torch.testing.assert_close(found, expected, rtol=0, atol=0.03 * float(expected.detach().abs().max()))
    assert all(torch.equal(tower[n], p) for n, p in model_spec.tower(model).named_parameters())


def test_a_learner_moves_masters_workers_and_what_is_both():
    master, worker, both = (torch.nn.Parameter(torch.ones(3)) for _ in range(3))
    optimizer = MixedOptimizer([("a", master, worker), ("b", both, both)], 0.1)
    for _ in range(2):
        (worker.sum() + both.sum()).backward()
        optimizer.step(1.0)
    assert (master < 0.9).all()
    assert torch.equal(master, worker)
    torch.testing.assert_close(both, master)
    assert {p.grad for p in (master, worker, both)} == {None}


@every_model
def test_plain_attention_is_the_stock_one(name):
    model_spec = MODEL_SPECS[name]
    stock, fast = model_spec.build_model().eval(), model_spec.build_model().eval()
    fast.load_state_dict(stock.state_dict())
    use_attention(model_spec.tower(fast), plain_attention)
    pixels = torch.randn(2, 3, *reversed(model_spec.looks(Scene(0, model_spec.view))[0][1]))
    with torch.no_grad():
        torch.testing.assert_close(model_spec.encode(fast, pixels)[0], model_spec.encode(stock, pixels)[0])


def test_positions_rise_and_blocks_go_on_from_the_image(banks):
    group = banks["tiny-llava"][0]
    rows, rng = np.arange(6)[:, None], np.random.default_rng(1)
    for spread in (True, False):
        packed = pack(group, rows, rng, 196, 5, spread=spread)
        place, head = in_a_row(packed.steps, packed.ids.shape[1:]), len(LEAD) + 196
        before, blocks = place[:, :head], place[:, head:].view(packed.ids.shape)
        assert (before[:, 0] == 0).all()
        assert (before.diff() > 0).all()
        assert (blocks.diff() > 0).all()
        assert (blocks[..., 0] > before[:, -1:]).all()
        assert bool((before[:, -1] > head - 1).any()) == spread
    assert (draw_steps(3, 50, rng, spread=False) == 1).all()


def test_questions_name_their_image_where_there_are_two(banks):
    group, tokenizer = banks["tiny-llava"][0], MODEL_SPECS["tiny-llava"].build_processor().tokenizer
    packed = pack(group, np.array([[0, 1]]), np.random.default_rng(0), 196, 12)
    for ids, question in zip(packed.ids[0], packed.question[0], strict=True):
        image = int(question.max()) // group.answer.shape[1]
        assert tokenizer.decode(ids).startswith(f"in the {('first', 'second')[image]} image, ")


@every_model
def test_patch_labels_name_what_a_look_holds(name):
    model_spec, symbols = MODEL_SPECS[name], 0
    for seed in range(30):
        scene = Scene(seed, model_spec.view)
        for encode_validation in model_spec.looks(scene):
            (left, top, right, bottom), (width, height) = encode_validation
            labels = patch_labels(scene, encode_validation).reshape(height // PATCH, width // PATCH, len(FIELDS))
            inside = [i for i in (*scene.things, *scene.plates) if left <= i.x < right and top <= i.y < bottom]
            assert 0 <= len(inside) - labels[..., 7].sum() <= 1  # two centres may share a patch
            for thing in set(inside) & set(scene.things):
                x, y = (thing.x - left) / (right - left) * width, (thing.y - top) / (bottom - top) * height
                assert labels[int(y // PATCH), int(x // PATCH), 0] == SHAPES.index(thing.shape) + 1
            symbols += bool(set(labels[..., 3].ravel()) - {0})
            texts = {SYMBOLS.index(s) + 1 for p in scene.plates for s in p.text}
            assert set(labels[..., 3].ravel()) - {0} <= texts
    assert symbols > 5


def test_labels_go_to_the_tokens_that_stand_for_their_patches():
    model_spec = MODEL_SPECS["tiny-internvl"]
    patches = torch.arange(144).view(1, 144, 1)
    grid = torch.arange(144).view(12, 12)
    assert model_spec.by_token(patches, (96, 96))[0, 7, :, 0].tolist() == grid[2:4, 2:4].flatten().tolist()


def test_cosine_rises_then_falls():
    assert cosine(0.0) < cosine(0.02) == pytest.approx(1.0)
    assert cosine(1.0) == cosine(1.5) == pytest.approx(0.02)


@every_model
def test_a_run_goes_on_where_it_stopped(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "PATCHES", 600)
    monkeypatch.setattr(train, "SCENES", 4)
    flags = [
        name,
        *["--scenes", "128", "--validation", "4", "--workers", "1", "--steps", "1", "--videos", "128", "--out"],
    ]
    train.main([*flags, str(tmp_path), "--phases", "vision"])
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["done"] == ["vision"]
    train.main([*flags, str(tmp_path), "--phases", "language", "both", "--resume"])
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [e.get("phase") for e in log] == [None, "vision", None, "language", "both"]
    finished = tmp_path / name
    assert (finished / "model.safetensors").stat().st_size < 12e6
    train.main([*flags, str(tmp_path / "on"), "--phases", "language", "--start", str(finished)])
    capsys.readouterr()
    for wrong, message in (
        (["--resume", "--out", str(tmp_path / "new")], "--resume found no checkpoint.pt"),
        (["--start", str(tmp_path)], f"--start={tmp_path} holds no model.safetensors"),
        (["--language", str(tmp_path)], f"--language={tmp_path} holds no model.safetensors"),
        (["--hours", "0"], "must be more than 0"),
        (["--scenes", "5"], "too few"),
        (["--steps", "0"], "--steps=0 must be 1 or more"),
        (["--validation", "-3"], "--validation=-3 must be 1 or more"),
    ):
        with pytest.raises(SystemExit):
            train.main([name, *wrong])
        assert message in capsys.readouterr().err


def test_a_bank_is_read_again_as_it_was_drawn(tmp_path, banks):
    model_spec = MODEL_SPECS["tiny-internvl"]
    for _ in range(2):
        again = load_dataset(tmp_path, model_spec, 0, 8, 1)
        for group, other in zip(banks["tiny-internvl"], again, strict=True):
            assert np.array_equal(group.pixels, other.pixels)
            assert np.array_equal(group.words, other.words)
