"""One page and one browser for all tests of the page; neither holds anything of a test behind it."""

from __future__ import annotations

import os
import shutil

import pytest

from vtc.app.serve import serve
from vtc.app.state import AppState
from vtc.embedded.samples import FOLDER
from vtc.embedded.video import Video

CHROMIUM = next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)


@pytest.fixture(scope="session")
def state():
    """What the page of `url` is of: its answers may still be coming when a test of the page has ended."""
    return AppState.load()


@pytest.fixture(scope="session")
def own_models():
    """Models that no page has, and so no answer of a page is at work on them."""
    return AppState.load()


@pytest.fixture
def fresh_state(own_models):
    """A state that holds nothing yet."""
    return AppState(own_models.image_model, own_models.video_model)


@pytest.fixture(scope="session")
def image():
    return FOLDER / "scene1.png"


@pytest.fixture(scope="session")
def video(tmp_path_factory):
    return Video(3).save(tmp_path_factory.mktemp("video") / "video.mp4")


@pytest.fixture(scope="session")
def url(state):
    served = serve(AppState(state.image_model, state.video_model), port=0, wait=False)
    yield served.url
    served.close()


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium: apt-get install chromium, and these tests run")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        # Chromium refuses its sandbox to root, as which CI runs.
        opened = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield opened
        opened.close()
