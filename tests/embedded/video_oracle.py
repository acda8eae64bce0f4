"""Answers worked out from nothing but what each frame of a video shows, one rule for each form of question."""

import re
from itertools import groupby, pairwise

from vtc.embedded.objects import Thing
from vtc.embedded.spec import COLORS, SHAPES

VERBS = "appears|leaves|moves|changes color|flashes|comes"
PLACES = ("top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right")
RULES = []


def rule(pattern):
    def enrol(function):
        RULES.append((re.compile(pattern), function))
        return function

    return enrol


def solve(states, text):
    """All answers that `text` could have about a video of `states`; ValueError for a form that no rule knows."""
    for pattern, function in RULES:
        match = pattern.fullmatch(text)
        if match:
            return sorted({str(a).lower() for a in function(Tracks(states), *match.groups())})
    raise ValueError(f"no rule for {text!r}")


class Track:
    """One thing or plate through the video: how it is in each frame, None where it is not seen."""

    def __init__(self, items):
        self.items, self.seen = items, [i for i in items if i is not None]
        self.first, self.last = self.seen[0], self.seen[-1]
        self.noun = self.first.shape if isinstance(self.first, Thing) else "plate"
        self.name = self.first.name
        self.colors = [c for c, _ in groupby(i.color for i in self.seen)]
        self.start = next(i for i, item in enumerate(items) if item)
        self.end = max(i for i, item in enumerate(items) if item) + 1
        runs = [list(g) for k, g in groupby(items, key=lambda i: i is not None) if k]
        self.runs = len(runs)
        self.flashing = all(len(r) <= 2 for r in runs) and items[0] is None and items[-1] is None
        self.way = self.last.x - self.first.x, self.last.y - self.first.y

    def does(self, verb):
        return {
            "appears": self.items[0] is None and not self.flashing,
            "leaves": self.items[-1] is None and not self.flashing,
            "moves": max(map(abs, self.way)) > 0.25,
            "changes color": len(self.colors) > 1,
            "flashes": self.flashing,
            "comes": True,
        }[verb]

    def when(self, verb):
        """The first and the last frame in which it does so."""
        pairs = [(i, a, b) for i, (a, b) in enumerate(pairwise(self.items), 1) if a and b]
        moves = [i for i, a, b in pairs if (a.x, a.y) != (b.x, b.y)]
        changes = [i for i, a, b in pairs if a.color != b.color]
        once = {"appears": self.start, "comes": self.start, "leaves": self.end}
        frames = {"moves": moves, "changes color": changes}.get(verb) or [once.get(verb)]
        return frames[0], frames[-1]


class Tracks(list):
    """All that a video shows; a thing is known again by its size and angle, which nothing changes."""

    def __init__(self, states):
        self.states = states
        found = {}
        for i, state in enumerate(states):
            for item in (*state.things, *state.plates):
                thing = isinstance(item, Thing)
                key = (item.shape, item.radius, item.angle) if thing else (item.text, item.x, item.y)
                found.setdefault(key, [None] * len(states))[i] = item
        super().__init__(Track(items) for items in found.values())
        self.shots = [len(list(g)) for _, g in groupby(s.ground for s in states)]

    def called(self, name):
        """The one that `name` means; ValueError if it could mean another."""
        words = name.split()
        nouns, colors = [w for w in words if w in (*SHAPES, "plate")], [w for w in words if w in COLORS]
        found = [t for t in self if (not nouns or t.noun in nouns) and (not colors or {*colors} & {*t.colors})]
        if len(found) != 1:
            raise ValueError(f"{name!r} could mean {[t.name for t in found]}")
        return found[0]

    def shot(self, which):
        """Tracks of one shot alone."""
        i = {"first": 0, "second": 1, "third": 2, "last": len(self.shots) - 1}[which]
        start = sum(self.shots[:i])
        return Tracks(self.states[start : start + self.shots[i]])

    def in_order(self, verb):
        """Those that do so by time; ValueError where two are at it within two frames."""
        found = sorted((t for t in self if t.does(verb)), key=lambda t: t.when(verb))
        for a, b in pairwise(found):
            # Motions wait for each other; all else keeps two frames between.
            if b.when(verb)[0] <= a.when(verb)[1] + (verb != "moves"):
                raise ValueError(f"{a.name} and {b.name} do so at once")
        return found


def places(items):
    return [PLACES[3 * int(i.y * 3) + int(i.x * 3)] for i in items]


@rule(rf"(?:what|which object) ({VERBS})\?")
def _who(tracks, verb):
    return [t.name for t in tracks if t.does(verb)]


