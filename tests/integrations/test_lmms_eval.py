"""The entry point for lmms-eval: against a stand-in of its few names that are used, and (slow) against itself."""

import importlib
import json
import os
import subprocess
import sys
import types
import venv
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import torch
from PIL import Image

import vtc
from vtc import embedded
from vtc.embedded.samples import samples
from vtc.inference.loading import load
from vtc.recipes.named import recipe

SAMPLE = samples()[0]
VERSION = "0.7.3"


class Lmms:
    is_simple = True


@dataclass(frozen=True)
class ModelManifest:
    model_id: str
    simple_class_path: str | None = None
    chat_class_path: str | None = None


@dataclass
class Request:
    """A question as lmms-eval hands it on: the text, what is to be generated, and the rest."""

    arguments: tuple

    @property
    def args(self):
        return self.arguments


class Backend(Lmms):
    """A backend as lmms-eval's own are: what it is given goes to the constructor, the model lies at `model`.

    As llava_hf does, it writes what a request leaves open into the request's own arguments.
    """

    def __init__(self, pretrained="tiny-llava", batch_size=1, device="cpu"):
        self.arguments = {"pretrained": pretrained, "batch_size": batch_size, "device": device}
        self.model, self.processor = load(pretrained, device=device)

    def answer(self, **options):
        text = f"USER: <image>\n{SAMPLE.question} ASSISTANT:"
        inputs = self.processor(images=Image.open(SAMPLE.path), text=text, return_tensors="pt")
        return self.model.generate(**inputs, **{"max_new_tokens": 4, **options})

    def generate_until(self, requests):
        for request in requests:
            request.args[1].pop("until", None)
            request.args[1].setdefault("num_beams", 1)
        return [self.answer(**request.args[1]).tolist() for request in requests]


class Cache(dict):
    """lmms-eval's answer cache: the key is read before the backend answers, and again to keep what it answered."""

    def execute(self, backend, model_args, requests):
        """The answers, and how many of them were kept ones."""
        found = [self.get(self._key(model_args, request)) for request in requests]
        missed = [request for request, answer in zip(requests, found, strict=True) if answer is None]
        fresh = backend.generate_until(missed)
        self.update({self._key(model_args, request): answer for request, answer in zip(missed, fresh, strict=True)})
        news = iter(fresh)
        return [next(news) if answer is None else answer for answer in found], len(requests) - len(missed)

    @staticmethod
    def _key(model_args, request):
        return model_args, request.args[0], json.dumps(request.args[1], sort_keys=True)


class Served(Lmms):
    """A backend that asks a server."""

    model = "gpt"


def _number(text):
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


@pytest.fixture
def host(monkeypatch):
    """vtc.integrations.lmms_eval, imported over the stand-in; gone afterwards."""
    asked = []

    def get_model(name, force_simple=False):
        asked.append((name, force_simple))
        return {"hf": Backend, "served": Served}[name]

    def parse(text):
        return {key: _number(value) for key, value in (part.split("=", 1) for part in text.split(",") if part)}

    names = {
        "lmms_eval": {},
        "lmms_eval.api": {},
        "lmms_eval.api.model": {"lmms": Lmms},
        "lmms_eval.models": {"get_model": get_model},
        "lmms_eval.models.registry_v2": {"ModelManifest": ModelManifest},
        "lmms_eval.utils": {"simple_parse_args_string": parse},
    }
    for name, content in names.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    assert "vtc.integrations.lmms_eval" not in sys.modules
    found = importlib.import_module("vtc.integrations.lmms_eval")
    yield types.SimpleNamespace(module=found, asked=asked)
    del sys.modules["vtc.integrations.lmms_eval"], vtc.integrations.lmms_eval


def test_the_backend_comes_back_with_its_model_wrapped(host):
    backend = host.module.Vtc.create_from_arg_string(
        "backend=hf,recipe=stride,keep=0.25,pretrained=tiny-llava", {"batch_size": 2, "device": None}
    )
    assert type(backend) is Backend
    assert backend.arguments == {"pretrained": "tiny-llava", "batch_size": 2, "device": "cpu"}
    backend.answer()
    report = backend.model.vtc.report
    assert (report.recipe, report.after, report.before) == ("stride", 49, 196)


