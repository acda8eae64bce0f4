"""The examples of CONTRIBUTING.md, by its own route: files of a package, an entry point, one line in the tree."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from tests.registries import put_back
from vtc import (
    Recipe,
    adapters,
    recipe,
    reduce_tokens,
    restore,
)
from vtc.recipes.composition import POSITIONS
from vtc.stages import (
    Mean,
    Stride,
)

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PACKAGE = "contributed"


def block(name: str) -> str:
    """The Python block of CONTRIBUTING that is marked with `name`."""
    (source,) = re.findall(rf"<!-- tested: {name} -->\n```python\n(.*?)```", TEXT, re.S)
    return source


def installed(folder: Path) -> Path:
    """A package of someone else's with the examples, as pip leaves it: modules, and the entry point that is shown."""
    package, info = folder / PACKAGE, folder / f"{PACKAGE}-1.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").write_text(block("out-of-tree") + block("out-of-tree-family"))
    (package / "loudest.py").write_text(block("selector"))
    (package / "brightest.py").write_text(block("decoder"))
    (package / "gemma3.py").write_text(block("family"))
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1\n")
    ((group, name),) = re.findall(r'^\[project\.entry-points\."(.*?)"\]\n(\w+) = "my_package"', TEXT, re.M)
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {PACKAGE}\n")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return installed(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module", autouse=True)
def contributed(folder):
    """The package, imported, so that what it registers is known."""
    with put_back():  # first, as it looks for plug-ins itself
        sys.path.insert(0, str(folder))
        yield importlib.import_module(PACKAGE)
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        del sys.modules[name]


def part(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"{PACKAGE}.{module}"), name)


gemma = next(family for family in FAMILIES if family.name == "gemma3")


@pytest.mark.parametrize("name", ["selector", "decoder", "family"])
def test_the_examples_are_short(name):
    source = block(name)
    body = source[source.index("@dataclass" if name != "family" else "class ") :]
    assert len([line for line in body.splitlines() if line.strip()]) <= 24


def through_the_grid(family, model, mine: Recipe) -> None:
    """Counts, places, the slow oracle at prefill and at each step, a batch and its singles, undoing."""
    inputs = family.inputs(UNEVEN)
    before = stock(family)
    plans = oracle.plans(stock(family, "eager"), family, inputs, mine)
    reduce_tokens(model, mine)
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
    reduce_tokens(model, replace(mine, keep=1.0))
    want = steps(generate(before, inputs))
    check_same(steps(generate(model, inputs)), want, "logits with all tokens")
    restore(model)
    check_same(steps(generate(model, inputs)), want, "logits after undoing")


@every_family
@pytest.mark.parametrize("positions", POSITIONS)
def test_the_selector_passes_the_grid(family, positions):
    assert recipe("loudest-mean").stages == (part("loudest", "Loudest")(), Mean())
    through_the_grid(family, fresh(family), recipe("loudest-mean", keep=0.3, positions=positions))


def test_the_selector_keeps_the_loudest(tmp_path):
    recipe("Loudest", keep=2).save(tmp_path / "loudest.json")
    assert Recipe.load(tmp_path / "loudest.json") == recipe("loudest", keep=2)
    family = FAMILIES[0]
    model = reduce_tokens(fresh(family), tmp_path / "loudest.json")
    generate(model, family.inputs([[3, (1, 12, 4), 4]]), tokens=1)
    features = stock(family).model.get_image_features(family.inputs([[3, (1, 12, 4), 4]])["pixel_values"]).pooler_output
    assert kept_by_row(model, 1) == [[sorted(features[0].norm(dim=1).topk(2).indices.tolist())]]


@pytest.mark.parametrize("positions", POSITIONS)
def test_the_family_passes_the_grid(positions):
    model = fresh(gemma)
    assert type(adapters.find(model)) is part("gemma3", "Gemma3")
    through_the_grid(gemma, model, Recipe((Stride(), Mean()), keep=0.3, positions=positions))


def test_the_family_says_that_it_has_no_cues():
    with pytest.raises(ValueError, match=r"cue 'attention'.*kcenter"):
        reduce_tokens(fresh(gemma), "cls")


def python(code: str, path: Path) -> str:
    """What a fresh interpreter prints that finds modules in `path` first."""
    head = (
        "import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f)]\n"
        if path.name == "tree"
        else ""
    )
    environment = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run(
        [sys.executable, "-c", head + code], capture_output=True, text=True, env=environment, cwd=path, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_entry_point_makes_it_known_where_it_is_installed(folder):
    code = "from vtc import recipe, adapters; print(recipe('loudest-mean').labels, 'Gemma3' in adapters.ADAPTERS)"
    assert python(code, folder) == "['select/loudest', 'merge/mean'] True"


def one_line_more(path: Path, line: str, after: str) -> None:
    """Puts `line` behind the first one of `path` that begins with `after`."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    place = max(i for i, old in enumerate(lines) if old.startswith(after)) + 1
    path.write_text("".join([*lines[:place], line, *lines[place:]]), encoding="utf-8")


def test_in_the_tree_it_is_one_file_and_one_line(tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "vtc", tree / "vtc", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "adapters", tree / "vtc" / "adapters", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "video", tree / "vtc" / "video", ignore=shutil.ignore_patterns("__pycache__"))
    stages = tree / "vtc" / "stages"
    (stages / "select" / "loudest.py").write_text(block("selector"))
    one_line_more(stages / "__init__.py", block("selector-line"), "from .select.")
    (stages / "decoder" / "brightest.py").write_text(block("decoder"))
    (line,) = re.findall(r"`(from \.decoder\.brightest import .*?)`", TEXT)
    one_line_more(stages / "__init__.py", f"{line}\n", "from .decoder.")
    (tree / "vtc" / "adapters" / "gemma3.py").write_text(block("family"))
    (line,) = re.findall(r"`(from \.gemma3 import .*?)`", TEXT)
    one_line_more(tree / "vtc" / "adapters" / "__init__.py", f"{line}\n", "from .generic")
    code = """
        import vtc
        from vtc import adapters, stages
        assert vtc.__file__.startswith({tree!r}), vtc.__file__
        names = {{found.name: found.labels for found in vtc.named_recipes()}}
        public = all(name in stages.__all__ for name in ("Loudest", "Brightest"))
        print(names["loudest"], names["brightest"], public, "Gemma3" in adapters.ADAPTERS)
    """
    said = python(textwrap.dedent(code).format(tree=str(tree)), tree)
    assert said == "['select/loudest'] ['decoder/brightest'] True True"


@every_full
def test_the_decoder_stage_is_exact(family):
    inputs = family.inputs(UNEVEN)
    model = reduce_tokens(fresh(family), Recipe((part("brightest", "Brightest")(),)))
    out = generate(model, inputs)
    trace = model.vtc.report.decoder
    assert trace.layers[-1] < trace.layers[0]
    check_decoding(stock(family), told(model, family, inputs), out.sequences, steps(out))
