"""What a test registers is gone behind it."""

from __future__ import annotations

import pytest

from tests.registries import put_back


@pytest.fixture
def registries():
    with put_back():
        yield
