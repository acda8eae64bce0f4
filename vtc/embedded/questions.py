"""Questions with exact answers about a scene. A question is asked only if its answer is unique and clear."""

import math
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from .objects import Plate, Thing
from .placement import pick, shuffled
from .scene import Scene
from .spec import (
    CLEAR,
    COLORS,
    MOST,
    NEAREST,
    PLACES,
    RELATIONS,
    SHAPES,
    SKILLS,
    STRIPES_FROM,
)

__all__ = ["SKILLS", "SceneQuestion", "ask", "plural"]

OF_KIND = {"lone": "tiny", "crowded": "crowded"}
_AT_MOST = {"shape": 2, "color": 2, "where": 2, "what": 3}  # questions of a skill about one scene


@dataclass(frozen=True)
class SceneQuestion:
    """A `question`, its exact `answer` (lower case) and the `skill` it needs (one of `spec.SKILLS`)."""

    question: str
    answer: str
    skill: str


def ask(scene: Scene) -> list[SceneQuestion]:
    """The questions of `scene`, shuffled; deterministic in its seed, so no two runs meet different questions.

    All questions of a crowded scene need the skill "crowded", all of a lone tiny object "tiny".
    """
    rng = np.random.Generator(np.random.PCG64([scene.seed, 2]))
    seen: Counter[str] = Counter()
    chosen = []
    for question in every_question(scene, rng):
        seen[question.skill] += 1
        if seen[question.skill] <= _AT_MOST.get(question.skill, seen.total()):
            chosen.append(replace(question, skill=OF_KIND.get(scene.kind, question.skill)))
    return chosen


def every_question(scene: Scene, rng: np.random.Generator) -> list[SceneQuestion]:
    """Questions about everything in `scene`, shuffled; `ask` takes some of each skill."""
    questions = [
        *_attributes(scene, rng),
        *_patterns(scene, rng),
        *_where(scene, rng),
        *_what(scene, rng),
        *_counts(scene, rng),
        *_exists(scene, rng),
        *_relations(scene, rng),
        *_nearest(scene, rng),
        *_texts(scene, rng),
    ]
    return [questions[i] for i in shuffled(rng, len(questions))]


def single(scene: Scene, shape: str | None = None, color: str | None = None) -> Thing | None:
    """The one thing with this shape and this color (None: any), or None if there is none or more than one."""
    found = [t for t in scene.things if shape in (None, t.shape) and color in (None, t.color)]
    return found[0] if len(found) == 1 else None


def named(scene: Scene, thing: Thing, rng: np.random.Generator) -> str | None:
    """A name that means `thing` and no other, or None if there is none."""
    names = []
    if single(scene, thing.shape, thing.color):
        names.append(thing.name)
    if single(scene, shape=thing.shape):
        names.append(thing.shape)
    if _alone_in_color(scene, thing):
        names.append(f"{thing.color} object")
    return pick(rng, names) if names else None


def _alone_in_color(scene: Scene, thing: Thing) -> bool:
    """Return whether "the red object" can mean nothing but `thing`: a plate is an object too."""
    return bool(single(scene, color=thing.color)) and not any(p.color == thing.color for p in scene.plates)


def _attributes(scene: Scene, rng: np.random.Generator) -> list[SceneQuestion]:
    out = []
    for thing in scene.things:
        if _alone_in_color(scene, thing):
            form = pick(rng, ("what shape is the {} object?", "what shape is the {} one?", "which shape is {}?"))
            out.append(SceneQuestion(form.format(thing.color), thing.shape, "shape"))
        if single(scene, shape=thing.shape):
            form = pick(rng, ("what color is the {}?", "which color is the {}?", "what is the color of the {}?"))
            out.append(SceneQuestion(form.format(thing.shape), thing.color, "color"))
    return out


