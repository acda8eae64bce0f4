"""`vtc check`: what holds of good models passes, what is broken fails in the row that is there to find it."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel, Qwen3VLProcessor, Qwen3VLVideoProcessor
from transformers.cache_utils import DynamicLayer

from tests.families import FAMILIES, LLAVA, Family
from tests.families.qwen import qwen3vl, qwen25vl
from tests.names import CACHE
from tests.test_cli import vtc_command
from tests.test_processors import qwen_processor
from vtc import Recipe, Reduction, check_inside, findings, handle, runs, tiny
from vtc import check as checking
from vtc.adapters.llava import Llava
from vtc.cases import makers
from vtc.check import CHECKS, check, possible, recipes, runnable
from vtc.check_inside import alike, keeping_all
from vtc.check_masked import _without
from vtc.checks import Check
from vtc.cost import DecoderCost
from vtc.decoder import cache as caches
from vtc.decoder import engine
from vtc.decoder.trace import Trace
from vtc.findings import Finding, drift
from vtc.loading import load
from vtc.prompt import Splice
from vtc.runs import few_threads
from vtc.stages import STAGES, Mean, Merger, Resize, Selector, Stride
from vtc.stages.decoder import VTW, Cut, DecoderStage, FastV, Layerwise, ToDRE
from vtc.trials import Bench, Case

TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }} "
    "{% else %}<|vision_start|><|{{ c['type'] }}_pad|><|vision_end|>{% endif %}{% endfor %}{% endfor %}"
)
ROWS = [[3, (1, 12, 4), 4, (2, 4, 8), 5], [2, (3, 8, 6), 6], [9]]
ORDER = (2, 1, 0)
SHOWN = [f for f in FAMILIES if f.name in ("llava", "qwen25vl", "qwen3vl", "qwen3vl-film", "llava-next", "gemma3")]
NAMES = [one.name for one in CHECKS]
FEW = ["--recipe", "kcenter", "--positions", "original", "--max-new-tokens", "2"]


def cases(family: Family) -> list[Case]:
    """Ready inputs in place of a processor's."""
    inputs = family.inputs
    rows = tuple(inputs([row]) for row in ROWS)
    batch = Case("batch", inputs(ROWS), rows, inputs([ROWS[i] for i in ORDER]), ORDER)
    return [Case("one picture", rows[1]), Case("two pictures", rows[0]), batch]


def looked(model, chosen, family: Family = LLAVA, *, batch: bool = True):
    return check(Bench(model, cases(family)[: 3 if batch else 2], chosen, 3))


# What is right passes


@pytest.mark.parametrize("family", SHOWN, ids=lambda family: family.name)
def test_all_holds_of_small_models(family):
    model = family.build()
    able, _ = runnable(model, recipes())
    result = looked(model, able, family)
    assert [row.failures for row in result.rows if not row.holds] == []
    assert result.holds
    assert result.summary == f"{len(CHECKS)} of {len(CHECKS)} hold"
    assert "vtc" not in model.__dict__
    assert {"kcenter", "kcenter-mean", "stride"} <= set(result.recipes)
    assert family.layers != "full" or {"layerwise", "kcenter+feather"} <= set(result.recipes)


def test_the_command_on_the_embedded_model():
    result = vtc_command("check", "--model", "tiny-llava", "--max-new-tokens", "3")
    assert result.exit_code == 0, result.stdout
    assert f"{len(CHECKS)} of {len(CHECKS)} hold" in result.text
    assert "LlavaForConditionalGeneration, adapter Llava, float32 on cpu; transformers" in result.text
    assert "prompts: one picture, two pictures, batch" in result.text
    assert "left out, since this model cannot run them: globalcom2" in result.text
    for name in NAMES:
        line = next(line for line in result.stdout.splitlines() if line.strip().startswith(name))
        assert line.split()[-1] == "yes"
    assert result.stderr == ""


