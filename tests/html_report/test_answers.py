"""`vtc report` on answers: what it counts, which rows it shows, and that it trusts none of their words."""

from __future__ import annotations

import json
import re
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from tests.pages import Page
from vtc.cli.main import app
from vtc.embedded.samples import samples
from vtc.embedded.video import HELD_OUT, Video
from vtc.html_report import write_report
from vtc.html_report.answers_summary import error_kind, summarize
from vtc.html_report.html import cleaned
from vtc.html_report.page_model import Example, Figure, Section, laid_out
from vtc.video.batch.parquet import write_parquet

EVIL = '</script></style><script>alert(1)</script><img src=x onerror=alert(2)>"\' onload="x" &amp; \u202eabc'


def row(id: str, **more):
    spent = {"read": 0.5, "segment": 0, "encode": 0.25, "reduce": 0.0, "prefill": 0.125, "decode": 1.0}
    plain = {
        "id": id,
        "answer": "red",
        "error": None,
        "tokens_full": 200,
        "tokens_kept": 50,
        "seconds": spent,
        "recipe": "kcenter",
        "fingerprint": "abc123",
        "versions": {"vtc": "0.1.0", "torch": "2.14.1"},
        "seed": 0,
    }
    return plain | more


def broken(id: str, error: str, **more):
    spent = dict.fromkeys(("read", "decode"))
    return row(id, answer=None, error=error, tokens_full=0, tokens_kept=0, seconds=spent) | more


def write(path, rows, end: str = ""):
    path.write_text("".join(json.dumps(one) + "\n" for one in rows) + end, encoding="utf-8")
    return path


def page(tmp_path, rows, end: str = "", **options) -> Page:
    return Page.read(write_report(write(tmp_path / "a.jsonl", rows, end), tmp_path / "out.html", **options))


MIXED = [
    row("r0", correct=True),
    row("w0", answer="blue", correct=False),
    broken("e0", "ValueError: f3.mp4 is broken"),
    row("r1", correct=True),
    broken("e1", "TimeoutError: 60 s"),
    row("w1", answer="green", correct=False),
    broken("e2", "ValueError: f9.mp4 is broken"),
    row("n0"),
]


# What is counted


def test_what_the_rows_come_to(tmp_path):
    text = page(tmp_path, MIXED).text
    assert "8 rows" in text
    assert "3 (38%) errors" in text
    assert "50.0 % right, of those known" in text
    assert "75% visual tokens saved" in text
    assert "250 of 1000 tokens kept" in text
    assert "50.0 of 4" in text
    assert "200.0 50.0 75%" in text
    assert "ValueError 2 TimeoutError 1" in text
    assert "9.38 seconds in all stages" in text  # five rows of 1.875 seconds
    assert {"read", "0.5000", "decode", "1.0000", "prefill", "0.1250"} <= set(text.split())
    assert re.search(r"vtc 0\.1\.0, torch 2\.14\.1\. Seeds: 0\. .*abc123", text)


def test_each_recipe_has_its_line_and_its_point(tmp_path):
    other = [row(f"o{i}", recipe="random", tokens_kept=20, correct=i % 4 == 0) for i in range(8)]
    found = page(tmp_path, [*MIXED, *other])
    assert found.count("svg") == 3  # the curve, and two lines of its key
    titles = re.findall(r"(\w+): ([\d.]+) % with ([\d.]+) % of the tokens", found.text)
    assert titles == [("kcenter", "50.0", "25.0"), ("random", "25.0", "10.0")]
    assert "random 8 0 25.0 of 8" in found.text


def test_without_true_answers_there_is_no_curve_and_no_score(tmp_path):
    found = page(tmp_path, [row("a"), row("b")])
    assert found.count("svg") == 0
    assert "right, of those known" not in found.text


def test_without_matplotlib_the_page_says_what_the_curve_needs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    found = page(tmp_path, [*MIXED, row("o", recipe="random", correct=True)])
    assert found.count("svg") == 0
    assert "the curve needs matplotlib: pip install matplotlib" in found.text
    assert "matplotlib" not in page(tmp_path, MIXED).text, "of one recipe there is no curve anyway"


