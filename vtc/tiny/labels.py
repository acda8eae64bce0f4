"""What each patch of a scene shows: the truth that the eye is taught with. Used in training only."""

import cv2
import numpy as np

from vtc.tiny.draw import fixed, outline
from vtc.tiny.world import COLORS, SHAPES, Scene, Thing

# Columns of a patch's label and their number of classes. Class 0 of `shape`, `color` and the digits means "none";
# `x` and `y` are the patch column and row of the owner's centre (of the patch itself where it is empty).
FIELDS = ("shape", "color", "tens", "ones", "x", "y", "center")


def classes(grid: int) -> tuple[int, ...]:
    """How many classes each of `FIELDS` has on a `grid` x `grid` picture."""
    return len(SHAPES) + 2, len(COLORS) + 1, 11, 11, grid, grid, 2


def patch_labels(scene: Scene, grid: int, patch: int = 8) -> np.ndarray:
    """The labels of `scene`, uint8 `[grid * grid, len(FIELDS)]`, row by row."""
    owner = _owners(scene, grid, patch)
    rows, columns = np.mgrid[:grid, :grid]
    labels = np.zeros((grid, grid, len(FIELDS)), np.uint8)
    labels[..., 4], labels[..., 5] = columns, rows
    for i, item in enumerate((*scene.things, *((scene.plate,) if scene.plate else ()))):
        x, y = int(item.x * grid), int(item.y * grid)
        owner[y, x] = i + 1
        mine = owner == i + 1
        if isinstance(item, Thing):
            labels[mine, 0], labels[mine, 1] = SHAPES.index(item.shape) + 1, COLORS.index(item.color) + 1
        else:
            tens, ones = divmod(item.number, 10)
            labels[mine, 0] = len(SHAPES) + 1
            labels[mine, 2], labels[mine, 3] = tens + 1 if tens else 0, ones + 1
        labels[mine, 4], labels[mine, 5] = x, y
        labels[y, x, 6] = 1
    return labels.reshape(grid * grid, len(FIELDS))


def _owners(scene: Scene, grid: int, patch: int) -> np.ndarray:
    """Which item covers at least a quarter of each patch: `[grid, grid]`, 0 for none, else 1 + its index."""
    side = grid * patch
    mask = np.zeros((side, side), np.uint8)
    for i, thing in enumerate(scene.things):
        cv2.fillPoly(mask, [fixed(outline(thing), side)], i + 1, cv2.LINE_8, 4)
    if scene.plate:
        left, top, right, bottom = (round(v * side) for v in scene.plate.box)
        mask[top:bottom, left:right] = len(scene.things) + 1
    tiles = mask.reshape(grid, patch, grid, patch)
    owner = np.zeros((grid, grid), np.int64)
    for i in range(1, int(mask.max()) + 1):
        owner[(tiles == i).sum((1, 3)) * 4 >= patch * patch] = i
    return owner


def scene_labels(scene: Scene) -> np.ndarray:
    """What the picture shows, uint8 `[42 + 6]`: which (color, shape) pairs, and how many shapes (one-hot)."""
    out = np.zeros(len(COLORS) * len(SHAPES) + 6, np.uint8)
    for thing in scene.things:
        out[COLORS.index(thing.color) * len(SHAPES) + SHAPES.index(thing.shape)] = 1
    out[len(COLORS) * len(SHAPES) + len(scene.things)] = 1
    return out
