"""The examples of CONTRIBUTING.md, run as they stand: a selector and a family, through the checks of the grid."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests import oracle
from tests.checks import (
    check_chosen,
    check_close,
    check_counts,
    check_decoding,
    check_forward,
    check_given,
    check_same,
)
from tests.families import FAMILIES, visual
from tests.grid import (
    UNEVEN,
    every_family,
    fresh,
    generate,
    kept_by_row,
    steps,
    stock,
    watching,
)
from tests.reduction.decoder.common import every_full, told
from vtc import (
    Recipe,
    adapters,
    reduce_tokens,
    restore,
)
from vtc.recipes.composition import POSITIONS
from vtc.stages import (
    STAGES,
    Mean,
    Stride,
    enrol,
)

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def example(name: str) -> ModuleType:
    """The example as a module."""
    (source,) = re.findall(rf"<!-- tested: {name} -->\n```python\n(.*?)```", TEXT, re.S)
    module = sys.modules[f"contributing_{name}"] = ModuleType(f"contributing_{name}")
    exec(compile(source, f"CONTRIBUTING.md ({name})", "exec"), vars(module))
    return module


Loudest = example("selector").Loudest
Brightest = example("decoder").Brightest
Gemma3 = example("family").Gemma3
gemma = next(family for family in FAMILIES if family.name == "gemma3")


@pytest.mark.parametrize("name", ["selector", "decoder", "family"])
def test_the_examples_are_short(name):
    (source,) = re.findall(rf"<!-- tested: {name} -->\n```python\n(.*?)```", TEXT, re.S)
    body = source[source.index("@dataclass" if name != "family" else "class ") :]
    assert len([line for line in body.splitlines() if line.strip()]) <= 24


def through_the_grid(family, model, recipe: Recipe) -> None:
    """Counts, places, the slow oracle at prefill and at each step, a batch and its singles, undoing."""
    inputs = family.inputs(UNEVEN)
    before = stock(family)
    plans = oracle.plans(stock(family, "eager"), family, inputs, recipe)
    reduce_tokens(model, recipe)
    declared = model.vtc.count(**inputs)
    with watching(model) as calls:
        out = generate(model, inputs)
    real = ~visual(inputs["input_ids"], model) & inputs["attention_mask"].bool()
    check_counts(declared, model.vtc.report, calls[0], real.sum(dim=1).tolist())
    check_given(calls[0], plans)
    check_decoding(before, plans, out.sequences, steps(out))
    for item in model.vtc.report.items:
        check_chosen(item.reduction.anchor, len(item.layout))
    chosen = kept_by_row(model, len(UNEVEN))
    with torch.no_grad():
        check_forward(before, plans, model(**inputs).logits)
    for r, row in enumerate(UNEVEN):
        alone = generate(model, family.inputs([row]))
        assert kept_by_row(model, 1) == [chosen[r]]
        check_close(steps(out)[r], steps(alone)[0], f"row {r}: logits")
    reduce_tokens(model, replace(recipe, keep=1.0))
    want = steps(generate(before, inputs))
    check_same(steps(generate(model, inputs)), want, "logits with all tokens")
    restore(model)
    check_same(steps(generate(model, inputs)), want, "logits after undoing")


@every_family
@pytest.mark.parametrize("positions", POSITIONS)
def test_the_selector_passes_the_grid(family, positions):
    through_the_grid(family, fresh(family), Recipe((Loudest(), Mean()), keep=0.3, positions=positions))


def test_the_selector_keeps_the_loudest(tmp_path, monkeypatch):
    monkeypatch.setattr(STAGES, "_entries", dict(STAGES._entries))
    enrol(Loudest)
    Recipe((Loudest(),), keep=2).save(tmp_path / "loudest.json")
    assert Recipe.load(tmp_path / "loudest.json").stages == (Loudest(),)
    family = FAMILIES[0]
    model = reduce_tokens(fresh(family), tmp_path / "loudest.json")
    generate(model, family.inputs([[3, (1, 12, 4), 4]]), tokens=1)
    features = stock(family).model.get_image_features(family.inputs([[3, (1, 12, 4), 4]])["pixel_values"]).pooler_output
    assert kept_by_row(model, 1) == [[sorted(features[0].norm(dim=1).topk(2).indices.tolist())]]


@pytest.mark.parametrize("positions", POSITIONS)
def test_the_family_passes_the_grid(monkeypatch, positions):
    monkeypatch.setattr(adapters, "FAMILIES", (Gemma3, *adapters.FAMILIES))
    model = fresh(gemma)
    assert type(adapters.find(model)) is Gemma3
    through_the_grid(gemma, model, Recipe((Stride(), Mean()), keep=0.3, positions=positions))


def test_the_family_says_that_it_has_no_cues(monkeypatch):
    monkeypatch.setattr(adapters, "FAMILIES", (Gemma3, *adapters.FAMILIES))
    with pytest.raises(ValueError, match=r"cue 'attention'.*kcenter"):
        reduce_tokens(fresh(gemma), "cls")


@every_full
def test_the_decoder_stage_is_exact(family):
    inputs = family.inputs(UNEVEN)
    model = reduce_tokens(fresh(family), Recipe((Brightest(),)))
    out = generate(model, inputs)
    trace = model.vtc.report.decoder
    assert trace.layers[-1] < trace.layers[0]
    check_decoding(stock(family), told(model, family, inputs), out.sequences, steps(out))
