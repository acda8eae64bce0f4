"""The text of an answer while it grows: pieces add up to it, and none goes out that would have to be taken back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vtc.integrations.serve.answer_stream import AnswerStream


class Bytes:
    """A tokenizer whose tokens are bytes."""

    def decode(self, tokens, skip_special_tokens):
        assert skip_special_tokens
        return bytes(tokens).decode("utf-8", errors="replace")


def run(words: str, stop=(), ended=lambda: False):
    """What an answer of these bytes passes on, and the stream."""
    pieces, starts = [], []
    stream = AnswerStream(Bytes(), stop, ended, lambda: starts.append(list(pieces)), pieces.append)
    stream.put(torch.tensor([[1, 2, 3]]))
    assert not starts
    for token in words.encode():
        stream.put(torch.tensor([token]))
        if stream.stopping(torch.zeros(1, 5), None).all():
            break
    stream.end()
    assert starts == [[]], "before any text"
    return pieces, stream


@given(
    st.text(alphabet="ab \nä€\U0001f600", min_size=1, max_size=12), st.lists(st.sampled_from(["ab", "\nä", "a a", "b"]))
)
def test_pieces_are_the_text_up_to_what_ends_it(words, stop):
    pieces, stream = run(words, stop)
    ends = [place for text in stop if (place := words.find(text)) >= 0]
    # A text that ends the answer is found when its last byte comes, the earliest in time first.
    seen = next((words[:n] for n in range(1, len(words) + 1) if any(text in words[:n] for text in stop)), words)
    expected = seen[: min(p for text in stop if (p := seen.find(text)) >= 0)] if ends else words
    assert "".join(pieces) == stream.text == expected.strip()
    assert stream.matched == bool(ends)
    assert all(pieces)


@pytest.mark.parametrize(
    ("words", "stop", "pieces"),
    [
        ("abc", [], ["a", "b", "c"]),
        ("a  b ", [], ["a", "  b"]),
        ("€u", [], ["€", "u"]),
        ("say END now", ["END"], ["s", "a", "y"]),
        ("a ENb", ["END"], ["a", " ENb"]),
        ("a EN", ["END"], ["a", " EN"]),
        ("\nUs", ["\nUser:"], ["Us"]),
        ("\nUser: a", ["\nUser:"], []),
    ],
)
def test_what_may_become_the_end_is_held_back(words, stop, pieces):
    assert run(words, stop)[0] == pieces


def test_an_answer_that_nobody_waits_for_ends():
    pieces, stream = run("abc", ended=lambda: True)
    assert (pieces, len(stream.tokens)) == (["a"], 1)