def test_its_answers_are_those_of_the_wrapped_model_and_of_the_stock_one_at_keep_1(host):
    stock = Backend()
    whole = host.module.Vtc.create_from_arg_string("backend=hf,keep=1.0")
    few = host.module.Vtc.create_from_arg_string("backend=hf,recipe=kcenter,keep=3")
    assert torch.equal(whole.answer(), stock.answer())
    assert not torch.equal(few.answer(), stock.answer())
    vtc.reduce_tokens(stock.model, "kcenter", keep=3)
    assert torch.equal(few.answer(), stock.answer())


def test_a_plan_is_asked_by_and_no_argument_of_the_backend(host):
    backend = host.module.Vtc.create_from_arg_string("backend=hf,plan=decompose")
    backend.task_dict = {"task": {"test": [{}]}}
    assert "plan" not in backend.arguments
    with pytest.raises(ValueError, match=r"one video.* holds 0 .*plan.*--model_args"):
        backend.generate_until([Request(("what?", {}, lambda document: [], 0, "task", "test"))])
    whole = host.module.Vtc.create_from_arg_string("backend=hf,plan=direct,keep=1.0")
    assert whole.generate_until(_asked()) == Backend().generate_until(_asked())


def test_keep_is_read_as_the_command_reads_it(host):
    for text, keep in (("1", 1.0), ("0.5", 0.5), ("64", 64), ("64.0", 64)):
        backend = host.module.Vtc.create_from_arg_string(f"backend=hf,keep={text}")
        assert backend.model.vtc.recipe.keep == keep
        assert type(backend.model.vtc.recipe.keep) is type(keep)
    assert host.module.Vtc.create_from_arg_string("backend=hf").model.vtc.recipe == recipe()


def test_a_recipe_file_is_named_with_its_hash(host, tmp_path):
    path = tmp_path / "mine.json"
    recipe("stride", keep=7).save(path)
    create = host.module.Vtc.create_from_arg_string
    with pytest.raises(ValueError, match=r"recipe_hash=None.*add recipe_hash=sha256:") as refused:
        create(f"backend=hf,recipe={path}")
    stated = str(refused.value).split("add ")[1].split(" ")[0]
    assert create(f"backend=hf,recipe={path},{stated}").model.vtc.recipe.keep == 7
    recipe("stride", keep=8).save(path)
    with pytest.raises(ValueError, match="recipe_hash='sha256:"):
        create(f"backend=hf,recipe={path},{stated}")


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ("recipe=stride", ValueError, "backend=None; name a model"),
        ("backend=vtc", ValueError, "backend='vtc'; name a model"),
        ("backend=served", TypeError, "backend='served' holds no transformers model"),
        ("backend=hf,recipe=strdie", ValueError, "'strdie'.*'stride'"),
        ("backend=hf,keep=half", ValueError, "keep='half' is no number"),
        ("backend=hf,keep=1.5", ValueError, "1.5"),
        ("backend=hf,recipe=stride,recipe_hash=sha256:00", ValueError, "leave it out"),
        ("backend=hf,plan=decompos", ValueError, "unknown strategy 'decompos'; did you mean 'decompose'"),
    ],
)
def test_what_is_refused(host, arguments, error, said):
    with pytest.raises(error, match=said):
        host.module.Vtc.create_from_arg_string(arguments)


def test_lmms_eval_finds_both_protocols(host):
    [point] = [point for point in entry_points(group="lmms_eval.models") if point.name == "vtc"]
    manifest = point.load()()
    assert manifest.model_id == "vtc"
    for path, simple in ((manifest.chat_class_path, False), (manifest.simple_class_path, True)):
        module, name = path.rsplit(".", 1)
        found = getattr(importlib.import_module(module), name)
        assert issubclass(found, Lmms)
        assert found.is_simple is simple
        found.create_from_arg_string("backend=hf")
        assert host.asked[-1] == ("hf", simple)


def _asked():
    return [Request((f"{SAMPLE.question} {i}", {"max_new_tokens": 4 + i, "until": ["."]}, 0, "task")) for i in range(2)]


def test_the_answer_cache_of_the_host_hits_and_gives_each_keep_its_own_answers(host):
    stock, cache = Backend(), Cache()
    written = _asked()
    assert [cache.execute(stock, "stock", requests)[1] for requests in (written, _asked())] == [0, 0]
    assert written != _asked()

    answers = {}
    for arguments in ("backend=hf,keep=1.0", "backend=hf,keep=3"):
        backend = host.module.Vtc.create_from_arg_string(arguments)
        requests = _asked()
        answers[arguments], hits = cache.execute(backend, arguments, requests)
        assert hits == 0
        assert requests == _asked()
    for arguments, answer in answers.items():
        assert cache.execute(host.module.Vtc.create_from_arg_string(arguments), arguments, _asked()) == (answer, 2)
    whole, few = answers.values()
    assert whole == stock.generate_until(_asked())
    assert whole != few


