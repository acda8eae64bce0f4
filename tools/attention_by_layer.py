"""Where the last token of a prompt looks, layer by layer: what stages that cut by its attention can know there.

`python -m tools.attention_by_layer small-llava [tiny-llava] --n 32`: the plates of `n` drawn scenes are asked about.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import Any

import torch
from torch import Tensor

from tools.train_embedded.labels import patch_labels
from vtc.adapters import find
from vtc.embedded import VIEW_OF
from vtc.embedded.scene import HELD_OUT, Scene
from vtc.embedded.spec import SHAPES
from vtc.inference.loading import load
from vtc.inference.prompting import inputs

MODELS = tuple(name for name, view in VIEW_OF.items() if view == "square")
"""Models whose visual tokens are a square of patches."""
QUESTION = "what does the plate say?"
PLATE = len(SHAPES) + 1
"""Its class in the column `shape` of a patch's labels."""
KEPT = 0.25
HEAD = ("layer", "first token", "visual tokens", "other text", "largest visual token", f"plate in the best {KEPT:.0%}")


def scenes_of_one_plate() -> Iterator[Scene]:
    """Unseen scenes that show one plate among other things."""
    for seed in count(HELD_OUT):
        scene = Scene(seed)
        if len(scene.plates) == 1 and len(scene.things) >= 2:
            yield scene


def plate_of(scene: Scene, side: int) -> Tensor:
    """Which of `side` x `side` visual tokens show the plate: bool `[side * side]`."""
    look = ((0.0, 0.0, 1.0, 1.0), (side * 8, side * 8))
    return torch.from_numpy(patch_labels(scene, look)[:, 0] == PLATE)


def measures(attention: Tensor, visual: Tensor, plate: Tensor) -> list[float]:
    """Shares of one layer, as in `HEAD`, but for the layer.

    Args:
        attention: `[L]` of the last token, mean over heads.
        visual: `[L]` bool, which tokens are visual.
        plate: `[N]` bool, which of the visual tokens show what is asked about.
    """
    seen = attention[visual]
    best = torch.zeros_like(plate)
    best[seen.topk(round(KEPT * len(seen))).indices] = True
    other = attention.sum() - attention[0] - seen.sum()
    found = (best & plate).sum() / plate.sum()
    return [float(one) for one in (attention[0], seen.sum(), other, seen.max() / seen.sum(), found)]


@torch.no_grad()
def by_layer(model: Any, processor: Any, scenes: Sequence[Scene]) -> Tensor:
    """Means of the measures of each layer: `[layers, 5]`."""
    model.set_attn_implementation("eager")
    placeholder = find(model).placeholders["image"]
    rows = []
    for scene in scenes:
        given = inputs(model, processor, [QUESTION], [scene.image])
        visual = given["input_ids"][0] == placeholder
        plate = plate_of(scene, round(int(visual.sum()) ** 0.5))
        layers = model(**given, output_attentions=True).attentions
        rows.append([measures(layer[0, :, -1].float().mean(0), visual, plate) for layer in layers])
    return torch.tensor(rows).mean(0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="tools.attention_by_layer", description=__doc__)
    parser.add_argument("models", nargs="+", choices=MODELS, metavar="NAME", help=" or ".join(MODELS))
    parser.add_argument("--n", type=int, default=32, help="scenes")
    options = parser.parse_args(arguments)
    if options.n < 1:
        parser.error(f"--n={options.n} must be 1 or more")
    scenes = list(islice(scenes_of_one_plate(), options.n))
    for name in options.models:
        table = by_layer(*load(name, device="cpu"), scenes)
        print(f"{name}, {len(scenes)} scenes\n| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
        for layer, row in enumerate(table.tolist()):
            print(f"| {layer} | " + " | ".join(f"{value:.0%}" for value in row) + " |")


if __name__ == "__main__":
    main()
