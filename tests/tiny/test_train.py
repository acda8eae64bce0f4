"""What training rests on: packing many dialogues behind a picture changes nothing, and a killed run goes on."""

import json

import numpy as np
import pytest
import torch

from vtc.tiny import train
from vtc.tiny.bank import make_bank
from vtc.tiny.build import GRID, build_model
from vtc.tiny.labels import FIELDS, patch_labels
from vtc.tiny.loop import cosine, use_attention
from vtc.tiny.mind import PICTURE, PREFIX, answer_logits, block_attention, draw_positions, pack
from vtc.tiny.world import SHAPES, Scene


@pytest.fixture(scope="module")
def bank():
    return make_bank(0, 2, workers=1)


def test_packed_dialogues_answer_as_they_would_alone(bank):
    torch.manual_seed(0)
    stock, packing = build_model(), build_model()
    packing.load_state_dict(stock.state_dict())
    use_attention(packing.model.language_model, block_attention)
    visual = torch.randn(2, GRID * GRID, 128)
    packed = pack(bank, np.arange(2), np.random.default_rng(0), questions=7, turns=3, spread=True)
    logits, truth, _ = answer_logits(packing, packed, visual)
    alone, wanted = [], []
    t = packed.ids.shape[2]
    for row in range(2):
        for j, ids in enumerate(packed.ids[row]):
            ids = ids[ids > 0]
            embed = stock.get_input_embeddings()
            embeds = torch.cat([embed(torch.tensor(PREFIX)), visual[row], embed(ids)])[None]
            start = PICTURE + j * t
            position = packed.position[row]
            position = torch.cat([position[:PICTURE], position[start : start + len(ids)]])[None]
            mask = torch.ones(embeds.shape[:2], dtype=torch.long)
            out = stock.model.language_model(inputs_embeds=embeds, position_ids=position, attention_mask=mask)
            labels = packed.labels[row, j, 1 : len(ids)]
            alone.append(stock.lm_head(out.last_hidden_state)[0, PICTURE:-1][labels >= 0])
            wanted.append(labels[labels >= 0])
    torch.testing.assert_close(logits, torch.cat(alone), atol=1e-4, rtol=1e-4)
    assert torch.equal(truth, torch.cat(wanted))


def test_positions_rise_and_blocks_go_on_from_the_picture():
    position = draw_positions(6, 3, 5, np.random.default_rng(1), spread=True)
    picture, blocks = position[:, :PICTURE], position[:, PICTURE:].reshape(6, 3, 5)
    assert (picture[:, 0] == 0).all()
    assert (np.diff(picture) > 0).all()
    assert (np.diff(blocks) > 0).all()
    assert (blocks[..., 0] > picture[:, -1:]).all()
    plain = draw_positions(2, 3, 5, np.random.default_rng(1), spread=False)
    assert (plain[:, :PICTURE] == np.arange(PICTURE)).all()
    assert (plain[:, PICTURE:].reshape(2, 3, 5) == PICTURE + np.arange(5)).all()


def test_patch_labels_name_what_the_scene_holds():
    for seed in range(20):
        scene = Scene(seed)
        labels = patch_labels(scene, GRID)
        assert labels[:, FIELDS.index("center")].sum() == len(scene.things) + (scene.plate is not None)
        for thing in scene.things:
            patch = labels[int(thing.y * GRID) * GRID + int(thing.x * GRID)]
            assert patch[0] == SHAPES.index(thing.shape) + 1


def test_cosine_rises_then_falls():
    assert cosine(0.0) < cosine(0.02) == pytest.approx(1.0)
    assert cosine(1.0) == cosine(1.5) == pytest.approx(0.02)


def test_a_run_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(train.BATCHES, "eye", 4)
    flags = ["tiny-llava", *["--scenes", "128", "--watch", "4", "--workers", "1", "--steps", "1", "--out"]]
    train.main([*flags, str(tmp_path), "--phases", "eye"])
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["done"] == ["eye"]
    train.main([*flags, str(tmp_path), "--phases", "mind", "--resume"])
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [e.get("phase") for e in log] == [None, "eye", None, "mind"]
    assert (tmp_path / "tiny-llava" / "model.safetensors").is_file()
    with pytest.raises(SystemExit):
        train.main([*flags, str(tmp_path / "elsewhere"), "--resume"])
    assert "--resume found no checkpoint.pt" in capsys.readouterr().err
