"""No class of transformers is undecided, and the page says of each what the sweep finds."""

from __future__ import annotations

import re

import pytest
import transformers as hf

from tests.sweep import page
from tests.sweep.classes import mapped, refusal, takes_images
from tests.sweep.table import media_of


@pytest.mark.nightly
def test_every_class_is_decided():
    """A class that a new transformers brings is served, or refused when it is wrapped: somebody has looked."""
    rest = [name for name in mapped() if name not in media_of() and takes_images(name)]
    assert [name for name in rest if refusal(name) is None] == []


def test_a_class_that_nobody_looked_at_is_found(monkeypatch):
    monkeypatch.setattr("tests.sweep.classes.find", lambda model: model)
    assert refusal("FuyuForCausalLM") is None


def test_the_page_says_what_is_served():
    version, found = page.on_page()
    served = set(re.findall(r"^\| `(\w+)` \| [✓-] ", found, re.M))
    assert served == {name for name in media_of() if name in mapped()}
    if version == hf.__version__:  # another one has other classes
        assert found == page.table()
