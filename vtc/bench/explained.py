"""Recipes that answer fewer questions than a random choice of as many tokens: found by interval, and why where known.

A recipe below `random` is a defect until its reason is known: `globalcom2` was, for reading attention before its
softmax. So on the embedded models, whose questions are always the same, such a recipe fails the benchmark unless
`EXPLAINED` has a reason for it. On other models it is noted in the tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vtc.recipes.registration import RECIPES

RANDOM = "random"
FEW = 30
"""Scenes below which a bootstrap interval is too narrow to be trusted."""


@dataclass(frozen=True)
class Explained:
    """Why a named recipe is below `random` on an embedded model.

    Attributes:
        recipe, model: by their names; `model` is followed by ` videos` where videos are asked about, by
            ` easy-vqa` where that benchmark is asked.
        why: in a sentence; `docs/below-random.md` has it too.
    """

    recipe: str
    model: str
    why: str


ONE_SIZE = "the model was trained at one size and reads little at a smaller one"
WHOLE_FRAMES = "it keeps whole frames, few at a small keep, and what is shown briefly falls between them"
LOGITS = "the released form: attention before its softmax, whose level differs from head to head, ranks tokens badly"
SALIENT = "it follows what is salient, and at half of the tokens a random choice still meets plain plates and crowds"
BLURRED = "at a twentieth a mean of unlike tokens resembles none that the model was trained on"
COARSE = "its cells grow until several objects share one, and their mean resembles none of them"
SAME_PLACES = "it keeps the same few places of every frame, where a random choice meets others in each"
FIRST_FRAME = "the engine's rule keeps the first frame whole, which at a tenth is most of the budget"
FEWER_INSIDE = "as many tokens reach the first layer, and fewer the layers behind it"
EARLY = "it drops most of what was kept before layer 15 of 30, and the answer is read from the image behind that"
FEWER = "it keeps fewer tokens than `keep` allows, by what it finds in the video"

EXPLAINED = tuple(
    Explained(recipe, model, why)
    for why, model, recipes in (
        (ONE_SIZE, "small-llava", ("resize",)),
        (EARLY, "small-llava", ("kcenter+layerwise", "kcenter+feather")),
        (ONE_SIZE, "small-llava easy-vqa", ("resize",)),
        (EARLY, "small-llava easy-vqa", ("kcenter+layerwise", "kcenter+feather")),
        (LOGITS, "tiny-internvl", ("globalcom2-released",)),
        (COARSE, "tiny-internvl", ("pool",)),
        (ONE_SIZE, "tiny-llava", ("resize",)),
        (SALIENT, "tiny-llava", ("cls", "cls-outliers", "local-global")),
        (ONE_SIZE, "tiny-qwen", ("resize",)),
        (COARSE, "tiny-qwen", ("pool",)),
        (FEWER_INSIDE, "tiny-qwen", ("kcenter+layerwise", "kcenter+feather")),
        (ONE_SIZE, "tiny-qwen videos", ("resize",)),
        (WHOLE_FRAMES, "tiny-qwen videos", ("uniform", "keyframes")),
        (COARSE, "tiny-qwen videos", ("pool", "videogpt+")),
        (BLURRED, "tiny-qwen videos", ("kcenter-mean", "cls-mean", "random-mean", "stride-mean")),
        (SAME_PLACES, "tiny-qwen videos", ("stride",)),
        (FIRST_FRAME, "tiny-qwen videos", ("evs-vllm",)),
        (FEWER, "tiny-qwen videos", ("vqtoken-adaptive",)),
        (FEWER_INSIDE, "tiny-qwen videos", ("kcenter+layerwise", "kcenter+feather")),
    )
    for recipe in recipes
)


def below_random(model: str, scenes: int, variants: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The named recipes whose paired interval against `random`, at the same keep, lies below zero.

    Args:
        model: as `Explained.model` has it.
        scenes: that were asked about; of fewer than `FEW` nothing is said.
        variants: of one model, as `results.document` holds them.

    Returns:
        `recipe`, `keep`, `high` (the upper end of the interval) and `why` of each; `why` is None where no reason is
        known.
    """
    known = {(one.recipe, one.model): one.why for one in EXPLAINED}
    found = []
    for variant in variants:
        against = variant[f"versus_{RANDOM}"]
        if scenes < FEW or variant["recipe"] not in RECIPES or against is None or against["high"] is None:
            continue
        if against["high"] < 0:
            why = known.get((variant["recipe"], model))
            found.append({"recipe": variant["recipe"], "keep": variant["keep"], "high": against["high"], "why": why})
    return found


def unexplained(document: Mapping[str, Any]) -> list[str]:
    """`MODEL: RECIPE at keep KEEP` for each recipe of an embedded model that is below `random` without a reason.

    None of a user's own questions, of which nobody can have written down the reasons.
    """
    from vtc import embedded

    if document["own_questions"]:
        return []
    return [
        f"{model['name']}: {one['recipe']} at keep {one['keep']}"
        for model in document["models"]
        if model["name"] in embedded.VIEW_OF and not model["failed"]
        for one in model["below_random"]
        if one["why"] is None
    ]
