"""What holds for every test: one thread, the same draws each run, and no deprecated use of transformers."""

from __future__ import annotations

import logging
import os

import pytest
import torch
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch.set_num_threads(1)
settings.register_profile("vtc", deadline=None, derandomize=True, max_examples=60, print_blob=True)
settings.load_profile("vtc")


class DeprecationIsAnError(logging.Handler):
    """transformers logs most of its deprecations instead of warning; here they fail the test that caused them."""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if "deprecat" in message.lower() or "will be removed in" in message.lower():
            raise AssertionError(f"deprecated use of transformers: {message}")


def pytest_configure(config: pytest.Config) -> None:
    # `vtc` itself must not use what is deprecated; third parties may warn among themselves.
    config.addinivalue_line("filterwarnings", r"error::DeprecationWarning:vtc(\.|$)")
    config.addinivalue_line("filterwarnings", r"error::FutureWarning:vtc(\.|$)")
    config.addinivalue_line("filterwarnings", r"error::FutureWarning:transformers(\.|$)")


@pytest.fixture(autouse=True)
def no_deprecated_transformers():
    handler = DeprecationIsAnError(level=logging.WARNING)
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
