"""Recipes in vLLM: fewer visual tokens of each image and video, exactly as many as the recipe counts.

    vllm serve MODEL --hf-overrides '{"vtc": {"recipe": "kcenter", "keep": 0.25}}'

vLLM finds `register` by its entry point `vllm.general_plugins`. Unless an engine is given `vtc`, its classes are at
work as they are.
"""

from __future__ import annotations

import warnings

ARCHITECTURES = (
    "Gemma3ForConditionalGeneration",
    "Gemma4ForConditionalGeneration",
    "InternVLForConditionalGeneration",
    "LlavaForConditionalGeneration",
    "LlavaNextForConditionalGeneration",
    "LlavaOnevisionForConditionalGeneration",
    "Qwen2VLForConditionalGeneration",
    "Qwen2_5_VLForConditionalGeneration",
    "Qwen3VLForConditionalGeneration",
    "Qwen3_5ForConditionalGeneration",
    "Qwen3_5MoeForConditionalGeneration",
    "SmolVLMForConditionalGeneration",
)
"""The architectures that are served, by the names in a checkpoint's config."""
TESTED = ("0.32.0",)
"""Versions of vLLM under which the tests pass."""


def register() -> None:
    """Register the served architectures. vLLM calls this in each of its processes, perhaps more than once."""
    from vllm import ModelRegistry, __version__

    if __version__ not in TESTED:
        warnings.warn(
            f"vLLM {__version__}: vtc is tested with {', '.join(TESTED)}, and other versions may have moved what it "
            "builds on; compare a few answers first: vtc check --engine vllm",
            stacklevel=2,
        )
    for name in ARCHITECTURES:
        # By name, so that nothing is imported here that would touch a device before vLLM forks.
        ModelRegistry.register_model(name, f"{__name__}.models:{name}")
