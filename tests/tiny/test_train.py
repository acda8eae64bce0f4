"""What training rests on: packing many dialogues behind pictures changes nothing, and a killed run goes on."""

import json

import numpy as np
import pytest
import torch

from vtc.tiny import train
from vtc.tiny.bank import load_bank, look_pixels, make_bank
from vtc.tiny.labels import FIELDS, patch_labels
from vtc.tiny.loop import cosine, plain_attention, use_attention
from vtc.tiny.mind import answer_logits, around, block_attention
from vtc.tiny.pack import LEAD, draw_steps, pack, positions
from vtc.tiny.spec import SHAPES, SYMBOLS
from vtc.tiny.students import STUDENTS
from vtc.tiny.students.base import PATCH
from vtc.tiny.world import Scene

every_student = pytest.mark.parametrize("name", STUDENTS)


@pytest.fixture(scope="module")
def banks():
    return {name: make_bank(student, 0, 8, workers=1) for name, student in STUDENTS.items()}


@every_student
@pytest.mark.parametrize(("together", "chatter"), [(1, False), (2, True)])
def test_packed_dialogues_answer_as_they_would_alone(name, together, chatter, banks):
    torch.manual_seed(0)
    student, group = STUDENTS[name], max(banks[name], key=len)
    stock, packing = student.build_model(), student.build_model()
    packing.load_state_dict(stock.state_dict())
    use_attention(student.language_model(packing), block_attention)
    rows = np.arange(2 * together).reshape(2, together)
    visual = torch.randn(2, together, student.tokens(group.size) * group.looks, 128)
    before, after = around(student)
    length = visual.shape[2] + len(before) + len(after)
    packed = pack(group, rows, np.random.default_rng(0), length, 7, turns=3, spread=True, chatter=chatter)
    logits, truth, _, _ = answer_logits(student, packing, packed, visual)
    place, embed = positions(packed), stock.get_input_embeddings()
    head, t = len(packed.lead) + together * length, packed.ids.shape[2]
    alone, wanted = [], []
    for row in range(2):
        pictures = [part for v in visual[row] for part in (embed(before), v, embed(after))]
        for j, ids in enumerate(packed.ids[row]):
            ids = ids[ids > 0]
            embeds = torch.cat([embed(packed.lead), *pictures, embed(ids)])[None]
            start = head + j * t
            position = torch.cat([place[row, :head], place[row, start : start + len(ids)]])[None]
            mask = torch.ones(embeds.shape[:2], dtype=torch.long)
            out = student.language_model(stock)(inputs_embeds=embeds, position_ids=position, attention_mask=mask)
            labels = packed.labels[row, j, 1 : len(ids)]
            alone.append(stock.lm_head(out.last_hidden_state)[0, head:-1][labels >= 0])
            wanted.append(labels[labels >= 0])
    torch.testing.assert_close(logits, torch.cat(alone), atol=1e-4, rtol=1e-4)
    assert torch.equal(truth, torch.cat(wanted))


@every_student
def test_training_sees_what_the_stock_model_sees(name):
    """Looks are the processor's pixels, and tokens those of the stock `get_image_features`."""
    student = STUDENTS[name]
    model, processor = student.build_model().eval(), student.build_processor()
    student.prepare(model)
    for seed in range(1, 40, 6):  # odd ones are resampled as the processor does
        scene = Scene(seed, student.view)
        stock = processor.image_processor(scene.image, return_tensors="pt").pixel_values
        mine = torch.from_numpy(look_pixels(student, scene)).permute(0, 3, 1, 2) / 127.5 - 1
        assert (mine - stock).abs().max() <= 6 / 127.5
        with torch.no_grad():
            features = torch.cat(list(model.get_image_features(pixel_values=stock).pooler_output))
            tokens, _ = student.encode(model, stock)
        torch.testing.assert_close(tokens.flatten(0, 1), features.reshape(-1, features.shape[-1]))
        assert student.tokens(student.looks(scene)[0][1]) == tokens.shape[1]


