"""The page as a visitor meets it, with the default models: an answer on each tab, and the pictures in README and docs.

`VTC_SCREENSHOTS=docs pytest tests/app/test_screenshots.py` takes them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.app.test_browser import CUT, PHONE, WIDE, Tab
from vtc.app.serve import serve
from vtc.app.state import AppState


@pytest.fixture
def default_url(users_cache):
    served = serve(AppState.load(), port=0, wait=False)
    yield served.url
    served.close()


@pytest.fixture
def take(tmp_path):
    """Writes a screenshot where that was asked for."""
    folder = Path(os.environ.get("VTC_SCREENSHOTS", tmp_path))

    def shot(tab, name):
        tab.page.evaluate("scrollTo(0, 0)")
        tab.page.mouse.move(0, 0)
        tab.page.wait_for_timeout(600)  # toasts fade, images settle
        tab.page.screenshot(path=folder / f"app-{name}.png", full_page=True)

    return shot


def run(tab, button):
    """Clicks, until the button can be clicked again."""
    tab.button(button).click()
    tab.panel.get_by_role("button", name="Answering ...").wait_for()
    tab.button(button).wait_for()


def test_an_answer_is_a_click_away_on_every_tab(browser, default_url, take):
    tab = Tab(browser, default_url, WIDE)
    run(tab, "Ask")
    assert tab.box("Answer from the tokens kept").input_value() == "8T"
    tab.panel.get_by_text("4.0 x fewer visual tokens").wait_for()
    take(tab, "image")
    tab.open("Video")
    run(tab, "Ask")
    assert tab.box("Answer from the tokens kept").input_value() == "top left"
    take(tab, "video")
    tab.open("Compare")
    run(tab, "Compare")
    tab.panel.get_by_text("8T ✓").first.wait_for()
    take(tab, "compare")
    tab.open("Batch")
    run(tab, "Start")
    tab.panel.get_by_text("6 rows, 6 answered").wait_for()
    take(tab, "batch")
    assert tab.wrong == tab.foreign == []
    tab.context.close()


def test_so_it_is_on_a_phone(browser, default_url, take):
    tab = Tab(browser, default_url, PHONE, "dark")
    run(tab, "Ask")
    tab.panel.get_by_text("4.0 x fewer visual tokens").wait_for()
    take(tab, "phone")
    tab.open("Compare")
    run(tab, "Compare")
    assert tab.overflow <= 0
    assert tab.page.evaluate(CUT) == []
    assert tab.wrong == tab.foreign == []
    tab.context.close()
