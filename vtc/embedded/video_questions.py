"""Questions with exact answers about a video. A question is asked only if its answer is unique and clear.

The words mean what the frames show. What *appears* is not in the first frame and stays for a while; what *leaves* is
not in the last; what *flashes* is seen for one or two frames at a time. "The start" and "the end" are the first and
the last frame, so they are asked for only where they are of one shot.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from .objects import Plate, Thing
from .placement import pick, shuffled
from .questions import SceneQuestion
from .video import Video
from .video_parts import Actor, place_of
from .video_script import ASKING
from .video_spec import AT_MOST, DIRECTIONS, GAP

__all__ = ["ask", "every_question"]

_ORDINALS = ("first", "second", "third")
Rng = np.random.Generator


def ask(video: Video) -> list[SceneQuestion]:
    """The questions of `video`, shuffled, of each skill at most `video_spec.AT_MOST`; deterministic in its seed."""
    rng = np.random.Generator(np.random.PCG64([video.seed, ASKING]))
    questions = every_question(video, rng)
    seen: Counter[str] = Counter()
    chosen = []
    for i in shuffled(rng, len(questions)):
        seen[questions[i].skill] += 1
        if seen[questions[i].skill] <= AT_MOST[questions[i].skill]:
            chosen.append(questions[i])
    return chosen


def every_question(video: Video, rng: Rng) -> list[SceneQuestion]:
    """All that can be asked about `video`, its forms drawn from `rng`."""
    return [question for asker in _ASKERS for question in asker(video, rng)]


def named(video: Video, actor: Actor, rng: Rng) -> str | None:
    """A name that means `actor` and nobody else at any time of the video, or None if there is none."""
    others = [a for a in video.actors if a is not actor]
    names = []
    if actor.noun not in {a.noun for a in others}:
        names.append(actor.noun)
    if len(_colors(actor)) == 1:
        if not any(a.noun == actor.noun and actor.item.color in _colors(a) for a in others):
            names.append(actor.item.name)
        if isinstance(actor.item, Thing) and not any(actor.item.color in _colors(a) for a in others):
            names.append(f"{actor.item.color} object")
    return pick(rng, names) if names else None


def by_shape(video: Video, actors: Sequence[Actor]) -> list[Actor]:
    """Those of `actors` that their shape alone tells from everybody else in the video."""
    nouns = Counter(a.noun for a in video.actors)
    return [a for a in actors if nouns[a.noun] == 1]


def _colors(actor: Actor) -> set[str]:
    return {*actor.colors, actor.item.color}


def _doing(video: Video, *roles: str) -> list[Actor]:
    """The actors with one of `roles`."""
    return [a for a in video.actors if a.role in roles]


def _where(item: Thing | Plate) -> str:
    return place_of(item.x, item.y)


def _known(actors: Sequence[Actor], verb: str, skill: str, rng: Rng) -> list[SceneQuestion]:
    """What the only one of `actors`, that `verb`s, is: its name, its color or its shape."""
    if len(actors) != 1:
        return []
    actor = actors[0]
    shape = pick(rng, (f"which shape {verb}?", f"what shape is the object that {verb}?")), actor.noun
    name = pick(rng, (f"what {verb}?", f"which object {verb}?")), actor.item.name
    if isinstance(actor.item, Plate):
        text, answer = name
    elif actor.life.turns:
        text, answer = shape  # it has no one color
    else:
        text, answer = pick(rng, (shape, name, (f"what color is the object that {verb}?", actor.item.color)))
    return [SceneQuestion(text, answer, skill)]


def _appear(video: Video, rng: Rng) -> list[SceneQuestion]:
    came = _doing(video, "arrive", "pass")
    out = _known(came, "appears", "appear", rng)
    for actor in came:
        name = named(video, actor, rng)
        if name:
            out.append(SceneQuestion(f"where does the {name} appear?", _where(actor.item), "appear"))
        if len(came) > 1 and [a.noun for a in came].count(actor.noun) == 1:
            out.append(SceneQuestion(f"what color is the {actor.noun} that appears?", actor.item.color, "appear"))
    return out


def _leave(video: Video, rng: Rng) -> list[SceneQuestion]:
    gone = _doing(video, "leave", "pass")
    out = _known(gone, "leaves", "leave", rng)
    for actor in gone:
        name = named(video, actor, rng)
        if name:
            out.append(SceneQuestion(f"where is the {name} before it leaves?", _where(actor.item), "leave"))
        if len(gone) > 1 and [a.noun for a in gone].count(actor.noun) == 1:
            out.append(SceneQuestion(f"what color is the {actor.noun} that leaves?", actor.item.color, "leave"))
    return out


def _move(video: Video, rng: Rng) -> list[SceneQuestion]:
    movers = _doing(video, "move")
    out = _known(movers, "moves", "move", rng)
    for actor in movers:
        name = named(video, actor, rng)
        if not name:
            continue
        out.append(SceneQuestion(f"which way does the {name} move?", _direction(actor), "move"))
        if len(video.takes) == 1:
            out.append(SceneQuestion(f"where is the {name} at the end?", _where(actor.last), "move"))
            out.append(SceneQuestion(f"where is the {name} at the start?", _where(actor.item), "move"))
    return out + _whether(video, "move", movers, "move", rng)


def _direction(actor: Actor) -> str:
    return max(DIRECTIONS, key=lambda d: DIRECTIONS[d][0] * actor.way[0] + DIRECTIONS[d][1] * actor.way[1])


def _whether(video: Video, verb: str, doers: Sequence[Actor], skill: str, rng: Rng) -> list[SceneQuestion]:
    """Return whether somebody does it, yes and no equally likely; asked where some do and some stay."""
    # Named by the shape alone: a color in the name would tell that it does not change.
    staying = [a for a in _doing(video, "stay") if isinstance(a.item, Thing)]
    pools = by_shape(video, staying), by_shape(video, doers)
    if not all(pools):
        return []
    yes = int(rng.integers(2))
    return [SceneQuestion(f"does the {pick(rng, pools[yes]).noun} {verb}?", "yes" if yes else "no", skill)]


def _change(video: Video, rng: Rng) -> list[SceneQuestion]:
    changers = _doing(video, "change", "cycle")
    out = _known(changers, "changes color", "change", rng)
    for actor in changers:
        others = [a for a in video.actors if a is not actor and a.noun == actor.noun]
        # Among its like it is told by the color it has first.
        unambiguous = not any(actor.colors[0] in _colors(a) for a in others)
        name = actor.noun if not others else f"{actor.colors[0]} {actor.noun}" if unambiguous else None
        if name and actor.role == "change":
            out.append(SceneQuestion(f"what color does the {name} become?", actor.colors[1], "change"))
        if not others:
            out.append(SceneQuestion(f"what color is the {actor.noun} at the start?", actor.colors[0], "change"))
            out.append(SceneQuestion(f"what color is the {actor.noun} at the end?", actor.colors[-1], "change"))
    return out + _whether(video, "change color", changers, "change", rng)


def _order(video: Video, rng: Rng) -> list[SceneQuestion]:
    """What comes, leaves, moves or changes first or last, and what comes before and after what."""
    came = sorted(_doing(video, "arrive", "pass"), key=lambda a: a.start)
    gone = sorted(_doing(video, "leave", "pass"), key=lambda a: a.end)
    changed = sorted(_doing(video, "change"), key=lambda a: a.life.turns)
    out = [*_first_last(came, "appears", rng), *_first_last(gone, "leaves", rng), *_neighbours(video, came, rng)]
    out += [*_which_first(video, came, "comes", rng), *_which_first(video, gone, "leaves", rng)]
    out += _which_first(video, changed, "changes color", rng)
    moved = sorted(_doing(video, "move"), key=lambda a: a.life.moving or (0, 0))
    if len(moved) == 2 and len(video.takes) == 1 and _in_turn(*moved):
        out += [*_first_last(moved, "moves", rng), *_which_first(video, moved, "moves", rng)]
    if len(video.takes) > 1:
        first = {take.span[0]: take.actors for take in video.takes}
        pair = [pick(rng, first[shot]) for shot in sorted(first)[:: len(first) - 1]]
        out += _which_first(video, pair, "comes", rng)
    return out


def _in_turn(a: Actor, b: Actor) -> bool:
    return bool(a.life.moving and b.life.moving and a.life.moving[1] <= b.life.moving[0])


def _first_last(actors: Sequence[Actor], verb: str, rng: Rng) -> list[SceneQuestion]:
    """What does it first or last of two or more."""
    if len(actors) < 2:
        return []
    end, actor = pick(rng, (("first", actors[0]), ("last", actors[-1])))
    return [SceneQuestion(f"what {verb} {end}?", actor.item.name, "order")]


def _which_first(video: Video, actors: Sequence[Actor], verb: str, rng: Rng) -> list[SceneQuestion]:
    """Return which of two does it first; they are named by their shapes, in any order."""
    lone = by_shape(video, actors)
    if len(lone) < 2:
        return []
    i, j = sorted(shuffled(rng, len(lone))[:2])
    a, b = [lone[i], lone[j]] if rng.random() < 0.5 else [lone[j], lone[i]]
    return [SceneQuestion(f"what {verb} first, the {a.noun} or the {b.noun}?", lone[i].noun, "order")]


def _neighbours(video: Video, came: Sequence[Actor], rng: Rng) -> list[SceneQuestion]:
    """What appears next after something, or before it where only one does."""
    out = []
    for a, b in pairwise(came):
        if by_shape(video, [a]) and b.start - a.start >= GAP:
            out.append(SceneQuestion(f"what appears next after the {a.noun}?", b.item.name, "order"))
    if len(came) > 1 and by_shape(video, [came[1]]):
        out.append(SceneQuestion(f"what appears before the {came[1].noun}?", came[0].item.name, "order"))
    return [out[i] for i in shuffled(rng, len(out))[:1]]


def _times(video: Video, rng: Rng) -> list[SceneQuestion]:
    out = []
    for actor in _doing(video, "blink"):
        name = named(video, actor, rng)
        form = pick(rng, ("how many times does the {} appear?", "how often does the {} flash?"))
        if name:
            out.append(SceneQuestion(form.format(name), str(len(actor.life.spans)), "times"))
    for actor in by_shape(video, _doing(video, "cycle")):
        form = pick(rng, ("how many times does the {} change color?", "how often does the {} change color?"))
        out.append(SceneQuestion(form.format(actor.noun), str(len(actor.life.turns)), "times"))
    return out


def _shots(video: Video, rng: Rng) -> list[SceneQuestion]:
    """Return how many shots and cuts there are, and what single shots show."""
    if video.kind != "shots":
        return []
    n = len(video.takes)
    form = pick(rng, ("how many shots are there?", "how many shots are in the video?", "how many shots do you see?"))
    out = [SceneQuestion(form, str(n), "shots"), SceneQuestion("how many cuts are there?", str(n - 1), "shots")]
    for i, take in enumerate(video.takes if n > 1 else ()):
        place = pick(rng, [w for w in (_ORDINALS[i] if i < 3 else "", "last" if i == n - 1 else "") if w])
        if len(take.actors) == 1:
            form = pick(rng, ("what is in the {} shot?", "what do you see in the {} shot?"))
            out.append(SceneQuestion(form.format(place), take.actors[0].item.name, "shots"))
        for actor in take.actors:
            if [a.noun for a in take.actors].count(actor.noun) == 1:
                text = f"what color is the {actor.noun} in the {place} shot?"
                out.append(SceneQuestion(text, actor.item.color, "shots"))
    return out


def _needle(video: Video, rng: Rng) -> list[SceneQuestion]:
    """What flashes by in one or two frames of a video in which nothing else happens."""
    out: list[SceneQuestion] = []
    for actor in _doing(video, "flash"):
        out += _known([actor], "flashes", "needle", rng)
        name = named(video, actor, rng)
        if isinstance(actor.item, Plate):
            form = pick(rng, ("what does the plate that flashes say?", "what is written on the plate that flashes?"))
            out.append(SceneQuestion(form, actor.item.text.lower(), "needle"))
            end, symbol = pick(rng, (("first", actor.item.text[0]), ("last", actor.item.text[-1])))
            out.append(SceneQuestion(f"what is the {end} symbol on the plate that flashes?", symbol.lower(), "needle"))
        if name:
            out.append(SceneQuestion(f"where does the {name} flash?", _where(actor.item), "needle"))
    return out


def _static(video: Video, rng: Rng) -> list[SceneQuestion]:
    """Shape, color, place and text of what stays as it is through a video of one shot."""
    out: list[SceneQuestion] = []
    for actor in _doing(video, "stay") if len(video.takes) == 1 else []:
        name = named(video, actor, rng)
        others = [a for a in video.actors if a is not actor]
        if isinstance(actor.item, Plate):
            if name:
                out.append(SceneQuestion(f"what does the {name} say?", actor.item.text.lower(), "static"))
            continue
        if by_shape(video, [actor]):
            out.append(SceneQuestion(f"what color is the {actor.noun}?", actor.item.color, "static"))
        if not any(actor.item.color in _colors(a) for a in others):
            out.append(SceneQuestion(f"what shape is the {actor.item.color} object?", actor.noun, "static"))
        if name:
            out.append(SceneQuestion(f"where is the {name}?", _where(actor.item), "static"))
    return out


_ASKERS: tuple[Callable[[Video, Rng], list[SceneQuestion]], ...] = (
    *(_appear, _leave, _move, _change, _order, _times, _shots, _needle, _static),
)