@pytest.mark.parametrize(("dtype", "name"), [("bfloat16", "kcenter-mean"), ("float16", "kcenter+feather")])
def test_half_precision_is_judged_beside_the_stock_model(dtype, name):
    model, processor = load("tiny-llava", device="cpu", dtype=dtype)
    found, _ = possible(model, makers(model, processor))
    result = check(Bench(model, found, recipes([name], positions="original"), 3))
    assert result.holds, result.summary
    batch = result.rows[NAMES.index("a batch equals its singles")].worst
    assert batch.stock > 0
    assert batch.allowed >= 4 * batch.stock
    assert batch.worst <= batch.allowed


def saved(model, processor, place) -> str:
    """A directory that holds both."""
    model.save_pretrained(place)
    processor.chat_template = TEMPLATE
    processor.save_pretrained(place)
    return str(place)


def processors():
    processor = qwen_processor()
    size = dict(processor.video_processor.size)
    video = Qwen3VLVideoProcessor(patch_size=4, merge_size=2, temporal_patch_size=2, size=size)
    newer = Qwen3VLProcessor(processor.image_processor, processor.tokenizer, video)
    return {"qwen25vl": (qwen25vl, processor), "qwen3vl": (qwen3vl, newer)}


@pytest.mark.parametrize("name", ["qwen25vl", "qwen3vl"])
def test_a_directory_with_films(tmp_path, name):
    build, processor = processors()[name]
    result = vtc_command("check", "--model", saved(build(), processor, tmp_path), *FEW)
    assert result.exit_code == 0, result.stdout
    assert "prompts: one picture, two pictures, batch, video" in result.text
    assert f"{len(CHECKS)} of {len(CHECKS)} hold" in result.text


def test_results_are_plain_data():
    result = looked(LLAVA.build(), recipes(["stride"], positions="original"))
    assert json.loads(json.dumps(asdict(result)))["rows"][0]["name"] == NAMES[0]


# What is wrong is found where it should be


@dataclass(frozen=True)
class Crowded(Selector):
    """Looks beyond its own item: at what `seen` holds of the request."""

    name = "crowded"
    seen = [0]  # noqa: RUF012

    def select(self, tokens, pool, k, *, seed):
        return pool[self.seen[0] % 5 :][:k]


@dataclass(frozen=True)
class Rounding(Selector):
    """Scores in the features' own dtype."""

    name = "rounding"

    def select(self, tokens, pool, k, *, seed):
        return pool[tokens.features[pool].sum(dim=-1).topk(k).indices].sort().values


@dataclass(frozen=True)
class Flipped(Merger):
    """`Mean`, with its outputs in reverse."""

    name = "flipped"

    def merge(self, tokens, anchor):
        found = Mean().merge(tokens, anchor)
        assign = torch.where(found.assign < 0, found.assign, len(anchor) - 1 - found.assign)
        return Reduction(found.anchor.flip(0), assign, found.weight)


def around(patch, owner, name, change):
    """Replaces a method by `change(the method, its arguments)`."""
    stock = owner.__dict__[name] if name in owner.__dict__ else getattr(owner, name)
    patch.setattr(owner, name, lambda *args, **kwargs: change(stock, *args, **kwargs))


def late_positions(patch):
    def change(stock, *args):
        found = stock(*args)
        return found + (found > 4)

    around(patch, Llava, "positions", change)


def lost_text(patch):
    def change(keep, *, left):
        keep[:, -2] = False
        return stock(keep, left=left)

    stock = Splice.keeping
    patch.setattr(Splice, "keeping", change)


def other_text(patch):
    def change(stock, *args):
        short = stock(*args)
        short["input_ids"][:, 0] = 5
        return short

    around(patch, handle, "shortened", change)


def company(patch):
    def change(stock, self, media, cues):
        Crowded.seen[0] = len(media)
        return stock(self, media, cues)

    around(patch, Llava, "encode", change)


def first_in_line(patch):
    def change(stock, self, media, cues):
        Crowded.seen[0] = media[0].key
        return stock(self, media, cues)

    around(patch, Llava, "encode", change)


def left_hook(patch):
    def change(stock, self):
        stock(self)
        self.model.get_decoder().layers[1].register_forward_hook(lambda *args: None)

    around(patch, handle.Handle, "detach", change)


