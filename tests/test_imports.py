"""Who may import whom: the house of DESIGN.md, read from the syntax trees, and what a bare import loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

import vtc
from vtc import adapters, video

CORE = Path(vtc.__file__).parent
FOLDERS = {
    "vtc": CORE,
    "vtc.adapters": Path(adapters.__file__).parent,
    "vtc.video": Path(video.__file__).parent,
}


def modules() -> dict[str, Path]:
    """Every module of the package, by its import name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join([package, *(p for p in parts if p != "__init__")])] = path
    return found


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
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def imports(name: str, path: Path) -> set[str]:
    """Everything that a module imports, anywhere in it."""
    return imported(ast.walk(ast.parse(path.read_text(encoding="utf-8"))), name, path)


def under(names: set[str], *packages: str) -> set[str]:
    return {name for name in names for package in packages if name == package or name.startswith(f"{package}.")}


def of(*packages: str) -> dict[str, Path]:
    return {name: path for name, path in modules().items() if under({name}, *packages)}


def test_the_tree_is_found():
    names = set(modules())
    assert {"vtc", "vtc.budget", "vtc.stages.select.cls", "vtc.adapters.llava", "vtc.adapters"} <= names
    assert "vtc.tokens" in imports("vtc.stages.merge.mean", modules()["vtc.stages.merge.mean"])
    assert "vtc.stages.base.Merger" in imports("vtc.stages.merge.mean", modules()["vtc.stages.merge.mean"])


@pytest.mark.parametrize("name", of("vtc.stages"))
def test_a_stage_imports_no_adapter_and_no_model(name):
    found = imports(name, modules()[name])
    assert not under(found, "vtc.adapters", "adapters", "transformers", "vtc.wrap", "vtc.handle", "vtc.request")


@pytest.mark.parametrize("name", of("vtc.adapters"))
def test_an_adapter_imports_no_stage_and_no_recipe(name):
    found = imports(name, modules()[name])
    assert not under(found, "vtc.stages", "vtc.recipes", "vtc.wrap", "vtc.handle", "vtc.request", "vtc.reduce")


@pytest.mark.parametrize("name", ["vtc.budget", "vtc.tokens", "vtc.registry", "vtc.cost", "vtc.prompt", "vtc.report"])
def test_the_core_knows_no_family_and_no_stage(name):
    found = imports(name, modules()[name])
    assert not under(found, "vtc.adapters", "vtc.stages", "vtc.recipes", "vtc.wrap", "transformers")


SERVERS = {
    "gradio": [
        f"vtc.app.{part}" for part in ("page", "parts", "picture_tab", "video_tab", "compare_tab", "batch_tab", "serve")
    ],
    "ray": ["vtc.video.batch.ray_blocks", "vtc.video.batch.ray_job"],
    "matplotlib": [],
}
"""What is an extra, and the modules that may import it at their head, since they are imported where they are used."""


def head(name: str) -> set[str]:
    """What a module imports when it is imported."""
    path = modules()[name]
    return imported(ast.parse(path.read_text(encoding="utf-8")).body, name, path)


@pytest.mark.parametrize("extra", list(SERVERS))
@pytest.mark.parametrize("name", [n for n in modules() if not under({n}, "vtc.adapters", "vtc.tiny")])
def test_extras_are_imported_where_they_are_used(name, extra):
    allowed = SERVERS[extra]
    found = head(name)
    assert name in allowed or not under(found, extra)
    # Nor does anybody else import one of those modules at its head.
    assert name in allowed or not under(found, *allowed)


def test_what_may_import_an_extra_does():
    assert all(under(head(name), extra, *names) for extra, names in SERVERS.items() for name in names)


def patches(source: str) -> list[int]:
    """The lines that change an attribute or an entry of something imported, by assignment or by `setattr`."""
    nodes = list(ast.walk(ast.parse(source)))
    imported = {
        (alias.asname or alias.name).split(".")[0]
        for node in nodes
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    changed = []
    for node in nodes:
        if isinstance(node, ast.Assign):
            changed += [t for t in node.targets if isinstance(t, (ast.Attribute, ast.Subscript))]
        elif isinstance(node, (ast.AugAssign, ast.AnnAssign)) and isinstance(
            node.target, (ast.Attribute, ast.Subscript)
        ):
            changed.append(node.target)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("setattr", "delattr"):
            changed.append(node.args[0])
    return [target.lineno for target in changed if root(target) in imported]


def root(node: ast.expr) -> str | None:
    """The name that an expression such as `name.a[0].b` starts from."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


@pytest.mark.parametrize("name", [name for name in modules() if name != "vtc.app_command"])
def test_no_module_patches_what_it_imports(name):
    assert patches(modules()[name].read_text(encoding="utf-8")) == []


def test_the_command_of_the_page_sets_one_variable_of_its_own_process():
    # Gradio knows no other way to be told where uploads go; the process serves the page and ends with it.
    source = modules()["vtc.app_command"].read_text(encoding="utf-8")
    (line,) = patches(source)
    assert source.splitlines()[line - 1].strip().startswith('os.environ["GRADIO_TEMP_DIR"] = ')


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


def test_every_public_name_is_there():
    for name in vtc.__all__:
        assert getattr(vtc, name) is not None
    with pytest.raises(AttributeError, match="module 'vtc' has no attribute 'missing'"):
        _ = vtc.missing
