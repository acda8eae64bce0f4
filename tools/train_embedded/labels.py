"""Labels of each patch of a look, which the vision tower is trained with."""

import cv2
import numpy as np

from tools.train_embedded.model_specs.base import PATCH, Look
from vtc.embedded.draw import fixed, outline
from vtc.embedded.objects import Plate, Thing
from vtc.embedded.scene import Scene
from vtc.embedded.spec import COLORS, SHAPES, SYMBOLS
from vtc.embedded.video_parts import State

# Columns of a patch's label and their number of classes. Class 0 of `shape`, `color`, `symbol` and `index` means
# "none"; `x` and `y` say in which of 12 strips of the look the owner's centre lies (0 and 13: outside), those of an
# empty patch where the patch itself lies.
STRIPS = 12
FIELDS = {
    "shape": len(SHAPES) + 2,
    "color": len(COLORS) + 1,
    "striped": 2,
    "symbol": len(SYMBOLS) + 1,
    "index": 4,
    "x": STRIPS + 2,
    "y": STRIPS + 2,
    "center": 2,
}
MOST_THINGS = 10
FACTS = len(COLORS) * len(SHAPES) + MOST_THINGS + 1


def patch_labels(scene: Scene | State, look: Look) -> np.ndarray:
    """The labels of what `look` shows of `scene` (or of a frame), uint8 `[patches, len(FIELDS)]`, row by row."""
    (left, top, right, bottom), (width, height) = look
    corner, scale = np.array([left, top]), np.array([width / (right - left), height / (bottom - top)])
    columns, rows = width // PATCH, height // PATCH
    labels = np.zeros((rows, columns, len(FIELDS)), np.uint8)
    labels[..., 5] = ((np.arange(columns) + 0.5) / columns * STRIPS).astype(np.uint8) + 1
    labels[..., 6] = (((np.arange(rows) + 0.5) / rows * STRIPS).astype(np.uint8) + 1)[:, None]
    items: list[Thing | Plate] = [*scene.things, *scene.plates]
    for item in items:
        _label(labels, item, corner, scale)
    return labels.reshape(rows * columns, len(FIELDS))


def _label(labels: np.ndarray, item: Thing | Plate, corner: np.ndarray, scale: np.ndarray) -> None:
    """Write what `item` says into the `labels` `[rows, columns, fields]` of the patches that it covers."""
    rows, columns = labels.shape[:2]
    edge = (outline(item) - corner) * scale if isinstance(item, Thing) else _corners(item.box, corner, scale)
    covered = _covered([edge], rows, columns) == 0
    center = (np.array([item.x, item.y]) - corner) * scale
    at_x, at_y = (int(v) for v in center // PATCH)
    if 0 <= at_x < columns and 0 <= at_y < rows:
        covered[at_y, at_x] = True
        labels[at_y, at_x, 7] = 1
    if isinstance(item, Thing):
        labels[covered, 0], labels[covered, 2] = SHAPES.index(item.shape) + 1, item.striped
    else:
        labels[covered, 0], labels[covered, 2] = len(SHAPES) + 1, 0
        _label_text(labels, item, corner, scale)
    labels[covered, 1] = COLORS.index(item.color) + 1
    strips = np.floor(center / (columns * PATCH, rows * PATCH) * STRIPS).clip(-1, STRIPS).astype(int) + 1
    labels[covered, 5], labels[covered, 6] = strips


def _label_text(labels: np.ndarray, plate: Plate, corner: np.ndarray, scale: np.ndarray) -> None:
    cells = [_corners(plate.cell(i), corner, scale) for i in range(len(plate.text))]
    owner = _covered(cells, *labels.shape[:2])
    for i, symbol in enumerate(plate.text):
        labels[owner == i, 3], labels[owner == i, 4] = SYMBOLS.index(symbol) + 1, i + 1


def _corners(box: tuple[float, float, float, float], corner: np.ndarray, scale: np.ndarray) -> np.ndarray:
    left, top, right, bottom = box
    return (np.array([[left, top], [right, top], [right, bottom], [left, bottom]]) - corner) * scale


def _covered(polygons: list[np.ndarray], rows: int, columns: int) -> np.ndarray:
    """Return which polygon (pixels) covers most of each patch, a quarter at least; -1 for none: `[rows, columns]`."""
    shares = np.zeros((len(polygons), rows, columns))
    for i, points in enumerate(polygons):
        mask = np.zeros((rows * PATCH, columns * PATCH), np.uint8)
        cv2.fillPoly(mask, [fixed(points, 1.0)], 1, cv2.LINE_8, 4)
        shares[i] = mask.reshape(rows, PATCH, columns, PATCH).mean((1, 3))
    return np.where(shares.max(0) >= 0.25, shares.argmax(0), -1)


def look_facts(scene: Scene, look: Look) -> np.ndarray:
    """Return facts on what is centred in `look`, uint8 `[FACTS]`: (color, shape) pairs, number of things (one-hot)."""
    left, top, right, bottom = look[0]
    out = np.zeros(FACTS, np.uint8)
    inside = [t for t in scene.things if left <= t.x < right and top <= t.y < bottom]
    for thing in inside:
        out[COLORS.index(thing.color) * len(SHAPES) + SHAPES.index(thing.shape)] = 1
    out[len(COLORS) * len(SHAPES) + len(inside)] = 1
    return out
