"""The table of families in docs/serving.md is what is registered."""

from __future__ import annotations

from pathlib import Path

from vtc.integrations.vllm import ARCHITECTURES, models
from vtc.integrations.vllm.positions import OriginalPositions

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
HEAD = "| architecture | media | positions | `resize` |\n| --- | --- | --- | --- |"


def table():
    rows = []
    for name in sorted(ARCHITECTURES):
        model = getattr(models, name)
        media = " and ".join(f"{kind}s" for kind in model.family.counted)
        positions = "original" if issubclass(model, OriginalPositions) else "compact"
        rows.append(f"| `{name}` | {media} | {positions} | {'yes' if model.family.sizes else 'no'} |")
    return "\n".join([HEAD, *rows])


def test_the_page_has_the_families_that_are_served():
    assert table() in PAGE.read_text(encoding="utf-8"), table()


def test_each_architecture_is_that_of_a_stock_class_with_ours_ahead():
    for name in ARCHITECTURES:
        model = getattr(models, name)
        stock = [base for base in model.__mro__ if base.__name__ == name and base is not model]
        assert stock or name == "InternVLForConditionalGeneration"  # vLLM serves it by a class of another name
        place = next(i for i, base in enumerate(model.__mro__) if base.__module__.startswith("vllm."))
        assert all(base.__module__.startswith("vtc.") for base in model.__mro__[:place])
