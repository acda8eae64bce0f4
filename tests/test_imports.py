"""Who may import whom, read from the syntax trees, and what a bare import loads."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import vtc
from vtc import adapters, video

FOLDERS = {
    "vtc": Path(vtc.__file__).parent,
    "vtc.adapters": Path(adapters.__file__).parent,
    "vtc.video": Path(video.__file__).parent,
}
LEVELS = (
    ("vtc.core",),
    ("vtc.media", "vtc.embedded"),
    ("vtc.encoder", "vtc.video.reading"),
    ("vtc.adapters", "vtc.stages"),
    ("vtc.video.clips",),
    ("vtc.video.keyframes",),
    ("vtc.video.stages",),
    ("vtc.recipes",),
    ("vtc.reduction",),
    ("vtc.inference", "vtc.check"),
    ("vtc.video.qa",),
    ("vtc.video.batch", "vtc.viz"),
    ("vtc.bench", "vtc.integrations"),
    ("vtc.app", "vtc.html_report"),
    ("vtc.cli",),
)
"""A package imports from packages of the levels above it in this table; those of one level do not meet."""
LEVEL = {package: level for level, packages in enumerate(LEVELS) for package in packages}
FACES = ("vtc", "vtc.video")
"""Packages whose names are loaded when they are asked for: what they name counts as imported from its own module."""
MOVED = {
    "vtc.ask": "vtc.inference.asking",
    "vtc.budget": "vtc.core.budget",
    "vtc.chat": "vtc.inference.prompting",
    "vtc.loading": "vtc.inference.loading",
    "vtc.report": "vtc.reduction.report",
    "vtc.tiny": "vtc.embedded",
    "vtc.tiny.film": "vtc.embedded.video",
    "vtc.tiny.world": "vtc.embedded.scene",
    "vtc.tokens": "vtc.core.tokens",
    "vtc.vision": "vtc.reduction.vision_encoder",
    "vtc.vlmeval": "vtc.integrations.vlmevalkit",
    "vtc.wrap": "vtc.reduction.api",
}
"""Deprecated import names, which only point elsewhere."""


def modules() -> dict[str, Path]:
    """Every module of the package, by its import name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join([package, *(p for p in parts if p != "__init__")])] = path
    return found


MODULES = modules()