@pytest.mark.parametrize("method", ["generate_until_multi_round", "generate_visual_cot"])
def test_the_other_methods_that_generate_leave_requests_alone_too(host, monkeypatch, method):
    monkeypatch.setattr(Backend, method, lambda self, requests: [r.args[1].pop("until") for r in requests], False)
    requests = _asked()
    assert getattr(host.module.Vtc.create_from_arg_string("backend=hf"), method)(requests) == [["."], ["."]]
    assert requests == _asked()
    getattr(Backend(), method)(requests)
    assert requests != _asked()


def test_neither_protocol_answers_itself(host):
    with pytest.raises(NotImplementedError, match="create_from_arg_string"):
        host.module.Vtc().generate_until([])


TASK = """
task: vtc_samples
dataset_path: json
dataset_kwargs: {data_files: {test: ROWS}}
test_split: test
output_type: generate_until
doc_to_visual: !function local.doc_to_visual
doc_to_text: !function local.doc_to_text
doc_to_target: answer
generation_kwargs: {max_new_tokens: 4}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
metadata: [{version: 0.0}]
"""
FUNCTIONS = """
from PIL import Image
def doc_to_visual(doc): return [Image.open(doc["image"]).convert("RGB")]
def doc_to_text(doc, lmms_eval_specific_kwargs=None): return doc["question"]
"""


def _write_task(folder):
    rows = [{"image": str(s.path), "question": s.question, "answer": s.answer} for s in samples()[:6]]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "local.py").write_text(FUNCTIONS)
    (folder / "task.yaml").write_text(TASK.replace("ROWS", str(folder / "rows.jsonl")))


def _environment(folder):
    """A virtual environment over this one that holds lmms-eval and the PyAV below 16 it asks for; its interpreter.

    lmms-eval asks for no filelock, but imports `filelock._api`, which filelock 4 has no more.
    """
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    here = next(path for path in sys.path if path.endswith("site-packages"))
    inside = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (inside / "vtc_below.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    subprocess.run([python, "-m", "pip", "install", "-q", f"lmms-eval=={VERSION}", "filelock<4"], check=True)
    return python


@pytest.mark.slow
def test_lmms_eval_itself_runs_a_local_task_and_its_cache_tells_recipes_apart(tmp_path):
    _write_task(tmp_path)
    python = _environment(tmp_path / "env")

    def run(name, arguments):
        command = [python, "-m", "lmms_eval", "--model", name, "--tasks", "vtc_samples", "--include_path", tmp_path]
        options = ["--device", "cpu", "--batch_size", "1", "--use_cache", tmp_path / "cache", "--log_samples"]
        given = f"{arguments},pretrained={embedded.path('tiny-llava')},device_map=cpu"
        out = tmp_path / f"out{len(list(tmp_path.glob('out*')))}"
        done = subprocess.run(
            [*command, *options, "--model_args", given, "--output_path", out],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            cwd=tmp_path,
        )
        stats = [line for line in done.stderr.splitlines() + done.stdout.splitlines() if "ResponseCache stats" in line]
        [scores] = out.rglob("*results.json")
        score = json.loads(Path(scores).read_text())["results"]["vtc_samples"]["exact_match,none"]
        return score, int(stats[0].split("stats: ")[1].split(" hits")[0])

    stock = "dtype=float32"
    assert [run("llava_hf", stock), run("llava_hf", stock)] == [(1.0, 0), (1.0, 0)]
    quarter = "backend=llava_hf,recipe=kcenter,keep=0.25"
    assert [run("vtc", quarter), run("vtc", quarter)] == [(1.0, 0), (1.0, 6)]
    few = "backend=llava_hf,recipe=kcenter,keep=0.02"
    (score, hits), again = run("vtc", few), run("vtc", few)
    assert score < 1.0
    assert (hits, again) == (0, (score, 6))
    assert run("vtc", "backend=llava_hf,recipe=stride,keep=0.25")[1] == 0
    assert run("vtc", quarter) == (1.0, 6)
