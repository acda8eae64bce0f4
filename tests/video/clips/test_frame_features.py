"""Features of frames: what they tell apart, and that a frame's feature is its own."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BatchFeature

from tests.families import llava
from vtc.embedded.video import VALIDATION, Video
from vtc.inference.loading import load
from vtc.video.clips.frame_features import ColorLayout, Timm, TowerFeatures

SIDE = 96


def image(seed: int, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """A smooth random image, as ground for things."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 236, (5, 5, 3)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def apart(one: np.ndarray, other: np.ndarray, features=None) -> float:
    a, b = (features or ColorLayout()).describe(np.stack([one, other])).astype(np.float64)
    return 1 - float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def noisy(frame: np.ndarray, seed: int, deviation: float = 4) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=frame.shape) * deviation
    return (frame + noise).round().clip(0, 255).astype(np.uint8)


@given(
    grid=st.integers(1, 8),
    frequencies=st.sampled_from([(1,), (1, 2, 4), (1, 3)]),
    texture=st.sampled_from([0, 0.25, 1.0]),
    shape=st.tuples(st.integers(1, 50), st.integers(1, 50)),
)
def test_a_layout_has_length_one(grid, frequencies, texture, shape):
    features = ColorLayout(grid, frequencies, texture)
    frames = np.random.default_rng(0).integers(0, 256, (3, *shape, 3)).astype(np.uint8)
    got = features.describe(frames)
    assert got.dtype == np.float32
    assert got.shape == (3, features.dimension)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, rtol=1e-5)
    assert (got == np.stack([features.describe(frame) for frame in frames])).all()
    assert (got == features.describe(np.asfortranarray(frames))).all()


def test_a_layout_by_hand():
    """Each cell's part of the vector, from means of pixels taken one by one."""
    frame = image(3, 48, 48)
    lab = cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).astype(np.float64)
    want = []
    for row in range(6):
        for column in range(6):
            cell = (slice(row * 8, row * 8 + 8), slice(column * 8, column * 8 + 8))
            turns = lab[cell].reshape(-1, 3).mean(0) * np.pi / [100, 200, 200]
            for f in (1, 2, 4):
                want += [*(np.cos(f * turns) / 3), *(np.sin(f * turns) / 3)]
            across, down = [], []
            for y in range(row * 8, row * 8 + 8):
                for x in range(column * 8, column * 8 + 8):
                    across.append(abs(lab[y, min(x + 1, 47), 0] - lab[y, x, 0]))
                    down.append(abs(lab[min(y + 1, 47), x, 0] - lab[y, x, 0]))
            steps = np.minimum([np.mean(across) / 50, np.mean(down) / 50], 1) * np.pi / 2
            want += [*(np.cos(steps) * np.sqrt(1 / 8)), *(np.sin(steps) * np.sqrt(1 / 8))]
    want = np.array(want)
    got = ColorLayout().describe(frame)
    assert abs(float(got @ want / np.linalg.norm(want)) - 1) < 1e-5
    np.testing.assert_allclose(got, want / np.linalg.norm(want), atol=2e-4)


@pytest.mark.parametrize("seed", range(8))
def test_unlike_images_lie_far_apart_and_noise_does_not(seed):
    frame = image(seed)
    assert apart(frame, image(seed + 50)) > 0.2
    assert apart(frame, noisy(frame, seed)) < 0.001
    assert apart(frame, frame) < 1e-6
    assert apart(frame, frame[:, ::-1]) > 0.1  # where colors are counts


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("color", [(230, 30, 30), (20, 20, 20), (245, 245, 245), (30, 60, 220)])
def test_a_thing_of_a_tenth_of_the_width_is_noticed(seed, color):
    rng = np.random.default_rng(seed)
    frame, side = image(seed), round(SIDE / 10)
    top, left = rng.integers(0, SIDE - side, 2)
    there = frame[top : top + side, left : left + side]
    assert np.abs(there.reshape(-1, 3).mean(0) - color).max() >= 60, "the ground has the thing's color"
    seen = frame.copy()
    seen[top : top + side, left : left + side] = color
    noise = max(apart(noisy(frame, i), noisy(frame, i + 9)) for i in range(4))
    assert apart(noisy(frame, 1), noisy(seen, 2)) > 5 * noise
    # And it is no new shot.
    assert apart(frame, seen) < 0.11 < apart(frame, image(seed + 50))


def test_plain_colors_are_told_apart():
    """No two of the corners of RGB and the greys come near each other, though all are flat."""
    colors = [(r, g, b) for r in (0, 255) for g in (0, 255) for b in (0, 255)] + [(128, 128, 128), (64, 64, 64)]
    flats = [np.full((8, 8, 3), color, np.uint8) for color in colors]
    near = [apart(a, b) for i, a in enumerate(flats) for b in flats[:i]]
    assert min(near) > 0.1
    # Negative control: without the lowest frequency's part of L, black is as white.
    white, black = (ColorLayout(1, (1, 2), 0).describe(flats[i]) for i in (7, 0))
    assert white[6:] @ black[6:] > 0.4
    assert white[:6] @ black[:6] < 0.2