def test_keeps_of_one_recipe_are_told_apart(tmp_path):
    rows = [row("a", keep=0.25, correct=True), row("a", keep=64, correct=False)]
    assert "kcenter, keep 0.25 1" in page(tmp_path, rows).text
    assert list(summarize(tmp_path / "a.jsonl", 1).tallies) == ["kcenter, keep 0.25", "kcenter, keep 64"]


def test_intervals_resample_media_and_not_questions(tmp_path):
    """Five questions about one medium are as one: of four media all may be right, of twenty hardly."""
    rows = [row(f"{medium}{i}", video=medium, correct=medium in "ab") for medium in "abcd" for i in range(5)]
    tally = summarize(write(tmp_path / "a.jsonl", rows), 1).tallies["kcenter"]
    assert tally.outcome == [(scene, scene < 2) for scene in range(4) for _ in range(5)]
    assert "50.0 of 20 0.0 to 100.0" in page(tmp_path, rows).text
    alone = [{**one, "video": one["id"]} for one in rows]
    assert re.search(r"50\.0 of 20 [23]\d\.0 to [78]\d\.0", page(tmp_path, alone).text)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("ValueError: clip_3.mp4 is broken", "ValueError"),
        ("torch.OutOfMemoryError: tried 3 GiB", "torch.OutOfMemoryError"),
        ("subprocess.TimeoutExpired after 3 s", "subprocess.TimeoutExpired"),
        ("frame 12 of /data/a.mp4 cannot be read", "frame … of … cannot be read"),
        ("frame 7 of /data/b.mp4 cannot be read", "frame … of … cannot be read"),
        ({"kind": "timeout", "message": "60 s"}, "timeout"),
        ({"message": "OSError: gone"}, "OSError"),
        ("Stuck: no sign of life for 60 s", "Stuck"),
        ("MemoryError", "MemoryError"),
        ("", "without words"),
    ],
)
def test_kinds_of_errors(error, kind):
    assert error_kind(error) == kind


# Which rows are shown


def test_errors_then_wrong_answers_then_the_rest(tmp_path):
    assert page(tmp_path, MIXED).ids == ["e0", "e1", "e2", "w0", "w1", "r0", "r1", "n0"]


def test_of_few_examples_each_kind_is_among_them(tmp_path):
    """One error of each kind before a second of any, and errors leave room for wrong answers."""
    rows = [*(broken(f"v{i}", f"ValueError: {i}") for i in range(50)), *MIXED]
    assert page(tmp_path, rows, examples=6).ids == ["v0", "e1", "v1", "w0", "w1", "r0"]
    assert page(tmp_path, rows, examples=0).ids == []


@given(st.lists(st.sampled_from("ewr"), min_size=1, max_size=30), st.integers(0, 12))
def test_as_many_as_can_be_shown_are_in_their_order(tmp_path_factory, states, examples):
    rows = [
        broken(f"{i}", "OSError: x") if state == "e" else row(f"{i}", correct=state == "r")
        for i, state in enumerate(states)
    ]
    path = write(tmp_path_factory.mktemp("rows") / "a.jsonl", rows)
    found = summarize(path, examples).worst
    assert len(found) == min(examples, len(states))
    ranks = ["ewr".index(states[int(one["id"])]) for _, one in found]
    assert ranks == sorted(ranks)
    assert all(one == rows[number - 1] for number, one in found)
    if examples >= 3:
        assert {states[int(one["id"])] for _, one in found} >= set(states)


