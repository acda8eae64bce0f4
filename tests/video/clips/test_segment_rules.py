"""What each segmenter cuts: parity with released functions, slow oracles, drawn shots."""

from __future__ import annotations

import math
from itertools import groupby

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.video.clips.test_segmenters import pushed, series, starts
from vtc.embedded.video import VALIDATION, Video
from vtc.video.clips.frame_features import ColorLayout
from vtc.video.clips.segmenters import (
    Adaptive,
    Content,
    DensitySegmenter,
    Hash,
    Neighbour,
    segment,
)
from vtc.video.clips.segmenters import density as density_module
from vtc.video.clips.segmenters.runs import contiguous
from vtc.video.clips.segmenters.vectors import direction, distance

REFERENCE = np.load("tests/data/reference_segments.npz")
CASES = ("s1", "s2")


@pytest.mark.parametrize("case", CASES)
def test_tdc(case):
    # 16 tokens a frame, compared as one vector.
    features = REFERENCE[f"{case}/tdc_x"].reshape(60, -1)
    want = [0, *(REFERENCE[f"{case}/tdc_cuts"] + 1).tolist()]
    assert starts(features, Neighbour.tdc(6, window=64)) == want
    assert starts(features, Neighbour.tdc(5, window=64)) != want
    assert starts(features, Neighbour.tdc(6, window=30)) != want


@pytest.mark.parametrize("case", CASES)
def test_dyseg(case):
    features, want = REFERENCE[f"{case}/dyseg_x"], REFERENCE[f"{case}/dyseg"].tolist()
    assert [len(clip) for clip in segment(features, range(32), Neighbour.dyseg(8, 0.9))] == want
    assert [len(clip) for clip in segment(features, range(32), Neighbour.dyseg(7, 0.9))] != want
    # All transitions but the first three lie between .96 and 1: a threshold above them cuts everywhere.
    assert starts(features, Neighbour.dyseg(1, 0.9)) == starts(features, Neighbour.dyseg(4, 0.0))
    assert starts(features, Neighbour.dyseg(1, 1.0)) == list(range(32))


@pytest.mark.parametrize("frames", range(1, 10))
def test_dyseg_of_few_frames_has_a_clip_each(frames):
    # FastVID's function stops with an error below 8.
    got = starts(series("feature", frames), Neighbour.dyseg(8))
    assert got == list(range(frames)) if frames <= 8 else len(got) >= 8


