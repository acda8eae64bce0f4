"""The page in a real browser: what a visitor does, sees and is told. VTC_SCREENSHOTS=docs writes its images there."""

from __future__ import annotations

import json
import re
import time

import pytest
from playwright.sync_api import TimeoutError as Late

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

FULL, SHORT, KEPT = "Answer from all tokens", "Answer from the tokens kept", "Visual tokens kept"
BEYOND = """() => [...document.querySelectorAll('[role=tabpanel] *')].filter(part => {
  const box = part.getBoundingClientRect()
  if (!part.checkVisibility() || box.width < 2 || box.height < 2 || box.right <= innerWidth + 1) return false
  for (let around = part.parentElement; around; around = around.parentElement)
    if (['auto', 'scroll'].includes(getComputedStyle(around).overflowX) && around !== document.body) return false
  return true
}).map(part => part.id || `${part.tagName}.${part.className}`)"""

IN_VIEW = """name => {
  const box = document.querySelector(name).getBoundingClientRect()
  return box.top > -1 && box.bottom <= innerHeight
}"""
CUT = """() => [...document.querySelectorAll('.vtc-table .table-wrap, .vtc-table table')].filter(
  part => part.checkVisibility() && part.scrollWidth > part.parentElement.clientWidth + 1
).map(part => `${part.className}: ${part.scrollWidth} in ${part.parentElement.clientWidth}`)"""
"""Tables that reach beyond what is around them."""
LEFT = """() => document.querySelector('#timeline img').getBoundingClientRect().left
  - document.querySelector('#timeline').getBoundingClientRect().left"""
"""Pixels from the left edge to the timeline, which could not be scrolled to were they fewer than 0."""

PATIENCE = (5_000, 10_000, 20_000, 60_000)
"""Milliseconds until files are chosen again."""


class Tab:
    """A browser tab with the page, which notes all that goes wrong in it."""

    def __init__(self, browser, url, size=WIDE, scheme="light"):
        self.context = browser.new_context(viewport=size, color_scheme=scheme)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)  # of a busy machine; an idle one needs few seconds
        self.wrong, self.foreign = [], []
        self.page.on("console", lambda m: self.wrong.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda r: self._note(r.url, url))
        self.page.goto(url)
        self.button("Ask").wait_for()

    def _note(self, asked, url):
        if not asked.startswith((url, "data:", "blob:")):
            self.foreign.append(asked)

    def button(self, name):
        return self.page.get_by_role("button", name=name, exact=True).locator("visible=true")

    def box(self, label):
        return self.page.get_by_label(label, exact=True).locator("visible=true")

    def open(self, name):
        """Another tab of the page, until the one before is gone: what is meant for the new one would find it else."""
        before = self.page.get_by_role("tabpanel").locator("visible=true").first.element_handle()
        self.page.get_by_role("tab", name=name, exact=True).click()
        before.wait_for_element_state("hidden")

    @property
    def panel(self):
        return self.page.get_by_role("tabpanel").locator("visible=true")

    @property
    def remover(self):
        return self.panel.get_by_role("button", name=re.compile("^(Clear|Remove Image)$")).locator("visible=true")

    def clear(self):
        """Takes the example away that the tab opens with, and waits until the page knows."""
        self.remover.first.click()
        if self.box(KEPT).count():
            self.wait(KEPT, "")

    def upload(self, *paths):
        for patience in PATIENCE:
            if self.remover.count():
                self.clear()
            if self._taken(self.panel.locator("input[type=file]").first, patience, *paths):
                return
        raise AssertionError(f"{paths} were never uploaded")

    def put(self, field, *paths):
        """Chooses files, again where the page did not listen yet: a visitor is never so quick."""
        if not any(self._taken(field, patience, *paths) for patience in PATIENCE):
            raise AssertionError(f"{paths} were never uploaded")

    def _taken(self, field, patience, *paths):
        """Return whether files that are chosen are sent within so many milliseconds."""
        try:
            with self.page.expect_response(lambda answer: "/upload" in answer.url, timeout=patience):
                field.set_input_files([str(path) for path in paths], timeout=patience)
        except Late:
            return False
        return True

    def wait(self, label, wanted):
        """Until the box says what is wanted; the page's own function, so that nothing sleeps."""
        self.box(label).first.wait_for()
        self.page.wait_for_function(
            "([element, wanted]) => wanted === null ? element.value !== '' : element.value === wanted",
            arg=[self.box(label).first.element_handle(), wanted],
        )
        return self.box(label).first.input_value()

    @property
    def overflow(self):
        """Pixels by which the page can be scrolled sideways."""
        return self.page.evaluate("document.documentElement.scrollWidth - innerWidth")

    @property
    def beyond(self):
        """What is seen in no way: it reaches over the right edge, and nothing around it scrolls."""
        return self.page.evaluate(BEYOND)


