"""FastVID against plain loops: whom it keeps, and whom each centre takes in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.video.stages.videos import of_rows
from vtc.core.tokens import VisualTokens
from vtc.recipes.composition import Recipe
from vtc.stages import Joint
from vtc.video.stages import FastVID, FastVIDMean
from vtc.video.stages.fastvid import segments


def moving(frames: int, count: int, seed: int) -> VisualTokens:
    """Two scenes of distinct rows, with an attention cue in which values repeat."""
    generator = torch.Generator().manual_seed(seed)
    looks = torch.randn(2, count, 9, generator=generator)
    rows = looks[(torch.arange(frames) * 2) // frames] + 0.3 * torch.randn(frames, count, 9, generator=generator)
    attention = torch.randint(0, 5, (frames * count,), generator=generator) / 8
    return replace(of_rows(rows, (1, count)), cues={"attention": attention})


def deal(total, room):
    """`total` dealt one by one in turn to those with room."""
    got = [0] * len(room)
    while total and sum(got) < sum(room):
        for i in range(len(room)):
            if total and got[i] < room[i]:
                got[i] += 1
                total -= 1
    return got


def peaks(rows, k):
    """DPC-kNN by its definition, the first of equals being denser."""
    apart = np.linalg.norm(rows[:, None] - rows[None], axis=2) / rows.shape[1] ** 0.5
    density = [np.exp(-np.mean(np.sort(line)[:4] ** 2)) for line in apart]
    order = sorted(range(len(rows)), key=lambda i: (-density[i], i))
    far = {i: min((apart[i, j] for j in order[:place]), default=apart.max()) for place, i in enumerate(order)}
    return sorted(range(len(rows)), key=lambda i: (-density[i] * far[i], i))[:k]


def by_hand(rule: FastVID, tokens: VisualTokens, k: int, frames: int, count: int):
    """Kept tokens, and into which of them every other one goes."""
    rows, cue = tokens.features.double().numpy(), tokens.cues["attention"].tolist()
    budget = deal(k, [count] * frames)
    kept, into = set(), {}
    for clip in segments(rule, tokens):
        inside = list(range(clip.start, clip.end))
        anchors = inside[::-1][:: rule.stride]
        salient = {t: budget[t] - int(rule.context * budget[t]) for t in inside}
        wanted = sum(budget[t] - salient[t] for t in inside)
        context = dict(zip(anchors, deal(wanted, [count - salient[t] for t in anchors]), strict=True))
        left = deal(wanted - sum(context.values()), [count - salient[t] - context.get(t, 0) for t in inside])
        centres, loose = [], []
        for t, more in zip(inside, left, strict=True):
            order = sorted(range(t * count, (t + 1) * count), key=lambda i: (-cue[i], i))
            top, rest = order[: salient[t] + more], sorted(order[salient[t] + more :])
            kept.update(top)
            centres += [rest[i] for i in peaks(rows[rest], context[t])] if context.get(t) else []
            loose += rest
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for i in loose:
            if i not in centres and centres:
                into[i] = max(sorted(centres), key=lambda c: unit[i] @ unit[c])
        kept.update(centres)
    return sorted(kept), into


@settings(max_examples=40)
@given(frames=st.sampled_from([1, 2, 3, 5, 8, 16]), count=st.sampled_from([1, 4, 9]), data=st.data())
def test_fastvid_is_the_plain_rule(frames, count, data):
    tokens = moving(frames, count, data.draw(st.integers(0, 20)))
    rule = dict(clips=data.draw(st.sampled_from([1, 2, 8])), stride=data.draw(st.sampled_from([1, 4])))
    k = data.draw(st.integers(1, frames * count))
    reduction = Recipe((Joint(), FastVID(**rule), FastVIDMean(**rule))).reduce(tokens, k)
    kept, into = by_hand(FastVID(**rule), tokens, k, frames, count)
    assert reduction.anchor.tolist() == kept
    if k < len(tokens):
        place = {token: j for j, token in enumerate(kept)}
        assert reduction.assign.tolist() == [place.get(into.get(i, i), -1) for i in range(len(tokens))]


def test_with_two_anchor_frames_each_token_is_still_counted_once():
    tokens = moving(8, 9, 0)
    rule = dict(clips=1, threshold=-1.0)
    reduction = Recipe((Joint(), FastVID(**rule), FastVIDMean(**rule))).reduce(tokens, 30)
    centres = [i for i in reduction.anchor.tolist() if i // 9 in (3, 7)]
    assert {i // 9 for i in centres} == {3, 7}
    loose = [i for i in range(72) if i not in reduction.anchor.tolist()]
    assert len(loose) == 42
    assert int((reduction.assign >= 0).sum()) == 72
    reached = {int(reduction.anchor[reduction.assign[i]]) // 9 for i in loose}
    assert reached == {3, 7}  # both take some, as the released code has every token join in both


def test_equal_densities_need_no_noise():
    tokens = replace(of_rows(torch.ones(4, 9, 3)), cues={"attention": torch.zeros(36)})
    first, again = (Recipe((Joint(), FastVID(), FastVIDMean())).reduce(tokens, 15) for _ in range(2))
    assert first.anchor.tolist() == again.anchor.tolist()
    torch.testing.assert_close(first.apply(tokens.features), torch.ones(15, 3))


def test_without_the_cue_it_says_so():
    with pytest.raises(ValueError, match="attention"):
        FastVID().select(of_rows(torch.ones(2, 4, 3)), torch.arange(8), 3, seed=0)
