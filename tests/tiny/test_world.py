"""Scenes are the same everywhere, and their questions have one right answer each."""

import hashlib
import re
import subprocess
import sys

import numpy as np
import pytest

from vtc.tiny.questions import CLEAR, SKILLS
from vtc.tiny.world import COLORS, HELD_OUT, PLACES, SHAPES, Scene

SEEDS = [*range(60), *range(HELD_OUT, HELD_OUT + 60)]
FINGERPRINT = """
import hashlib
from vtc.tiny.world import Scene
digest = hashlib.sha256()
for seed in range(6):
    digest.update(Scene(seed).pixels().tobytes())
    digest.update(repr(Scene(seed).questions).encode())
print(digest.hexdigest())
"""


def test_same_scene_in_every_process():
    digest = hashlib.sha256()
    for seed in range(6):
        digest.update(Scene(seed).pixels().tobytes())
        digest.update(repr(Scene(seed).questions).encode())
    other = subprocess.run([sys.executable, "-c", FINGERPRINT], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest.hexdigest()


def test_seeds_differ_and_sizes_are_kept():
    assert not np.array_equal(Scene(0).pixels(), Scene(1).pixels())
    assert Scene(3).pixels(96).shape == (96, 96, 3)
    assert Scene(3).image.size == (224, 224)
    with pytest.raises(ValueError, match="seed=-1"):
        Scene(-1)


@pytest.mark.parametrize("seed", SEEDS[:40])
def test_boxes_lie_inside_and_apart(seed):
    scene = Scene(seed)
    boxes = [t.box for t in scene.things] + ([scene.plate.box] if scene.plate else [])
    assert 1 <= len(scene.things) <= 5
    for i, (left, top, right, bottom) in enumerate(boxes):
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1
        for other in boxes[:i]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top


@pytest.mark.parametrize("seed", range(20))
def test_things_are_drawn_where_the_truth_says(seed):
    """The pixel at a thing's centre (beside it for a ring) has the colour that the truth names."""
    scene, size = Scene(seed), 224
    pixels = scene.pixels(size).astype(int)
    bright = {
        "red": (1, 0, 0),
        "green": (0, 1, 0),
        "blue": (0, 0, 1),
        "white": (1, 1, 1),
        "yellow": (1, 1, 0),
    }
    for thing in scene.things:
        if thing.color not in bright:
            continue
        offset = 0.75 * thing.radius if thing.shape == "ring" else 0
        color = pixels[int(thing.y * size), int((thing.x + offset) * size)]
        high = np.array(bright[thing.color], bool)
        assert color[high].min() > (color[~high].max() if not high.all() else 200), thing


def _matching(scene, words):
    return [
        t
        for t in scene.things
        if (not (set(words) & set(COLORS)) or t.color in words)
        and (not (set(words) & (set(SHAPES) | {"crosses"})) or t.shape in words)
    ]


def _place(x, y):
    return PLACES[int(np.floor(y * 3))][int(np.floor(x * 3))]


def _solve(scene, text, skill):
    """All answers that `text` could have, worked out from the truth alone."""
    words = re.findall(r"[a-z]+|\d+", text)
    singular = [w[:-2] if w == "crosses" else w.rstrip("s") if w.rstrip("s") in SHAPES else w for w in words]
    found = _matching(scene, singular)
    plate = [scene.plate] if scene.plate else []
    if skill == "shape":
        return [t.shape for t in found]
    if skill == "color":
        return [t.color for t in found]
    if skill == "where":
        return [_place(i.x, i.y) for i in (plate if "plate" in words else found)]
    if skill == "number":
        return [str(p.number) for p in plate]
    if skill == "count":
        return [str(len(found))]
    if skill == "exists":
        return ["yes" if (plate if "plate" in words else found) else "no"]
    if skill == "what":
        place = re.search(r"(?:at|in) the ([a-z ]+)\?", text).group(1)
        here = [f"{t.color} {t.shape}" for t in scene.things if _place(t.x, t.y) == place]
        return (here + ["plate" for p in plate if _place(p.x, p.y) == place]) or ["nothing"]
    first, relation, second = re.match(r"is the (\w+) ([a-z ]+?)(?: the) (\w+)\?", text).groups()
    (a,), (b,) = ([t for t in scene.things if t.shape == s] for s in (first, second))
    gap = {"left of": b.x - a.x, "right of": a.x - b.x, "above": b.y - a.y, "below": a.y - b.y}[relation]
    assert abs(gap) >= CLEAR
    return ["yes" if gap > 0 else "no"]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_question_has_exactly_the_stated_answer(seed):
    scene = Scene(seed)
    assert len({q.question for q in scene.questions}) == len(scene.questions)
    for q in scene.questions:
        assert q.skill in SKILLS
        assert _solve(scene, q.question, q.skill) == [q.answer], q


def test_yes_and_no_are_balanced_and_every_skill_is_asked():
    questions = [q for seed in range(300) for q in Scene(seed).questions]
    assert {q.skill for q in questions} == set(SKILLS)
    for skill in ("exists", "relation"):
        answers = [q.answer for q in questions if q.skill == skill]
        assert 0.42 < answers.count("yes") / len(answers) < 0.58, skill
