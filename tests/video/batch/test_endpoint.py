"""A batch that an OpenAI-compatible server answers: what it is sent, what its failures come to, and going on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.video.batch.servers import EACH, Fake, content, images_of, serving, text_of
from tests.video.batch.videos import clips, read, save
from tests.video.batch.videos import rows as video_rows
from vtc.recipes.composition import Recipe
from vtc.recipes.named import recipe as named
from vtc.recipes.overrides import changed
from vtc.stages import KCenter
from vtc.video import answer_batch
from vtc.video.batch import Job, Question, fingerprint
from vtc.video.batch.served import client as clients
from vtc.video.batch.served.client import KEY, Client, EndpointError, _with_report
from vtc.video.batch.served.replies import visual_tokens
from vtc.video.stages import ClipBudget, Keyframes

COLORS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(clients, "LONGEST_PAUSE", 0.05)
    monkeypatch.delenv(KEY, raising=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("media")
    clips(made, 2)
    rng = np.random.default_rng(0)
    for name, value in COLORS.items():
        noise = rng.integers(-20, 20, (32, 48, 3))
        Image.fromarray((np.array(value) + noise).astype(np.uint8)).save(made / f"{name}.png")
    return made


def image_rows(count):
    names = list(COLORS)
    return [
        {"id": str(i), "image": f"{names[i % 3]}.png", "question": f"which colour, {i}?", "answer": names[i % 3]}
        for i in range(count)
    ]


def run(folder, listed, out, url, **more):
    return answer_batch(save(folder / f"{out.stem}-q.jsonl", listed), out, endpoint=url, **more)


def test_rows_are_those_of_any_engine_and_pixels_come_as_they_are(folder, tmp_path):
    out, fake = tmp_path / "a.jsonl", Fake()
    with serving(fake) as url:
        summary = run(folder, image_rows(6), out, url, keep=0.25)
    found = {row["id"]: row for row in read(out)}
    assert [found[str(i)]["answer"] for i in range(6)] == [*COLORS, *COLORS]
    assert (summary.rows, summary.answered, summary.accuracy.mean, summary.exit_code) == (6, 6, 1.0, 0)
    assert (summary.tokens_full, summary.tokens_kept) == (6 * EACH, 6 * 25)
    assert list(found["0"]) == [
        *("id", "image", "question", "answer", "error", "correct", "frames", "tokens_full", "tokens_kept", "seconds"),
        *("recipe", "fingerprint", "versions", "seed"),
    ]
    assert found["0"]["recipe"] == {"name": "kcenter", "keep": 0.25}
    assert found["0"]["seconds"]["read"] > 0
    assert found["0"]["seconds"]["decode"] is None
    body = next(body for body in fake.bodies if text_of(body).endswith("0?"))
    assert np.array_equal(np.asarray(images_of(body)[0]), np.asarray(Image.open(folder / "red.png")))
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("seeing", 0, 64)
    own = body["mm_processor_kwargs"]["vtc"]
    assert Recipe.from_dict(own["recipe"]).name == "kcenter"
    assert own["keep"] == 0.25


def test_a_video_goes_as_its_frames_or_as_a_video_that_holds_them(folder, tmp_path):
    listed = [{**video_rows(1, 1)[0], "question": "how many?", "answer": None}]
    fake = Fake()
    with serving(fake) as url:
        run(folder, listed, tmp_path / "f.jsonl", url, frames=6)
        run(folder, listed, tmp_path / "v.jsonl", url, frames=6, video_as="video")
        run(folder, listed, tmp_path / "r.jsonl", url, frames=6, recipe="video", keep=0.25)
    frames, video, fewer = (read(tmp_path / f"{name}.jsonl")[0] for name in "fvr")
    assert len(frames["frames"]) == len(video["frames"]) == 6
    assert frames["answer"] == video["answer"]
    assert frames["answer"].startswith("6 of ")
    sent, coded = ([np.asarray(image) for image in images_of(body)] for body in fake.bodies[:2])
    assert [part["type"] for part in content(fake.bodies[1])] == ["video_url", "text"]
    assert np.array_equal(np.stack(sent), np.stack(coded))
    # `video` leaves frames out by itself, and the server a share of the others: a quarter of all in the end.
    assert 0 < len(fewer["frames"]) < 6
    assert fewer["tokens_full"] == 6 * EACH
    assert fewer["tokens_kept"] == round(0.25 * 6 * EACH)


def test_a_server_is_left_to_its_own_where_nothing_is_asked_of_it(folder, tmp_path):
    fake, out = Fake(reduces=None, tells=False), tmp_path / "a.jsonl"
    with serving(fake) as url:
        summary = run(folder, image_rows(2), out, url)
    assert all("mm_processor_kwargs" not in body for body in fake.bodies)
    assert len(fake.bodies) == 2
    for row in read(out):
        assert (row["tokens_full"], row["tokens_kept"]) == (None, None)
        assert row["recipe"] == {"name": "server's own", "keep": None}
    assert summary.uncounted == 2
    assert "visual tokens: not known" in str(summary)


@pytest.mark.parametrize(("reduces", "message"), [(False, "ignores the recipe"), (None, "takes no recipe.*fault 400")])
def test_a_server_that_reduces_nothing_is_refused_before_a_medium_is_read(folder, tmp_path, reduces, message):
    with serving(Fake(reduces=reduces)) as url, pytest.raises(ValueError, match=message):
        run(folder, image_rows(2), tmp_path / "a.jsonl", url, keep=0.25)
    assert not read(tmp_path / "a.jsonl")


def test_no_server_no_key_no_model(folder, tmp_path):
    with serving(Fake()) as url:
        pass
    with pytest.raises(ConnectionError, match="start the server"):
        run(folder, image_rows(1), tmp_path / "a.jsonl", url, recipe="kcenter", keep=0.25)
    with pytest.raises(ConnectionError, match="start the server"):
        run(folder, image_rows(1), tmp_path / "b.jsonl", url, model="seeing")
    with (
        serving(Fake(models=["one", "two"])) as url,
        pytest.raises(ValueError, match=r"2 models \(one, two\).*--model"),
    ):
        run(folder, image_rows(1), tmp_path / "c.jsonl", url)
    with serving(Fake()) as url, pytest.raises(ValueError, match="no such address or model"):
        run(folder, image_rows(1), tmp_path / "d.jsonl", url, model="blind")
    with serving(Fake(fault=lambda *_: 401)) as url, pytest.raises(ValueError, match="key is refused"):
        run(folder, image_rows(1), tmp_path / "e.jsonl", url)


@pytest.mark.parametrize("fault", [429, (429, {"Retry-After": "0"}), 503, b'{"choices": [', b"[]", "drop"])
def test_what_passes_is_asked_again(folder, tmp_path, fault):
    fake = Fake(fault=lambda body, before: fault if before < 2 else None)
    with serving(fake) as url:
        summary = run(folder, image_rows(4), tmp_path / "a.jsonl", url)
    assert (summary.answered, summary.accuracy.mean) == (4, 1.0)
    assert set(Counter(fake.asked()).values()) == {3}


def test_what_does_not_pass_is_a_row_with_an_error_and_is_asked_again_by_retry(folder, tmp_path):
    fake, out = Fake(), tmp_path / "a.jsonl"
    fake.fault = lambda body, before: {"1": 500, "2": 400, "3": b"no JSON"}.get(text_of(body)[-2])
    with serving(fake) as url:
        summary = run(folder, image_rows(5), out, url)
        assert (summary.answered, summary.errors, summary.exit_code) == (2, {"EndpointError": 3}, 1)
        asked = Counter(fake.asked())
        assert [asked[f"which colour, {i}?"] for i in range(5)] == [1, clients.TRIES, 1, clients.TRIES, 1]
        errors = {row["id"]: row["error"] for row in read(out)}
        assert "answers 500: fault 500" in errors["1"]
        assert "answers 400" in errors["2"]
        assert "no JSON" in errors["3"]
        fake.fault = lambda *_: None
        assert run(folder, image_rows(5), out, url).fresh == 0
        again = run(folder, image_rows(5), out, url, retry=True)
    assert (again.fresh, again.exit_code) == (3, 0)
    assert sorted(row["id"] for row in read(out)) == list("01234")


def test_an_answer_without_a_text_is_an_error(folder, tmp_path):
    empty = json.dumps({"choices": [{"message": {"content": None}, "finish_reason": "length"}]}).encode()
    with serving(Fake(fault=lambda *_: empty)) as url:
        run(folder, image_rows(1), tmp_path / "a.jsonl", url, recipe="kcenter", keep=0.25)
    assert "no text (finish_reason='length')" in read(tmp_path / "a.jsonl")[0]["error"]


def test_a_slow_server_is_given_up(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(clients, "TRIES", 2)
    with serving(Fake(wait=1.0)) as url:
        run(folder, image_rows(1), tmp_path / "a.jsonl", url, model="seeing", request_timeout=0.2)
    assert "within 0.2 s" in read(tmp_path / "a.jsonl")[0]["error"]


@pytest.mark.parametrize("concurrency", [1, 4])
def test_as_many_are_asked_at_once_as_may_be(folder, tmp_path, concurrency):
    fake = Fake(wait=0.1)
    with serving(fake) as url:
        run(folder, image_rows(12), tmp_path / "a.jsonl", url, concurrency=concurrency)
    assert fake.most_together == concurrency


def test_rows_are_written_as_they_come(folder, tmp_path):
    fake, seen = Fake(), []
    fake.fault = lambda body, before: time.sleep(1.0) if text_of(body)[-2] == "0" else None
    with serving(fake) as url:
        run(folder, image_rows(4), tmp_path / "a.jsonl", url, on_row=lambda row: seen.append(row["id"]))
    assert seen[-1] == "0"
    assert sorted(seen) == list("0123")


def test_the_key_goes_to_the_server_and_nowhere_else(folder, tmp_path, monkeypatch):
    monkeypatch.setenv(KEY, "sk-very-secret")
    fake = Fake(fault=lambda body, before: 400 if text_of(body)[-2] == "0" else None)
    with serving(fake) as url:
        run(folder, image_rows(2), tmp_path / "a.jsonl", url)
    assert {headers["Authorization"] for headers in fake.headers} == {"Bearer sk-very-secret"}
    text = (tmp_path / "a.jsonl").read_text()
    assert "fault 400 Bearer (the key)" in text
    assert "secret" not in text


def test_a_server_that_points_elsewhere_is_not_followed():
    other, body = Fake(), {"model": "seeing", "messages": [{"content": [{"type": "text", "text": "q"}]}]}
    with serving(other) as there:
        pointing = Fake(fault=lambda *_: (302, {"Location": f"{there}/chat/completions"}))
        with serving(pointing) as url, pytest.raises(ValueError, match="not followed"):
            Client(url).chat(body)
    assert not other.bodies


def test_media_that_cannot_be_read_are_errors_of_their_rows(folder, tmp_path):
    (folder / "broken.png").write_bytes(b"no image")
    listed = [*image_rows(2), {"id": "b", "image": "broken.png", "question": "q?"}, {**image_rows(1)[0], "id": "c"}]
    with serving(Fake()) as url:
        summary = run(folder, listed, tmp_path / "a.jsonl", url)
    assert (summary.answered, summary.errors) == (3, {"ValueError": 1})


def test_a_server_that_goes_away_ends_the_run(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(clients, "TRIES", 2)
    out, fake = tmp_path / "a.jsonl", Fake()
    with serving(fake) as url:
        run(folder, image_rows(2), out, url, model="seeing")
    port = int(url.rpartition(":")[2].partition("/")[0])
    monkeypatch.setattr(Client, "models", lambda self: [])
    with pytest.raises(ConnectionError, match="--retry"):
        run(folder, image_rows(40), out, url, model="seeing", concurrency=2)
    written = read(out)
    assert 5 <= len(written) < 40
    with serving(fake, port) as again:
        assert again == url
        assert run(folder, image_rows(40), out, url, model="seeing", retry=True).exit_code == 0
    assert sorted(int(row["id"]) for row in read(out)) == list(range(40))


def test_asked_to_stop_it_ends_what_is_in_hand_and_goes_on(folder, tmp_path):
    out, fake, count = tmp_path / "a.jsonl", Fake(wait=0.05), []
    with serving(fake) as url:
        first = run(
            *(folder, image_rows(30), out, url),
            concurrency=4,
            on_row=lambda row: count.append(row),
            stop=lambda: len(count) > 5,
        )
        assert (first.stopped, first.exit_code) == ("interrupted", 130)
        assert 6 <= first.fresh <= 10
        assert len(fake.asked()) == first.fresh
        second = run(folder, image_rows(30), out, url)
    assert second.fresh == 30 - first.fresh
    assert len(fake.asked()) == 30
    assert sorted(int(row["id"]) for row in read(out)) == list(range(30))


def test_asked_to_stop_it_asks_nothing_again(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(clients, "LONGEST_PAUSE", 30.0)
    fake, begun = Fake(fault=lambda *_: 503), time.monotonic()
    with serving(fake) as url:
        summary = run(folder, image_rows(4), tmp_path / "a.jsonl", url, stop=lambda: len(fake.bodies) >= 4)
    assert (summary.stopped, summary.rows) == ("interrupted", 0)
    assert len(fake.bodies) == 4
    assert time.monotonic() - begun < 10


def test_too_many_errors_end_it(folder, tmp_path):
    fake = Fake(fault=lambda *_: 400)
    with serving(fake) as url:
        summary = run(folder, image_rows(30), tmp_path / "a.jsonl", url, concurrency=2, max_errors=3)
    assert (summary.stopped, summary.fresh) == ("max_errors", 4)
    assert len(fake.asked()) < 10


def test_killed_it_goes_on_with_no_row_lost_or_doubled(folder, tmp_path):
    out, fake = tmp_path / "a.jsonl", Fake(wait=0.03)
    path = save(folder / "kill-q.jsonl", image_rows(60))
    with serving(fake) as url:
        command = [sys.executable, "-m", "vtc", "batch", path, "--out", out, "--endpoint", url, "--concurrency", "4"]
        for kill in (8, 20, 33):
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            late = time.monotonic() + 120
            while not out.exists() or out.read_bytes().count(b"\n") < kill:
                assert time.monotonic() < late
                assert child.poll() is None
                time.sleep(0.005)
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
        assert subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
    found = read(out)
    assert sorted(int(row["id"]) for row in found) == list(range(60))
    assert all(row["correct"] for row in found)
    assert not out.with_name("a.jsonl.attempts").exists()
    assert len(fake.asked()) <= 60 + 3 * 4  # what was in flight when it was killed is asked again, and nothing else


def test_a_fingerprint_knows_the_endpoint_and_its_model_and_local_ones_are_what_they_were():
    question = Question("1", "no.png", "q?", image=True)
    base = dict(endpoint="http://localhost:1/v1", model="m")
    jobs = [
        Job(**base),
        Job(**{**base, "endpoint": "http://localhost:2/v1"}),
        Job(**{**base, "model": "n"}),
        Job(**base, keep=0.25),
        Job(**base, video_as="video"),
        Job(**base, engine_args={"top_p": 0.5}),
        Job(),
        Job(engine="vllm"),
        Job(engine="vllm", engine_args={"quantization": "fp8"}),
    ]
    assert len({fingerprint(job, question) for job in jobs}) == len(jobs)
    assert Job(**{**base, "endpoint": "http://localhost:1"}).digits == jobs[0].digits
    assert Job(engine="vllm", engine_args={"gpu_memory_utilization": 0.5}).digits == jobs[7].digits


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(endpoint="localhost:8000"), "no http.* address"),
        (dict(endpoint="http://user:pass@host/v1"), "OPENAI_API_KEY"),
        (dict(endpoint="http://host/v1?key=1"), "no base address"),
        (dict(endpoint="http://host:x/v1"), "Port"),
        (dict(endpoint="http://h/v1", engine="vllm"), "two places"),
        (dict(endpoint="http://h/v1", device="cpu"), "leave --device out"),
        (dict(endpoint="http://h/v1", dtype="float32"), "leave --dtype out"),
        (dict(endpoint="http://h/v1", max_prompt=9), "leave --max-prompt out"),
        (dict(endpoint="http://h/v1", strategy="decompose"), "asked once"),
        (dict(engine="vllm", strategy="decompose"), "asked once"),
        (dict(engine="vllm", device="cpu"), "leave --device out"),
        (dict(engine="slow"), "local, vllm"),
        (dict(engine_args={"a": 1}), "--engine vllm"),
        (dict(video_as="video"), "give one"),
        (dict(endpoint="http://h/v1", video_as="gif"), "frames, video"),
    ],
)
def test_what_does_not_go_together_is_refused_with_what_does(fields, message):
    with pytest.raises(ValueError, match=message):
        Job(**fields)


@pytest.mark.parametrize("change", [dict(keyframes="aks"), dict(features="tower")])
def test_a_recipe_that_needs_a_model_here_is_refused(change):
    chosen = changed(named("video"), **change)
    for engine in (dict(endpoint="http://h/v1"), dict(engine="vllm")):
        with pytest.raises(ValueError, match="choose the frames"):
            Job.of(chosen, **engine)


@pytest.mark.parametrize("recipe", ["fastv", "tome", "video-question"])
def test_a_recipe_that_vllm_cannot_serve_is_refused(recipe):
    with pytest.raises(ValueError, match="--engine local"):
        Job.of(recipe, engine="vllm")


def test_a_recipe_that_would_have_the_server_load_a_model_is_refused():
    named_model = named([ClipBudget(features="timm:resnet18"), KCenter()])
    here = named([Keyframes("aks", scorer="clip:folder"), ClipBudget(), KCenter()])
    for engine in (dict(endpoint="http://h/v1"), dict(engine="vllm")):
        with pytest.raises(ValueError, match="names 'timm:resnet18', and a request has a server load no other model"):
            Job.of(named_model, **engine)
        Job.of(here, **engine)


def test_a_count_of_tokens_chooses_no_frames_of_an_endpoint(folder, tmp_path):
    with serving(Fake()) as url, pytest.raises(ValueError, match="pass a share"):
        run(folder, video_rows(1, 1), tmp_path / "a.jsonl", url, recipe="video", keep=64)


def test_settings_of_requests_are_refused_where_there_are_none(folder, tmp_path):
    path = save(folder / "none-q.jsonl", image_rows(1))
    for fields, message in ((dict(concurrency=2), "--engine vllm"), (dict(request_timeout=5.0), "--endpoint")):
        with pytest.raises(ValueError, match=message):
            answer_batch(path, tmp_path / "a.jsonl", **fields)


def test_an_error_names_nothing_but_what_the_server_says():
    with serving(Fake(fault=lambda *_: 400)) as url, pytest.raises(EndpointError, match="answers 400: fault 400"):
        Client(url).chat({"model": "seeing", "messages": [{"content": [{"type": "text", "text": "q"}]}]})


def test_a_refusal_of_one_request_is_its_row_once_others_were_answered(folder, tmp_path):
    out, fake = tmp_path / "a.jsonl", Fake()
    fake.fault = lambda body, before: 403 if text_of(body)[-2] == "4" else None
    with serving(fake) as url:
        summary = run(folder, image_rows(6), out, url, concurrency=1)
    found = {row["id"]: row for row in read(out)}
    assert "403" in found["4"]["error"]
    assert (summary.answered, summary.stopped) == (5, "")


def test_counts_of_a_header_are_those_of_the_row(folder, tmp_path):
    with serving(Fake(tells=False, header=True)) as url:
        run(folder, image_rows(1), tmp_path / "a.jsonl", url, recipe="kcenter", keep=0.25)
    with serving(Fake(tells=False)) as url:
        run(folder, image_rows(1), tmp_path / "b.jsonl", url, recipe="kcenter", keep=0.25)
    (with_it,), (without,) = read(tmp_path / "a.jsonl"), read(tmp_path / "b.jsonl")
    assert (with_it["tokens_full"], with_it["tokens_kept"]) == (100, 25)
    assert (without["tokens_full"], without["tokens_kept"]) == (None, None)


@pytest.mark.parametrize("header", [None, "", "{", "[1]", '"x"', "9" * 5000, "[" * 4000, '{"before": "x"}'])
def test_a_header_that_is_no_report_says_nothing(header):
    answer = _with_report({"choices": []}, header)
    assert visual_tokens(answer, SimpleNamespace(given=1, chosen=1)) == (None, None)


@pytest.mark.parametrize(
    ("details", "counts"),
    [
        ({"visual_tokens_full": 100, "visual_tokens": 25}, (100, 25)),
        ({"multimodal_tokens": {"image": 49}}, (None, 49)),  # vLLM knows what it read
        ({"multimodal_tokens": {"image": 49, "video": 10}, "cached_tokens": 0}, (None, 59)),
        ({"multimodal_tokens": {"image": "many"}}, (None, None)),
        ({"visual_tokens_full": -1, "visual_tokens": True}, (None, None)),
        ("none", (None, None)),
    ],
)
def test_counts_are_those_that_a_server_says_and_no_others(details, counts):
    read = SimpleNamespace(given=1, chosen=1)
    assert visual_tokens({"usage": {"prompt_tokens_details": details}}, read) == counts