def wrong_count(patch):
    around(patch, handle.Handle, "count", lambda stock, self, **inputs: [n + 1 for n in stock(self, **inputs)])


def no_identity(patch):
    def change(stock, self, media, cues):
        return [replace(tokens, features=tokens.features * 1.01) for tokens in stock(self, media, cues)]

    patch.setattr("vtc.request.is_identity", lambda recipe, media: False)
    around(patch, Llava, "encode", change)


def late_steps(patch):
    def change(stock, self, *args, **kwargs):
        given = stock(self, *args, **kwargs)
        cache = kwargs.get(CACHE)
        if "vtc" in (kwargs.get("mm_encoder_outputs") or {}) and cache is not None and cache.get_seq_length():
            given["position_ids"] = given["position_ids"] + 3
        return given

    around(patch, handle.Handle, "prepare_inputs_for_generation", change)


def other_stream(patch):
    def change(stock, self, *args, **kwargs):
        if kwargs.get("streamer") is not None:
            kwargs["suppress_tokens"] = list(range(0, 100, 2))
        return stock(self, *args, **kwargs)

    around(patch, handle.Handle, "generate", change)


def other_file(patch):
    load = Recipe.load
    patch.setattr(Recipe, "load", lambda path: replace(load(path), keep=3))


def free_of_charge(patch):
    patch.setattr(DecoderCost, "prefill_flops", lambda self, tokens: 0)


CONTROLS = {
    late_positions: (Stride(), {"positions", "prefill"}),
    lost_text: (Stride(), {"counts", "embeddings", "positions", "prefill", "two turns"}),
    other_text: (Stride(), {"embeddings", "prefill"}),
    company: (Crowded(), {"a batch"}),
    first_in_line: (Crowded(), {"a batch", "permuting"}),
    left_hook: (Stride(), {"restore"}),
    wrong_count: (Stride(), {"counts"}),
    no_identity: (Stride(), {"keep=1.0", "prefill"}),
    late_steps: (Stride(), {"cache", "two turns"}),
    other_stream: (Stride(), {"greedy"}),
    other_file: (Stride(), {"a saved"}),
    free_of_charge: (Stride(), {"the report's"}),
    "scores in half precision": (Rounding(), {"fp32"}),
    "outputs in reverse": ((Stride(), Flipped()), {"kept", "prefill"}),
}


@pytest.mark.parametrize("positions", ["original", "compact"])
@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: getattr(control, "__name__", control))
def test_what_is_broken_fails_its_own_row_and_no_other(control, positions, monkeypatch):
    stages, wanted = CONTROLS[control]
    for stage in (Crowded, Rounding, Flipped):
        monkeypatch.setitem(STAGES._entries, f"{stage.kind}/{stage.name}", stage)
    recipe = Recipe(stages if isinstance(stages, tuple) else (stages,), positions=positions)
    model = LLAVA.build()
    assert control in (company, first_in_line) or isinstance(control, str) or looked(model, [recipe]).holds
    if callable(control):
        control(monkeypatch)
    # These spoil requests with pictures: a row of text goes wrong in such company only, which its own row finds too.
    alone = (late_positions, lost_text, other_text, late_steps)
    result = looked(model, [recipe], batch=control not in alone)
    failing = {row.name for row in result.rows if row.holds is False}
    if positions == "compact" and control is late_positions:
        wanted = {"positions"}  # by hand, compact positions are those that were given
    assert failing == {name for name in NAMES if name.startswith(tuple(wanted))}, [r.failures for r in result.rows]
    assert not result.holds
    assert all(row.name in result.summary for row in result.rows if row.holds is False)


# What is wrong inside the language model


@dataclass(frozen=True)
class CrowdedInside(DecoderStage):
    """Looks beyond its own item."""

    schedule: Any = ((1, 0.5),)
    name = "crowded-inside"

    def keep(self, tokens, count, cut):
        return torch.arange(len(tokens))[Crowded.seen[0] % 2 :][:count]


def other_trace(patch):
    def change(stock, self, stayed):
        found = {layer: [replace(one, index=one.index - 1) for one in items] for layer, items in stayed.items()}
        stock(self, found)

    around(patch, Trace, "note", change)


