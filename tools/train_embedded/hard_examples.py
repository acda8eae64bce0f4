"""Further questions about training scenes and videos, above all of the skills that are slowest to learn.

The forms are those of `questions` and `video_questions`, asked of more things. Used in training only; what a model is
scored on is `questions.ask` and `video_questions.ask` alone.
"""

from collections.abc import Iterator

import numpy as np

from vtc.embedded.placement import pick, shuffled
from vtc.embedded.questions import (
    OF_KIND,
    SceneQuestion,
    nearest_to,
    plural,
    relate,
    single,
)
from vtc.embedded.scene import Scene
from vtc.embedded.spec import COLORS, MOST, SHAPES
from vtc.embedded.video import Video
from vtc.embedded.video_questions import every_question

AT_MOST = {"relation": 7, "nearest": 4, "count": 4}
USUAL = 9  # of the scene's own questions
ROUNDS = 6  # how often a video's questions are drawn again
EASY = ("static", "appear", "leave")
FEW = 4  # of the easy ones about a video
HARD_STREAM = 7  # a stream of random numbers apart from those of `video_script`


def hard_questions(scene: Scene, most: int) -> list[SceneQuestion]:
    """At most `most` questions about `scene`: relations, nearest things and counts, then some of its own, shuffled."""
    rng = np.random.Generator(np.random.PCG64([scene.seed, 3]))
    asked: dict[str, SceneQuestion] = {}
    for make in (_relations, _nearest, _counts):
        found = list(make(scene, rng))
        for i in shuffled(rng, len(found))[: AT_MOST[found[0].skill] if found else 0]:
            asked.setdefault(found[i].question, found[i])
    for question in scene.questions[: max(USUAL, most - len(asked))]:
        asked.setdefault(question.question, question)
    questions = list(asked.values())[:most]
    skill = OF_KIND.get(scene.kind)
    return [
        SceneQuestion(questions[i].question, questions[i].answer, skill or questions[i].skill)
        for i in shuffled(rng, len(questions))
    ]


def hard_video_questions(video: Video, most: int) -> list[SceneQuestion]:
    """At most `most` questions about `video`, drawn several times over, few of them of the easy skills."""
    rng = np.random.Generator(np.random.PCG64([video.seed, HARD_STREAM]))
    asked: dict[str, SceneQuestion] = {}
    for _ in range(ROUNDS):
        for question in every_question(video, rng):
            asked.setdefault(question.question, question)
    questions = [list(asked.values())[i] for i in shuffled(rng, len(asked))]
    easy = [question for question in questions if question.skill in EASY][:FEW]
    return [*(question for question in questions if question.skill not in EASY), *easy][:most]


def _relations(scene: Scene, rng: np.random.Generator) -> Iterator[SceneQuestion]:
    lone = [t for t in scene.things if single(scene, shape=t.shape)]
    for a in lone:
        for b in lone:
            question = relate(a, b, rng) if a is not b else None
            if question:
                yield question


def _nearest(scene: Scene, rng: np.random.Generator) -> Iterator[SceneQuestion]:
    for thing in scene.things:
        question = nearest_to(scene, thing, rng)
        if question:
            yield question


def _counts(scene: Scene, rng: np.random.Generator) -> Iterator[SceneQuestion]:
    form = pick(rng, ("how many {} are there?", "how many {} do you see?", "how many {} are in the picture?"))
    counted = {"shapes": len(scene.things)}
    for color in (*(t.color for t in scene.things), pick(rng, COLORS)):
        counted[f"{color} shapes"] = sum(t.color == color for t in scene.things)
    for shape in (*(t.shape for t in scene.things), pick(rng, SHAPES)):
        counted[plural(shape)] = sum(t.shape == shape for t in scene.things)
    yield from (SceneQuestion(form.format(what), str(n), "count") for what, n in counted.items() if n <= MOST)
