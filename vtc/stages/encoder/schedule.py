"""How many tokens are left behind each layer of a tower: whole numbers that end on an exact count."""

from __future__ import annotations

SHAPES = ("constant", "decreasing")


def schedule(candidates: int, target: int, layers: int, shape: str) -> tuple[int, ...]:
    """Return how many of `candidates` are left behind each of `layers`; the last entry is `target`.

    `constant`: as many go in each layer, those that do not divide in the first layers (ToMe, arXiv 2210.09461, section
    3: r tokens a layer). `decreasing`: as many in all, falling evenly from about twice that in the first layer to none
    in the last. No layer can fold more than half of its candidates; where the plain numbers would ask it to, earlier
    layers fold more.

    Raises:
        ValueError: `target` is out of reach of halving in every layer, or `shape` is unknown.
    """
    if shape not in SHAPES:
        raise ValueError(f"schedule={shape!r}; expected one of {', '.join(SHAPES)}")
    if not 1 <= target <= candidates:
        raise ValueError(f"target={target} of {candidates} candidates; expected a number from 1 to {candidates}")
    if target << layers < candidates:
        least = -(-candidates >> layers) if layers else candidates
        raise ValueError(
            f"keep leaves {target} of {candidates} patches, and {layers} layers that fold at most half of theirs can "
            f"leave no fewer than {least}; keep at least {least / candidates:.3g} of them, and drop the rest by a "
            "selector behind the encoder stage"
        )
    weights = [1] * layers if shape == "constant" or layers < 2 else list(range(layers - 1, -1, -1))
    left, found, spent = candidates, [], 0
    for layer, weight in enumerate(weights):
        spent += weight
        plain = candidates - -(-(candidates - target) * spent // sum(weights))
        # What the layers that follow can still halve down to the target.
        reachable = target << (layers - 1 - layer)
        left = max(-(-left // 2), min(plain, reachable, left))
        found.append(left)
    return tuple(found)