@rule(rf"(?:which shape|what shape is the object that) ({VERBS})\?")
def _shape_of(tracks, verb):
    return [t.noun for t in tracks if t.does(verb)]


@rule(rf"what color is the (\w+) that ({VERBS})\?")
def _color_of(tracks, noun, verb):
    return [c for t in tracks if t.does(verb) and noun in ("object", t.noun) for c in t.colors]


@rule(rf"what ({VERBS}) (first|last)\?")
def _end_of_order(tracks, verb, end):
    return [tracks.in_order(verb)[0 if end == "first" else -1].name]


@rule(rf"what ({VERBS}) first, the (\w+) or the (\w+)\?")
def _first_of_two(tracks, verb, a, b):
    pair = [tracks.called(a), tracks.called(b)]
    assert all(t.does(verb) for t in pair)
    return (
        [next(t.noun for t in tracks.in_order(verb) if t in pair)]
        if verb != "comes"
        else [min(pair, key=lambda t: t.start).noun]
    )


@rule(r"what appears next after the (\w+)\?")
def _after(tracks, name):
    order = tracks.in_order("appears")
    return [order[order.index(tracks.called(name)) + 1].name]


@rule(r"what appears before the (\w+)\?")
def _before(tracks, name):
    order = tracks.in_order("appears")
    return [t.name for t in order[: order.index(tracks.called(name))]]


@rule(r"where (?:does|is) the ([a-z ]+?) (appear|flash|before it leaves)\?")
def _where_once(tracks, name, what):
    track = tracks.called(name)
    assert track.does({"appear": "appears", "flash": "flashes"}.get(what, "leaves"))
    return places(track.seen)


@rule(r"where is the ([a-z ]+?) at the (start|end)\?")
def _where_at(tracks, name, end):
    assert len(tracks.shots) == 1
    return places([tracks.called(name).items[0 if end == "start" else -1]])


@rule(r"where is the ([a-z ]+?)\?")
def _where(tracks, name):
    track = tracks.called(name)
    assert None not in track.items
    return places(track.items)


@rule(r"which way does the ([a-z ]+) move\?")
def _way(tracks, name):
    (x, y), axis = tracks.called(name).way, 0
    axis = int(abs(y) > abs(x))
    assert abs((x, y)[axis]) >= 0.3 > 0.1 > abs((x, y)[1 - axis])
    return [(("left", "right"), ("up", "down"))[axis][(x, y)[axis] > 0]]


@rule(r"does the ([a-z ]+?) (move|change color)\?")
def _whether(tracks, name, verb):
    return ["yes" if tracks.called(name).does({"move": "moves"}.get(verb, "changes color")) else "no"]


@rule(r"what color does the ([a-z ]+) become\?")
def _becomes(tracks, name):
    before, after = tracks.called(name).colors
    assert set(name.split()) & set(COLORS) <= {before}
    return [after]


@rule(r"what color is the (\w+) at the (start|end)\?")
def _color_at(tracks, name, end):
    assert len(tracks.shots) == 1
    return [tracks.called(name).items[0 if end == "start" else -1].color]


@rule(r"what color is the (\w+) in the (\w+) shot\?")
def _color_in(tracks, name, which):
    return tracks.shot(which).called(name).colors


@rule(r"what (?:is|do you see) in the (\w+) shot\?")
def _in_shot(tracks, which):
    return [t.name for t in tracks.shot(which)]


@rule(r"what color is the (\w+)\?")
def _color(tracks, name):
    track = tracks.called(name)
    assert None not in track.items
    return track.colors


@rule(r"what shape is the (\w+) object\?")
def _shape(tracks, color):
    track = tracks.called(color)
    assert None not in track.items
    return [track.noun]


@rule(r"how (?:often does|many times does) the ([a-z ]+?) (appear|flash|change color)\?")
def _times(tracks, name, what):
    track = tracks.called(name)
    return [len(track.colors) - 1 if what == "change color" else track.runs]


@rule(r"how many (shots|cuts) .*\?")
def _shots(tracks, what):
    return [len(tracks.shots) - (what == "cuts")]


@rule(r"what (?:does the|is written on the|is the (first|last) symbol on the) (.*plate)( that flashes)?(?: say)?\?")
def _text(tracks, end, name, flashing):
    found = [t for t in tracks if t.noun == "plate" and t.flashing] if flashing else [tracks.called(name)]
    assert flashing or None not in found[0].items
    texts = [t.first.text for t in found]
    return [t[0] if end == "first" else t[-1] if end else t for t in texts]
