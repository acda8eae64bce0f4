"""Shared by the tests of `vtc check`: ready inputs of small models, and a check of them."""

from __future__ import annotations

from tests.families import FAMILIES, LLAVA, Family
from vtc.check.context import CheckContext, CheckPrompt
from vtc.check.runner import CHECKS, check

TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }} "
    "{% else %}<|vision_start|><|{{ c['type'] }}_pad|><|vision_end|>{% endif %}{% endfor %}{% endfor %}"
)
ROWS = [[3, (1, 12, 4), 4, (2, 4, 8), 5], [2, (3, 8, 6), 6], [9]]
ORDER = (2, 1, 0)
CHECKED = ("llava", "qwen25vl", "qwen3vl", "qwen3vl-video", "llava-next", "gemma3", "qwen35-video", "qwen35-moe")
SHOWN = [f for f in FAMILIES if f.name in CHECKED]
NAMES = [one.name for one in CHECKS]
FEW = ["--recipe", "kcenter", "--positions", "original", "--max-new-tokens", "2"]


def cases(family: Family) -> list[CheckPrompt]:
    """Ready inputs in place of a processor's."""
    inputs = family.inputs
    rows = tuple(inputs([row]) for row in ROWS)
    batch = CheckPrompt("batch", inputs(ROWS), rows, inputs([ROWS[i] for i in ORDER]), ORDER)
    return [CheckPrompt("one image", rows[1]), CheckPrompt("two images", rows[0]), batch]


def checked(model, chosen, family: Family = LLAVA, *, batch: bool = True):
    return check(CheckContext(model, cases(family)[: 3 if batch else 2], chosen, 3))