def imported(nodes: Iterable[ast.AST], name: str, path: Path) -> set[str]:
    """What `nodes` import into a module, by absolute names; `from x import y` counts as x and x.y."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {home(base, alias.name) for alias in node.names}
    return found


def home(base: str, name: str) -> str:
    """`base.name`, or where a package that loads its names lazily has it from."""
    if base in FACES and name in sys.modules[base]._HOME:
        return f"{base}.{sys.modules[base]._HOME[name]}.{name}"
    return f"{base}.{name}"


def package_of(name: str) -> str | None:
    """The package of the level table that a module or a name in it belongs to."""
    return next((package for package in LEVEL if under({name}, package)), None)


def under(names: set[str], *packages: str) -> set[str]:
    return {name for name in names for package in packages if name == package or name.startswith(f"{package}.")}


def wrong_ways(name: str, source: str, path: Path) -> Iterator[str]:
    """The imports of a module that do not go down the levels."""
    package = package_of(name)
    for found in imported(ast.walk(ast.parse(source)), name, path):
        other = package_of(found)
        if package and other and other != package and LEVEL[other] >= LEVEL[package]:
            yield f"{name} imports {found}"


def test_every_module_has_a_level():
    assert {name for name in MODULES if package_of(name) is None} == {*FACES, "vtc.__main__", *MOVED}


@pytest.mark.parametrize("old", MOVED)
def test_an_old_import_name_warns_and_points_to_the_new_one(old):
    new = importlib.import_module(MOVED[old])
    name = next(name for name, value in vars(new).items() if getattr(value, "__module__", None) == new.__name__)
    with pytest.warns(DeprecationWarning, match=rf"{old}\.{name} is now {new.__name__}\.{name}"):
        assert getattr(importlib.import_module(old), name) is getattr(new, name)


def test_imports_go_down_the_levels_only():
    found = [w for name, path in MODULES.items() for w in wrong_ways(name, path.read_text(encoding="utf-8"), path)]
    assert found == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("vtc.app.state", "from vtc.cli.console import note"),
        ("vtc.bench.workers", "def f():\n    from vtc.cli import console"),
        ("vtc.video.batch.summary", "from vtc.bench.tables import table"),
        ("vtc.reduction.decoder.engine", "from vtc.integrations.trainer import x"),
        ("vtc.adapters.base", "from vtc.reduction.cache_metadata import CachedPrompt"),
        ("vtc.adapters.llava", "from vtc.stages import KCenter"),
        ("vtc.stages.select.cls", "from vtc import reduce_tokens"),
        ("vtc.encoder.blocks", "if TYPE_CHECKING:\n    from ..stages.encoder import EncoderStage"),
        ("vtc.video.clips.weights", "from vtc.video import ask"),
    ],
)
def test_a_wrong_way_is_found(name, line):
    assert list(wrong_ways(name, line, MODULES[name]))


EXTRAS = {
    "gradio": [
        f"vtc.app.{part}"
        for part in ("page", "components", "medium_tab", "image_tab", "video_tab", "compare_tab", "batch_tab", "serve")
    ],
    "ray": ["vtc.video.batch.ray.blocks", "vtc.video.batch.ray.job"],
    "matplotlib": [],
    "vllm": [f"vtc.integrations.vllm.{part}" for part in ("models", "processing", "serving", "timed_frames")],
    "prometheus_client": [],
    "httpx": [f"vtc.bench.{part}" for part in ("serve_load", "serve_run", "serve_servers")],
    "starlette": ["vtc.integrations.serve.application", "vtc.integrations.serve.server"],
    "uvicorn": ["vtc.integrations.serve.server"],
}
"""What is an extra, and the modules that may import it at their head, since they are imported where they are used."""


def head(name: str) -> set[str]:
    """What a module imports when it is imported."""
    path = MODULES[name]
    return imported(ast.parse(path.read_text(encoding="utf-8")).body, name, path)


@pytest.mark.parametrize("extra", EXTRAS)
def test_extras_are_imported_where_they_are_used(extra):
    allowed = EXTRAS[extra]
    assert [name for name in MODULES if name not in allowed and under(head(name), extra, *allowed)] == []
    assert all(under(head(name), extra, *allowed) for name in allowed)


@pytest.mark.parametrize(("package", "libraries"), [("vtc.stages", ["transformers"]), ("vtc.core", ["transformers"])])
def test_pure_tensor_code_knows_no_model(package, libraries):
    assert not {
        name: found
        for name, path in MODULES.items()
        if under({name}, package)
        and (found := under(imported(ast.walk(ast.parse(path.read_text(encoding="utf-8"))), name, path), *libraries))
    }


def patches(source: str) -> list[int]:
    """The lines that change an attribute or an entry of something imported, by assignment or by `setattr`."""
    nodes = list(ast.walk(ast.parse(source)))
    names = {
        (alias.asname or alias.name).split(".")[0]
        for node in nodes
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    changed: list[ast.expr] = []
    for node in nodes:
        if isinstance(node, ast.Assign):
            changed += [t for t in node.targets if isinstance(t, (ast.Attribute, ast.Subscript))]
        elif isinstance(node, (ast.AugAssign, ast.AnnAssign)) and isinstance(
            node.target, (ast.Attribute, ast.Subscript)
        ):
            changed.append(node.target)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("setattr", "delattr"):
            changed.append(node.args[0])
    return [target.lineno for target in changed if root(target) in names]


def root(node: ast.expr) -> str | None:
    """The name that an expression such as `name.a[0].b` starts from."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def test_no_module_patches_what_it_imports():
    found = {name: patches(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
    (line,) = found.pop("vtc.cli.app")
    assert not {name: lines for name, lines in found.items() if lines}
    # Gradio knows no other way to be told where uploads go; the process serves the page and ends with it.
    source = MODULES["vtc.cli.app"].read_text(encoding="utf-8").splitlines()
    assert source[line - 1].strip().startswith('os.environ["GRADIO_TEMP_DIR"] = ')


def test_a_patch_is_found():
    head = "import os\nfrom a import Model\nimport torch.nn as nn\n"
    for line in ("Model.forward = f", "os.environ['A'] = '1'", "nn.Linear.forward = f", "setattr(Model, 'x', 1)"):
        assert patches(head + line) == [4]
    for line in ("model = Model()\nmodel.x = 1", "setattr(model.config, 'x', 1)", "own = 1"):
        assert patches(head + line) == []


@pytest.mark.parametrize("statement", ["import vtc", "import vtc.video", "import vtc; vtc.__version__; dir(vtc)"])
def test_a_bare_import_loads_neither_torch_nor_transformers(statement):
    code = (
        f"{statement}\nimport sys\nprint(sorted({{'torch', 'transformers', 'torchvision', 'cv2'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("package", [vtc, video])
def test_every_public_name_is_there(package):
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert set(dir(package)) >= set(package.__all__) - {"__version__"}
    with pytest.raises(AttributeError, match=f"module {package.__name__!r} has no attribute 'missing'"):
        _ = package.missing


@pytest.mark.parametrize("package", ["vtc", "vtc.video", "vtc.viz"])
def test_a_lazy_name_is_not_that_of_a_module_beside_it(package):
    """Once the module is loaded, the package's attribute is the module, and `from package import name` finds that."""
    found = importlib.import_module(package)
    beside = {Path(folder, name).stem for folder in found.__path__ for name in os.listdir(folder)}
    assert not beside & set(found.__all__)


def test_the_name_of_vlmeval_that_readme_imported_warns_too():
    from vtc.integrations.vlmevalkit import register

    with pytest.warns(DeprecationWarning, match=r"vtc\.vlmeval\.enrol is now vtc\.integrations\.vlmevalkit\.register"):
        assert importlib.import_module("vtc.vlmeval").enrol is register
