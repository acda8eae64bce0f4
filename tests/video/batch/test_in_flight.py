"""Requests in flight, by an engine that answers in a set order, ends when asked to, and says what it had in hand."""

from __future__ import annotations

import json

import pytest

from tests.video.batch.videos import read
from vtc.video import answer_batch
from vtc.video.batch import Job, Question, engine
from vtc.video.batch.attempts import EngineStopped, medium_name
from vtc.video.batch.rows import RowMaker, Seen
from vtc.video.batch.served.in_flight import InFlight, Reply, SharedMedium


class Scripted:
    """A `RequestEngine`: answers the last request first; `deadly` end it while they are in flight."""

    killed_by_requests = True

    def __init__(self, job, most=3, deadly=(), refused=()):
        self.make, self.most, self.deadly, self.refused = RowMaker(job, ()), most, set(deadly), set(refused)
        self.flying, self.hands, self.opened, self.dropped = [], [], [], 0

    def spare_processor(self):
        return None

    def open(self, group, *, processor):
        self.opened.append(group.first.medium)
        if group.first.medium == "broken":
            raise OSError("no medium")
        return SharedMedium(group.first.medium, Seen([0.5], "stamp", ""), {"read": 4.0, "segment": 0.0})

    def request(self, question, medium):
        if question.id in self.refused:
            raise ValueError("it cannot be asked")
        return f"{question.question} {medium.content}"

    def submit(self, name, request):
        self.flying.append((name, request))

    def finished(self, stop):
        self.hands.append([name for name, _ in self.flying])
        if self.deadly & set(self.hands[-1]):
            self.flying.clear()
            raise EngineStopped("it ended")
        name, request = self.flying.pop()
        return [(name, Reply(f"re {request}", 8, 2))]

    def drop(self):
        self.dropped += len(self.flying)
        self.flying.clear()

    def close(self):
        pass


def asked(media=3, each=2):
    return [Question(f"{m}{j}", f"m{m}", "q", image=True) for m in range(media) for j in range(each)]


@pytest.fixture
def run(monkeypatch, tmp_path):
    def answered(scripted, questions=None, **options):
        monkeypatch.setattr(engine, "engine_of", lambda *_: InFlight(scripted))
        return answer_batch(questions or asked(), tmp_path / "a.jsonl", endpoint="http://h/v1", model="m", **options)

    return answered


def scripted(**options):
    return Scripted(Job(endpoint="http://h/v1", model="m"), **options)


def test_as_many_are_in_flight_as_may_be_and_rows_come_as_they_are_answered(run, tmp_path):
    one = scripted()
    assert run(one).answered == 6
    found = read(tmp_path / "a.jsonl")
    assert max(map(len, one.hands)) == 3
    assert [row["id"] for row in found] != sorted(row["id"] for row in found)
    assert {row["id"]: row["answer"] for row in found} == {q.id: f"re q {q.medium}" for q in asked()}
    assert sorted(one.opened) == ["m0", "m1", "m2"]
    assert all(row["seconds"]["read"] == 2.0 for row in found)  # two questions share what reading took


def test_a_question_that_cannot_be_asked_and_a_medium_that_cannot_be_read(run):
    summary = run(scripted(refused=["10"]), [*asked(), Question("b", "broken", "q", image=True)])
    assert (summary.answered, summary.errors) == (5, {"ValueError": 1, "OSError": 1})


def test_an_engine_that_ends_is_asked_one_by_one_and_then_without_what_it_ended_over(run, tmp_path):
    one = scripted(deadly=["11"])
    with pytest.raises(EngineStopped):
        run(one)
    assert len(one.hands[-1]) > 1
    before = {row["id"] for row in read(tmp_path / "a.jsonl")}
    suspect = set(one.hands[-1])
    again = scripted(deadly=["11"])
    with pytest.raises(EngineStopped):
        run(again)
    assert all(len(hand) == 1 for hand in again.hands)
    assert {hand[0] for hand in again.hands} <= {q.id for q in asked()} - before
    assert "11" in suspect
    third = scripted(deadly=["11"])
    summary = run(third)
    assert (summary.rows, summary.errors) == (6, {"ProcessKilled": 1})
    assert all("11" not in hand for hand in third.hands)
    assert run(scripted(), retry=True).exit_code == 0
    assert not (tmp_path / "a.jsonl.attempts").exists()


def test_a_medium_over_which_reading_was_killed_twice_is_not_read(run, tmp_path):
    note = tmp_path / "a.jsonl.attempts"
    medium = medium_name(asked()[2])  # of 10 and 11
    note.write_text(
        json.dumps({"kills": {f"medium:{medium}": [1, False]}})
        + "\n"
        + json.dumps({"begun": 1, "what": "medium", "names": [medium]})
        + "\n"
    )
    one = scripted()
    summary = run(one)
    assert summary.errors == {"ProcessKilled": 2}
    assert sorted(one.opened) == ["m0", "m2"]


def test_a_medium_that_was_being_read_when_the_process_was_killed_is_read_by_itself(run, tmp_path):
    medium = medium_name(asked()[4])
    begun = {"begun": 1, "what": "medium", "names": [medium]}
    (tmp_path / "a.jsonl.attempts").write_text(json.dumps(begun) + "\n")
    one = scripted()
    assert run(one).exit_code == 0
    assert one.opened[0] == "m2"
    assert one.hands[0] == ["20", "21"]  # together, as nobody was killed over them


def test_questions_in_hand_when_the_process_was_killed_are_asked_alone_and_the_others_of_their_medium_are_not(
    run, tmp_path
):
    begun = {"begun": 1, "what": "rows", "names": ["20"]}
    (tmp_path / "a.jsonl.attempts").write_text(json.dumps(begun) + "\n")
    one = scripted()
    assert run(one).exit_code == 0
    assert one.hands[0] == ["20"]
    assert len(one.hands[1]) == 3


def test_ended_while_it_is_to_stop_is_no_kill(run, tmp_path):
    one = scripted(deadly=["11"])
    summary = run(one, stop=lambda: any("11" in hand for hand in one.hands))
    assert "11" in one.hands[-1]
    assert summary.stopped == "interrupted"
    assert not (tmp_path / "a.jsonl.attempts").exists()
    assert run(scripted()).exit_code == 0


def test_too_many_errors_drop_what_is_in_flight(run):
    one = scripted(refused=["20", "21"], most=3)
    summary = run(one, [*asked(3)[4:], *asked(3)[:4]], max_errors=1)
    assert (summary.stopped, summary.fresh) == ("max_errors", 2)
    assert not one.hands