def one_more(patch):
    def change(stock, *args):
        return {layer: replace(entry, cut=Due(entry.cut)) for layer, entry in stock(*args).items()}

    around(patch, Cut, "count", lambda stock, self, first: stock(self, first) + 1)
    around(patch, check_inside, "plan", change)


@dataclass(frozen=True)
class Due:
    """What a cut leaves where nothing is broken."""

    cut: Cut

    def count(self, first):
        return self.cut.count(first) - 1


def only_masked(patch):
    """The layers are given everything, as if what left were only masked."""

    def change(stock, model):
        with stock(model) as watched:
            yield watched
        watched.widths[:] = watched.widths[:1] * len(watched.widths)

    around(patch, runs, "_first_call", lambda stock, model: contextmanager(change)(stock, model))


def scaled(patch):
    around(patch, engine, "cut_before", lambda stock, step, states, *args: stock(step, states * 1.01, *args))


def company_inside(patch):
    company(patch)


def physical_length(patch):
    classes = [caches.shortened_class(base) for base in (DynamicLayer,)]
    for one in classes:
        patch.setattr(one, "get_seq_length", lambda self: self.keys.shape[2] if self.is_initialized else 0)


def free_inside(patch):
    patch.setattr(Trace, "prefill_flops", property(lambda self: 1 + self.cost.linear_flops * 10**9))


INSIDE = {
    other_trace: {"kept", "prefill", "two turns"},
    one_more: {"counts"},
    only_masked: {"counts"},
    scaled: {"keep=1.0", "cache", "prefill", "two turns"},
    company_inside: {"a batch"},
    physical_length: {"two turns"},
    free_inside: {"the report's"},
}


@pytest.mark.parametrize("control", INSIDE, ids=lambda control: control.__name__)
def test_what_is_broken_inside_fails_its_own_row_and_no_other(control, monkeypatch):
    monkeypatch.setitem(STAGES._entries, "decoder/crowded-inside", CrowdedInside)
    crowded, first = control is company_inside, control is physical_length
    stage = CrowdedInside() if crowded else Layerwise(((0 if first else 1, 0.5),))
    model = LLAVA.build()
    assert crowded or looked(model, [Recipe((stage,))], batch=False).holds
    control(monkeypatch)
    result = looked(model, [Recipe((stage,))], batch=crowded)
    failing = {row.name for row in result.rows if row.holds is False}
    wanted = tuple(INSIDE[control])
    assert failing == {name for name in NAMES if name.startswith(wanted)}, [r.failures for r in result.rows]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["llavolta", "sparsevlm", "vtw", "todre+late"])
def test_stages_that_fold_or_withdraw(name, attention):
    result = looked(LLAVA.build(attention), recipes([name], positions="original"), batch=False)
    assert result.holds, [row.failures for row in result.rows]
    blind = [row.name for row in result.rows if row.holds is None]
    assert (NAMES[0] in blind) == (name == "vtw")


def test_what_keeping_all_means():
    assert keeping_all(Recipe((Layerwise(((1, 9), (2, 3))),))).decoder[0].schedule == ((1, 1.0), (2, 1.0))
    assert keeping_all(Recipe((Stride(), VTW()))) == Recipe((Stride(),), keep=1.0)
    assert keeping_all(Recipe((Resize(share=0.5), Stride()))) is None
    assert keeping_all(Recipe((ToDRE(),))) is None


def test_masks_of_each_kernel_say_the_same():
    states, gone = torch.zeros(1, 4, 8), torch.tensor([1])
    seen = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 1]]).bool()
    causal = torch.ones(4, 4).tril().bool()[None, None]
    added = torch.where(causal, 0.0, torch.finfo(torch.float32).min)
    assert torch.equal(_without(None, gone, states, "sdpa")[0, 0], seen)
    assert torch.equal(_without(causal, gone, states, "sdpa")[0, 0], seen)
    assert torch.equal(_without(added, gone, states, "eager")[0, 0] == 0, seen)
    assert _without(None, gone, states, "flash_attention_2").tolist() == [[True, False, True, True]]
    assert _without(torch.ones(1, 4).long(), gone, states, "flash_attention_2").tolist() == [[1, 0, 1, 1]]
    assert _without(None, gone[:0], states, "sdpa") is None


