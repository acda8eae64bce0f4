"""Parts of a video: actors with their lives, takes that hold them, and the objects of one frame."""

from dataclasses import dataclass, replace

from .objects import Box, Plate, Thing
from .spec import PLACES

Span = tuple[int, int]  # frames from the first to before the second


@dataclass(frozen=True)
class Life:
    """When an actor does what its `role` (of `video_spec.ROLES`) says.

    `spans` are the frames in which it is seen; it moves between the two frames of `moving`, standing still at both;
    from each frame of `turns` on it has its next color.
    """

    role: str
    spans: tuple[Span, ...]
    moving: Span | None = None
    turns: tuple[int, ...] = ()


@dataclass(frozen=True)
class VideoEvent:
    """Something that happens: the first `frame` that shows it, what it is, and the actor (None for cuts).

    `what` is "appears", "leaves", "moves", "changes", "flashes", "hard cut" or "soft cut".
    """

    frame: int
    what: str
    actor: "Actor | None" = None

    @property
    def name(self) -> str:
        """Who does it and what, for people."""
        return f"{self.actor.item.name} {self.what}" if self.actor else self.what


@dataclass(frozen=True)
class Actor:
    """A thing or plate with a life: `item` is how it is at first, `way` how far it moves `(x, y)` in all (units).

    `colors` are those it has one after the other, one more than `life.turns`.
    """

    item: Thing | Plate
    life: Life
    way: tuple[float, float] = (0.0, 0.0)
    colors: tuple[str, ...] = ()

    @property
    def role(self) -> str:
        """What it does."""
        return self.life.role

    @property
    def noun(self) -> str:
        """Its shape, or "plate"."""
        return self.item.shape if isinstance(self.item, Thing) else "plate"

    @property
    def start(self) -> int:
        """The first frame that shows it."""
        return self.life.spans[0][0]

    @property
    def end(self) -> int:
        """The first frame from which it is not seen any more."""
        return self.life.spans[-1][1]

    @property
    def last(self) -> Thing | Plate:
        """How it is in the last frame that shows it."""
        item = self.at(self.end - 1)
        assert item is not None
        return item

    @property
    def swept(self) -> Box:
        """`(left, top, right, bottom)` in units: the box of all that it covers in its life."""
        (left, top, right, bottom), (dx, dy) = self.item.box, self.way
        return left + min(dx, 0), top + min(dy, 0), right + max(dx, 0), bottom + max(dy, 0)

    @property
    def events(self) -> list[VideoEvent]:
        """What happens to it; coming and going with a cut is nothing of its own."""
        life = self.life
        out = [VideoEvent(t, "changes", self) for t in life.turns]
        if life.moving:
            out.append(VideoEvent(life.moving[0] + 1, "moves", self))
        if life.role in ("arrive", "pass"):
            out.append(VideoEvent(self.start, "appears", self))
        if life.role in ("leave", "pass"):
            out.append(VideoEvent(self.end, "leaves", self))
        if life.role in ("blink", "flash"):
            out += [VideoEvent(a, "flashes", self) for a, _ in life.spans]
        return out

    def at(self, frame: int) -> Thing | Plate | None:
        """How it is in `frame`, or None where it is not seen."""
        if not any(a <= frame < b for a, b in self.life.spans):
            return None
        item = self.item
        if not isinstance(item, Thing) or not (self.life.moving or self.life.turns):
            return item
        color = self.colors[sum(t <= frame for t in self.life.turns)]
        a, b = self.life.moving or (0, 1)
        share = min(max((frame - a) / (b - a), 0.0), 1.0)
        return replace(item, color=color, x=item.x + self.way[0] * share, y=item.y + self.way[1] * share)


@dataclass(frozen=True)
class State:
    """What one frame shows; it can stand for a `Scene` where only what is seen is asked for (`labels`)."""

    things: tuple[Thing, ...]
    plates: tuple[Plate, ...]
    ground: str
    width: float = 1.0
    height: float = 1.0


@dataclass(frozen=True)
class Take:
    """What one shot shows: its `actors` before the ground that `entropy` seeds, in the frames of `span`.

    `soft` says that it begins with a soft cut; the first take never does.
    """

    span: Span
    ground: str
    entropy: tuple[int, ...]
    actors: tuple[Actor, ...]
    soft: bool = False

    def items(self, frame: int) -> list[tuple[int, Thing | Plate]]:
        """What is seen in `frame`, each with its actor's index; before and after the shot, as at its ends."""
        at = min(max(frame, self.span[0]), self.span[1] - 1)
        found = ((i, actor.at(at)) for i, actor in enumerate(self.actors))
        return [(i, item) for i, item in found if item is not None]

    def state(self, frame: int) -> State:
        """What `frame` shows of this take."""
        items = [item for _, item in self.items(frame)]
        things = tuple(i for i in items if isinstance(i, Thing))
        return State(things, tuple(i for i in items if isinstance(i, Plate)), self.ground)


def place_of(x: float, y: float) -> str:
    """The name of the ninth of the frame that holds the point `(x, y)` (units)."""
    return PLACES[min(int(y * 3), 2)][min(int(x * 3), 2)]