def _patterns(scene: Scene, rng: np.random.Generator) -> list[SceneQuestion]:
    """Stripes or none, of up to two things large enough; and what it is that has stripes."""
    large = [t for t in scene.things if t.radius >= STRIPES_FROM]
    out = []
    for i in shuffled(rng, len(large))[:2]:
        name = named(scene, large[i], rng)
        if name:
            out.append(
                SceneQuestion(f"is the {name} striped or plain?", "striped" if large[i].striped else "plain", "pattern")
            )
    striped = [t for t in large if t.striped]
    if len(striped) == 1:
        form = pick(rng, ("what is striped?", "which object is striped?"))
        out.append(SceneQuestion(form, striped[0].name, "pattern"))
    return out


def _where(scene: Scene, rng: np.random.Generator) -> list[SceneQuestion]:
    out = []
    for thing in scene.things:
        name = named(scene, thing, rng)
        if name:
            out.append(SceneQuestion(f"where is the {name}?", scene.place_of(thing.x, thing.y), "where"))
    if len(scene.plates) == 1 and rng.random() < 0.4:
        plate = scene.plates[0]
        out.append(SceneQuestion("where is the plate?", scene.place_of(plate.x, plate.y), "where"))
    return out


def _what(scene: Scene, rng: np.random.Generator) -> list[SceneQuestion]:
    """What is in a ninth that holds one centre, and of one ninth that nothing reaches into."""
    items: list[Thing | Plate] = [*scene.things, *scene.plates]
    places = Counter(scene.place_of(i.x, i.y) for i in items)
    form = pick(rng, ("what is at the {}?", "what is in the {}?", "what do you see at the {}?"))
    out = []
    for item in items:
        place = scene.place_of(item.x, item.y)
        if places[place] == 1:
            out.append(SceneQuestion(form.format(place), item.name, "what"))
    empty = [p for row in PLACES for p in row if not any(_reaches(scene, i, p) for i in items)]
    if empty and rng.random() < 0.5:
        out.append(SceneQuestion(form.format(pick(rng, empty)), "nothing", "what"))
    return out


def _reaches(scene: Scene, item: Thing | Plate, place: str) -> bool:
    left, top, right, bottom = item.box
    row, column = next((r, c) for r, names in enumerate(PLACES) for c, n in enumerate(names) if n == place)
    wide, high = scene.width / 3, scene.height / 3
    return left < wide * (column + 1) and right > wide * column and top < high * (row + 1) and bottom > high * row


def _counts(scene: Scene, rng: np.random.Generator) -> list[SceneQuestion]:
    """All shapes, those of a color, those of a shape; nothing above `spec.MOST` is asked."""
    form = pick(rng, ("how many {} are there?", "how many {} do you see?", "how many {} are in the picture?"))
    color = pick(rng, [t.color for t in scene.things] * 2 + list(COLORS))
    shape = pick(rng, [t.shape for t in scene.things] * 2 + list(SHAPES))
    counted = [
        ("shapes", len(scene.things)),
        (f"{color} shapes", sum(t.color == color for t in scene.things)),
        (plural(shape), sum(t.shape == shape for t in scene.things)),
    ]
    if rng.random() < 0.3 and scene.kind != "crowded":
        counted.append(("plates", len(scene.plates)))
    return [SceneQuestion(form.format(what), str(n), "count") for what, n in counted if n <= MOST]


def plural(shape: str) -> str:
    """The plural of a shape's name."""
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"


def _exists(scene: Scene, rng: np.random.Generator) -> list[SceneQuestion]:
    """Yes and no equally likely; a wrong pair keeps one true half, so that both halves must be read."""
    form = pick(rng, ("is there a {}?", "do you see a {}?", "is there a {} in the picture?"))
    pairs = sorted({(t.color, t.shape) for t in scene.things})
    out = []
    if pairs:
        near = [(c, s) for c in COLORS for s in SHAPES if (c, s) not in pairs and _shares_half(c, s, pairs)]
        (color, shape), (other_color, other_shape) = pick(rng, pairs), pick(rng, near)
        out.append(SceneQuestion(form.format(f"{color} {shape}"), "yes", "exists"))
        out.append(SceneQuestion(form.format(f"{other_color} {other_shape}"), "no", "exists"))
        shapes = {s for _, s in pairs}
        absent = [s for s in SHAPES if s not in shapes]
        if rng.random() < 0.5 or not absent:
            out.append(SceneQuestion(form.format(shape), "yes", "exists"))
        else:
            out.append(SceneQuestion(form.format(pick(rng, absent)), "no", "exists"))
    if rng.random() < 0.3 and scene.kind == "plain":
        out.append(SceneQuestion(form.format("plate"), "yes" if scene.plates else "no", "exists"))
    return out


