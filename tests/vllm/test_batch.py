"""A batch that vLLM answers in this process, beside the local engine: rows, errors, an engine that ends, going on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.video.batch.videos import clips, read, rows, save
from vtc.embedded.samples import samples
from vtc.embedded.scene import HELD_OUT, Scene
from vtc.inference.prompting import processed
from vtc.media.images import load_image
from vtc.video import answer_batch
from vtc.video.batch import Job, engine, grouped
from vtc.video.batch.attempts import EngineStopped
from vtc.video.batch.context import PromptLimits
from vtc.video.batch.questions import Question
from vtc.video.batch.served.in_flight import InFlight
from vtc.video.batch.served.vllm_engine import VLLMError, VLLMRequests, _Ready, by_item

ARGUMENTS = {
    "enforce_eager": True,
    "max_model_len": 1024,
    "limit_mm_per_prompt": {"image": 8, "video": 1},
    "max_num_seqs": 8,
    "block_size": 32,
}
FIELDS = dict(dtype="float32", frames=8, max_new_tokens=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("clips")
    clips(made, 3)
    (made / "broken.mp4").write_bytes(b"no video at all")
    return made


@pytest.fixture(scope="module", params=["tiny-qwen", "tiny-llava"])
def requests(request):
    """An engine of each model, which the runs of a module share."""
    job = Job(model=request.param, engine="vllm", engine_args=ARGUMENTS, keep=0.25, **FIELDS)
    found = VLLMRequests(job)
    yield found
    found.close()


@pytest.fixture
def run(requests, monkeypatch):
    """`answer_batch` by the engine that is there, whatever the recipe."""

    def answered(path, out, **fields):
        def shared(job, *_):
            requests.job = requests.make.job = job
            requests._limits = PromptLimits(None, job.max_prompt)
            return SimpleNamespace(answers=InFlight(requests).answers, close=lambda: None)

        monkeypatch.setattr(engine, "engine_of", shared)
        given = {"model": requests.job.model, "engine": "vllm", "engine_args": ARGUMENTS, **FIELDS, **fields}
        return answer_batch(path, out, **given)

    return answered


def image_rows(folder):
    scenes = [Scene(HELD_OUT + i) for i in range(4)]
    for i, scene in enumerate(scenes):
        scene.image.save(folder / f"{i}.png")
    return [
        {"id": f"{i}-{j}", "image": f"{i}.png", "question": q.question, "answer": q.answer}
        for i, scene in enumerate(scenes)
        for j, q in enumerate(scene.questions[:3])
    ]


@pytest.mark.parametrize("keep", [1.0, 0.25])
def test_answers_about_images_are_those_of_the_local_engine(requests, run, folder, tmp_path, keep):
    path = save(folder / "images.jsonl", image_rows(folder))
    local = answer_batch(path, tmp_path / "l.jsonl", model=requests.job.model, keep=keep, **FIELDS)
    served = run(path, tmp_path / "v.jsonl", keep=keep)
    assert (served.tokens_full, served.tokens_kept) == (local.tokens_full, local.tokens_kept)
    assert (served.tokens_kept < served.tokens_full) == (keep < 1)
    one, two = ({row["id"]: row for row in read(tmp_path / f"{name}.jsonl")} for name in "lv")
    same = sum(one[name]["answer"] == two[name]["answer"] for name in one)
    # LLaVA's kept tokens stand side by side in vLLM, which counts their positions itself.
    assert same == len(one) if keep == 1.0 or requests.job.model == "tiny-qwen" else same >= len(one) - 2
    assert list(one["0-0"]) == list(two["0-0"])
    assert one["0-0"]["recipe"] == two["0-0"]["recipe"]
    assert one["0-0"]["fingerprint"] != two["0-0"]["fingerprint"]


def test_videos_are_read_as_the_local_engine_reads_them(requests, run, folder, tmp_path):
    path = save(folder / "videos.jsonl", rows(3, 4))
    answer_batch(path, tmp_path / "l.jsonl", model=requests.job.model, recipe="video", keep=0.25, **FIELDS)
    served = run(path, tmp_path / "v.jsonl", recipe="video", keep=0.25)
    assert served.exit_code == 0
    one, two = ({row["id"]: row for row in read(tmp_path / f"{name}.jsonl")} for name in "lv")
    assert [one[name]["frames"] for name in one] == [two[name]["frames"] for name in one]
    assert [one[name]["tokens_full"] for name in one] == [two[name]["tokens_full"] for name in one]
    kept = [(one[name]["tokens_kept"], two[name]["tokens_kept"]) for name in one]
    if requests.job.model == "tiny-qwen":
        assert all(mine == theirs for mine, theirs in kept)
        assert sum(one[name]["answer"] == two[name]["answer"] for name in one) >= len(one) - 1
    else:  # each frame is an item, whose count is rounded by itself
        frames = len(one["0-0"]["frames"])
        assert all(abs(mine - theirs) <= frames for mine, theirs in kept)


def test_the_prompt_is_what_the_processor_makes(requests):
    question = Question("1", str(samples()[0].path), "what colour is it?", image=True)
    group = grouped([question])[0]
    requests.job = Job(model=requests.job.model, engine="vllm", keep=1.0, **FIELDS)
    medium = requests.open(group, processor=requests._processor)
    requests.submit("1", requests.request(question, medium))
    (key,) = requests._flying
    outputs = []
    while not any(output.finished for output in outputs):
        outputs += requests._llm.llm_engine.step()
    requests._flying.clear()
    assert outputs[-1].request_id.startswith(key)
    wanted = processed(requests._processor, [question.question], [load_image(question.medium)])["input_ids"][0]
    assert list(outputs[-1].prompt_token_ids) == wanted.tolist()


def test_errors_are_rows_and_the_others_are_answered(run, folder, tmp_path):
    listed = rows(1, 2)
    listed.append({**listed[0], "id": "broken", "video": "broken.mp4"})
    listed.append({**listed[0], "id": "long", "question": "what is red? " * 600})
    listed.append({**listed[0], "id": "held", "question": "what is <|video_pad|> or <image>?"})
    summary = run(save(folder / "errors.jsonl", listed), tmp_path / "a.jsonl", recipe="video", keep=0.25)
    found = {row["id"]: row for row in read(tmp_path / "a.jsonl")}
    assert summary.answered == 2
    assert {name for name, row in found.items() if row["error"]} == {"broken", "long", "held"}
    assert "1024" in found["long"]["error"]
    again = run(folder / "errors.jsonl", tmp_path / "b.jsonl", recipe="video", keep=0.25, max_prompt=100)
    assert again.answered <= 2
    assert "max_prompt=100" in {row["id"]: row for row in read(tmp_path / "b.jsonl")}["long"]["error"]


def test_asked_to_stop_it_goes_on_with_no_row_lost_or_doubled(requests, run, folder, tmp_path):
    path, count = save(folder / "stop.jsonl", rows(3, 4)), []
    requests.most = 3
    first = run(
        *(path, tmp_path / "a.jsonl"), recipe="video", keep=0.25, on_row=count.append, stop=lambda: len(count) >= 4
    )
    assert (first.stopped, first.exit_code) == ("interrupted", 130)
    assert 4 <= first.fresh < 12
    second = run(path, tmp_path / "a.jsonl", recipe="video", keep=0.25)
    assert second.fresh == 12 - first.fresh
    assert len({row["id"] for row in read(tmp_path / "a.jsonl")}) == 12


def test_an_engine_that_ends_leaves_out_what_it_ended_over_twice(requests, run, folder, tmp_path, monkeypatch):
    """The engine ends whenever one question is in hand: with others, alone, and then it is an error of its row."""
    listed, out = rows(2, 3), tmp_path / "a.jsonl"
    path, real = save(folder / "dead.jsonl", listed), requests.finished

    def dying(stop):
        if any(name == "0-1" for name, *_ in requests._flying.values()):
            requests.drop()
            raise EngineStopped("vLLM ended")
        return real(stop)

    monkeypatch.setattr(requests, "finished", dying)
    for _ in range(2):
        with pytest.raises(EngineStopped):
            run(path, out, recipe="video", keep=0.25)
        assert out.with_name("a.jsonl.attempts").exists()
    summary = run(path, out, recipe="video", keep=0.25)
    assert summary.errors == {"ProcessKilled": 1}
    assert summary.rows == 6
    (row,) = (row for row in read(out) if row["error"])
    assert row["id"] == "0-1"


def test_an_answer_from_all_tokens_where_fewer_were_asked_for_is_an_error(requests):
    token = next(iter(requests._media))
    output = SimpleNamespace(prompt_token_ids=[token] * 64, outputs=[SimpleNamespace(text=" red ")])
    asked = _Ready({}, [], {"recipe": {}, "keep": 0.25}, 64, 64)
    found = requests._reply(output, asked)
    assert isinstance(found, VLLMError)
    assert "plug-in is not loaded" in str(found)
    for own, kept in ((None, 64), (asked.own, 16)):
        output.prompt_token_ids = [token] * kept
        reply = requests._reply(output, _Ready({}, [], own, 64, 64))
        assert (reply.text, reply.full, reply.kept) == ("red", 64, kept)


def test_a_share_of_a_video_is_one_of_each_frame():
    from vtc.recipes.named import recipe

    assert by_item(recipe("kcenter", keep=32), 128).keep == 0.25
    assert by_item(recipe("kcenter", keep=500), 128).keep == 1.0
    assert by_item(recipe("kcenter", keep=0.5), 128).images_as == "items"
