"""What the command prints of other people's words."""

from __future__ import annotations

import pytest
from rich.console import Console

from vtc.cli.console import say_error, shown


def printed(text: str) -> str:
    console = Console(force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(text, highlight=False)
    return capture.get()


@pytest.mark.parametrize(
    "words",
    ["\x1b]0;owned\x07", "\x1b[2J", "a\x9b31mb", "a\rb", "a\bb", "\x7f"],
    ids=["title", "clear", "8-bit", "return", "backspace", "delete"],
)
def test_control_characters_reach_no_terminal(words, capsys):
    said = printed(shown(words))
    assert not set(said) & {chr(c) for c in (*range(10), *range(11, 32), *range(127, 160))}
    assert "\ufffd" in said
    say_error(f"{words}.mp4: no such file")
    assert "\x1b]" not in capsys.readouterr().err


def test_the_control_finds_them():
    assert "\x1b[2J" in printed("\x1b[2J")


def test_other_words_stay_as_they_are():
    for words in ("[red]no markup[/red]", "zwei\nZeilen\tund Spalten", "数字", "🙂"):
        assert printed(shown(words)).rstrip("\n") == words.expandtabs(8) or words in printed(shown(words))
