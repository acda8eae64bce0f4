"""The frozen specification of drawn videos: what may happen, how long, how large, how often, from which seed.

Version 1 was fixed before any model of it was trained. A change of any value here is another world of videos: it takes
another `VERSION`, and figures measured on one version are not compared with those of another.
`tests/embedded/test_video.py` holds the fingerprint of videos of this version.

A video is a square of one unit. Its shapes, colors, symbols, fonts, grounds and the seeds of its splits are those of
`vtc.embedded.spec`: training below `HELD_OUT`, unseen from there on, validation from `VALIDATION` on. A shifted video
has grounds, fonts and sizes that are never trained.
"""

from dataclasses import dataclass

from .spec import HELD_OUT, VALIDATION

__all__ = ["HELD_OUT", "VALIDATION"]

VERSION = "1"

# Every video is clear at 96 x 96 pixels with no frame dropped. At two frames and 16 x 16 pixels to a visual token that
# is 36 tokens for two frames: 144, 216 or 288 for a video. Frames come in pairs, so that no tower pads a video.
PIXELS = 96
FPS = 2
FRAMES = (8, 12, 16)
LONG = (12, 16)

RADIUS = (0.1, 0.17)
SYMBOL = (0.13, 0.16)  # height of a plate's letters
SOFT = 0.4  # share of cuts that are soft
FADE = (
    2  # in the two frames of a soft cut, the last of a shot and the first of the next, a shot weighs 2 to 1 in its own
)
SHORTEST_SHOT = 3  # frames
MOST_SHOTS = 4
CUT = 24  # grey levels by which the mean colors of two neighbouring shots differ at least, in one channel
GAP = 2  # frames between two things that happen, at least: never both in one pair of frames
VISIT = 3  # frames that a thing which comes and goes is seen, at least; shorter is a flash
FLASH = (1, 2)  # frames that a flash lasts
MOST_TIMES = 4  # the most often that something happens where "how often" is asked
MOVE_FRAMES = 3  # frames that a motion takes, at least
MOVE = (0.3, 0.55)  # how far a thing moves, units
DRIFT = 0.04  # how far it strays across its way, at most, units
IN_TURN = 0.6  # share of videos with two motions in which the second waits for the first to end
TWINS = 0.3  # share of videos whose things repeat each other's shapes and colors
EXTRA = 0.35  # share of videos in which one more thing does something else
NEEDLE_PLATE = 0.5  # share of needles that are plates
SECOND_PLATE = 0.4  # share of those with another plate, that stays

DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}

# What an actor does. All but those that arrive, pass, flash or blink are there from the start of their shot.
ROLES = ("stay", "arrive", "leave", "pass", "move", "change", "cycle", "blink", "flash")


@dataclass(frozen=True)
class VideoKind:
    """One kind of video: how long it may be (frames), and how many actors do what (ranges, ends included).

    `roles` are what its `actors` do, each equally likely; `stay` is how many things do nothing; `extra` is what one
    more may do in a share `EXTRA` of videos; `plate` is the share of videos with a plate that stays.
    """

    frames: tuple[int, ...]
    roles: tuple[str, ...]
    actors: tuple[int, int]
    stay: tuple[int, int]
    extra: tuple[str, ...] = ()
    plate: float = 0.0


KINDS = {
    "visits": VideoKind(FRAMES, ("arrive", "arrive", "leave", "pass"), (2, 4), (1, 2), ("move", "change")),
    "moves": VideoKind(FRAMES, ("move",), (1, 2), (1, 2), ("arrive", "leave", "change"), plate=0.15),
    "changes": VideoKind(FRAMES, ("change",), (1, 2), (1, 3), ("arrive", "leave", "move"), plate=0.15),
    "times": VideoKind(LONG, ("blink", "blink", "cycle"), (2, 2), (1, 2), ("move",), plate=0.15),
    "shots": VideoKind(LONG, ("stay", "stay", "move"), (1, 2), (0, 0)),  # of each shot; a lone shot is busier
    "needle": VideoKind(LONG, ("flash",), (1, 1), (1, 3)),  # all but the flash stands still
}
SHARES = {"visits": 0.22, "moves": 0.11, "changes": 0.09, "times": 0.22, "shots": 0.17, "needle": 0.19}
LONE_SHOT = ("arrive", "leave", "move", "change")  # what else happens in a video of kind "shots" with a single shot

SKILLS = ("appear", "leave", "move", "change", "order", "times", "shots", "needle", "static")

# Questions of a skill about one video, at most, and the shares of skills among all questions that come of it.
AT_MOST = {
    "appear": 2,
    "leave": 2,
    "move": 3,
    "change": 3,
    "order": 2,
    "times": 2,
    "shots": 3,
    "needle": 3,
    "static": 1,
}
MIX = {
    "appear": 0.09,
    "leave": 0.08,
    "move": 0.17,
    "change": 0.14,
    "order": 0.105,
    "times": 0.08,
    "shots": 0.09,
    "needle": 0.085,
    "static": 0.16,
}
