"""Folding inside vision towers, against towers by hand: CLIP, SigLIP, InternVL and timm's ViT."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from timm.models.vision_transformer import ResPostBlock
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    InternVLVisionConfig,
    InternVLVisionModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    TimmWrapperConfig,
    TimmWrapperModel,
)

from tests import towers
from tests.checks import check_close, check_same, footprint
from tests.families.common import VISION, spread
from vtc.reduction.vision_encoder import folded
from vtc.stages import DiffRate, ToMe

SIDE, PATCH, PATCHES, LAYERS = 24, 4, 36, 4
SIZES = dict(VISION, num_hidden_layers=LAYERS)
RATES = DiffRate(tokens=PATCHES, pruned=(34, 28, 20, 14), merged=(30, 22, 17, 11))


def clip(attention: str = "sdpa") -> nn.Module:
    config = CLIPVisionConfig(**SIZES, image_size=SIDE, patch_size=PATCH)
    return spread(CLIPVisionModel._from_config(config, attn_implementation=attention))


def siglip(attention: str = "sdpa") -> nn.Module:
    config = SiglipVisionConfig(**SIZES, image_size=SIDE, patch_size=PATCH)
    return spread(SiglipVisionModel._from_config(config, attn_implementation=attention))


def internvl(attention: str = "sdpa", *, norms: bool = True) -> nn.Module:
    config = InternVLVisionConfig(**SIZES, image_size=SIDE, patch_size=PATCH, use_qk_norm=norms)
    return spread(InternVLVisionModel._from_config(config, attn_implementation=attention))


def timm(attention: str = "sdpa", **options) -> nn.Module:
    sizes = dict(img_size=SIDE, patch_size=PATCH, embed_dim=32, depth=LAYERS, num_heads=2, mlp_ratio=2)
    config = TimmWrapperConfig(architecture="vit_tiny_patch16_224", model_args={**sizes, **options})
    model = spread(TimmWrapperModel(config))
    for block in model.timm_model.blocks:
        block.attn.fused_attn = attention == "sdpa"
    return model


TOWERS: dict[str, tuple[Callable[..., nn.Module], int]] = {
    "clip": (clip, 1),
    "siglip": (siglip, 0),
    "internvl": (internvl, 1),
    "timm": (timm, 1),
    "timm-registers": (lambda attention="sdpa": timm(attention, reg_tokens=3, init_values=0.5, qk_norm=True), 4),
}
STAGES = {
    "tome": ToMe(),
    "tome-decreasing": ToMe(shape="decreasing"),
    "tome-plain": ToMe(proportional=False),
    "diffrate": RATES,
}


@dataclass(frozen=True)
class AtOnce(ToMe):
    """All that go are folded in the first layer."""

    def schedule(self, candidates, target, layers):
        return (target,) * layers


every_tower = pytest.mark.parametrize("name", TOWERS)
every_stage = pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)


def fits(name: str, stage) -> bool:
    return name != "siglip" or not stage.needs_cls


def pixels(count: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def start(tower: nn.Module, images: Tensor) -> Tensor:
    """`[B, N, D]` what the first layer gets."""
    found = []
    hook = towers.layers_of(tower)[0].register_forward_pre_hook(lambda module, args: found.append(args[0]))
    try:
        tower(images)
    finally:
        hook.remove()
    return found[0]


def last(tower: nn.Module, images: Tensor) -> Tensor:
    """`[B, K, D]` what the last layer gives."""
    found = []
    hook = towers.layers_of(tower)[-1].register_forward_hook(lambda module, args, out: found.append(out))
    try:
        tower(images)
    finally:
        hook.remove()
    return found[0]


def by_hand(name: str, stage, keep, images: Tensor) -> tuple[Tensor, list[list[towers.Token]]]:
    build, prefix = TOWERS[name]
    tower = build("eager")
    runs = [
        towers.run_tower(towers.layers_of(tower), rows, stage, stage.own_share or keep, prefix)
        for rows in start(tower, images)
    ]
    return torch.stack([rows for rows, _ in runs]), [tokens for _, tokens in runs]


@every_tower
@every_stage
@pytest.mark.parametrize("keep", [0.5, 5, 0.9])
@torch.no_grad()
def test_a_tower_gives_what_loops_by_hand_give(name, stage, keep):
    if not fits(name, stage):
        return
    build, prefix = TOWERS[name]
    tower, images = build(), pixels()
    want, tokens = by_hand(name, stage, keep, images)
    with folded(tower, stage, keep) as work:
        got = last(tower, images)
    check_close(got, want, "features")
    for i, survivors in enumerate(tokens):
        patches = [token for token in survivors if token.began >= prefix]
        assert work.done.anchor[i].tolist() == [token.began - prefix for token in patches]
        assert work.done.size[i].tolist() == [len(token.places) for token in patches]
        for number, token in enumerate(patches):
            places = (work.done.assign[i] == number).nonzero().flatten().tolist()
            assert places == sorted(place - prefix for place in token.places)


@every_tower
@torch.no_grad()
def test_a_wrong_rule_is_told_apart(name):
    """Negative control: each part of the rule, left out, is seen by the comparison above."""
    tower, images = TOWERS[name][0](), pixels()
    with folded(tower, ToMe(proportional=False), 0.5):
        wrong = last(tower, images)
    want, _ = by_hand(name, ToMe(), 0.5, images)
    with pytest.raises(AssertionError, match="features"):
        check_close(wrong, want, "features")


@every_tower
@every_stage
@torch.no_grad()
def test_both_kernels_agree(name, stage):
    if not fits(name, stage):
        return
    outs = []
    for kernel in ("sdpa", "eager"):
        tower = TOWERS[name][0](kernel)
        with folded(tower, stage, 0.5):
            outs.append(last(tower, pixels()))
    check_close(outs[0], outs[1], "sdpa and eager")


@every_tower
@every_stage
@torch.no_grad()
def test_a_batch_is_its_singles_in_any_order(name, stage):
    if not fits(name, stage):
        return
    tower, images, order = TOWERS[name][0](), pixels(4), [2, 0, 3, 1]
    with folded(tower, stage, 0.4) as work:
        whole, sizes = last(tower, images), work.done.assign
        singles = torch.cat([last(tower, image[None]) for image in images])
        mixed = last(tower, images[order])
        check_same(work.done.assign, sizes[order], "assignments")
    check_close(whole, singles, "singles")
    check_close(mixed, whole[order], "another order")


@every_tower
@torch.no_grad()
def test_counts_sum_up_and_nothing_is_left_behind(name):
    build, prefix = TOWERS[name]
    tower, images = build(), pixels()
    want = tower(images).last_hidden_state
    before = footprint(tower)
    for keep in (1, 3, 9, 17, 35, 36, 0.25, 1.0):
        least = -(-PATCHES >> LAYERS)
        if isinstance(keep, int) and keep < least:
            with pytest.raises(ValueError, match=f"keep .*no fewer than {least}; keep"), folded(tower, ToMe(), keep):
                tower(images)
            continue
        with folded(tower, ToMe(), keep) as work:
            out = tower(images).last_hidden_state
        count = keep if isinstance(keep, int) else round(keep * PATCHES)
        assert out.shape[1] == prefix + count == prefix + work.done.anchor.shape[1]
        assert work.done.size.sum(dim=1).tolist() == [PATCHES] * 3
        assert footprint(tower) == before
    check_same(out, want, "keep=1.0")
    check_same(tower(images).last_hidden_state, want, "features after")


@every_tower
@torch.no_grad()
def test_twins_folded_with_sizes_are_the_whole_image(name):
    """Tokens that are equal and folded together weigh as much as they did apart: survivors are what they were."""
    build, prefix = TOWERS[name]
    tower = build()
    hidden = start(tower, pixels(1))
    pairs, keep = PATCHES // 4, PATCHES - PATCHES // 4
    place = torch.arange(PATCHES)
    place = torch.where(place < 2 * pairs, place // 2 * 2, place)
    twins = torch.cat([hidden[:, :prefix], hidden[:, prefix:][:, place]], dim=1)
    given = towers.layers_of(tower)[0].register_forward_pre_hook(lambda module, args: (twins, *args[1:]))
    want = last(tower, pixels(1))
    with folded(tower, AtOnce(), keep) as work:
        got = last(tower, pixels(1))
    with folded(tower, AtOnce(proportional=False), keep):
        wrong = last(tower, pixels(1))
    given.remove()
    assert sorted(work.done.size[0].tolist()) == [1.0] * (keep - pairs) + [2.0] * pairs
    survivors = torch.cat([torch.arange(prefix), prefix + work.done.anchor[0]])
    check_close(got, want[:, survivors], "survivors")
    with pytest.raises(AssertionError, match="survivors"):
        check_close(wrong, want[:, survivors], "survivors")


@every_tower
@torch.no_grad()
def test_spread_survivors_stand_in_all_their_places(name):
    build, prefix = TOWERS[name]
    tower, images = build(), pixels()
    with folded(tower, ToMe(), 0.5) as work:
        short = last(tower, images)
        assign = work.done.assign
    with folded(tower, ToMe(share=0.5, spread=True)) as work:
        full = last(tower, images)
    check_same(work.done.assign, assign, "assignments")
    for image in range(3):
        want = torch.cat([short[image, :prefix], short[image, prefix:][assign[image]]])
        check_same(full[image], want, "spread features")


@every_tower
@every_stage
def test_gradients_are_those_of_finite_differences(name, stage):
    if not fits(name, stage):
        return
    # InternVL's norm of the keys goes through fp32, where so small a step is lost.
    tower = (internvl(norms=False) if name == "internvl" else TOWERS[name][0]()).double()
    images = pixels(2).double().requires_grad_()
    way, step = torch.randn(images.shape, generator=torch.Generator().manual_seed(5)).double(), 1e-6

    def loss(rows: Tensor) -> Tensor:
        with folded(tower, stage, 0.5):
            return (last(tower, rows) * torch.linspace(-1, 1, 32)).sin().sum()

    loss(images).backward()
    with torch.no_grad():
        finite = (loss(images + step * way) - loss(images - step * way)) / (2 * step)
    found = (images.grad * way).sum()
    assert abs(float(found - finite)) <= 1e-4 * max(1.0, abs(float(finite)))
    assert float(found) != 0


@every_tower
@every_stage
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_runs(name, stage, dtype):
    if not fits(name, stage):
        return
    tower = TOWERS[name][0]().to(dtype)
    with folded(tower, stage, 0.5) as work:
        out = last(tower, pixels().to(dtype))
    assert out.dtype == dtype
    assert bool(out.isfinite().all())
    assert work.done.size.dtype == torch.float32
    tower = tower.float()
    with folded(tower, stage, 0.5), torch.autocast("cpu", dtype=torch.bfloat16):
        assert last(tower, pixels()).shape == out.shape


@torch.no_grad()
@pytest.mark.parametrize("first", [True, False], ids=["collected before", "collected after"])
def test_hidden_states_are_collected_folded(first):
    """transformers hangs hooks on layers when states are first asked for: before or after those of folding."""
    tower = clip()
    if first:
        tower(pixels(), output_hidden_states=True)
    with folded(tower, ToMe(), 0.5):
        states = tower(pixels(), output_hidden_states=True).hidden_states
    lengths = [state.shape[1] for state in states]
    assert lengths == [37, *(1 + left for left in ToMe().schedule(36, 18, LAYERS))]


def test_towers_that_cannot_fold_are_refused():
    with pytest.raises(ValueError, match=r"'encoder/diffrate' .*SiglipVisionModel.*'encoder/tome'"):
        folded(siglip(), RATES).__enter__()
    short = spread(CLIPVisionModel(CLIPVisionConfig(**VISION, image_size=SIDE, patch_size=PATCH)))
    with pytest.raises(ValueError, match=r"merged=\(30, 22, 17, 11\) .*4 layers.* has 3 "):
        folded(short, RATES).__enter__()
    tower = clip()
    tower.config._attn_implementation = "flash_attention_2"
    with pytest.raises(
        ValueError, match=r"attn_implementation='flash_attention_2' .* takes no bias.*proportional=False"
    ):
        folded(tower, ToMe()).__enter__()
    with pytest.raises(ValueError, match=r"vision tower Linear \(None\): .*CLIP"):
        folded(nn.Linear(2, 2), ToMe()).__enter__()
    with pytest.raises(ValueError, match=r"VisionTransformer .*ResPostBlock"):
        folded(timm(block_fn=ResPostBlock), ToMe()).__enter__()


def test_gradient_checkpointing_is_refused_while_training():
    tower = clip().train()
    getattr(tower, "activation_checkpointing_enable", tower.gradient_checkpointing_enable)()
    with pytest.raises(ValueError, match=r"gradient checkpointing of CLIPVisionModel .*'encoder/tome'"):
        folded(tower, ToMe()).__enter__()
    with folded(tower.eval(), ToMe()):
        tower(pixels())
