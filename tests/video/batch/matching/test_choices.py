"""Choices: which one an answer picks, rule by rule and as models write, and how options are put and lettered."""

from __future__ import annotations

import pytest

from vtc.video.batch.matching.answer_text import final_text
from vtc.video.batch.matching.choices import correct, picked, prompt_of
from vtc.video.batch.matching.labels import Labels
from vtc.video.batch.matching.letter_rules import DENIES, LISTS, RULES
from vtc.video.batch.matching.statements import letter_statement
from vtc.video.batch.questions import Question

COLORS = ("red", "green", "blue", "yellow")
ROWS = {
    "boxed": ["So \\boxed{B}", "\\boxed{ (B) }", "\\fbox{ Option B }"],
    "line": ["It is small.\n\nB", "(B)\n\nIt is small.", "I looked.\nOption B."],
    "answer is": [
        "The answer is B since it moves",
        "FINAL ANSWER = B",
        "the correct option would be (B)",
        "Antwort: B",
    ],
    "answer is, small": ["The answer is (b) since it moves"],
    "answer is, small at the end": ["I looked at it. The answer is b", "answer: b."],
    "answer letter": ["I looked. Answer B.", "\u6545\u9009 B"],
    "is right": ["Option B is correct", "B is the best answer", "I see that B must be right"],
    "chosen": ["I choose B", "I'd go with option B because it moves", "My pick? I would select (B)."],
    "it is": ["It's B", "That must be option B.", "I think it is B because it moves"],
    "so": ["It moves. Therefore, B.", "It moves, so B."],
    "not one but another": ["not A but B", "It is not option A, but rather option B"],
    "verdict": ["It moves. B) yes", "- B: correct", "B. a thing - true"],
    "verdict against": ["B) No.", "- B: not in the video", "B. a thing: wrong"],
    "is wrong": ["Option B is wrong", "B isn't seen", "B is clearly not seen"],
    "ruled out": ["I rule out B", "anything rather than B"],
    "first": [
        "B. a thing",
        "(B) a thing",
        "b) a thing",
        "B - a thing",
        "B, a thing",
        "B because it moves",
        "Option B: it",
    ],
    "another line's first": ["It moves.\nB. a thing", "It moves. B. a thing"],
    "listed": ["I see: B. a thing"],
    "in parentheses": ["It is the small one (B), I see."],
    "option at the end": ["Hence option B", "Hence choice (B)."],
}
"""Of each rule: texts in which it finds the letter B."""


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_each_rule_finds_what_it_is_there_for(rule):
    assert rule.why
    for text in ROWS[rule.name]:
        assert {found[1].upper() for found in rule.pattern.finditer(text)} == {"B"}, text
        statement = letter_statement(text, "ABCD")
        meant = (statement.letter, "B" in statement.denied)
        assert meant == {DENIES: (None, True), LISTS: (None, False)}.get(rule.kind, ("B", False)), text


def test_each_rule_is_tried():
    assert list(ROWS) == [rule.name for rule in RULES]


