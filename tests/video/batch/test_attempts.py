"""Questions and media that a process does not survive: what is known of them afterwards, and by real kills."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from tests.video.batch.videos import (
    FEW,
    clips,
    question,
    read,
    rows,
    save,
)
from vtc.video import answer_batch
from vtc.video.batch.attempts import (
    ENDING,
    MEDIUM,
    ROWS,
    Attempts,
    medium_name,
)

DEADLY = "star star star star star"
"""In words that the embedded models know."""
QUESTION = question({"id": "z", "video": "a.mp4", "question": "?", "answer": None}, Path())
SERVER = """
import json, os, signal, sys
from vtc.video.batch import answerer, answer_batch

def dying(owner, name, deadly):
    whole = getattr(owner, name)
    def run(*given, **more):
        if deadly(*given):
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*given, **more)
    setattr(owner, name, run)

for line in sys.stdin:
    path, out, fields, question, medium = json.loads(line)
    if not (child := os.fork()):
        def asked(model, processor, prompts, *given):
            rows = given[-2] if isinstance(given[-2], list) else [given[-2]]
            return any(question in processor.tokenizer.decode(prompts.tails[i]) for i in rows)
        if question:
            dying(answerer, "go_on", asked)
            dying(answerer, "ask_whole", asked)
        if medium:
            dying(answerer.Answerer, "open", lambda self, group: group.first.medium.endswith(medium))
        answer_batch(path, out, **fields)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Runs batches, each in a process of its own, which the system kills as soon as it begins with what is deadly."""


@pytest.fixture(scope="module")
def run():
    """Gives the exit code of a batch in a process of its own."""
    with subprocess.Popen([sys.executable, "-c", SERVER], stdin=PIPE, stdout=PIPE, text=True) as server:

        def once(path, out, question="", medium="", **fields):
            given = [str(path), str(out), {**FEW, "workers": 1, **fields}, question, medium]
            server.stdin.write(json.dumps(given) + "\n")
            server.stdin.flush()
            return int(server.stdout.readline())

        yield once
        server.stdin.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("clips")
    clips(made, 2)
    return made


def ended(run, *given, **fields):
    """The exit codes of the same batch until it ends of itself."""
    codes = [run(*given, **fields)]
    while codes[-1] == -signal.SIGKILL and len(codes) < 9:
        codes.append(run(*given, **fields))
    return codes


@pytest.mark.parametrize("recipe", ["video", "fastv"])
def test_a_question_that_kills_twice_is_set_aside_and_no_other(run, folder, tmp_path, recipe):
    listed = rows(2, 4)
    listed[2] = {**listed[2], "question": DEADLY}
    path, out = save(folder / f"{recipe}.jsonl", listed), tmp_path / "a.jsonl"
    assert ended(run, path, out, DEADLY, recipe=recipe) == [-signal.SIGKILL, -signal.SIGKILL, 0]
    found = {row["id"]: row for row in read(out)}
    assert found["0-2"]["error"].startswith("ProcessKilled: the process was killed 2 times over this question")
    assert [row["error"] for name, row in found.items() if name != "0-2"] == [None] * 7
    assert not out.with_name(out.name + ENDING).exists()
    # The control: where it does not kill, it is answered, also where it is asked again.
    assert run(path, out, recipe=recipe, retry=True) == 0
    assert {row["error"] for row in read(out)} == {None}


def test_a_medium_that_kills_is_set_aside_and_no_other(run, folder, tmp_path):
    path, out = save(folder / "m.jsonl", rows(2, 2)), tmp_path / "a.jsonl"
    codes = ended(run, path, out, medium="1.mp4")
    assert (codes[-1], len(codes)) == (0, 3)
    found = {row["id"]: row["error"] for row in read(out)}
    assert [found[name] for name in ("0-0", "0-1")] == [None, None]
    assert all("ProcessKilled: the process was killed 2 times over this medium" in found[n] for n in ("1-0", "1-1"))


UNENDED = []
"""Blocks that nothing ends, not even the collection of garbage."""


def begun(path, *works):
    """A note as a process leaves it that was killed within `works`."""
    note = Attempts(path)
    for names, what in works:
        UNENDED.append(note.during(names, what))
        UNENDED[-1].__enter__()


def test_suspects_are_asked_alone_and_only_one_alone_is_refused(tmp_path):
    path = tmp_path / "n"
    begun(path, (["a", "b", "c"], ROWS))
    note = Attempts(path, done=["c"])
    assert [note.alone(name) for name in "abcd"] == [True, True, False, False]
    begun(path, (["a", "b"], ROWS))  # again together: neither can be the one for certain
    note = Attempts(path)
    assert [note.refused(name) for name in "ab"] == [None, None]
    begun(path, (["a"], ROWS), ([medium_name(QUESTION)], MEDIUM))
    note = Attempts(path)
    assert note.refused("a") is None
    begun(path, (["a"], ROWS))
    note = Attempts(path)
    assert "killed 4 times over this question" in str(note.refused("a"))
    assert note.refused("b") is None
    assert note.suspect([QUESTION])
    assert Attempts(path, forget=["a"]).refused("a") is None


def test_what_ended_of_itself_is_no_kill(tmp_path):
    path = tmp_path / "n"
    note = Attempts(path)
    with note.during(["a"], ROWS):
        pass
    with pytest.raises(KeyboardInterrupt), note.during(["b"], ROWS):
        raise KeyboardInterrupt
    assert not any(map(Attempts(path).alone, "ab"))
    note.close()
    assert not path.exists()


def test_what_is_known_stays_until_the_question_is_answered(tmp_path):
    path = tmp_path / "n"
    begun(path, (["a"], ROWS))
    Attempts(path).close()
    assert path.exists()
    Attempts(path).close(["a"])
    assert not path.exists()


def test_a_torn_note_is_read_as_far_as_it_goes(tmp_path):
    path = tmp_path / "n"
    begun(path, (["a"], ROWS))
    with path.open("ab") as file:
        file.write(b'[1]\n{"begun": 7, "wh\xff')
    assert Attempts(path).alone("a")


def test_a_full_disk_is_no_error_of_a_question(tmp_path):
    note = Attempts(tmp_path / "n")
    note._file = open("/dev/full", "w")  # noqa: SIM115 - closed by the note
    with note.during(["a"], ROWS):
        pass
    note.close()
    assert not (tmp_path / "n").exists()


def test_a_run_that_ends_leaves_no_note(folder, tmp_path):
    out = tmp_path / "a.jsonl"
    answer_batch(save(folder / "e.jsonl", rows(1, 2)), out, **FEW)
    assert [one.name for one in tmp_path.iterdir()] == ["a.jsonl"]