def test_a_huge_file_is_read_in_little_memory(tmp_path):
    path = tmp_path / "a.jsonl"
    with path.open("w") as file:
        for i in range(20_000):
            file.write(json.dumps(row(f"q{i}", note="x" * 500, fingerprint="f")) + "\n")
    tracemalloc.start()
    found = summarize(path, 5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(tally.rows for tally in found.tallies.values()) == 20_000
    assert len(found.worst) == 5
    assert peak < 0.5 * path.stat().st_size


# Bad input


def command(*args: object):
    result = CliRunner().invoke(app, ["report", *map(str, args)], env={"COLUMNS": "300"})
    result.error = " ".join(result.stderr.split())
    return result


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("none.jsonl", None, "none.jsonl: no such file; pass the answers"),
        ("a.jsonl", "", "is empty (0 bytes)"),
        ("a.jsonl", "\n\n", "holds no whole answer"),
        ("a.jsonl", '{"id": "a", "ans', "holds no whole answer"),
        ("a.jsonl", '{"id": "a", "answer": "b"}\n{"key": "a', "line 2 is no JSON"),
        ("a.jsonl", '{"id": "a"}\n', "line 1 is no answer"),
        (
            "a.jsonl",
            '{"id": "a", "video": "v", "question": "?", "answer": "b"}\n',
            "line 1 is no answer: it is a question",
        ),
        ("a.jsonl", '{"id": "a", "answer": "b"}\n[1]\n', "line 2 is no answer"),
        ("a.jsonl", '{"id": "a", "answer": "b"}\n{"id"\n{"id": "c", "answer": "b"}\n', "line 2 is no JSON"),
        ("a.jsonl", '{"id": "a", "answer": "b", "tokens_full": "x", "tokens_kept": 1}', "tokens_full='x'; expected a"),
        ("a.jsonl", '{"id": "a", "answer": "b", "tokens_full": NaN}', "tokens_full=nan"),
        ("a.jsonl", '{"id": "a", "answer": "b", "seconds": [1]}', "seconds=[1]; expected an object"),
        ("a.parquet", "no table", "is no Parquet file"),
        ("a.json", "{}", "holds neither answers nor a benchmark"),
        ("a.jsonl", "\x89PNG\r\n", "line 1 is no"),
    ],
)
def test_what_is_no_answers_is_refused(tmp_path, name, text, words):
    if text is not None:
        (tmp_path / name).write_text(text)
    result = command(tmp_path / name, "--out", tmp_path / "out.html")
    assert result.exit_code == 1
    assert words in result.error
    assert not (tmp_path / "out.html").exists()


def test_a_table_of_answers_gives_the_same_page(tmp_path):
    rows = [one | {"recipe": {"name": "kcenter", "keep": 0.25}} for one in MIXED]
    lines = page(tmp_path, rows).text
    write_parquet(rows, tmp_path / "a.parquet")
    table = Page.read(write_report(tmp_path / "a.parquet", tmp_path / "out.html")).text
    assert table.replace("a.parquet", "a.jsonl") == lines


def test_folders_and_places_that_do_not_fit_are_refused(tmp_path):
    answers = write(tmp_path / "a.jsonl", [row("a")])
    for source, out, words in (
        (tmp_path, "o.html", "is a folder without quality.json"),
        (answers, "o.pdf", "a page ends in .html"),
        (answers, "no/o.html", "make the folder first"),
    ):
        result = command(source, "--out", tmp_path / out)
        assert (result.exit_code, words in result.error) == (1, True), result.error
    with pytest.raises(ValueError, match="--examples -1"):
        write_report(answers, tmp_path / "o.html", examples=-1)
    again = answers.rename(tmp_path / "a.html")
    with pytest.raises(ValueError, match="is what is read"):
        write_report(again, again)


def test_a_torn_last_line_is_left_out_and_said(tmp_path):
    found = page(tmp_path, MIXED[:2], end='{"id": "half", "answ')
    assert "2 rows" in found.text
    assert "The last line is torn" in found.text
    assert "torn" not in page(tmp_path, MIXED[:2]).text


def test_an_id_answered_twice_is_said(tmp_path):
    assert "1 rows answer an id that had its answer before" in page(tmp_path, [row("a"), row("a")]).text


# Words of others


def test_no_word_of_a_row_becomes_markup(tmp_path):
    evil = row(EVIL, answer=EVIL, question=EVIL, recipe=EVIL, fingerprint=EVIL, versions={EVIL: EVIL}, seed=EVIL)
    rows = [evil | {"correct": False, "seconds": {EVIL: 1}, "video": EVIL}, broken("e", f"ValueError: {EVIL}")]
    found = page(tmp_path, [*rows, broken("f", EVIL)], title=EVIL)
    assert found.asks_for() == []
    assert found.text.count("<script>alert(1)</script>") > 8
    assert found.ids[2] == EVIL


def test_the_reader_of_pages_sees_what_would_run():
    assert Page.of(f"<p>{'<b onclick=x>y</b><script></script>'}</p>").asks_for() == ["script", "b onclick"]
    assert Page.of('<img src="http://x/y.png">').asks_for() == ["img src=http://x/y.png"]
    with pytest.raises(AssertionError, match="closes"):
        Page.of("<p><b></p>")