def test_texture_counts_where_colors_do_not():
    flat = np.full((SIDE, SIDE, 3), 119, np.uint8)
    board = np.where(np.indices((SIDE, SIDE)).sum(0)[..., None] // 2 % 2, 169, 60).astype(np.uint8).repeat(3, 2)
    with_texture, without = apart(flat, board), apart(flat, board, ColorLayout(texture=0))
    assert with_texture > without + 0.005


def test_the_shots_of_a_video_stand_out():
    drawn = next(
        video
        for video in map(Video, range(VALIDATION, VALIDATION + 200))
        if video.kind == "shots" and len(video.takes) > 2
    )
    rows = ColorLayout().describe(drawn.pixels(SIDE)).astype(np.float64)
    steps = 1 - (rows[1:] * rows[:-1]).sum(1)
    hard = [take.span[0] - 1 for take in drawn.takes[1:] if not take.soft]
    assert min(steps[hard], default=1) > np.median(steps) + 0.05


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((4, 4, 3)), "values of float64; expected uint8"),
        (np.zeros((4, 4), np.uint8), r"frames are \(4, 4\)"),
        (np.zeros((2, 4, 4, 4), np.uint8), r"frames are \(2, 4, 4, 4\)"),
        (np.zeros((0, 4, 4, 3), np.uint8), "there is none to describe"),
        (np.zeros((4, 0, 3), np.uint8), r"frames are \(4, 0, 3\)"),
    ],
)
def test_frames_are_checked(frames, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ColorLayout().describe(frames)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ColorLayout(grid=0), "grid=0 is below 1"),
        (lambda: ColorLayout(grid=2.0), "grid=2.0 is a float"),
        (lambda: ColorLayout(frequencies=(2, 4)), r"frequencies=\(2, 4\) must begin with 1"),
        (lambda: ColorLayout(frequencies=(1, 4, 2)), "ascend"),
        (lambda: ColorLayout(texture=-1), "texture=-1 must be 0 or more"),
        (lambda: Timm(torch.nn.Linear(2, 2)), "Linear is no timm model"),
        (lambda: Timm(timm.create_model("test_resnet")), "training mode.*eval"),
        (lambda: Timm("botnet50ts_256"), "no trained weights could be loaded.*use ColorLayout"),
        (lambda: Timm("nosuchnet"), "no trained weights could be loaded.*Unknown model"),
        (lambda: TowerFeatures(None, None, side=8), "side=8 is below 28"),
        (lambda: TowerFeatures(None, None, batch=0), "batch=0 .*at least 1"),
    ],
)
def test_parameters_are_checked(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_timm_is_the_models_pooled_feature():
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=3).eval()
    frames = np.stack([image(i, 40, 56) for i in range(5)])
    got = Timm(model, batch=2).describe(frames)
    config = model.pretrained_cfg
    side = config["input_size"][-1]
    small = np.stack([cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA) for frame in frames])
    pixels = (small / 255 - np.array(config["mean"])) / np.array(config["std"])
    model.reset_classifier(0)
    with torch.no_grad():
        want = model(torch.tensor(pixels).float().permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(got, want, atol=1e-5)
    np.testing.assert_allclose(Timm(model).describe(frames[3]), got[3], atol=1e-5)
    assert apart(frames[0], frames[1], Timm(model)) > 1e-4


def test_timm_scales_frames_to_the_models_own_shape():
    model = timm.create_model("test_resnet").eval()
    model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, 96, 64)}
    seen = []
    model.conv1.register_forward_pre_hook(lambda module, args: seen.append(tuple(args[0].shape)))
    Timm(model).describe(image(0, 40, 56))
    assert (1, 3, 96, 64) in seen


class Pixels:
    """The processor of a random LLaVA: pixels alone, no padding of its prompt."""

    image_token = "x"

    def __call__(self, text, images, return_tensors):
        small = np.stack([cv2.resize(image, (42, 42)) for image in images])
        return BatchFeature({"pixel_values": torch.tensor(small).permute(0, 3, 1, 2) / 127.5 - 1})


def test_structural_tokens_describe_nothing():
    model = llava(strategy="full")  # the class token goes on, first of 37
    frames = np.stack([image(i) for i in range(3)])
    got = TowerFeatures(model, Pixels()).describe(frames)
    with torch.no_grad():
        rows = model.base_model.get_image_features(Pixels()("xxx", frames, "pt")["pixel_values"], return_dict=True)
    want = torch.stack(list(rows.pooler_output))
    assert want.shape[1] == 37
    np.testing.assert_allclose(got, want[:, 1:].mean(1), atol=1e-4)
    assert not np.allclose(got, want.mean(1), atol=1e-4)


@pytest.mark.parametrize("name", ["tiny-llava", "tiny-internvl", "tiny-qwen"])
def test_the_tower_gives_the_mean_of_a_frames_tokens(name):
    model, processor = load(name, device="cpu")
    drawn = next(
        video
        for video in map(Video, range(VALIDATION, VALIDATION + 200))
        if video.kind == "shots" and len(video.takes) > 1
    )
    frames = drawn.pixels(SIDE)[:9]
    tower = TowerFeatures(model, processor, batch=4)
    got = tower.describe(frames)
    assert got.dtype == np.float32
    assert got.shape == (9, model.config.text_config.hidden_size)
    np.testing.assert_allclose(tower.describe(frames[5]), got[5], atol=1e-4)
    inputs = processor.image_processor(images=[frames[5]], return_tensors="pt")
    with torch.no_grad():
        rows = model.base_model.get_image_features(**inputs, return_dict=True).pooler_output
    np.testing.assert_allclose(got[5], torch.cat(list(rows)).reshape(-1, got.shape[1]).mean(0), atol=1e-4)
    spread = TowerFeatures(model, processor, centre=got.mean(0))
    assert apart(frames[0], frames[-1], spread) > 10 * apart(frames[0], frames[0], spread)
    assert apart(frames[0], frames[-1], spread) > apart(frames[0], frames[-1], tower)


def test_a_processor_without_images_is_named():
    model, processor = load("tiny-llava", device="cpu")
    with pytest.raises(ValueError, match=r"processor=Tokenizer has no image_token"):
        TowerFeatures(model, processor.tokenizer.backend_tokenizer).describe(image(0))
