"""Questions with exact answers about a scene. A question is asked only if its answer is unique and clear."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from vtc.tiny.world import COLORS, PLACES, SHAPES, Plate, Scene, Thing, place_of

SKILLS = ("shape", "color", "where", "what", "count", "exists", "relation", "number")

# Two centres closer than this along an axis (share of the side) are neither left nor right, above nor below.
CLEAR = 0.12

RELATIONS = ("left of", "right of", "above", "below")


@dataclass(frozen=True)
class Question:
    """A `question`, its exact `answer` (lower case) and the `skill` it needs (one of `SKILLS`)."""

    question: str
    answer: str
    skill: str


def ask(scene: Scene) -> list[Question]:
    """The questions of `scene`, shuffled; deterministic in its seed, so no two runs meet different questions."""
    rng = np.random.Generator(np.random.PCG64([scene.seed, 2]))
    questions = [
        *_attributes(scene, rng),
        *_where(scene, rng),
        *_what(scene, rng),
        *_counts(scene, rng),
        *_exists(scene, rng),
        *_relations(scene, rng),
    ]
    if scene.plate:
        forms = (
            "which number is on the plate?",
            "what number does the plate show?",
            "what does the plate say?",
        )
        questions.append(Question(_pick(rng, forms), str(scene.plate.number), "number"))
    return [questions[i] for i in rng.permutation(len(questions))]


def _pick(rng: np.random.Generator, options: tuple[str, ...] | list[str]) -> str:
    return options[int(rng.integers(len(options)))]


def single(scene: Scene, shape: str | None = None, color: str | None = None) -> Thing | None:
    """The one thing with this shape and this color (None: any), or None if there is none or more than one."""
    found = [t for t in scene.things if shape in (None, t.shape) and color in (None, t.color)]
    return found[0] if len(found) == 1 else None


def _attributes(scene: Scene, rng: np.random.Generator) -> list[Question]:
    out = []
    for thing in scene.things:
        if single(scene, color=thing.color):
            form = _pick(rng, ("what shape is the {} object?", "what shape is the {} one?", "which shape is {}?"))
            out.append(Question(form.format(thing.color), thing.shape, "shape"))
        if single(scene, shape=thing.shape):
            form = _pick(rng, ("what color is the {}?", "which color is the {}?", "what is the color of the {}?"))
            out.append(Question(form.format(thing.shape), thing.color, "color"))
    return out


def _where(scene: Scene, rng: np.random.Generator) -> list[Question]:
    out = []
    for thing in scene.things:
        names = []
        if single(scene, thing.shape, thing.color):
            names.append(f"{thing.color} {thing.shape}")
        if single(scene, shape=thing.shape):
            names.append(thing.shape)
        if single(scene, color=thing.color):
            names.append(f"{thing.color} object")
        if names:
            out.append(Question(f"where is the {_pick(rng, names)}?", place_of(thing.x, thing.y), "where"))
    if scene.plate and rng.random() < 0.4:
        out.append(Question("where is the plate?", place_of(scene.plate.x, scene.plate.y), "where"))
    return out


def _what(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """What is in a ninth that holds one centre, and of one ninth that nothing reaches into."""
    items: list[Thing | Plate] = [*scene.things, *([scene.plate] if scene.plate else [])]
    places = Counter(place_of(i.x, i.y) for i in items)
    form = _pick(rng, ("what is at the {}?", "what is in the {}?", "what do you see at the {}?"))
    out = []
    for item in items:
        place = place_of(item.x, item.y)
        if places[place] == 1:
            name = "plate" if isinstance(item, Plate) else f"{item.color} {item.shape}"
            out.append(Question(form.format(place), name, "what"))
    empty = [p for row in PLACES for p in row if not any(_reaches(i, p) for i in items)]
    if empty and rng.random() < 0.5:
        out.append(Question(form.format(_pick(rng, empty)), "nothing", "what"))
    return out


def _reaches(item: Thing | Plate, place: str) -> bool:
    left, top, right, bottom = item.box
    row, column = next((r, c) for r, names in enumerate(PLACES) for c, n in enumerate(names) if n == place)
    return left * 3 < column + 1 and right * 3 > column and top * 3 < row + 1 and bottom * 3 > row


def _counts(scene: Scene, rng: np.random.Generator) -> list[Question]:
    form = _pick(rng, ("how many {} are there?", "how many {} do you see?", "how many {} are in the picture?"))
    color = _pick(rng, [t.color for t in scene.things] * 2 + list(COLORS))
    shape = _pick(rng, [t.shape for t in scene.things] * 2 + list(SHAPES))
    return [
        Question(form.format("shapes"), str(len(scene.things)), "count"),
        Question(form.format(f"{color} shapes"), str(sum(t.color == color for t in scene.things)), "count"),
        Question(form.format(plural(shape)), str(sum(t.shape == shape for t in scene.things)), "count"),
    ]


def plural(shape: str) -> str:
    """The plural of a shape's name."""
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"


def _exists(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """One yes and one no of each kind; a wrong pair keeps one true half where it can, so both halves must be read."""
    pairs = {(t.color, t.shape) for t in scene.things}
    near = [
        (c, s) for c in COLORS for s in SHAPES if (c, s) not in pairs and any(c == pc or s == ps for pc, ps in pairs)
    ]
    form = _pick(rng, ("is there a {}?", "do you see a {}?", "is there a {} in the picture?"))
    color, shape = sorted(pairs)[int(rng.integers(len(pairs)))]
    other_color, other_shape = near[int(rng.integers(len(near)))]
    out = [
        Question(form.format(f"{color} {shape}"), "yes", "exists"),
        Question(form.format(f"{other_color} {other_shape}"), "no", "exists"),
    ]
    shapes = {s for _, s in pairs}
    if rng.random() < 0.5:
        out.append(Question(form.format(shape), "yes", "exists"))
    else:
        out.append(Question(form.format(_pick(rng, [s for s in SHAPES if s not in shapes])), "no", "exists"))
    if rng.random() < 0.3:
        out.append(Question(form.format("plate"), "yes" if scene.plate else "no", "exists"))
    return out


def related(a: Thing, b: Thing, relation: str) -> bool | None:
    """Whether `a` is `relation` (one of `RELATIONS`) `b`; None where the two are too close along that axis."""
    gap = a.x - b.x if relation in ("left of", "right of") else a.y - b.y
    if abs(gap) < CLEAR:
        return None
    return (gap < 0) == (relation in ("left of", "above"))


def _relations(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """Up to two relations of things named by their shape, yes and no equally likely."""
    named = [t for t in scene.things if single(scene, shape=t.shape)]
    pairs = [(a, b) for a in named for b in named if a is not b]
    out: list[Question] = []
    for i in rng.permutation(len(pairs))[:2]:
        a, b = pairs[i]
        for j in rng.permutation(len(RELATIONS)):
            truth = related(a, b, RELATIONS[j])
            if truth is not None:
                text = f"is the {a.shape} {RELATIONS[j]} the {b.shape}?"
                out.append(Question(text, "yes" if truth else "no", "relation"))
                break
    return out