@every_student
def test_plain_attention_is_the_stock_one(name):
    student = STUDENTS[name]
    stock, fast = student.build_model().eval(), student.build_model().eval()
    fast.load_state_dict(stock.state_dict())
    use_attention(student.tower(fast), plain_attention)
    pixels = torch.randn(2, 3, *reversed(student.looks(Scene(0, student.view))[0][1]))
    with torch.no_grad():
        torch.testing.assert_close(student.encode(fast, pixels)[0], student.encode(stock, pixels)[0])


def test_positions_rise_and_blocks_go_on_from_the_picture(banks):
    group = banks["tiny-llava"][0]
    rows, rng = np.arange(6)[:, None], np.random.default_rng(1)
    for spread in (True, False):
        packed = pack(group, rows, rng, 196, 5, spread=spread)
        place, head = positions(packed), len(LEAD) + 196
        before, blocks = place[:, :head], place[:, head:].view(packed.ids.shape)
        assert (before[:, 0] == 0).all()
        assert (before.diff() > 0).all()
        assert (blocks.diff() > 0).all()
        assert (blocks[..., 0] > before[:, -1:]).all()
        assert bool((before[:, -1] > head - 1).any()) == spread
    assert (draw_steps(3, 50, rng, spread=False) == 1).all()


def test_questions_name_their_picture_where_there_are_two(banks):
    group, tokenizer = banks["tiny-llava"][0], STUDENTS["tiny-llava"].build_processor().tokenizer
    packed = pack(group, np.array([[0, 1]]), np.random.default_rng(0), 196, 12)
    for ids, question in zip(packed.ids[0], packed.question[0], strict=True):
        picture = int(question.max()) // group.answer.shape[1]
        assert tokenizer.decode(ids).startswith(f"in the {('first', 'second')[picture]} picture, ")


@every_student
def test_patch_labels_name_what_a_look_holds(name):
    student, symbols = STUDENTS[name], 0
    for seed in range(30):
        scene = Scene(seed, student.view)
        for look in student.looks(scene):
            (left, top, right, bottom), (width, height) = look
            labels = patch_labels(scene, look).reshape(height // PATCH, width // PATCH, len(FIELDS))
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
    student = STUDENTS["tiny-internvl"]
    patches = torch.arange(144).view(1, 144, 1)
    grid = torch.arange(144).view(12, 12)
    assert student.by_token(patches, (96, 96))[0, 7, :, 0].tolist() == grid[2:4, 2:4].flatten().tolist()


def test_cosine_rises_then_falls():
    assert cosine(0.0) < cosine(0.02) == pytest.approx(1.0)
    assert cosine(1.0) == cosine(1.5) == pytest.approx(0.02)


@every_student
def test_a_run_goes_on_where_it_stopped(name, tmp_path, monkeypatch, capsys):
    for phase in train.BATCHES:
        monkeypatch.setitem(train.BATCHES, phase, 4)
    flags = [name, *["--scenes", "128", "--watch", "4", "--workers", "1", "--steps", "1", "--out"]]
    train.main([*flags, str(tmp_path), "--phases", "eye"])
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["done"] == ["eye"]
    train.main([*flags, str(tmp_path), "--phases", "mind", "both", "--resume"])
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [e.get("phase") for e in log] == [None, "eye", None, "mind", "both"]
    finished = tmp_path / name
    assert (finished / "model.safetensors").stat().st_size < 12e6
    train.main([*flags, str(tmp_path / "on"), "--phases", "mind", "--start", str(finished)])
    capsys.readouterr()
    for wrong, message in (
        (["--resume", "--out", str(tmp_path / "new")], "--resume found no checkpoint.pt"),
        (["--start", str(tmp_path)], "holds no model.safetensors"),
        (["--hours", "0"], "must be more than 0"),
        (["--scenes", "5"], "too few"),
    ):
        with pytest.raises(SystemExit):
            train.main([name, *wrong])
        assert message in capsys.readouterr().err


def test_a_bank_is_read_again_as_it_was_drawn(tmp_path, banks):
    student = STUDENTS["tiny-internvl"]
    for _ in range(2):
        again = load_bank(tmp_path, student, 0, 8, 1)
        for group, other in zip(banks["tiny-internvl"], again, strict=True):
            assert np.array_equal(group.pixels, other.pixels)
            assert np.array_equal(group.words, other.words)