def neighbour_by_hand(features: np.ndarray, rule: Neighbour) -> list[int]:
    """The rule from all similarities at once."""
    frames = len(features)
    rows = features.astype(np.float64)
    for i in range(1, frames):
        if not np.isfinite(rows[i]).all():
            rows[i] = rows[i - 1]
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosine = unit @ unit.T

    def at(i):
        return min(max(i, 0), frames - 1)

    apart = {
        i: 1 - np.mean([cosine[at(i - 1 - j), at(i + j)] for j in range(rule.reach + 1)]) for i in range(1, frames)
    }
    peaks = []
    for i, own in apart.items():
        near = [j for j in apart if 0 < abs(i - j) <= rule.radius]
        if own > rule.still and all(own > apart[j] + 1e-12 or (j > i and own >= apart[j] - 1e-12) for j in near):
            peaks.append(i)
    found = set()
    for _, group in groupby(peaks, key=lambda i: i // (rule.window or frames)):
        order = sorted(group, key=lambda i: (-round(apart[i], 12), i))
        low = set(order[: rule.least])
        if rule.threshold is not None:
            low |= {i for i in order if 1 - apart[i] < rule.threshold}
        found |= set([i for i in order if i in low][: rule.most])
    return [0, *sorted(found)]


rules = st.builds(
    Neighbour,
    threshold=st.sampled_from([0.3, 0.8, 0.99]),
    least=st.integers(0, 3),
    most=st.none() | st.integers(3, 5),
    window=st.none() | st.integers(1, 12),
    reach=st.integers(0, 3),
    radius=st.integers(0, 3),
)


@given(rule=rules, frames=st.integers(1, 30), seed=st.integers(0, 2**32), lost=st.sets(st.integers(1, 29)))
def test_neighbour_is_its_rule(rule, frames, seed, lost):
    features = series("feature", frames, seed)
    features[[i for i in lost if i < frames]] = np.nan
    assert starts(features, rule) == neighbour_by_hand(features, rule)


def test_a_flash_weighs_less_than_a_shot_and_a_fade_is_found_once():
    shot, other = np.eye(2)
    flash = np.stack([shot] * 4 + [other] + [shot] * 4)
    assert starts(flash, Neighbour(0.9, reach=0, radius=0)) == [0, 4, 5]
    assert starts(flash, Neighbour(0.45)) == [0]
    assert starts(np.stack([shot] * 4 + [other] * 4), Neighbour(0.45)) == [0, 4]
    fade = np.stack([shot] * 4 + [shot * 2 + other, shot + other * 2] + [other] * 4)
    assert starts(fade, Neighbour(0.82, reach=0, radius=0)) == [0, 5]
    assert starts(fade, Neighbour(0.95, reach=0, radius=0)) == [0, 4, 5, 6]
    assert starts(fade, Neighbour(0.45)) == [0, 5]


def test_of_equal_transitions_the_first_is_the_peak():
    features = np.eye(6)
    assert starts(features, Neighbour(reach=0, radius=0)) == [0, 1, 2, 3, 4, 5]
    assert starts(features, Neighbour(reach=0, radius=1)) == [0, 1]
    assert starts(features, Neighbour(None, least=2, reach=0, radius=0)) == [0, 1, 2]
    assert starts(features, Neighbour(most=2, reach=0, radius=0)) == [0, 1, 2]


def test_directions():
    assert direction(np.zeros(3)).tolist() == [0, 0, 0]
    assert np.allclose(direction(np.array([3e300, 4e300])), [0.6, 0.8])
    assert np.allclose(direction(np.array([3e-300, 4e-300])), [0.6, 0.8])
    one, other, none = np.eye(2)[0], np.eye(2)[1], np.zeros(2)
    assert [distance(one, b) for b in (one, other, -one, none, None)] == [0, 1, 2, 1, 0]
    assert distance(none, none) == 0


def density_by_hand(rows: np.ndarray, rule: DensitySegmenter) -> list[int]:
    """DPC-kNN with Python's own sums, one frame after another."""
    frames = range(len(rows))
    apart = [[round(float(((rows[i] - rows[j]) ** 2).sum()), 12) for j in frames] for i in frames]
    k = min(rule.neighbours, len(rows))
    rho = [math.exp(-round(sum(sorted(apart[i])[:k]) / k, 12)) for i in frames]
    denser = [[j for j in frames if rho[j] > rho[i] or (rho[j] == rho[i] and j < i)] for i in frames]
    delta = [math.sqrt(min((apart[i][j] for j in denser[i]), default=max(apart[i]))) for i in frames]
    order = sorted(frames, key=lambda i: (-rho[i] * delta[i], i))[: max(math.floor(len(rows) * rule.share), 1)]
    top = next(i for i in frames if not denser[i])
    centres = sorted(i for i in order if delta[i] >= rule.apart or i == top) or [top]
    return [min(range(len(centres)), key=lambda c: (apart[i][centres[c]], c)) for i in frames]


@given(
    rule=st.builds(
        DensitySegmenter,
        share=st.sampled_from([0.1, 0.25, 0.5, 1.0]),
        neighbours=st.integers(1, 8),
        apart=st.sampled_from([0.0, 0.3, 1.0]),
    ),
    frames=st.integers(1, 24),
    seed=st.integers(0, 2**32),
)
def test_density_is_its_rule(rule, frames, seed):
    rows = np.stack([direction(row) for row in series("feature", frames, seed).astype(np.float64)])
    assert rule.labels(rows).tolist() == density_by_hand(rows, rule)


def test_density_in_blocks_is_density(monkeypatch):
    values = series("feature", 33)
    want = starts(values, DensitySegmenter(apart=0))
    monkeypatch.setattr(density_module, "BLOCK", 5)
    assert starts(values, DensitySegmenter(apart=0)) == want
    assert len(want) > 2


def contiguous_by_hand(labels: list[int]) -> list[int]:
    """The repair on a list of labels, frame by frame."""

    def runs(of):
        found, at = [], 0
        for label, frames in groupby(of):
            n = len(list(frames))
            found.append((label, at, at + n))
            at += n
        return found

    labels = list(labels)
    home = {}
    for label, a, b in runs(labels):
        if label not in home or b - a > home[label][1] - home[label][0]:
            home[label] = (a, b)
    core = [home[label][0] <= i < home[label][1] for i, label in enumerate(labels)]
    while True:
        now = runs(labels)
        spare = [(b - a, a, b, r) for r, (_, a, b) in enumerate(now) if not any(core[a:b])]
        if not spare:
            return [a for _, a, _ in now]
        _, a, b, r = min(spare)
        beside = [now[i] for i in (r - 1, r + 1) if 0 <= i < len(now)]
        host = max(beside, key=lambda run: (run[2] - run[1], -run[1]))
        labels[a:b] = [host[0]] * (b - a)


@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_each_label_becomes_one_run(labels):
    got = contiguous(labels)
    assert got == contiguous_by_hand(labels)
    assert got[0] == 0
    assert len(got) == len(set(labels))


def test_of_two_longest_runs_the_first_is_kept():
    assert contiguous([0, 0, 1, 1, 0, 0, 1, 1]) == [0, 2]
    assert contiguous([0, 0, 0, 1, 0, 2, 2, 2, 2]) == [0, 3, 4]
    assert contiguous([0, 0, 1, 2, 2, 2, 1, 1, 1, 0]) == [0, 2, 6]
    assert contiguous([]) == []


def video(*colors, shape=(72, 96)) -> np.ndarray:
    """Frames of an image that is drawn from its number, or of a mixture `(a, b, share of b)`."""
    rng = np.random.default_rng(7)
    shots = [cv2.resize(rng.integers(0, 256, (4, 5, 3)).astype(np.uint8), shape[::-1]) for _ in range(4)]
    found = []
    for color in colors:
        a, b, share = color if isinstance(color, tuple) else (color, color, 0)
        found.append((shots[a] * (1 - share) + shots[b] * share).round().astype(np.uint8))
    return np.stack(found)


HARD = video(0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2)
SLOW = video(*[0] * 4, *[(0, 1, i / 8) for i in range(1, 8)], *[1] * 4)
FLASH = video(0, 0, 0, 0, 3, 0, 0, 0, 0)


def test_scenes_at_hard_cuts():
    assert starts(HARD, Content()) == [0, 4, 9]
    assert starts(HARD, Adaptive()) == [0, 4, 9]
    assert starts(HARD, Hash()) == [0, 4, 9]
    assert starts(HARD, Content(threshold=255)) == [0]


def test_scenes_at_a_slow_fade():
    # Each eighth of it is below the thresholds: what PySceneDetect's detectors of neighbours cannot see.
    assert starts(SLOW, Content()) == [0]
    assert starts(SLOW, Adaptive()) == [0]
    assert len(starts(SLOW, Content(threshold=4))) > 5


def test_scenes_at_a_flash():
    assert starts(FLASH, Content()) == [0, 4, 5]
    assert starts(FLASH, Hash()) == [0, 4, 5]
    # Of four neighbours one differs as much: a ratio of 4.
    assert starts(FLASH, Adaptive()) == [0, 4, 5]
    assert starts(FLASH, Adaptive(threshold=4.5)) == [0]
    assert starts(HARD, Adaptive(threshold=4.5)) == [0, 4, 9]
    seconds = [i / 2 for i in range(9)]
    assert len(segment(FLASH, seconds, Content(), min_seconds=1.0)) == 2


def test_adaptive_sees_no_cut_near_the_ends():
    for at in range(1, 12):
        values = video(*[0] * at, *[1] * (12 - at))
        assert starts(values, Content()) == [0, at]
        assert starts(values, Adaptive()) == ([0, at] if 2 <= at < 10 else [0])


def test_scores_of_scenes_are_their_own_measures():
    for frames in (HARD, FLASH):
        for cut in pushed(frames, Content()):
            before, after = (
                cv2.cvtColor(frames[i], cv2.COLOR_RGB2HSV).astype(float) for i in (cut.index - 1, cut.index)
            )
            assert cut.score == pytest.approx(abs(before - after).mean(), rel=1e-6)
            assert cut.score >= 27
    assert [cut.score for cut in pushed(HARD, Adaptive())] == [255, 255]  # nothing else moves
    for cut in pushed(HARD, Hash()):
        assert 0.35 <= cut.score <= 1
        assert cut.score * 64 == int(cut.score * 64)


def test_wide_frames_are_shrunk_and_channels_keep_their_order():
    wide = np.stack([cv2.resize(frame, (1024, 768), interpolation=cv2.INTER_NEAREST) for frame in HARD])
    want = [cut.score for cut in pushed(HARD, Content())]
    assert [cut.score for cut in pushed(wide, Content())] == pytest.approx(want, rel=0.05)
    assert [cut.score for cut in pushed(wide, Content(width=16))] == pytest.approx(want, rel=0.2)
    noise = np.random.default_rng(0).normal(size=(3, 60, 1024, 3)) * 60 + (170, 120, 70)
    noise = noise.clip(0, 255).astype(np.uint8)
    assert starts(noise, Content()) == [0]
    assert starts(noise, Content(width=1024)) == [0, 1, 2]
    # Hue is not symmetric in red and blue.
    assert [cut.score for cut in pushed(HARD[..., ::-1], Content())] != want
    for shape in ((1, 1), (1, 40), (40, 1), (3, 1000)):
        assert starts(video(0, 0, 0, 0, 0, shape=shape), Content()) == [0]


def found(rule, videos) -> tuple[int, int, int, int, int]:
    """Cuts that are no shot's, and how many hard and soft ones were found of how many."""
    wrong = hard = hards = soft = softs = 0
    for drawn, values in videos:
        got = {clip.start for clip in segment(values, [i / drawn.fps for i in range(len(values))], rule)} - {0}
        for take in drawn.takes[1:]:
            softs, hards = softs + take.soft, hards + (not take.soft)
            hit = take.span[0] in got
            soft, hard = soft + (hit and take.soft), hard + (hit and not take.soft)
        wrong += len(got - set(drawn.shots))
    return wrong, hard, hards, soft, softs


def test_the_defaults_find_the_shots_of_drawn_videos():
    drawn = [Video(seed) for seed in range(VALIDATION, VALIDATION + 120)]
    videos = [(video, ColorLayout().describe(video.pixels(96))) for video in drawn]
    wrong, hard, hards, soft, softs = found(Neighbour(), videos)
    assert hards >= 10
    assert softs >= 5
    assert hard >= 0.95 * hards
    assert soft >= 0.5 * softs
    assert wrong <= 0.1 * (hards + softs)
    # Negative controls: neighbours alone miss the soft cuts, and a released rule cuts what has no shots.
    assert found(Neighbour(reach=0, radius=0), videos)[3] < soft
    assert found(Neighbour.dyseg(), videos)[0] > 10 * (hards + softs)