def everywhere(text: str) -> str:
    """A page with `text` wherever one can stand."""
    image = Image.new("RGB", (8, 8))
    figures = [lambda: Figure(image, text), lambda: Figure(None, text)]
    examples = [Example("right", text, [(text, text)], figure) for figure in figures]
    return laid_out(
        text, [text], [Section(text, [text], [(text, text)], None, [(text, [text], [[text, text]])], examples)]
    )


@given(st.text())
@example('" onload="x')
@example(EVIL)
@example("{{ 7 * 7 }}{% for x in y %}{# #}")
@example("\x00\ud800\x9f\ufffe")
def test_any_text_is_text(text):
    found, plain = Page.of(everywhere(text)), Page.of(everywhere("x"))
    assert found.asks_for() == []
    held, as_held = ([(name, {*own} - {"class"}) for name, own in one.tags] for one in (found, plain))
    assert held == as_held
    assert " ".join(found.texts).count(cleaned(text).strip()) >= 17
    (alt,) = (held["alt"] for name, held in found.tags if name == "img")
    assert alt.splitlines() == cleaned(text).splitlines()
    everywhere(text).encode("utf-8")


def test_half_characters_and_controls_can_be_written(tmp_path):
    text = page(tmp_path, [row("a", answer="\ud800 \x00 \x1b[31m")]).text
    assert "\ufffd \ufffd \ufffd[31m" in text
    assert cleaned("a\tb\n") == "a\tb\n"


def test_long_words_are_cut_and_it_is_said(tmp_path):
    found = page(tmp_path, [row("a", answer="word " * 100_000)])
    assert "(498000 more characters)" in found.text
    assert (tmp_path / "out.html").stat().st_size < 40_000


