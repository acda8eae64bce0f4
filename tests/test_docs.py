"""README and docs: Python blocks run or say why not, as .ci/docs.py has it; links outside of the site work."""

from __future__ import annotations

import ast
import re
import runpy
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from vtc import named_recipes
from vtc.bench.explained import EXPLAINED
from vtc.cli.main import app

ROOT = Path(__file__).parents[1]
DOCS = SimpleNamespace(**runpy.run_path(str(ROOT / ".ci" / "docs.py"), run_name="docs"))
PAGE = """# A page

<!-- runs -->
```python
first = 1
```

<!-- does not run: needs a hub -->
```python
raise SystemExit("this does not run")
```

```bash
exit 1
```

<!-- runs -->
```python
assert first == 1
second = first + 1
```
"""


@pytest.fixture
def page(tmp_path):
    def written(text: str) -> Path:
        path = tmp_path / "page.md"
        path.write_text(text)
        return path

    return written


def test_every_python_block_is_marked():
    assert not [place for path in DOCS.pages() for place in DOCS.unmarked(path)]


def test_an_unmarked_block_is_found_by_its_line(page):
    path = page(PAGE.replace("<!-- does not run: needs a hub -->\n", ""))
    assert DOCS.unmarked(path) == [f"{path}:9"]
    assert not DOCS.unmarked(page(PAGE))


def test_only_contributing_may_leave_blocks_to_the_tests(page):
    path = page(PAGE.replace("does not run: needs a hub", "tested: selector"))
    assert DOCS.unmarked(path) == [f"{path}:10"]


def test_blocks_of_a_page_share_names_and_keep_their_lines(page):
    source = DOCS.program(page(PAGE))
    names: dict[str, int] = {}
    exec(compile(source, "page.md", "exec"), names)
    assert names["second"] == 2
    assert source.splitlines().index("assert first == 1") == PAGE.splitlines().index("assert first == 1")


@pytest.mark.parametrize(("want", "runs"), [("1", True), ("2", False)])
def test_a_page_whose_block_fails_fails(page, monkeypatch, capsys, want, runs):
    monkeypatch.setitem(DOCS.run_page.__globals__, "ROOT", page(PAGE).parent)
    assert DOCS.run_page(page(PAGE.replace("first == 1", f"first == {want}"))) is runs
    assert ("AssertionError" in capsys.readouterr().out) is not runs


def test_readme_has_the_two_commands_that_ci_runs():
    assert "vtc demo" in DOCS.command("demo")
    assert "pytest" in DOCS.command("tests")
    with pytest.raises(SystemExit, match=r"0 blocks.*'command: other'"):
        DOCS.command("other")


def test_the_introduction_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 160


def test_a_reference_without_a_public_name_is_refused(tmp_path, monkeypatch):
    import zlib

    monkeypatch.setitem(DOCS.check_reference.__globals__, "PUBLIC", ("vtc",))
    lines = [f"{name} py:function 1 api/vtc.html#$ -" for name in DOCS.public()]
    head = b"# Sphinx inventory version 2\n# Project: vtc\n# Version: 0\n# The remainder is compressed.\n"
    for given in (lines, lines[1:]):
        (tmp_path / "objects.inv").write_bytes(head + zlib.compress("\n".join(given).encode()))
        if given == lines:
            DOCS.check_reference(tmp_path)
        else:
            with pytest.raises(SystemExit, match=f"lacks 1 .*{lines[0].split()[0]}"):
                DOCS.check_reference(tmp_path)


OUTSIDE = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
OUTSIDE += [str(path.relative_to(ROOT)) for path in sorted((ROOT / "vtc" / "embedded" / "weights").glob("*/README.md"))]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([\w-]+))?\)")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the site makes them."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


def broken_links(page: Path) -> list[str]:
    """Relative links of `page` whose file or heading is not there; the strict build of the site checks its own."""
    found = []
    for target, anchor in LINK.findall(page.read_text()):
        path = (page.parent / target) if target else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            found.append(f"{target}#{anchor}" if anchor else target)
    return found


@pytest.mark.parametrize("name", OUTSIDE)
def test_links_of_pages_outside_of_the_site_lead_somewhere(name):
    assert not broken_links(ROOT / name)


def test_a_broken_link_is_found(page):
    path = page("# A page\n\n[a](page.md#a-page) [b](page.md#b) [c](other.md) [d](https://example.org/x)\n")
    assert broken_links(path) == ["page.md#b", "other.md"]


def code(page: Path) -> list[str]:
    """Lines of shell blocks, continued ones joined, and code between backticks."""
    text = page.read_text()
    shell = "\n".join(re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S)).replace("\\\n", " ")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return [line.split("  #")[0] for line in shell.splitlines()] + re.findall(r"`([^`\n]+)`", prose)


def misspelt(line: str) -> list[str]:
    """Commands and options of `vtc` in a line of code that the command line does not have."""
    found = re.search(r"(?:^|/|&& |-- +)vtc ((?:[a-z]+ ?)+)(.*)", line)
    if not found:
        return []
    command = typer.main.get_command(app)
    for word in found[1].split():
        if commands := getattr(command, "commands", None):
            if word not in commands:
                return [f"vtc {word}"]
            command = commands[word]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return [
        f"{command.name} {option}" for option in re.findall(r"--[a-z-]+", found[2]) if option not in known | {"--help"}
    ]


def test_commands_are_spelt_as_the_command_line_has_them():
    assert not {f"{page.name}: {wrong}" for page in DOCS.pages() for line in code(page) for wrong in misspelt(line)}


def test_a_misspelt_command_is_found():
    assert misspelt("vtc ask a.png --keep 0.25 --recipe cls") == []
    assert misspelt("vtc ask a.png --kept 0.25") == ["ask --kept"]
    assert misspelt(".venv/bin/vtc bench quality --models a --fresher") == ["quality --fresher"]
    assert misspelt("vtc tell a.png") == ["vtc tell"]


def test_every_named_recipe_is_described():
    text = "".join((ROOT / "docs" / page).read_text() for page in ("recipes.md", "decoder.md"))
    described = set(re.findall(r"`([^`\s]+)`", text)) | {
        f"{name}-mean" for name in ("kcenter", "cls", "random", "stride")
    }
    assert not {recipe.name for recipe in named_recipes()} - described


def test_what_is_below_random_is_explained_as_the_benchmark_does():
    rows = re.findall(r"^\| `(.+?)` \| `(.+?)` \| (.+?) \|$", (ROOT / "docs" / "below-random.md").read_text(), re.M)
    assert rows == [(one.recipe, one.model, one.why) for one in EXPLAINED]


def missing_names(source: str) -> list[str]:
    """What a block imports from vtc and vtc does not have."""
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    ours = [
        (node.module, alias.name)
        for node in found
        if (node.module or "").split(".")[0] == "vtc"
        for alias in node.names
    ]
    return [
        f"{module}.{name}"
        for module, name in ours
        if not (hasattr(import_module(module), name) or find_spec(f"{module}.{name}"))
    ]


def test_blocks_that_do_not_run_import_what_there_is():
    sources = [block.body for page in DOCS.pages() for block in DOCS.blocks(page) if block.language == "python"]
    assert not [name for source in sources for name in missing_names(source)]
    assert missing_names("from vtc import reduce_tokens, reduced_tokens") == ["vtc.reduced_tokens"]
