"""Names of papers: those whose rule a recipe is, and those that are not built, each with its nearest relative."""

from __future__ import annotations

from typing import NamedTuple

ALIASES = {
    "kcenter": ("divprune",),
    "cls": ("fastervlm",),
    "tokencorr": ("tokencorrcompressor",),
    "layerwise": ("adsc",),
    "pyramiddrop": ("pdrop",),
    "tdc": ("tdc-video",),
}
"""Further names by recipe. Recipes that have a paper's own name (tome, fastv, vidcom2, ...) need none."""


class Relative(NamedTuple):
    """What is nearest to a method that is not built.

    Attributes:
        paper: authors' name of the method, arXiv number or venue.
        recipe: the recipe that comes nearest.
        why: what the two have in common, and what is missing.
    """

    paper: str
    recipe: str
    why: str


NOT_BUILT = {
    "visionzip": Relative(
        "VisionZip, 2412.04467", "cls-mean", "the most attended tokens, and the others averaged into their most similar"
    ),
    "prumerge": Relative(
        "LLaVA-PruMerge, 2403.15388", "cls-mean", "attention of the class token, then merging; its count is fixed"
    ),
    "llavaprumerge": Relative(
        "LLaVA-PruMerge, 2403.15388", "cls-mean", "attention of the class token, then merging; its count is fixed"
    ),
    "vispruner": Relative("VisPruner, 2412.01818", "cls", "its attentive half, without the diverse one"),
    "hired": Relative("HiRED, 2408.10945", "globalcom2", "tiles share by attention, as the thumbnail shows it"),
    "cdpruner": Relative("CDPruner, 2506.10967", "kcenter", "diversity, without the question"),
    "scope": Relative("SCOPE, 2510.24214", "todre", "diversity that starts from the most attended token"),
    "mmtok": Relative("MMTok, 2508.18264", "kcenter", "coverage of the image, without the question"),
    "dart": Relative("DART, 2502.11494", "maxsum", "tokens least like those that were taken, before the model"),
    "vscan": Relative("VScan, 2505.22654", "cls-mean", "global attention and merging, without the local scan"),
    "holov": Relative("HoloV, 2510.02912", "cls", "attention, without a quota for each part of the image"),
    "flowcut": Relative("FlowCut, 2505.19536", "cls", "attention of one layer, not accumulated over all"),
    "apet": Relative("ApET, 2602.19870", "kcenter-mean", "far-apart tokens that others are merged into"),
    "pact": Relative("PACT, 2504.08966", "kcenter-mean", "clusters around far-apart tokens, before the model"),
    "topv": Relative("TopV, 2503.18278", "fastv", "one cut in an early layer, by attention"),
    "prunevid": Relative("PruneVid, 2412.16117", "fastvid", "segments of alike frames whose tokens are merged"),
    "holitom": Relative("HoliTom, 2505.21334", "fastvid", "segments of alike frames whose tokens are merged"),
    "flashvid": Relative("FlashVID, ICLR 2026", "fastvid", "segments of alike frames whose tokens are merged"),
    "llavascissor": Relative("LLaVA-Scissor, 2025", "vqtoken-adaptive", "groups of like tokens, as many as there are"),
    "vcast": Relative("V-CAST, 2603.27650", "vidcom2", "a budget for each frame, and scores within it"),
    "dytok": Relative("DyToK, NeurIPS 2025", "video-question", "a budget for each clip by the question"),
    "aks": Relative("AKS, 2502.21271", "keyframes", "frames chosen without the question; `--keyframes aks` asks it"),
}
"""Well-known methods that are not built, by a spelling without `-`, `_` and blanks."""