def test_a_page_forbids_itself_all_but_its_own_images(tmp_path):
    found = page(tmp_path, MIXED)
    policy = next(a["content"] for name, a in found.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert any(a.get("name") == "viewport" for _, a in found.tags)
    assert "prefers-color-scheme: dark" in (tmp_path / "out.html").read_text()


# Images


def images(found: Page) -> list[str]:
    return [attributes["src"] for name, attributes in found.tags if name == "img"]


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """An image and a video beside a file of questions."""
    folder = tmp_path_factory.mktemp("media")
    sample, video = samples()[0], Video(HELD_OUT + 34)
    Image.open(sample.path).save(folder / "a.png")
    video.save(folder / "b.mp4")
    asked = [
        {"id": "p", "image": "a.png", "question": sample.question, "answer": sample.answer},
        {"id": "v", "video": "b.mp4", "question": video.questions[0].question, "answer": "x"},
        {"id": "gone", "video": "c.mp4", "question": "where?", "answer": "x"},
        {"id": "url", "video": "https://example.org/d.mp4", "question": "where?", "answer": "x"},
        {"id": "bad", "image": "e.png", "question": "where?", "answer": "x"},
    ]
    (folder / "e.png").write_bytes(b"no image")
    write(folder / "q.jsonl", asked)
    return folder


def test_a_medium_is_shown_once_with_its_questions_under_it(tmp_path, media):
    rows = [row("v"), row("p"), row("w", correct=False), row("x", recipe="random")]
    asked = [{"id": name, "video": "b.mp4", "question": f"{name}?"} for name in "vwx"]
    questions = write(media / "more.jsonl", [*asked, {"id": "p", "image": "a.png", "question": "p?"}])
    found = page(tmp_path, rows, questions=questions)
    assert found.ids == ["w", "v", "p", "x"]
    assert [sum(f"{name}?" in part for part in article for name in "vwpx") for article in found.articles] == [2, 1, 1]
    assert len(images(found)) == 3, "another recipe keeps other tokens"


def test_media_are_shown_or_it_is_said_why_not(tmp_path, media):
    rows = [row(name, frames=[0.0, 0.5, 1.0]) for name in ("p", "v", "gone", "url", "bad")]
    found = page(tmp_path, rows, questions=media / "q.jsonl")
    assert len(images(found)) == 2
    assert all(src.startswith("data:image/jpeg;base64,") for src in images(found))
    by_id = {name: " ".join(article) for name, article in zip(found.ids, found.articles, strict=True)}
    assert "pass --model to draw what is kept" in by_id["p"]
    assert "b.mp4, frames that the run saw" in by_id["v"]
    assert "c.mp4 is not there any more" in by_id["gone"]
    assert "nothing is fetched for a page" in by_id["url"]
    assert "e.png cannot be shown" in by_id["bad"]
    assert found.asks_for() == []


def test_without_questions_a_row_says_that_it_names_no_medium(tmp_path, media):
    assert "the row names no medium; pass --questions" in page(tmp_path, [row("p")]).text
    with pytest.raises(ValueError, match=r"--questions .*q\.jsonl holds none .*'zz'"):
        page(tmp_path, [row("zz")], questions=media / "q.jsonl")
    with pytest.raises(FileNotFoundError, match=r"--questions .*none\.jsonl: no such file"):
        page(tmp_path, [row("p")], questions=media / "none.jsonl")


def test_questions_may_be_a_table(tmp_path, media):
    (tmp_path / "q.csv").write_text(f"id,image,question\np,{media / 'a.png'},how many?\n")
    found = page(tmp_path, [row("p")], questions=tmp_path / "q.csv")
    assert len(images(found)) == 1
    assert "how many?" in found.text


def test_what_was_kept_is_drawn_by_the_model(tmp_path, media):
    rows = [row("p", keep=0.25), row("v", recipe={"name": "video", "keep": 0.25})]
    plain = images(page(tmp_path, rows, questions=media / "q.jsonl"))
    found = page(tmp_path, rows[:1], questions=media / "q.jsonl", model="tiny-llava")
    assert "kcenter, keep 0.25: 49 of 196 tokens" in found.text
    video = page(tmp_path, rows[1:], questions=media / "q.jsonl", model="tiny-qwen")
    assert re.search(r"video, keep \d+: \d+ of \d+ tokens", video.text)
    drawn = [*images(found), *images(video)]
    assert len({*plain, *drawn}) == 4


def test_where_another_number_is_drawn_than_was_kept_it_is_said(tmp_path, media):
    some = [row("p", keep=0.25, tokens_full=196, tokens_kept=kept) for kept in (49, 98)]
    texts = [page(tmp_path, [one], questions=media / "q.jsonl", model="tiny-llava").text for one in some]
    assert ["the run kept 98" in text for text in texts] == [False, True]
    assert "the run kept" not in texts[0]


def test_media_are_found_from_here_and_from_beside_the_questions(tmp_path, media, monkeypatch):
    """Rows of `vtc batch` name them as it was given them, relative to where it ran."""
    sample = samples()[0]
    rows = [row("x", image=f"{media.name}/a.png", question=sample.question)]
    assert len(images(page(tmp_path, rows))) == 0
    monkeypatch.chdir(media.parent)
    assert len(images(page(tmp_path, rows))) == 1


def test_a_model_that_cannot_draw_is_said(tmp_path, media):
    rows = [row("p", recipe="no-such-recipe")]
    found = page(tmp_path, rows, questions=media / "q.jsonl", model="tiny-llava")
    assert "kept parts are not drawn: unknown recipe 'no-such-recipe'" in found.text
    found = page(tmp_path, [row("p")], questions=media / "q.jsonl", model="./no-such-model")
    assert "kept parts are not drawn" in found.text
    assert len(images(found)) == 1


def test_large_images_are_scaled_down(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (1500, 2500, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "big.png")
    page(tmp_path, [row("a", image="big.png")])
    assert (tmp_path / "out.html").stat().st_size < 1_500_000


def test_the_command_writes_the_page_and_says_so(tmp_path):
    answers = write(tmp_path / "a.jsonl", MIXED)
    result = command(answers, "--out", tmp_path / "p.html", "--examples", 2, "--title", "My run", "--no-overlays")
    assert (result.exit_code, result.error) == (0, "")
    assert re.search(r"written: .*p\.html \(0\.\d+ MiB, one file, needs no network\)", " ".join(result.stdout.split()))
    found = Page.read(tmp_path / "p.html")
    assert len(found.articles) == 2
    assert "My run" in found.text
