"""The shim for VLMEvalKit: against a model as its own are, and (slow) in a checkout of VLMEvalKit itself."""

import base64
import csv
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch
from PIL import Image

import vtc
from vtc.embedded.samples import samples
from vtc.inference.loading import load
from vtc.integrations.vlmevalkit import reduced, register
from vtc.recipes.named import recipe

SAMPLE = samples()[0]


class Chat:
    """A model as VLMEvalKit's own are: what it is made with goes to the constructor, transformers' lies at `model`."""

    def __init__(self, model_path="tiny-llava", max_new_tokens=4, use_vllm=False):
        self.tokens = max_new_tokens
        self.model, self.processor = load(model_path, device="cpu")
        if use_vllm:
            del self.model

    def ids(self, message):
        text = f"USER: <image>\n{message[1]['value']} ASSISTANT:"
        inputs = self.processor(images=Image.open(message[0]["value"]), text=text, return_tensors="pt")
        return self.model.generate(**inputs, max_new_tokens=self.tokens)[:, inputs.input_ids.shape[1] :]

    def generate_inner(self, message, dataset=None):
        return self.processor.decode(self.ids(message)[0], skip_special_tokens=True)


MESSAGE = [{"type": "image", "value": SAMPLE.path}, {"type": "text", "value": SAMPLE.question}]


@pytest.fixture
def models():
    return {"chat": partial(Chat, model_path="tiny-llava"), "server": lambda: "a client"}


def test_the_model_comes_as_its_factory_makes_it_and_answers_as_a_wrapped_one(models):
    made = reduced(models["chat"], "kcenter", keep=3)(max_new_tokens=5)
    stock = Chat(max_new_tokens=5)
    assert (type(made), made.tokens) == (Chat, 5)
    few = made.ids(MESSAGE)
    assert (made.model.vtc.report.after, made.model.vtc.report.before) == (3, 196)
    assert not torch.equal(few, stock.ids(MESSAGE))
    vtc.reduce_tokens(stock.model, "kcenter", keep=3)
    assert torch.equal(few, stock.ids(MESSAGE))
    whole = reduced(models["chat"], keep=1.0)()
    assert torch.equal(whole.ids(MESSAGE), Chat().ids(MESSAGE))


def test_each_recipe_has_a_name_of_its_own_that_starts_with_the_models(models, tmp_path):
    path = tmp_path / "mine.json"
    names = [register(models, "chat", "kcenter", keep=keep) for keep in (0.25, 0.5, 3)]
    names.append(register(models, "chat", "stride", keep=0.25))
    for seed in (0, 1):
        replace(recipe("random", keep=0.25, seed=seed), name="my own/random").save(path)
        names.append(register(models, "chat", path))
    assert len(set(names)) == len(names)
    assert all(name.startswith("chat-") and "/" not in name for name in names)
    assert names[0].startswith("chat-kcenter-0.25-")
    assert register(models, "chat") == register(models, "chat", "kcenter", keep=0.25) == names[0]
    made = [models[name]().model.vtc.recipe for name in names]
    assert [(each.labels[0], each.keep, each.seed) for each in made] == [
        ("select/kcenter", 0.25, 0),
        ("select/kcenter", 0.5, 0),
        ("select/kcenter", 3, 0),
        ("select/stride", 0.25, 0),
        ("select/random", 0.25, 0),
        ("select/random", 0.25, 1),
    ]
    assert not hasattr(models["chat"]().model, "vtc")


def test_what_is_refused_before_any_model_is_made(models):
    before = dict(models)
    with pytest.raises(ValueError, match="name='chatt' is no model"):
        register(models, "chatt")
    with pytest.raises(ValueError, match=r"'strdie'.*'stride'"):
        register(models, "chat", "strdie")
    with pytest.raises(ValueError, match=r"1\.5"):
        register(models, "chat", keep=1.5)
    with pytest.raises(TypeError, match="factory='chat' cannot be called"):
        reduced("chat")
    assert models == before


def test_what_holds_no_model_that_vtc_knows_is_refused(models):
    with pytest.raises(TypeError, match=r"a str of VLMEvalKit .*NoneType.*use_vllm=False"):
        reduced(models["server"])()
    with pytest.raises(TypeError, match=r"a Chat of VLMEvalKit.*use_vllm=False"):
        reduced(models["chat"])(use_vllm=True)

    class Remote(Chat):
        def __init__(self):
            self.model = torch.nn.Linear(2, 2)

    with pytest.raises(ValueError, match="Linear"):
        reduced(Remote)()


SCRIPT = """
import sys
from vlmeval.config import supported_VLM
from vlmeval.vlm.base import BaseModel
from tests.integrations.test_vlmevalkit import Chat
from vtc.integrations.vlmevalkit import register

class Hosted(Chat, BaseModel):
    pass

supported_VLM["tiny"] = Hosted
name = "tiny" if sys.argv[1] == "stock" else register(supported_VLM, "tiny", sys.argv[1], keep=float(sys.argv[2]))
sys.argv[1:] = "--data vtc_samples --mode infer --reuse --model".split() + [name]
import run
run.main()
"""


def _write_data(folder):
    folder.mkdir()
    with open(folder / "vtc_samples.tsv", "w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(["index", "image", "question", "answer"])
        for i, sample in enumerate(samples()[:6]):
            image = base64.b64encode(sample.path.read_bytes()).decode()
            writer.writerow([i, image, sample.question, sample.answer])


@pytest.mark.slow
@pytest.mark.skipif("VLMEVALKIT" not in os.environ, reason="VLMEVALKIT names no checkout of VLMEvalKit to run in")
def test_vlmevalkit_itself_runs_a_local_table_and_keeps_recipes_apart(tmp_path, request):
    """VLMEvalKit comes as a checkout (VLMEVALKIT) and what it asks for (in VLMEVALKIT_PYTHON, or this interpreter)."""
    _write_data(tmp_path / "data")
    settings = {"LMUData": str(tmp_path / "data"), "PRED_FORMAT": "tsv", "HF_HUB_OFFLINE": "1"}
    settings["PYTHONPATH"] = os.pathsep.join([os.environ["VLMEVALKIT"], str(request.config.rootpath)])

    def run(*arguments):
        known = set(tmp_path.glob("outputs/*/*/*.tsv"))
        subprocess.run(
            [os.environ.get("VLMEVALKIT_PYTHON", sys.executable), "-c", SCRIPT, *arguments],
            cwd=tmp_path,
            env={**os.environ, **settings},
            check=True,
        )
        [written] = set(tmp_path.glob("outputs/*/*/*.tsv")) - known
        with open(written) as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        return written.parts[-3], sum(row["prediction"] == row["answer"] for row in rows)

    assert run("stock") == ("tiny", 6)
    quarter, right = run("kcenter", "0.25")
    assert right == 6
    few, right = run("kcenter", "0.02")
    assert right < 6
    assert len({"tiny", quarter, few, run("stride", "0.25")[0]}) == 4
    assert run("kcenter", "0.02") == (few, right)
