"""Media of a batch: images, broken and stuck ones, what the model is told beforehand, and errors asked again."""

from __future__ import annotations

import io
import json
import shutil
import sys
import time
from contextlib import nullcontext

import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.video.batch.videos import (
    FEW,
    clips,
    question,
    read,
    rows,
    save,
    timeless,
    video,
)
from vtc.cli.main import app
from vtc.inference.prompting import processed
from vtc.media.frame_times import on_device
from vtc.media.images import load_image
from vtc.recipes.named import recipe
from vtc.reduction.api import reduced
from vtc.video import answer_batch
from vtc.video.batch import (
    Answerer,
    Job,
    grouped,
)
from vtc.video.batch import (
    loading as opening,
)
from vtc.video.reading import subprocess_reader

STUCK = """
import json, sys, time; sys.path[:] = json.loads(sys.argv[1])
from vtc.video.reading import worker; whole = worker.Local
def opened(path, *rest):
    return time.sleep(600) if path.name == "stuck.mp4" else whole(path, *rest)
worker.Local = opened; worker.main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("media")
    (clip,) = clips(made, 1)
    for i in range(4):
        Image.fromarray(video(i).pixels(96)[0]).save(made / f"{i}.png")
    (made / "cut.mp4").write_bytes(clip.read_bytes()[:600])
    (made / "no.png").write_bytes(b"no image")
    return made


@pytest.fixture(scope="module")
def answerer():
    return Answerer(Job(dtype="float32", **FEW))


def generation(answerer, inputs, spec):
    """What the model answers to a processor's inputs, by `generate` alone."""
    given = on_device(answerer.model, inputs)
    with reduced(answerer.model, spec):
        out = answerer.model.generate(**given, max_new_tokens=6, do_sample=False)
    return answerer.processor.tokenizer.decode(out[0, given["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def test_images_are_answered_as_generate_answers(folder, answerer):
    asked = ["what is in the picture?", "where is the orange ring?", "how many objects are there?"]
    listed = [
        {"id": f"{i}-{j}", "image": f"{i}.png", "question": text} for i in range(2) for j, text in enumerate(asked)
    ]
    out = folder / "images.jsonl"
    summary = answer_batch(save(folder / "p.jsonl", listed), out, dtype="float32", **FEW)
    assert (summary.answered, summary.exit_code) == (6, 0)
    for row, given in zip(read(out), listed, strict=True):
        image = load_image(folder / given["image"])
        inputs = processed(answerer.processor, [given["question"]], [image])
        assert row["answer"] == generation(answerer, inputs, recipe("kcenter"))
        assert row["recipe"] == {"name": "kcenter", "keep": recipe("kcenter").keep}
        assert (row["frames"], row["id"]) == ([], given["id"])
        assert 0 < row["tokens_kept"] < row["tokens_full"]


def test_what_the_model_is_told_beforehand(folder, answerer):
    image = folder / "1.png"
    systems = [None, "yes or no", None]
    group = grouped(
        [
            question({**rows(1, 1)[0], "id": str(i), "video": "1.png"}, folder, image=True, system=system)
            for i, system in enumerate(systems)
        ]
    )[0]
    found = {row["id"]: row["answer"] for row in answerer.answer(group)}
    for q in group.questions:
        turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": q.question}]}]
        if q.system:
            turn.insert(0, {"role": "system", "content": [{"type": "text", "text": q.system}]})
        text = answerer.processor.apply_chat_template([turn], add_generation_prompt=True, tokenize=False)
        inputs = answerer.processor(text=text, images=[load_image(image)], return_tensors="pt")
        assert found[q.id] == generation(answerer, inputs, recipe("kcenter"))
    assert found["0"] == found["2"] != found["1"]  # else an answer would not show what was told
    opened = answerer.open(group)
    assert (opened.system, opened.prompt) == (None, group.first.question)


def test_a_template_that_leaves_the_system_out_costs_those_rows_alone(folder):
    deaf = Answerer(Job(**FEW))
    inner = deaf.processor.apply_chat_template
    deaf.processor.apply_chat_template = lambda turns, **options: inner(
        [[one for one in turn if one["role"] != "system"] for turn in turns], **options
    )
    base = {**rows(1, 1)[0], "video": "0.png"}
    with_system_prompt = [
        question({**base, "id": str(i)}, folder, image=True, system=s) for i, s in enumerate(["be short", None])
    ]
    found = {row["id"]: row["error"] for row in deaf.answer(grouped(with_system_prompt)[0])}
    assert found["1"] is None
    assert "system='be short': the model's chat template leaves it out" in found["0"]
    (alone,) = deaf.answer(grouped(with_system_prompt[:1])[0])
    assert "leaves it out" in alone["error"]


def test_three_of_ten_media_are_broken(folder, tmp_path):
    good = [{"image": f"{i}.png"} for i in range(4)] + [{"video": "0.mp4", "start": s, "end": s + 3} for s in range(3)]
    media = [*good[:2], {"video": "cut.mp4"}, *good[2:5], {"image": "no.png"}, {"video": "gone.mp4"}, *good[5:]]
    listed = [
        {"id": f"{i}-{j}", "question": "what is there?", "answer": "blue", **medium}
        for i, medium in enumerate(media)
        for j in range(2)
    ]
    out = tmp_path / "a.jsonl"
    summary = answer_batch(save(folder / "ten.jsonl", listed), out, **FEW)
    broken = {"2", "6", "7"}
    found = read(out)
    assert [row["id"] for row in found] == [row["id"] for row in listed]
    assert {row["id"][0] for row in found if row["error"]} == broken
    assert all((row["answer"] is None) == (row["id"][0] in broken) for row in found)
    assert (summary.rows, summary.answered, sum(summary.errors.values()), summary.exit_code) == (20, 14, 6, 1)
    # No error is told of a medium that is not its own.
    assert all(
        listed[i].get("video", listed[i].get("image")) in row["error"] for i, row in enumerate(found) if row["error"]
    )


def test_the_column_says_what_a_medium_is_whatever_its_ending(folder, tmp_path):
    shutil.copy(folder / "0.mp4", tmp_path / "unnamed")
    shutil.copy(folder / "0.mp4", tmp_path / "x.jpg")
    shutil.copy(folder / "0.png", tmp_path / "still.mp4")
    frames = [Image.fromarray(pixels) for pixels in video(0).pixels(96)]
    for name in ("x.gif", "x.png", "x.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=500)
    videos, images = ["unnamed", "x.jpg", "x.gif", "x.png", "still.mp4", "x.webp"], ["still.mp4", "x.gif", "x.webp"]
    listed = [{"id": f"v-{name}", "video": name, "question": "what is there?"} for name in videos]
    listed += [{"id": f"p-{name}", "image": name, "question": "what is there?"} for name in images]
    answer_batch(save(tmp_path / "q.jsonl", listed), tmp_path / "a.jsonl", **FEW)
    found = {row["id"]: row for row in read(tmp_path / "a.jsonl")}
    refused = {name for name, row in found.items() if row["error"]}
    assert refused == {"v-still.mp4", "v-x.webp"}
    assert all("belongs into the column 'image'" in found[name]["error"] for name in refused)
    assert len(found["v-x.gif"]["frames"]) == len(found["v-x.png"]["frames"]) > 1


def test_a_medium_that_is_stuck_is_given_up(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(
        subprocess_reader, "command", lambda module: [sys.executable, "-c", STUCK, json.dumps(sys.path)]
    )
    shutil.copy(folder / "0.mp4", tmp_path / "stuck.mp4")
    shutil.copy(folder / "0.png", tmp_path / "0.png")
    listed = [{"id": "s", "video": "stuck.mp4", "question": "?"}, {"id": "p", "image": "0.png", "question": "what?"}]
    begun = time.monotonic()
    summary = answer_batch(save(tmp_path / "q.jsonl", listed), tmp_path / "a.jsonl", timeout=0.5, **FEW)
    assert time.monotonic() - begun < 120
    first, second = read(tmp_path / "a.jsonl")
    assert first["error"].startswith("TimeoutError: ")
    assert "no progress in 0.5 s" in first["error"]
    assert second["error"] is None
    assert summary.errors == {"TimeoutError": 1}


def test_errors_are_asked_again_where_that_is_wanted(folder, tmp_path):
    late = tmp_path / "late.png"
    listed = [
        {"id": name, "image": str(path), "question": "what is there?"}
        for name, path in (("a", late), ("b", folder / "1.png"), ("c", folder / "no.png"))
    ]
    path, out = save(tmp_path / "q.jsonl", listed), tmp_path / "a.jsonl"
    assert answer_batch(path, out, **FEW).answered == 1
    before = {row["id"]: row for row in read(out)}
    shutil.copy(folder / "0.png", late)
    # It is another medium now, and gone on with is what was asked before.
    with pytest.raises(ValueError, match=r"\(--retry\)"):
        answer_batch(path, out, **FEW)
    (tmp_path / ".a.jsonl.part").write_text("left by a run that was killed\n")
    again = answer_batch(path, out, retry=True, **FEW)
    assert (again.fresh, again.rows, again.answered, again.errors) == (2, 3, 2, {"ValueError": 1})
    found = read(out)
    assert [row["id"] for row in found] == ["b", "a", "c"]
    assert found[0] == before["b"]
    assert timeless([found[2]]) == timeless([before["c"]])
    assert sorted(p.name for p in tmp_path.glob("*a.jsonl*")) == ["a.jsonl"]
    with pytest.raises(ValueError, match="start again"):  # answers of another job are never asked again by this
        answer_batch(path, out, retry=True, keep=0.9, **FEW)
    assert read(out) == found


def test_the_command_tells_by_its_exit_code(folder, tmp_path):
    def run(*arguments):
        few = ("--frames", "4", "--max-new-tokens", "6")
        return CliRunner().invoke(app, ["batch", *map(str, arguments), *few], env={"COLUMNS": "200"})

    base = {"question": "what is there?", "answer": "blue"}
    listed = [{"id": "a", "image": "0.png", **base}, {"id": "b", "image": "late.png", **base}]
    path, out = save(tmp_path / "q.jsonl", listed), tmp_path / "a.jsonl"
    shutil.copy(folder / "0.png", tmp_path / "0.png")
    some = run(path, "--out", out)
    assert some.exit_code == 1
    assert "errors: 1 FileNotFoundError" in some.stdout
    shutil.copy(folder / "1.png", tmp_path / "late.png")
    assert run(path, "--out", out).exit_code == 2
    every = run(path, "--out", out, "--retry")
    assert (every.exit_code, "2 rows, 2 answered; 1 rows in this run" in every.stdout) == (0, True)
    for wrong in (["--shard", "2"], ["--engine", "slurm"], ["--keep", "0.9"]):
        refused = run(path, "--out", out, *wrong)
        assert (refused.exit_code, "error:" in refused.stderr) == (2, True), wrong
    assert len(read(out)) == 2


@pytest.mark.parametrize("largest", [5, 4])
def test_what_an_address_answers_is_bounded(largest, tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "LARGEST", largest)
    monkeypatch.setattr("urllib.request.urlopen", lambda address, timeout: io.BytesIO(b"12345"))
    refused = nullcontext() if largest == 5 else pytest.raises(ValueError, match="holds more than")
    with refused, opening.fetched("http://x.org/a.png", 1.0) as path:
        assert path.read_bytes() == b"12345"