@pytest.fixture
def opened(browser, url):
    """Opens tabs; behind the test none of them may have logged an error or asked another host for anything."""
    tabs = []

    def open_tab(*args, **kwargs):
        tabs.append(Tab(browser, url, *args, **kwargs))
        return tabs[-1]

    yield open_tab
    for tab in tabs:
        tab.context.close()
    assert [tab.wrong for tab in tabs] == [[]] * len(tabs)
    assert [tab.foreign for tab in tabs] == [[]] * len(tabs)


def test_the_page_opens_one_click_from_an_answer(opened):
    tab = opened()
    assert tab.box("Question").input_value() == "what does the plate say?"
    assert tab.box(KEPT).input_value() == "49"
    tab.button("Ask").click()
    assert tab.wait(SHORT, "8t")
    tab.page.get_by_text("fewer visual tokens").locator("visible=true").last.wait_for()


def test_an_image_is_asked_about_and_shows_two_answers_and_an_overlay(opened, image):
    tab = opened()
    tab.upload(image)
    assert tab.wait(KEPT, "49")
    tab.button("Ask").click()
    assert tab.wait(FULL, "8t")
    assert tab.wait(SHORT, "8t")
    tab.panel.get_by_text("All numbers").click()
    tab.page.get_by_text("KV cache of the prompt").locator("visible=true").first.wait_for()
    before_after = tab.page.get_by_test_id("imageslider").or_(tab.page.locator(".slider-wrap")).locator("img")
    before_after.first.wait_for()
    assert before_after.count() >= 2


def test_the_slider_moves_the_number_kept_before_any_run(opened, image):
    tab = opened()
    tab.upload(image)
    tab.wait(KEPT, "49")
    tab.box("number input for Keep").fill("0.5")
    tab.box("number input for Keep").press("Enter")
    assert tab.wait(KEPT, "98")
    tab.box("range slider for Keep").focus()
    tab.page.keyboard.press("End")
    assert tab.wait(KEPT, "196")
    assert tab.box(FULL).input_value() == ""


def ask_about_a_video(tab, video):
    """Until its timeline is there."""
    tab.open("Video")
    tab.upload(video)
    tab.wait(KEPT, "36")
    tab.button("Ask").click()
    tab.wait(SHORT, None)
    tab.page.locator("#timeline img").wait_for()


def compare(tab, image):
    """Until table and both charts are there."""
    tab.open("Compare")
    tab.upload(image)
    tab.page.get_by_text("scene1").locator("visible=true").first.wait_for()
    tab.button("Compare").click()
    tab.page.get_by_role("gridcell").or_(tab.page.get_by_role("cell")).get_by_text("resize").first.wait_for()
    tab.page.locator(".vega-embed, svg.marks, canvas").locator("visible=true").nth(1).wait_for()


def answer_a_batch(tab, image, video, folder):
    """Until its answers can be downloaded."""
    rows = [{"id": "1", "video": video.name, "question": "what is there at the end?"}]
    rows += [{"id": "2", "image": image.name, "question": "what is in the picture?"}]
    questions = folder / "questions.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tab.open("Batch")
    for name in ("questions", "media"):  # both hold the examples at first
        tab.page.locator(f"#{name}").get_by_role("button", name="Clear", exact=True).click()
    tab.put(tab.page.locator("#questions input[type=file]"), questions)
    tab.put(tab.page.locator("#media input[type=file]"), image, video)
    tab.page.locator("#media").get_by_text("scene1").first.wait_for()
    tab.button("Start").click()
    tab.page.locator("#answers").get_by_text("answers").first.wait_for()
    tab.page.locator("#batch-state").get_by_text("2 rows, 2 answered").wait_for()
    tab.page.locator("#batch-rows").get_by_text("what is in the picture?").first.wait_for()


def test_a_video_shows_its_timeline_and_a_click_moves_the_player(opened, video):
    tab = opened()
    ask_about_a_video(tab, video)
    image = tab.page.locator("#timeline img")
    player = tab.page.locator("#player video")
    assert player.evaluate("video => video.currentTime") == 0
    size = image.bounding_box()
    image.click(position={"x": size["width"] * (128 + (1328 - 128) * 0.5) / 1360, "y": size["height"] * 0.2})
    tab.page.wait_for_function("Math.abs(document.querySelector('#player video').currentTime - 2) < 0.1")


def test_recipes_are_compared_in_a_table_and_charts(opened, image):
    tab = opened()
    compare(tab, image)


