"""Frames left out before the encoder: the same answer as leaving out their tokens behind it, on every family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.checks import check_close
from tests.families import FAMILIES, Family
from tests.grid import (
    fresh,
    generate,
    kept,
    steps,
    watching,
)
from tests.reduction.test_videos import KINDS
from vtc import (
    Layout,
    Recipe,
    VisualTokens,
    reduce_tokens,
    restore,
)
from vtc.recipes.composition import POSITIONS
from vtc.stages import (
    FrameSelector,
    Joint,
    KCenter,
    Mean,
    Resize,
    Selector,
)

BY_NAME = {family.name: family for family in FAMILIES}
VIDEO_ROWS = [[3, (1, 6, 4, 8), 4, (2, 2, 4, 4), 5], [2, (3, 4, 4, 4), 6], [9]]
"""(seed, frames, height, width): a long video and a short one in a row, one of another length, none."""
ONE_VIDEO = [[3, (1, 4, 0, 0), 5], [2]]
"""For LLaVA-OneVision, whose videos have one size."""
IMAGES = [[3, (1, 8, 8), 2, (2, 8, 8), 2, (3, 8, 8), 1, (4, 8, 8), 5], [2, (5, 8, 8), 3, (6, 8, 8), 4], [7]]
"""Frames that come as images."""
TILELESS = [[3, (1, 2, 2), 2, (2, 2, 2), 2, (3, 2, 2), 1, (4, 2, 2), 5], [2, (5, 2, 2), 3, (6, 2, 2), 2], [7]]
"""The same for InternVL: images of one tile."""


@dataclass(frozen=True)
class Drawn(FrameSelector):
    """The brightest frames: a choice that depends on the pixels alone."""

    share: float | None = None
    name = "drawn"

    @property
    def own_share(self) -> float | None:
        return self.share

    def choose(self, frames: Tensor, k: int) -> Tensor:
        return frames.float().flatten(1).mean(dim=1).topk(k).indices.sort().values


@dataclass(frozen=True)
class Told(Selector):
    """All tokens of the named frames of each item, items told apart by their number of tokens."""

    frames: tuple[tuple[int, tuple[int, ...]], ...] = ()
    name = "told"

    def select(self, tokens: VisualTokens, pool: Tensor, k: int, *, seed: int) -> Tensor:
        chosen = dict(self.frames)[len(tokens)]
        inside = torch.isin(tokens.layout.unit, torch.tensor(chosen)) & ~tokens.layout.structural
        assert int(inside.sum()) == k
        return torch.nonzero(inside).flatten()


@dataclass(frozen=True)
class Kind:
    """A family with videos of its own, or with images that stand for frames."""

    family: Family
    rows: Sequence[Any]
    images_as: str = "items"

    def __str__(self) -> str:
        return f"{self.family.name}-{self.images_as}"

    def recipe(self, *stages: Any, **options: Any) -> Recipe:
        return Recipe(stages, images_as=self.images_as, **options)


VIDEOS = [*(Kind(family, VIDEO_ROWS) for family in KINDS), Kind(BY_NAME["llava-onevision"], ONE_VIDEO)]
AS_IMAGES = [Kind(BY_NAME[name], IMAGES, "frames") for name in ("llava", "smolvlm", "gemma3")]
AS_IMAGES.append(Kind(BY_NAME["internvl"], TILELESS, "frames"))
every_kind = pytest.mark.parametrize("kind", [*VIDEOS, *AS_IMAGES], ids=str)
QWEN = VIDEOS[1]


def units_kept(model: nn.Module) -> list[list[int]]:
    """The frames of each item of which something is left."""
    return [[i for i, unit in enumerate(item.units) if unit.after] for item in model.vtc.report.items]


def wrapped(kind: Kind, *stages: Any, **options: Any) -> nn.Module:
    return reduce_tokens(fresh(kind.family), kind.recipe(*stages, **options))


@every_kind
@pytest.mark.parametrize("positions", POSITIONS)
def test_frames_left_out_before_the_encoder_equal_those_left_out_behind_it(kind, positions):
    inputs = kind.family.inputs(kind.rows)
    early = wrapped(kind, Drawn(), keep=0.5, positions=positions)
    first = steps(generate(early, inputs))
    frames, items = units_kept(early), early.vtc.report.items
    sizes = [len(item.layout) for item in items]
    assert len(set(sizes)) == len(sizes)
    assert [len(some) for some in frames] == [len(item.units) // 2 for item in items]
    # By another way: all frames are encoded, and the tokens of those frames are selected.
    told = Told(tuple((size, tuple(some)) for size, some in zip(sizes, frames, strict=True)))
    late = wrapped(kind, Joint(), told, keep=0.5, positions=positions)
    check_close(steps(generate(late, inputs)), first, "logits")
    assert kept(late) == kept(early)
    # The control: other frames give another answer.
    turned = [sorted(set(range(len(item.units))) - set(some)) for item, some in zip(items, frames, strict=True)]
    other = Told(tuple((size, tuple(some)) for size, some in zip(sizes, turned, strict=True)))
    with pytest.raises(AssertionError):
        check_close(
            steps(generate(wrapped(kind, Joint(), other, keep=0.5, positions=positions), inputs)), first, "logits"
        )


@every_kind
def test_the_encoder_sees_the_chosen_frames_alone(kind):
    inputs, model = kind.family.inputs(kind.rows), wrapped(kind, Drawn(), keep=0.5)
    seen: list[int] = []
    adapter = model.vtc._wrapped.adapter
    encode = adapter.encode
    adapter.encode = lambda media, cues: seen.append(sum(len(m.layout.grids) for m in media)) or encode(media, cues)
    generate(model, inputs, tokens=1)
    assert seen == [sum(len(item.units) for item in model.vtc.report.items) // 2]


@every_kind
@pytest.mark.parametrize("stages", [(Drawn(share=0.5), KCenter(), Mean()), (Drawn(), Joint(), KCenter())], ids=str)
def test_a_batch_equals_its_singles_and_counts_are_as_declared(kind, stages):
    inputs, model = kind.family.inputs(kind.rows), wrapped(kind, *stages, keep=0.3)
    together = steps(generate(model, inputs))
    assert [item.after + item.structural for item in model.vtc.report.items] == model.vtc.count(**inputs)
    places = kept(model)
    alone, found = [], []
    for row in kind.rows:
        alone.append(steps(generate(model, kind.family.inputs([row])))[0])
        found += kept(model) if any(not isinstance(part, int) for part in row) else []
    check_close(together, torch.stack(alone), "logits")
    assert found == places


@every_kind
def test_keep_1_is_the_identity_and_undo_is_complete(kind):
    inputs, model = kind.family.inputs(kind.rows), fresh(kind.family)
    plain = steps(generate(model, inputs))
    for stages in ((Drawn(),), (Drawn(), KCenter())):
        reduce_tokens(model, kind.recipe(*stages, keep=1.0))
        assert torch.equal(steps(generate(model, inputs)), plain)
        restore(model)
    assert torch.equal(steps(generate(model, inputs)), plain)


@pytest.mark.parametrize("kind", [k for k in AS_IMAGES if k.family.name != "smolvlm"], ids=str)
def test_images_of_a_row_share_one_budget(kind):
    inputs = kind.family.inputs(kind.rows)
    model = wrapped(kind, Joint(), KCenter(), keep=7)
    generate(model, inputs, tokens=1)
    items = model.vtc.report.items
    assert [(item.row, len(item.units), item.after) for item in items] == [(0, 4, 7), (1, 2, 7)]
    assert {unit.kind for item in items for unit in item.units} == {"frame"}
    reduce_tokens(model, Recipe((Joint(), KCenter()), keep=7))
    generate(model, inputs, tokens=1)
    assert len(model.vtc.report.items) == 6


def test_a_later_turn_with_another_video_goes_on_from_the_cache():
    kind = AS_IMAGES[0]
    first = kind.family.inputs([[3, (1, 8, 8), (2, 8, 8), 4]])
    whole = kind.family.inputs([[3, (1, 8, 8), (2, 8, 8), 4, 3, (3, 8, 8), (4, 8, 8), 5]])
    model = wrapped(kind, Drawn(), Joint(), KCenter(), keep=0.4)
    length = first["input_ids"].shape[1]
    with torch.no_grad():
        out = model(**first, use_cache=True)
        name = "cache" if "cache" in out else "past_key_values"
        later = {
            "input_ids": whole["input_ids"][:, length:],
            "attention_mask": whole["attention_mask"],
            "pixel_values": whole["pixel_values"][2:],
            name: out[name],
        }
        logits = model(**later).logits
    (item,) = model.vtc.report.items
    assert len(item.units) == 2
    assert logits.shape[1] == whole["input_ids"].shape[1] - length
    # Each turn's images are a video of their own, so the whole conversation at once is another recipe's work.
    with watching(model) as calls, torch.no_grad():
        model(**whole)
    assert len(calls[0][0].embeds) < whole["input_ids"].shape[1]


@dataclass(frozen=True)
class Wrong(Drawn):
    """Breaks its contract in one of several ways."""

    way: str = "few"

    def choose(self, frames: Tensor, k: int) -> Tensor:
        found = {"few": torch.arange(k - 1), "twice": torch.zeros(k).long(), "far": torch.arange(k) + len(frames)}
        return {**found, "below": torch.arange(k) - 1, "back": torch.arange(k).flip(0)}[self.way]


@pytest.mark.parametrize("way", ["few", "twice", "far", "below", "back"])
def test_a_frame_selector_that_breaks_its_contract_is_refused(way):
    with pytest.raises(ValueError, match=r"'drawn' chose .*3 of 6 frames"):
        generate(wrapped(QWEN, Wrong(way=way), keep=0.5), QWEN.family.inputs(QWEN.rows))


def test_what_cannot_be_done_is_refused():
    with pytest.raises(ValueError, match=r"'input/drawn' .*frames.*LlavaForConditionalGeneration.*images_as='frames'"):
        reduce_tokens(fresh(BY_NAME["llava"]), Recipe((Drawn(),)))
    with pytest.raises(ValueError, match=r"image 0 comes as .* units .*images_as='items'"):
        generate(wrapped(AS_IMAGES[-1], KCenter()), BY_NAME["internvl"].inputs([[2, (1, 8, 8), 3]]))
    with pytest.raises(ValueError, match=r"keep=7 is less than the 8 .*'input/drawn'"):
        wrapped(QWEN, Drawn(), keep=7).vtc.count(**QWEN.family.inputs([[2, (1, 6, 4, 8), 3]]))
    with pytest.raises(ValueError, match=r"frames have unlike sizes \[\(1, 2, 2\), \(1, 2, 3\)\]"):
        Recipe((Drawn(),), images_as="frames").count(
            Layout.join([Layout.of_grid(2, 2, kind="frame"), Layout.of_grid(2, 3, kind="frame")])
        )
    with pytest.raises(ValueError, match=r"images_as='video'; .*items, frames"):
        Recipe((KCenter(),), images_as="video")


def test_a_image_has_no_frames_to_leave_out():
    rows = [[3, (1, 4, 8), 2, (2, 4, 4, 4), 5]]
    model, inputs = wrapped(QWEN, Drawn(), keep=0.5), QWEN.family.inputs(rows)
    generate(model, inputs, tokens=1)
    assert [(item.modality, item.before, item.after) for item in model.vtc.report.items] == [
        ("image", 8, 8),
        ("video", 16, 8),
    ]


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 7, 8, 16, 33])
@pytest.mark.parametrize("tokens", [1, 4, 49])
@pytest.mark.parametrize("keep", [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 1, 10])
def test_frames_are_counted_before_anything_is_read(frames, tokens, keep):
    layout = Layout.join([Layout.of_grid(1, tokens, kind="frame")] * frames)
    both = Recipe((Drawn(), KCenter()), keep=keep)
    asked = Recipe((KCenter(),), keep=keep).count(layout)
    assert both.count(layout) == asked
    assert (both.frames(layout) - 1) * tokens < asked <= both.frames(layout) * tokens
    if isinstance(keep, float):
        whole = Recipe((Drawn(),), keep=keep)
        assert whole.count(layout) == whole.frames(layout) * tokens
        assert whole.count(layout) <= max(asked, tokens)
    half = Recipe((Drawn(share=0.5), KCenter()), keep=keep)
    identity = isinstance(keep, float) and keep == 1.0
    assert half.frames(layout) == (frames if identity else max(1, (frames + 1) // 2))
    assert half.count(layout) == min(asked, half.frames(layout) * tokens)


def test_frames_as_images_are_resized_together():
    kind = AS_IMAGES[0]
    model = wrapped(kind, Resize(), keep=0.5)
    generate(model, kind.family.inputs(kind.rows), tokens=1)
    assert [len(item.units) for item in model.vtc.report.items] == [4, 2]
    assert all(0.3 < item.after / item.before <= 0.5 for item in model.vtc.report.items)


def test_a_recipe_file_holds_what_images_are():
    mine = Recipe((KCenter(),), images_as="frames")
    assert Recipe.from_dict(mine.to_dict()) == mine
    old = {name: value for name, value in mine.to_dict().items() if name != "images_as"}
    assert Recipe.from_dict(old).images_as == "items"