GREEN = [
    "<thinking>A or C? C.</thinking>\nB",
    "C is what I thought first.</think>\n\nThe answer is B.",
    "<reasoning>The answer is A.</reasoning>B. green",
    "\u25c1think\u25b7A is right.\u25c1/think\u25b7B",
    "[THINK]It is A[/THINK]B",
    "<think>\n\n</think>\n\n**B**",
    "<answer>(B) green</answer>",
    "<think>A</think>I looked. <answer> B",
    "<|begin_of_box|>B<|end_of_box|>",
    '{"answer": "B"}',
    '```json\n{"reason": "A is too small", "answer": "B"}\n```',
    '{"answer": "green", "confidence": 0.9}',
    "### Final answer\n**B**",
    "## Answer: **B. green**",
    "**Answer:** The correct option is **(B)**.",
    "__B__",
    "$\\boxed{\\textbf{B}}$",
    "\\[ \\boxed{\\text{Option B}} \\]",
    "It is not A but B.",
    "A is wrong, C is wrong, D is wrong. B is correct.",
    "A) red - Incorrect\nB) green - Correct\nC) blue - Incorrect\nD) yellow - Incorrect",
    "(B) green\n(A) red is wrong",
    "The answer's B.",
    "The correct option: 'B'",
    "Correct: B",
    "Ans. B",
    "Option B best describes the video.",
    "\u7b54\u6848\u9009B\u3002",
    "B</s>",
    "B. green\n\nQuestion: what else?\nA. red\nB. small\nAnswer: A",
    "A) red: no.\nB) green: yes.\nC) blue: no.\nD) yellow: no.",
    "- A: not in the video.\n- B: correct.\n- C: false.\n- D: false.",
    "The answer is A. Wait, let me re-examine: the answer is B.",
    "Answer: A. Correction: Answer: B",
    "The answer seems to be A at 0:05.\nFinal answer: B",
    "I first thought the answer was A, but the answer is B.",
    "If the answer were A, it would be red. So the answer is B.",
    "Is the answer A? No. The answer is B.",
    "The wrong answer is A; the answer is B.",
    "I don't think the answer is A. I choose B.",
    "A man walks to the green ball.",
    "A man walks. The answer is B.",
    "I think the answer is B.",
    "The best option is B: green.",
    "Option B",
    "b",
    "(b)",
    "b.",
    "B: green",
    "B) green",
    "Green",
    "The ball is green.",
    "I saw red and blue first. Answer: green",
    "It is green rather than red.",
    "Die Antwort ist B.",
    "La r\u00e9ponse est B.",
    "La respuesta correcta es B.",
    "\u7b54\u6848\u662fB\u3002",
    "\u7b54\u6848\uff1aB",
    "B\n\nA man throws a green ball.",
    "The car is small (B).",
    "The answer is B, not A.",
    "My answer is B. A is only seen later.",
]
UNSURE = [
    "",
    "<think>The answer is B",
    "<think>The answer is B</think>",
    "A or B",
    "The answer is A or B.",
    "Answer: A, B",
    "A and B are both seen.",
    "The answer is either A or B.",
    "The answer is A. The answer is B.",
    "<answer>A</answer> <answer>B</answer>",
    '{"answer": "A"} {"answer": "B"}',
    "The answer could be B.",
    "Is the answer B?",
    "If the answer is B, it is seen.",
    "The answer is not B.",
    "I don't choose B.",
    "B is wrong.",
    "A. red\nB. green\nC. blue\nD. yellow",
    "A) No. B) No. C) No. D) No.",
    "A) Yes. B) Yes.",
    "The answer is E.",
    "E",
    "A man walks",
    "A man in a hat",
    "The answer is a man.",
    "The answer is A man.",
    "I think so.",
    "I cannot tell.",
    "B. red",
    "Answer: B\nred is the answer: red",
    "The answer is B. B is wrong.",
    "It is neither red nor green.",
    "It isn't green.",
    "There is no green ball.",
    "red or green",
    "None of them",
    "Vitamin B is not asked for",
    "Plan B-52",
    "B or C is correct.",
    "Team B is correct.",
    "B would be correct if the ball were green.",
    "A: red; B: green. I choose the second.",
    "Options: A. red B. green",
]


@pytest.mark.parametrize("text", GREEN)
def test_what_models_write_is_heard(text):
    assert picked(text, COLORS) == "green"


@pytest.mark.parametrize("text", UNSURE)
def test_what_is_not_certain_is_no_choice(text):
    assert picked(text, COLORS) is None


