"""Videos are the same everywhere, show what they say, and their questions have one right answer each."""

import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest

from tests.embedded.video_oracle import Tracks, solve
from tools.train_embedded.hard_examples import hard_video_questions
from tools.train_embedded.labels import patch_labels
from tools.train_embedded.tokenizer import build_tokenizer
from vtc.embedded import spec, video_spec
from vtc.embedded.objects import Thing
from vtc.embedded.spec import COLORS, SHAPES
from vtc.embedded.video import HELD_OUT, VALIDATION, Video
from vtc.video import frames

SEEDS = [*range(150), *range(HELD_OUT, HELD_OUT + 150)]
FINGERPRINT = """
import hashlib
from dataclasses import astuple
from vtc.embedded.video import HELD_OUT, Video
digest = hashlib.sha256()
for seed in (*range(12), HELD_OUT, HELD_OUT + 1):
    for video in (Video(seed), Video(seed, shifted=True)):
        digest.update(video.pixels(96).tobytes())
        events = [(event.frame, event.name) for event in video.events]
        digest.update(repr((events, [astuple(question) for question in video.questions])).encode())
print(digest.hexdigest())
"""
VERSION_1 = "b2131ee8a8dcf0bc6d75c946f96bb6222d00cfe1a547df9000b3dcf82ecd3071"
WHOLE = (0.0, 0.0, 1.0, 1.0)


def states(video):
    return [video.state(i) for i in range(video.frames)]


@pytest.fixture(scope="module")
def many():
    return [Video(seed) for seed in range(1200)]


@pytest.mark.parametrize("hashing", ["0", "77"])
def test_version_1_in_every_process(hashing):
    environment = {**os.environ, "PYTHONHASHSEED": hashing}
    run = subprocess.run(
        [sys.executable, "-c", FINGERPRINT], capture_output=True, text=True, check=True, env=environment
    )
    assert video_spec.VERSION == "1"
    assert run.stdout.strip() == VERSION_1


def test_single_frames_are_those_of_the_video():
    for seed in range(20):
        video = Video(seed)
        pixels = video.pixels(64)
        assert pixels.shape == (video.frames, 64, 64, 3)
        assert pixels.dtype == np.uint8
        for i in range(video.frames):
            np.testing.assert_array_equal(video.frame(i, 64), pixels[i])


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"seed=-1 must be 0 or more"):
        Video(-1)
    video = Video(0)
    for i in (-1, video.frames):
        with pytest.raises(ValueError, match=rf"i={i} is no frame .* 0 to {video.frames - 1}"):
            video.state(i)
        with pytest.raises(ValueError, match=f"i={i}"):
            video.frame(i)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_question_has_exactly_the_stated_answer(seed, shifted):
    video = Video(seed, shifted)
    assert video.questions
    assert len({q.question for q in video.questions}) == len(video.questions)
    seen = states(video)
    for q in video.questions:
        assert q.skill in video_spec.SKILLS
        assert solve(seen, q.question) == [q.answer], (video, q)


def test_hard_questions_are_true_and_rich_in_slow_skills():
    usual, hard = Counter(), Counter()
    for seed in range(80):
        video = Video(seed)
        questions = hard_video_questions(video, 24)
        assert len({q.question for q in questions}) == len(questions) <= 24
        seen = states(video)
        for q in questions:
            assert solve(seen, q.question) == [q.answer], q
        usual.update(q.skill for q in video.questions)
        hard.update(q.skill for q in questions)
    for skill in ("order", "times", "move", "change"):
        assert hard[skill] > 2 * usual[skill]
    assert hard["static"] / hard.total() < usual["static"] / usual.total()
    assert set(hard) == set(usual)


def _reversed(seen):
    return seen[::-1]


def _mirrored(seen):
    return [_altered(s, lambda i: {"x": 1 - i.x, "y": 1 - i.y}) for s in seen]


def _repainted(seen):
    return [_altered(s, lambda i: {"color": COLORS[(COLORS.index(i.color) + 1) % len(COLORS)]}) for s in seen]


def _frozen(seen):
    return [seen[0]] * len(seen)


def _sampled(seen):
    return [s for s in seen[::4] for _ in range(4)]


def _altered(state, change):
    things = tuple(replace(t, **change(t)) for t in state.things)
    return replace(state, things=things, plates=tuple(replace(p, **change(p)) for p in state.plates))