def _shares_half(color: str, shape: str, pairs: list[tuple[str, str]]) -> bool:
    return any(color == c or shape == s for c, s in pairs)


def related(a: Thing, b: Thing, relation: str) -> bool | None:
    """Whether `a` is `relation` (one of `spec.RELATIONS`) `b`; None where the two are too close along that axis."""
    gap = a.x - b.x if relation in ("left of", "right of") else a.y - b.y
    if abs(gap) < CLEAR:
        return None
    return (gap < 0) == (relation in ("left of", "above"))


def relate(a: Thing, b: Thing, rng: np.random.Generator) -> SceneQuestion | None:
    """Return whether `a` stands in some relation to `b`, both named by their shape; None if all are unclear."""
    for j in shuffled(rng, len(RELATIONS)):
        truth = related(a, b, RELATIONS[j])
        if truth is not None:
            text = f"is the {a.shape} {RELATIONS[j]} the {b.shape}?"
            return SceneQuestion(text, "yes" if truth else "no", "relation")
    return None


def _relations(scene: Scene, rng: np.random.Generator) -> list[SceneQuestion]:
    """Up to two relations of things named by their shape, yes and no equally likely."""
    lone = [t for t in scene.things if single(scene, shape=t.shape)]
    pairs = [(a, b) for a in lone for b in lone if a is not b]
    asked = [relate(*pairs[i], rng) for i in shuffled(rng, len(pairs))[:2]]
    return [question for question in asked if question]


def nearest_to(scene: Scene, thing: Thing, rng: np.random.Generator) -> SceneQuestion | None:
    """What is nearest to `thing`; None if that is unclear, or no name means this thing alone.

    Distances are from centre to centre, to a plate from the centre of `thing` to the plate's edge.
    """
    name = named(scene, thing, rng)
    far = sorted((math.dist((t.x, t.y), (thing.x, thing.y)), t.name) for t in scene.things if t is not thing)
    if not name or not far:
        return None
    others = [d for d, _ in far[1:]] + [_to_edge(plate, thing) for plate in scene.plates]
    if not others or far[0][0] > NEAREST * min(others):
        return None
    form = pick(rng, ("what is nearest to the {}?", "which object is nearest to the {}?"))
    return SceneQuestion(form.format(name), far[0][1], "nearest")


def _to_edge(plate: Plate, thing: Thing) -> float:
    left, top, right, bottom = plate.box
    return math.dist((thing.x, thing.y), (min(max(thing.x, left), right), min(max(thing.y, top), bottom)))


def _nearest(scene: Scene, rng: np.random.Generator) -> list[SceneQuestion]:
    """What is nearest to up to two things, where whatever else there is lies clearly farther."""
    asked = (nearest_to(scene, scene.things[i], rng) for i in shuffled(rng, len(scene.things)))
    return [question for question in asked if question][:2]


def _texts(scene: Scene, rng: np.random.Generator) -> list[SceneQuestion]:
    """What each plate says, and its first or last symbol; where there are two they are told apart by their color."""
    skill = "fine" if scene.kind == "fine" else "text"
    out = []
    for plate in scene.plates:
        name = plate.name if len(scene.plates) > 1 else "plate"
        whole = pick(rng, ("what does the {} say?", "which text is on the {}?", "what is written on the {}?"))
        out.append(SceneQuestion(whole.format(name), plate.text.lower(), skill))
        end, symbol = pick(rng, (("first", plate.text[0]), ("last", plate.text[-1])))
        part = pick(rng, ("what is the {} symbol on the {}?", "which symbol is {} on the {}?"))
        out.append(SceneQuestion(part.format(end, name), symbol.lower(), skill))
    return out
