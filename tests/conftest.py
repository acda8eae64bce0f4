"""What holds for every test: one thread, the same draws each run, and no deprecated use of transformers."""

from __future__ import annotations

import atexit
import importlib.util
import logging
import os
import shutil
import tempfile

import pytest
import torch
from hypothesis import settings

from tests import table
from vtc.core.cache_folder import cache_folder
from vtc.embedded import small_llava

collect_ignore = [] if importlib.util.find_spec("vllm") else ["vllm"]  # it has an environment of its own: .ci/vllm
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Gradio reads this when it is imported. It names files by their contents, so that two processes of one run would share
# them, and one would send what the other is writing.
os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="vtc-page-")
atexit.register(shutil.rmtree, os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)
torch.set_num_threads(1)
settings.register_profile("vtc", deadline=None, derandomize=True, max_examples=60, print_blob=True)
settings.load_profile("vtc")


USERS_CACHE = cache_folder()
"""Where `small-llava` lies if it was fetched on this machine."""


@pytest.fixture(scope="session", autouse=True)
def empty_cache(tmp_path_factory):
    """The cache folder is an empty one: what answers where no model is named must not depend on the machine."""
    folder = tmp_path_factory.mktemp("cache") / "vtc"
    os.environ["VTC_CACHE"] = str(folder)
    yield
    assert not folder.exists(), "a test has fetched a model, with which the tests after it answered"


@pytest.fixture
def users_cache(monkeypatch):
    """The user's own cache folder, for tests of `small-llava` itself, which is fetched once."""
    monkeypatch.setenv("VTC_CACHE", str(USERS_CACHE))
    if not small_llava.is_fetched():
        pytest.skip("needs small-llava: vtc models fetch small-llava")


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
    config.pluginmanager.register(Families(), "families")


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
    torch.set_flush_denormal(False)  # training sets it for the whole process


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--families", action="store_true", help="write the table of families of docs/models.md from this run"
    )
    parser.addoption(
        "--check-families", action="store_true", help="fail if this run does not give the table of families"
    )
    parser.addoption("--golden", action="store_true", help="write tests/data/golden.json from this run")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if family := table.label(item):
            item.user_properties.append(("family", family))


class Families:
    """Writes the table of families from a run of the whole grid, or compares it, where an option asks for that."""

    def __init__(self) -> None:
        self.cells: table.Cells = {}
        self.stems: set[str] = set()
        self.fault = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.stems.add(report.nodeid.split("::")[0].rpartition("/")[2].removesuffix(".py"))
        table.note(self.cells, report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        option = session.config.option
        if hasattr(session.config, "workerinput") or not (option.families or option.check_families):
            return
        if not table.is_whole(self.stems):
            self.fault = f"the table of families needs all of {', '.join(table.COLUMNS)}: run all tests"
        elif option.families:
            table.write(table.table(self.cells))
        elif (made := table.table(self.cells)) != table.on_page():
            self.fault = f"the table of families in docs/models.md is not what this run found: --families\n{made}"
        if self.fault:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.fault:
            terminalreporter.write_line(self.fault)