def test_rows_in_which_rounding_chose_otherwise_are_set_aside_in_half_precision_only():
    trial = SimpleNamespace(exact=False, recipe=Recipe((FastV(((1, 0.5),)),)))
    runs_ = [SimpleNamespace(kept=lambda r: [], inside=lambda r, left=left: [(1, left)]) for left in ([1], [2])]
    pairs = [(runs_[0], 0, runs_[1], 0), (runs_[0], 0, runs_[0], 0)]
    found = alike(trial, pairs, lambda left: Finding(len(left), 5))
    assert (found.worst, found.note) == (1, "rounding changed what left inside the language model in 1 of 2 rows")
    trial.exact = True
    assert not alike(trial, pairs, lambda left: Finding(0)).holds
    trial.exact, trial.recipe = False, Recipe((Layerwise(((1, 0.5),)),))
    assert not alike(trial, pairs, lambda left: Finding(0)).holds


def test_rows_in_which_rounding_kept_other_places_are_not_compared(monkeypatch):
    monkeypatch.setattr(findings, "_selected_alone", lambda trial: True)
    monkeypatch.setattr(findings, "_stock_drift", lambda trial, case: 0.0)
    trial = SimpleNamespace(exact=False, case=None, model=SimpleNamespace(dtype=torch.bfloat16))
    trial.bench = SimpleNamespace(cases=[None])

    def run(place: int, best: int) -> runs.Run:
        item = SimpleNamespace(row=0, reduction=SimpleNamespace(anchor=torch.tensor([place, 9])))
        logits = torch.eye(7)[best].expand(1, 1, -1)
        return runs.Run(torch.tensor([[best]]), logits, (), SimpleNamespace(items=[item]))

    one, other, wrong = run(1, 0), run(2, 5), run(1, 3)
    found = findings.meet(trial, [(one, 0, other, 0), (one, 0, one, 0)])
    assert (found.worst, found.note.split(";")[0]) == (0, "in 1 rows the encoder's rounding changed 2 kept places")
    assert not findings.meet(trial, [(one, 0, other, 0), (one, 0, wrong, 0)]).holds
    trial.exact = True
    assert not findings.meet(trial, [(one, 0, other, 0), (one, 0, one, 0)]).holds


def test_the_command_names_what_fails_and_exits_with_1(monkeypatch):
    left_hook(monkeypatch)
    result = vtc_command("check", *FEW)
    assert result.exit_code == 1
    assert f"{len(NAMES) - 1} of {len(NAMES)} hold; these fail: restore leaves nothing behind" in result.text
    assert "kcenter, original, one picture: 1 modules (0 allowed; attributes or hooks were left on" in result.text
    assert next(line.split()[-1] for line in result.stdout.splitlines() if "restore leaves" in line) == "NO"


def test_an_exception_is_a_failure_and_stops_nothing(monkeypatch):
    def explode(trial):
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr(checking, "CHECKS", (Check("explodes", explode), *CHECKS))
    result = looked(LLAVA.build(), recipes(["stride"], positions="original"), batch=False)
    assert result.rows[0].holds is False
    assert result.rows[0].failures[0] == "stride, original, one picture: RuntimeError: out of memory"
    assert all(row.holds for row in result.rows[1:] if row.holds is not None)
    assert result.summary.endswith(
        "not possible here: a batch equals its singles, permuting the batch permutes answers"
    )


# What cannot be done is said


def test_what_the_processor_cannot_do_is_no_pass(monkeypatch):
    def fail():
        raise TypeError("one picture only")

    model = LLAVA.build()
    one = cases(LLAVA)[0]
    ways = {"one picture": [lambda: one], "two pictures": [fail, fail], "batch": [fail, lambda: cases(LLAVA)[2]]}
    found, notes = possible(model, ways)
    assert [case.name for case in found] == ["one picture", "batch"]
    assert notes == ["two pictures: not possible: TypeError: one picture only"]
    with pytest.raises(ValueError, match="no prompt could be made for this model; x: not possible: TypeError: one"):
        possible(model, {"x": [fail]})
    model.lm_head.weight.data.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"answers 'one picture' with NaN in torch.float32; load it in bfloat16"):
        possible(model, {"one picture": [lambda: one]})