@pytest.mark.parametrize(
    ("tamper", "skills"),
    [
        (_reversed, {"move", "order", "change"}),
        (_mirrored, {"move", "appear", "leave", "static"}),
        (_repainted, {"appear", "leave", "change", "order", "shots", "needle", "static"}),
        (_frozen, set(video_spec.SKILLS) - {"static"}),
        (_sampled, {"times", "needle"}),
    ],
)
def test_the_oracle_denies_the_answers_of_another_video(many, tamper, skills):
    denied, asked = Counter(), Counter()
    for video in many[:300]:
        seen = tamper(states(video))
        for q in video.questions:
            asked[q.skill] += 1
            try:
                denied[q.skill] += solve(seen, q.question) != [q.answer]
            except (ValueError, AssertionError, IndexError, AttributeError):
                denied[q.skill] += 1
    for skill in skills:
        assert denied[skill] > 0.3 * asked[skill], (skill, denied[skill], asked[skill])


@pytest.mark.parametrize("shifted", [False, True])
def test_videos_keep_to_the_specification(shifted):
    low, high = video_spec.RADIUS
    scales = spec.SHIFTED_SCALE if shifted else (1.0,)
    for seed in SEEDS[:100]:
        video = Video(seed, shifted)
        rules = video_spec.KINDS[video.kind]
        assert video.frames in rules.frames
        assert {t.ground for t in video.takes} <= set(spec.SHIFTED_GROUNDS if shifted else spec.GROUNDS)
        assert min(np.diff([*video.shots, video.frames])) >= video_spec.SHORTEST_SHOT
        for state in states(video):
            boxes = [i.box for i in (*state.things, *state.plates)]
            assert all(low * min(scales) <= t.radius <= high * max(scales) for t in state.things)
            assert all(p.font in (spec.SHIFTED_FONTS if shifted else spec.FONTS) for p in state.plates)
            for i, (left, top, right, bottom) in enumerate(boxes):
                assert 0 <= left < right <= 1
                assert 0 <= top < bottom <= 1
                assert all(right <= b[0] or b[2] <= left or bottom <= b[1] or b[3] <= top for b in boxes[:i])


def test_needles_are_one_or_two_frames_of_a_static_stretch(many):
    lengths = Counter()
    for video in (f for f in many if f.kind == "needle"):
        (needle,) = (t for t in Tracks(states(video)) if t.flashing)
        lengths[len(needle.seen)] += 1
        pixels = video.pixels(48)
        still = [i for i, item in enumerate(needle.items) if item is None]
        assert video.frames >= 12
        assert all((pixels[i] == pixels[0]).all() for i in still)
        assert all((pixels[i] != pixels[0]).any(-1).sum() > 30 for i in range(video.frames) if i not in still)
    assert set(lengths) == {1, 2}


def test_cuts_are_seen_in_the_pixels(many):
    """Most pixels stay from frame to frame; at a cut most change, at a soft one over three steps."""
    for video in [f for f in many if len(f.takes) > 1][:40]:
        pixels = video.pixels(96).astype(int)
        changed = (np.abs(np.diff(pixels, axis=0)).max(-1) > 1).mean((1, 2))
        cut = {
            f - 1
            for t in video.takes[1:]
            for f in ((t.span[0] - 1, t.span[0], t.span[0] + 1) if t.soft else t.span[:1])
        }
        assert all((changed[i] > 0.5) == (i in cut) for i in range(video.frames - 1)), (video, changed)


@pytest.mark.parametrize("seed", range(30))
def test_things_are_drawn_where_the_state_says(seed):
    video = Video(seed)
    pixels = video.pixels(96).astype(int)
    fading = {f for t in video.takes if t.soft for f in (t.span[0] - 1, t.span[0])}
    high = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "white": (1, 1, 1), "yellow": (1, 1, 0)}
    for i, state in enumerate(states(video)):
        for thing in state.things:
            if thing.color not in high or thing.striped or i in fading:
                continue
            aside = 0.75 * thing.radius if thing.shape == "ring" else 0
            color, bright = pixels[i, int(thing.y * 96), int((thing.x + aside) * 96)], np.array(high[thing.color], bool)
            assert color[bright].min() > (color[~bright].max() if not bright.all() else 200), (video, i, thing)