def test_a_broken_file_shows_a_readable_message(opened, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    tab = opened()
    tab.upload(broken)
    tab.page.get_by_text(re.compile(r"broken\.png is broken or cut short")).first.wait_for()
    assert tab.page.get_by_text("/tmp/").count() == 0


def test_asking_about_nothing_says_what_to_do(opened):
    tab = opened()
    tab.clear()
    tab.button("Ask").click()
    tab.page.get_by_text("no image was given; upload one first").first.wait_for()
    tab.button("Ask").wait_for()  # and it can be asked again


def test_a_batch_is_answered_and_downloaded(opened, image, video, tmp_path):
    tab = opened()
    answer_a_batch(tab, image, video, tmp_path)


@pytest.fixture
def endless(state, monkeypatch):
    """Answers do not end by themselves, and every token takes a while."""
    model = state.image_model.model
    stock = model.prepare_inputs_for_generation

    def slow(*args, **kwargs):
        time.sleep(0.2)
        return stock(*args, **kwargs)

    monkeypatch.setattr(model.generation_config, "eos_token_id", None)
    model.prepare_inputs_for_generation = slow
    yield
    del model.prepare_inputs_for_generation


def test_stop_ends_an_answer_and_the_next_one_comes(opened, image, endless):
    tab = opened()
    tab.upload(image)
    tab.wait(KEPT, "49")
    tab.box("number input for Longest answer").fill("512")
    tab.box("number input for Longest answer").press("Enter")
    tab.button("Ask").click()
    tab.wait(FULL, None)
    tab.button("Stop").click()
    tab.page.get_by_text("stopped").locator("visible=true").first.wait_for()
    assert tab.box(SHORT).input_value() == ""
    tab.box("number input for Longest answer").fill("2")
    tab.box("number input for Longest answer").press("Enter")
    # While the first answer is ending the page takes no second question, so that a click may have to be repeated.
    for _ in range(20):
        tab.button("Ask").click()
        tab.page.wait_for_timeout(3000)
        if tab.box(SHORT).input_value():
            break
    tab.wait(SHORT, None)


def test_enter_while_an_answer_is_coming_asks_nothing_further(opened, image, endless):
    tab = opened()
    tab.upload(image)
    tab.wait(KEPT, "49")
    tab.box("number input for Longest answer").fill("10")
    tab.box("number input for Longest answer").press("Enter")
    tab.box("Question").press("Enter")
    busy = tab.button("Answering ...")
    busy.wait_for()
    assert busy.is_disabled()
    tab.box("Question").press("Enter")
    tab.wait(SHORT, None)
    tab.button("Ask").wait_for()
    said = tab.box(SHORT).input_value()
    tab.page.wait_for_timeout(3000)
    assert tab.button("Ask").is_enabled()
    assert tab.box(SHORT).input_value() == said  # a second answer would have begun again


def test_two_tabs_do_not_mix(opened, image):
    one, two = opened(), opened()
    for tab, keep in ((one, "0.25"), (two, "0.5")):
        tab.upload(image if tab is one else image.with_name("scene2.png"))
        tab.wait("of all", "196")
        tab.box("number input for Keep").fill(keep)
        tab.box("number input for Keep").press("Enter")
    assert one.wait(KEPT, "49")
    assert two.wait(KEPT, "98")
    one.button("Ask").click()
    two.button("Ask").click()
    for tab, kept in ((one, "49"), (two, "98")):
        tab.wait(SHORT, None)
        tab.panel.get_by_text("All numbers").click()
        tab.page.get_by_role("gridcell").or_(tab.page.get_by_role("cell")).get_by_text(
            kept, exact=True
        ).first.wait_for()
    assert one.box(FULL).input_value() == "8t"
    assert two.box(FULL).input_value() != "8t"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_down_alone(opened, image, scheme):
    tab = opened(PHONE, scheme)
    tab.upload(image)
    tab.wait(KEPT, "49")
    tab.button("Ask").click()
    tab.wait(SHORT, "8t")
    tab.page.locator(".slider-wrap img").or_(tab.page.get_by_test_id("imageslider")).first.wait_for()
    assert tab.overflow <= 0
    tab.page.wait_for_function(IN_VIEW, arg="#image-answers")
    for name, button in (("Video", "Ask"), ("Compare", "Compare"), ("Batch", "Start")):
        tab.open(name)
        tab.button(button).wait_for()
        assert tab.overflow <= 0, name
    dark = tab.page.evaluate("document.body.classList.contains('dark')")
    assert dark == (scheme == "dark")


@pytest.mark.parametrize("name", ["Video", "Compare", "Batch"])
def test_a_phone_scrolls_down_alone_with_results(opened, image, video, tmp_path, name):
    tab = opened(PHONE)
    if name == "Video":
        ask_about_a_video(tab, video)
    elif name == "Compare":
        compare(tab, image)
    else:
        answer_a_batch(tab, image, video, tmp_path)
    assert tab.overflow <= 0
    assert tab.beyond == []
    assert tab.page.evaluate(CUT) == []
    if name == "Video":
        assert tab.page.evaluate(LEFT) >= 0
    columns = tab.page.locator("[role=tabpanel] .row > .column").locator("visible=true").all()
    assert len(columns) == 2
    assert min(column.bounding_box()["width"] for column in columns) > 300  # one under the other
    widen = "panel => panel.insertAdjacentHTML('beforeend', '<p id=wide style=\"width: 600px\">wide</p>')"
    tab.page.get_by_role("tabpanel").locator("visible=true").evaluate(widen)
    assert tab.overflow > 0 or tab.beyond == ["wide"]