def test_a_film_that_cannot_be_built_is_named(tmp_path, monkeypatch):
    place = saved(qwen25vl(), qwen_processor(), tmp_path)
    monkeypatch.setattr("vtc.cases._video", lambda *args: 1 / 0)
    result = vtc_command("check", "--model", place, *FEW)
    assert result.exit_code == 0
    assert "video: not possible: ZeroDivisionError: division by zero" in result.text


def test_an_input_stage_that_cannot_shrink_a_film_is_left_out():
    film = next(family for family in FAMILIES if family.name == "qwen25vl-film")
    bench = Bench(film.build(), [Case("video", film.inputs([[2, (5, 3, 4, 4), 3]]))], recipes(["resize"], keep=2))
    with pytest.raises(ValueError, match="no recipe or prompt to check; resize, original, video: not possible"):
        check(bench)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "tiny-lava"], "did you mean 'tiny-llava'?"),
        (["--model", "./nowhere"], "no such directory"),
        (["--keep", "0"], "keep=0.0 is outside (0, 1]"),
        (["--keep", "1"], "keep=1.0 keeps every token, so that nothing is checked"),
        (["--recipe", "fastv", "--keep", "0.5"], "follows its own schedule"),
        (["--recipe", "kcentre"], "did you mean 'kcenter'?"),
        (["--recipe", "globalcom2"], "use 'even' as the allocator"),
        (["--positions", "new"], "positions='new'; expected one of original, compact, both"),
        (["--dtype", "half"], "dtype='half'; expected one of"),
    ],
)
def test_bad_options_are_one_plain_line(options, message):
    result = vtc_command("check", *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.error
    assert result.stderr.count("\n") == 1


def test_models_that_cannot_be_asked_are_refused(tmp_path):
    BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1)).save_pretrained(tmp_path / "text")
    bare = shutil.copytree(tiny.path("tiny-llava"), tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    alone = shutil.copytree(bare, tmp_path / "alone")
    for name in ("processor_config.json", "tokenizer.json", "tokenizer_config.json"):
        (alone / name).unlink()
    expected = {"text": "does not take pictures", "bare": "LlavaProcessor has no chat template", "alone": "processor"}
    for name, message in expected.items():
        result = vtc_command("check", "--model", tmp_path / name)
        assert (result.exit_code, result.stdout) == (1, "")
        assert message in result.error
        assert result.stderr.startswith("error: ")


def test_a_wrapped_model_is_refused():
    model = LLAVA.build()
    model.vtc = None
    with pytest.raises(ValueError, match="model is wrapped; call restore"):
        Bench(model, [], [])


# Figures


def test_drift_is_a_share_of_the_spread_until_the_tokens_part():
    logits = torch.tensor([[0.0, 1, 2, 3, 10], [0, 1, 2, 3, 10], [0, 1, 2, 3, 10]])
    tokens = torch.tensor([4, 4, 4])
    moved = logits.clone()
    moved[0, 0] += 0.8
    assert drift((tokens, moved), (tokens, logits)) == pytest.approx(0.1)
    moved[2, 0] += 80
    assert drift((tokens, moved), (tokens, logits)) == pytest.approx(10)
    assert drift((torch.tensor([4, 3, 4]), moved), (tokens, logits)) == pytest.approx(0.1)
    barred = torch.cat([logits, torch.full((3, 1), -torch.inf)], dim=1)
    assert drift((tokens, barred), (tokens, barred)) == 0
    moved[0, 1] = torch.nan
    assert drift((tokens, moved), (tokens, logits)) == float("inf")


def test_a_finding_without_a_number_does_not_hold():
    assert Finding(0).holds
    assert not Finding(float("nan"), 1.0).holds


def test_small_models_run_on_one_thread_and_the_number_is_put_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with few_threads(LLAVA.build()):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