@pytest.mark.parametrize(
    ("text", "choices", "choice"),
    [
        ("2", ("1", "2", "3", "4"), "2"),
        ("B", ("1", "2", "3", "4"), "2"),
        ("Answer: 2", ("1", "2", "3", "4"), "2"),
        ("2", ("red", "green"), None),
        ("There are 2 dogs and 1 cat", ("1", "2"), None),
        ("the upper left corner", ("left", "upper left", "upper left corner"), "upper left corner"),
        ("left", ("left", "upper left"), "left"),
        ("No.", ("Yes", "No"), "No"),
        ("No, there is none.", ("Yes", "No"), "No"),
        ("There are no dogs.", ("dogs", "no dogs"), "no dogs"),
        ("It is red, white and blue.", ("red, white and blue", "green"), "red, white and blue"),
        ("C++", ("C", "C++"), "C++"),
        ("A", ("A", "B", "C"), "A"),
        ("The answer is I.", tuple("abcdefghi"), "i"),
        ("I see it.", tuple(f"thing {i}" for i in range(9)), None),
    ],
)
def test_options_of_other_kinds(text, choices, choice):
    assert picked(text, choices) == choice


MME = ("A. Apples.", "B. Candles.", "C. Berries.", "D. The three kinds are of the same number.")


@pytest.mark.parametrize(
    ("choices", "letters", "texts", "lines"),
    [
        (("red", "green"), "AB", ("red", "green"), ["A. red", "B. green"]),
        (MME[:2], "AB", ("Apples.", "Candles."), list(MME[:2])),
        (("(A) red", "(B) green"), "AB", ("red", "green"), ["(A) red", "(B) green"]),
        (("A) red", "B) green"), "AB", ("red", "green"), ["A) red", "B) green"]),
        (("a. red", "b. green"), "AB", ("red", "green"), ["a. red", "b. green"]),
        (("A.red", "B.green"), "AB", ("red", "green"), ["A.red", "B.green"]),
        (("A", "B"), "AB", ("A", "B"), ["A", "B"]),
        (("C. blue", "A. red"), "CA", ("blue", "red"), ["C. blue", "A. red"]),
        (("B. green", "D. red"), "BD", ("green", "red"), ["B. green", "D. red"]),
        (("A. red", "green"), "AB", ("A. red", "green"), ["A. A. red", "B. green"]),
        (("A. red", "A. green"), "AB", ("A. red", "A. green"), ["A. A. red", "B. A. green"]),
        (("p.m.", "a.m."), "AB", ("p.m.", "a.m."), ["A. p.m.", "B. a.m."]),
        (("B", "A"), "AB", ("B", "A"), ["A. B", "B. A"]),
        (("Apples", "Berries"), "AB", ("Apples", "Berries"), ["A. Apples", "B. Berries"]),
    ],
)
def test_options_keep_the_letters_that_they_bear(choices, letters, texts, lines):
    labels = Labels.of(choices)
    assert (labels.letters, labels.texts) == (tuple(letters), texts)
    assert prompt_of(Question("1", "v.mp4", "what?", choices)).splitlines()[1:-1] == lines
    for letter, choice, text in zip(letters, choices, texts, strict=True):
        question = Question("1", "v.mp4", "what?", choices, answer=choice)
        assert picked(f"The answer is {letter}.", choices) == choice
        assert correct(letter, picked(letter, choices), question) is True
        assert picked(text, choices, listed=False) == choice


@pytest.mark.parametrize(
    "text", ["Berries", "The berries.", "It shows berries.", "C", "C. Berries.", "(C) Berries", "c)"]
)
def test_options_with_letters_are_known_by_their_text(text):
    assert picked(text, MME) == MME[2]
    assert correct(text, MME[2], Question("1", "v.mp4", "?", MME, answer="berries")) is True


def test_more_options_than_letters_are_refused():
    with pytest.raises(ValueError, match=r"choices: 27 .* 26 "):
        prompt_of(Question("1", "v.mp4", "?", tuple(map(str, range(27)))))


def test_thoughts_are_no_part_of_a_free_answer():
    assert correct("<think>Blue?</think>Red.", None, Question("1", "v.mp4", "?", answer="red")) is True
    assert correct("<think>red", None, Question("1", "v.mp4", "?", answer="red")) is False
    assert final_text("<think>a</think> x <think>b</think> y") == "y"