def test_patch_labels_take_what_a_frame_shows(many):
    video = next(f for f in many if f.kind == "needle" and isinstance(f.actors[0].item, Thing))
    flash = video.actors[0]
    for i in range(video.frames):
        labels = patch_labels(video.state(i), (WHOLE, (96, 96)))
        assert labels.shape == (144, 8)
        assert (SHAPES.index(flash.noun) + 1 in labels[:, 0]) == (flash.start <= i < flash.end) or any(
            a.noun == flash.noun for a in video.actors[1:]
        )


def test_shares_are_those_of_the_specification(many):
    kinds = Counter(f.kind for f in many)
    skills = Counter(q.skill for f in many for q in f.questions)
    assert sum(video_spec.SHARES.values()) == pytest.approx(1)
    assert sum(video_spec.MIX.values()) == pytest.approx(1)
    assert set(skills) == set(video_spec.SKILLS) == set(video_spec.MIX)
    for kind, share in video_spec.SHARES.items():
        assert kinds[kind] / len(many) == pytest.approx(share, abs=0.04), kind
    for skill, share in video_spec.MIX.items():
        assert skills[skill] / skills.total() == pytest.approx(share, abs=0.02), skill
    for skill in ("move", "change"):
        answers = Counter(q.answer for f in many for q in f.questions if q.skill == skill and q.answer in ("yes", "no"))
        assert 0.42 < answers["yes"] / answers.total() < 0.58
    for skill, n in (("times", 4), ("shots", 5)):
        answers = Counter(
            q.answer for f in many for q in f.questions if q.skill == skill and q.question.startswith("how")
        )
        assert len(answers) == n
        assert max(answers.values()) < 0.4 * answers.total()


def _keys(question):
    """What a reader of the question alone could go by, the most exact first."""
    words = re.findall(r"\w+", question.question)
    blank = " ".join("SHAPE" if w in SHAPES else "COLOR" if w in COLORS else w for w in words)
    return [blank] if "or" in words else [question.question, blank, question.skill]


def _slot(question):
    """The answer, or which of the shapes that the question names it is."""
    shapes = [w for w in re.findall(r"\w+", question.question) if w in SHAPES]
    return shapes.index(question.answer) if question.answer in shapes else question.answer


def test_the_question_alone_does_not_give_the_answer_away(many):
    known = defaultdict(Counter)
    for q in (q for f in many for q in f.questions):
        for key in _keys(q):
            known[key][_slot(q)] += 1
    right = asked = 0
    for q in (q for seed in range(HELD_OUT, HELD_OUT + 200) for q in Video(seed).questions):
        key = next((k for k in _keys(q) if known[k].total() >= 10), _keys(q)[-1])
        asked += 1
        right += known[key].most_common(1)[0][0] == _slot(q) if known[key] else 0
    assert 0.1 < right / asked < 0.45


def test_every_word_is_known_and_questions_are_short(many):
    tokenizer = build_tokenizer()
    for q in (q for f in many for q in f.questions):
        ids = tokenizer(f"{q.question} assistant: {q.answer}</s>", add_special_tokens=False).input_ids
        assert tokenizer.unk_token_id not in ids, q
        assert len(ids) <= 18, q


def test_events_tell_what_happens(many):
    happened = Counter(event.what for video in many for event in video.events)
    assert set(happened) == {"appears", "leaves", "moves", "changes", "flashes", "hard cut", "soft cut"}
    for video in many[:200]:
        frames = [event.frame for event in video.events]
        assert frames == sorted(frames)
        for event in video.events:
            before, after = video.state(event.frame - 1), video.state(event.frame)
            assert before != after, (video, event)


def test_shifted_videos_have_another_look_and_seeds_differ():
    assert HELD_OUT < VALIDATION
    assert not any(np.array_equal(Video(s).pixels(32)[0], Video(s, shifted=True).pixels(32)[0]) for s in range(20))
    assert len({Video(s).pixels(32)[0].tobytes() for s in range(40)}) == 40


def test_a_video_is_saved_as_a_video(tmp_path):
    video = Video(VALIDATION + 1)
    with frames(video.save(tmp_path / "video.mp4", 96), isolated=False) as reading:
        shown = list(reading)
    assert [frame.seconds for frame in shown] == [i / video.fps for i in range(video.frames)]
    off = np.abs(np.stack([frame.pixels for frame in shown]).astype(int) - video.pixels(96))
    assert off.mean() < 1
    assert np.abs(np.roll(video.pixels(96), 1, axis=0).astype(int) - video.pixels(96)).mean() > off.mean()
