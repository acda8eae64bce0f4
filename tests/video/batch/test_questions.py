"""Questions of a batch: what is read, and how bad rows are refused."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vtc.video.batch.matching.choices import correct, picked, prompt_of
from vtc.video.batch.matching.free_text import normal
from vtc.video.batch.questions import Question, grouped, read_questions

GOOD = {"id": "1", "video": "a.mp4", "question": "what?"}


def written(tmp_path, *rows, name="q.jsonl"):
    path = tmp_path / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_all_columns_of_jsonl(tmp_path):
    row = {**GOOD, "id": 7, "choices": ["red", "blue"], "start": 1, "end": 2.5, "answer": "A", "system": "be short"}
    (one,) = read_questions(written(tmp_path, {**row, "mark": [1]}))
    assert one == Question(
        "7", str(tmp_path / "a.mp4"), "what?", ("red", "blue"), 1.0, 2.5, "A", "be short", extra={"mark": [1]}
    )


def test_csv_and_parquet_say_the_same(tmp_path):
    path = tmp_path / "q.csv"
    path.write_text('id,image,question,choices,start,mark\n1,a.png,"what, then?","[""x"", ""y""]",,m\n')
    (one,) = read_questions(path)
    assert (one.question, one.choices, one.start, one.image) == ("what, then?", ("x", "y"), None, True)
    assert one.extra == {"mark": "m"}
    row = {"id": "1", "image": "a.png", "question": "what, then?", "choices": ["x", "y"], "start": None, "mark": "m"}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "q.parquet")
    assert read_questions(tmp_path / "q.parquet") == [one]


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ("{", "line 2 is no JSON"),
        ("[1]", "line 2 is a JSON list"),
        (GOOD, "line 2: id '1' was in line 1"),
        ({"id": "2", "question": "what?"}, "neither 'video' nor 'image' is there"),
        ({"id": "2", "video": "a.mp4", "image": "b.png", "question": "what?"}, "both 'video' and 'image' are there"),
        ({"id": "2", "video": "a.mp4"}, "column 'question' is missing"),
        ({"video": "a.mp4", "question": "what?"}, "the column 'id' is missing"),
        ({**GOOD, "id": "2", "video": "https://x.org/a.mp4"}, "--allow-urls"),
        ({**GOOD, "id": "2", "video": "s3://x/a.mp4"}, "neither a path nor"),
        ({**GOOD, "id": "2", "start": "soon"}, "start='soon'"),
        ({**GOOD, "id": "2", "end": "nan"}, "end='nan'"),
        ({**GOOD, "id": "2", "end": 10**400}, "expected seconds from 0"),
        ({**GOOD, "id": "2", "mark": float("nan")}, "line 2 holds what JSON"),
        ({**GOOD, "id": "2", "question": "\ud83d?"}, "line 2 holds what JSON.*half a character"),
        ('{"id": ' + "[" * 100_000, "line 2 is no JSON"),
        ({**GOOD, "id": "2", "video": "a\0.mp4"}, "holds a NUL"),
        ({**GOOD, "id": "2", "answer": ["red"]}, r"answer=\['red'\]"),
        ({**GOOD, "id": "2", "answer": " "}, "answer=' '"),
        ({**GOOD, "id": "2", "choices": ["red", "blue"], "answer": "green"}, "line 2: answer='green' is none of"),
        ({"id": "2", "image": "a.png", "question": "what?", "start": 1}, "an image has no stretch"),
        ({**GOOD, "id": "2", "error": 1, "input_error": 2}, "'error' is kept through as 'input_error'"),
        ({**GOOD, "id": "2", "choices": ["one"]}, "list of 2 to 26"),
        ({**GOOD, "id": "2", "choices": "red"}, "JSON list"),
        ({**GOOD, "id": "2", "choices": [None, "b"]}, "list of 2 to 26"),
        ({**GOOD, "id": "2", "question": 3}, "question=3"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, match):
    with pytest.raises(ValueError, match=match):
        read_questions(written(tmp_path, GOOD, row))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b'id,video,question\n1,a.mp4,"what?\n2,b.mp4,who?\n', "line 3 is no CSV.*is a quote left open"),
        (b"id,video,question,id\n1,a.mp4,what?,2\n", "the column 'id' is there twice"),
        (b"id,video,question\n1,a.mp4,caf\xe9?\n", "is not UTF-8"),
        ("id,video,question\n1,a.mp4,what?\n".encode("utf-16"), "is not UTF-8"),
        (b"id,video,question\n1,a.mp4," + b"x" * 200_000, "line 2 is no CSV.*field larger"),
        (b"id,video,question\n1,a.mp4\n", "line 2: expected 3 columns"),
    ],
)
def test_what_is_no_table(tmp_path, text, match):
    (tmp_path / "q.csv").write_bytes(text)
    with pytest.raises(ValueError, match=match):
        read_questions(tmp_path / "q.csv")


def test_what_is_missing_in_a_table_of_pandas(tmp_path):
    base = {"video": "a.mp4", "question": "what?"}
    rows = [{"id": 1.0, "start": 1.5, "mark": 2.0, **base}, {"id": 2.0, "start": float("nan"), **base}]
    rows[1]["mark"] = float("nan")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "q.parquet")
    first, second = read_questions(tmp_path / "q.parquet")
    assert (first.start, second.start) == (1.5, None)
    assert (first.extra, second.extra) == ({"mark": 2.0}, {"mark": None})
    base = {"id": ["1"], "video": ["a"], "question": ["?"]}
    pq.write_table(pa.table({**base, "when": pa.array([0], pa.timestamp("s"))}), tmp_path / "when.parquet")
    assert read_questions(tmp_path / "when.parquet")[0].extra == {"when": "1970-01-01T00:00:00"}
    pq.write_table(pa.table({**base, "raw": [b"x"]}), tmp_path / "raw.parquet")
    with pytest.raises(ValueError, match="line 1 holds what JSON"):
        read_questions(tmp_path / "raw.parquet")


def test_what_is_empty_is_not_given(tmp_path):
    assert read_questions(written(tmp_path, {**GOOD, "choices": []}))[0].choices == ()
    empty = {**GOOD, "choices": "", "answer": "", "start": "", "end": "", "system": "", "image": ""}
    assert read_questions(written(tmp_path, empty)) == read_questions(written(tmp_path, GOOD))
    (tmp_path / "q.csv").write_text("id,video,question\n1,a.mp4,what?\n,,\n")
    assert [q.id for q in read_questions(tmp_path / "q.csv")] == ["1"]


def test_an_empty_file_and_another_ending(tmp_path):
    with pytest.raises(ValueError, match="holds no questions"):
        read_questions(written(tmp_path))
    with pytest.raises(ValueError, match=r"'.txt' is none of"):
        read_questions(written(tmp_path, GOOD, name="q.txt"))
    with pytest.raises(FileNotFoundError):
        read_questions(tmp_path / "none.jsonl")


def test_media_stay_in_the_root(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (inside / "link.mp4").symlink_to(outside / "a.mp4")
    path = written(tmp_path, {**GOOD, "video": "sub/../a.mp4"})
    assert read_questions(path, root=inside)[0].medium == str(inside / "sub/../a.mp4")
    (inside / "loop.mp4").symlink_to(inside / "loop.mp4")
    for video in ("../out/a.mp4", str(outside / "a.mp4"), "link.mp4", "loop.mp4"):
        with pytest.raises(ValueError, match="lies outside root"):
            read_questions(written(tmp_path, {**GOOD, "video": video}), root=inside)


def test_urls_where_they_are_allowed(tmp_path):
    url = "https://x.org/a.mp4"
    assert read_questions(written(tmp_path, {**GOOD, "video": url}), allow_urls=True)[0].medium == url


def test_rows_of_one_medium_and_stretch_go_together():
    rows = [Question(str(i), "ab"[i % 2], "?", start=None if i < 4 else 1.0) for i in range(6)]
    assert [[q.id for q in group.questions] for group in grouped(rows)] == [["0", "2"], ["1", "3"], ["4"], ["5"]]


COLORS = ("red", "blue", "dark red")
BLUE = [
    "B",
    "b",
    "(b)",
    "B)",
    "[B]",
    '"B"',
    "B!",
    "**B**",
    "B. blue",
    "B - blue",
    "(B) blue",
    "Option B",
    "The answer is B",
]
BLUE += [
    "The correct answer is B.",
    "Answer: **B**",
    "Final answer: B",
    "B is correct",
    r"So \boxed{B}",
    r"\boxed{\text{B}}",
]
BLUE += ["B\nThe thing is not red.", "I see a red car, so the answer is B.", "B. It is blue, not red", "It's option B"]
BLUE += ["blue", "It is blue.", "**blue**", "color:blue", r"\boxed{blue}", "<b>blue</b>", "It is not red, it is blue."]


@pytest.mark.parametrize(
    ("answer", "choice"),
    [
        *((generation, "blue") for generation in BLUE),
        ("A", "red"),
        ("a", "red"),
        ("The answer is A because of its color", "red"),
        ("The answer is C", "dark red"),
        ("C is the answer, not red", "dark red"),
        ("Dark red!", "dark red"),
        ("It is dark red", "dark red"),
        ("a thing", None),
        ("A thing", None),
        ("The answer is a thing", None),
        ("red or blue", None),
        ("red, or rather dark red", None),
        ("It is not red.", None),
        ("A, B", None),
        ("D", None),
        ("", None),
    ],
)
def test_which_choice_an_answer_picks(answer, choice):
    assert picked(answer, COLORS) == choice


@pytest.mark.parametrize(
    ("answer", "choices", "choice"),
    [
        ("It is on the bottom left.", ("left", "bottom left"), "bottom left"),
        ("Yes, it is.", ("yes", "no"), "yes"),
        ("No, it is not.", ("yes", "no"), "no"),
        ("not sure", ("sure", "not sure"), "not sure"),
        ("There are 3 dogs.", ("2", "3"), "3"),
        ("3.0", ("1", "3"), "3"),
        ("+", ("+", "-"), "+"),
        ("A", ("B", "A"), "B"),  # asked for a letter, it says one
        ("The answer is A.", ("B", "A"), "B"),
    ],
)
def test_which_of_other_choices_an_answer_picks(answer, choices, choice):
    assert picked(answer, choices) == choice


def test_where_no_letters_were_shown_none_is_read():
    assert picked("A", ("B", "A"), listed=False) == "A"
    assert picked("B", ("red", "blue"), listed=False) is None


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("The T-shirt, is RED.", "t shirt is red", True),
        ("**red**", "red", True),
        ("50 %", "50%", True),
        ("50", "50%", False),
        ("3", "3.0", True),
        ("1,000", "1000", True),
        ("08", "8", False),
        (".5", "5", False),
        ("\u22125", "-5", True),
        ("\u20135", "5", False),
        ("5'", '5"', False),
        ("vitamin A", "vitamin", False),
        ("a_b", "b", False),
        ("cafe\u0301", "caf\u00e9", True),
        ("-", "+", False),
        ("a", "a", True),
    ],
)
def test_what_is_alike(one, other, alike):
    assert (normal(one) == normal(other)) is alike


SIGNS = ("5", "-5", "C", "C++", "a dog", "dog")


@pytest.mark.parametrize("text", SIGNS)
def test_choices_that_differ_by_a_sign_are_told_apart(text):
    assert picked(text, SIGNS, listed=False) == text
    assert picked(text, SIGNS) == text
    assert correct(text, text, Question("1", "a", "?", SIGNS, answer=text)) is True
    free = Question("1", "a", "?", answer=text)
    assert [one for one in SIGNS if correct(one, None, free)] == (list(SIGNS[4:]) if "dog" in text else [text])


def test_what_is_right():
    free = Question("1", "a", "?", answer="The red ball")
    assert correct("red ball.", None, free) is True
    assert correct("blue ball", None, free) is False
    assert correct("x", None, Question("1", "a", "?")) is None
    listed = Question("1", "a", "what?", ("red", "blue"), answer="b")
    assert correct("B", "blue", listed) is True
    assert correct("B", None, listed) is False
    assert prompt_of(listed).splitlines()[:3] == ["what?", "A. red", "B. blue"]
    assert prompt_of(listed, listed=False) == "what?"
    for text in ("b", "(B)", "B. blue", "(B) blue", "blue", "Blue."):
        assert correct("B", "blue", Question("1", "a", "?", ("red", "blue"), answer=text)) is True
    assert correct("2", "2", Question("1", "a", "?", ("1", "2"), answer="2.0")) is True
    with pytest.raises(ValueError, match="more than one of choices"):
        correct("red", "red", Question("1", "a", "?", ("red", "red"), answer="red"))
    with pytest.raises(ValueError, match="none of choices"):
        correct("B", "blue", Question("1", "a", "?", ("red", "blue"), answer="green"))
