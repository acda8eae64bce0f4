"""Mutation testing: which edits are made, and that the one no test notices is found."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.mutation.__main__ import ROOT, diff
from tools.mutation.edits import edits
from tools.mutation.selection import TESTS, selected

SOURCE = '''
def larger(a, b):
    """The larger of two."""
    return a if a > b else b


def shift(values, by=1):
    values.sort()
    return [value + by for value in values]
'''
TEST = """
from vtc.small import larger


def test_larger():
    assert [larger(1, 2), larger(2, 1)] == [2, 2]
"""
ALL = """
from vtc.small import shift


def test_shift():
    assert shift([3, 1]) == [2, 4]
    assert shift([3, 1], 3) == [4, 6]
"""
PLAIN = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
"""Most of a small test run is the loading of plugins."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for folder in ("vtc", "tests"):
        (root / folder).mkdir(parents=True)
        (root / folder / "__init__.py").touch()
    (root / "vtc" / "small.py").write_text(SOURCE)
    (root / "tests" / "test_small.py").write_text(TEST)
    (root / "pytest.ini").write_text("[pytest]\n")
    subprocess.run(["git", "init", "-q", root], check=True)
    return root


def run(tree: Path, *options: str) -> tuple[str, list[dict]]:
    command = [sys.executable, "-m", "tools.mutation", "vtc/small.py", "--root", tree, "--log", tree / "log.jsonl"]
    out = subprocess.run([*command, *options], cwd=ROOT, env=PLAIN, capture_output=True, text=True, timeout=300)
    log = tree / "log.jsonl"
    return out.stdout + out.stderr, [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def alternatives(source: str) -> set[str]:
    return {edit.apply(source.encode()).decode() for edit in edits(source.encode())}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a < b", {"x = (a <= b)"}),
        ("x = a >= b", {"x = (a > b)"}),
        ("x = a == b != c", {"x = (a != b != c)", "x = (a == b == c)"}),
        ("x = a is None", {"x = (a is not None)"}),
        ("x = a in b", {"x = (a not in b)"}),
        ("x = [7]", {"x = [8]", "x = [6]"}),
        ("x = 0.5", {"x = 1.0"}),
        ("x = 0.0", set()),
        ("x = True", {"x = False"}),
        ("x = not a", {"x = (a)"}),
        ("x = a and b", {"x = (a or b)"}),
        ("x = a | b", {"x = (a & b)"}),
        ("x = a + b", {"x = (a - b)"}),
        ("x = a - b", {"x = (a + b)"}),
        ("x = a @ b", set()),
        ("x = f(a, b, a)", {"x = f(b, a, a)", "x = f(a, a, b)"}),
        ("x = f(a, a)", set()),
        ("x = min(a, b)", {"x = max(a, b)"}),
        ("x = a.maximum(b, c)", {"x = a.minimum(b, c)"}),
        ("x = a.amax(dim=d)", {"x = a.amin(dim=d)"}),
        ("a.b = c", {"pass"}),
        ("a[b] = c", {"pass"}),
        ("a, b = c", set()),
        ("f(\n    a\n)", {"pass"}),
        ("for a in b:\n    continue", {"for a in b:\n    pass"}),
        ("x = 'ß'; y = a < b", {"x = 'ß'; y = (a <= b)"}),
        # None of these is what runs.
        ("def f(a: 1 = b) -> 2: return a", set()),
        ("@f(1)\ndef g(): return a", set()),
        ('"""1 < 2"""\nimport a', set()),
        ("x = f'{a < b:1}'", set()),
    ],
)
def test_the_edits_of_a_line(source: str, expected: set[str]):
    assert alternatives(source) == expected


def test_edits_touch_their_own_bytes_alone_and_all_of_them_compile():
    source = (ROOT / "vtc" / "core" / "budget.py").read_bytes()
    found = edits(source)
    assert len(found) > 60
    for edit in found:
        after = edit.apply(source)
        compile(after, "budget.py", "exec")
        assert after != source
        assert source[: edit.start].count(b"\n") + 1 == edit.line
        assert diff("budget.py", edit, source).startswith(f"@@ -{edit.line}")


def test_an_edit_that_no_test_notices_is_found(tree: Path):
    out, rows = run(tree)
    shift = [row for row in rows if row["line"] >= 7]
    assert {row["outcome"] for row in shift} == {"survived"}
    assert len(shift) == 4
    assert "survived: vtc/small.py:9\n@@ -9 +9 @@\n-    return [value + by" in out
    # Of the tested function only `>=` is left, which gives the same.
    assert [row["diff"].splitlines()[-1].strip() for row in rows if row["outcome"] != "killed" and row["line"] < 7] == [
        "+    return a if (a >= b) else b"
    ]
    assert (tree / "vtc" / "small.py").read_text() == SOURCE


def test_none_is_found_where_all_is_tested(tree: Path):
    (tree / "tests" / "test_small.py").write_text(ALL)
    (tree / "vtc" / "small.py").write_text(SOURCE.partition("\n\n\n")[2])
    out, rows = run(tree)
    assert {row["outcome"] for row in rows} == {"killed"}
    assert out.splitlines()[-1] == f"{len(rows)} killed"


def test_a_run_goes_on_where_its_log_ends(tree: Path):
    _, two = run(tree, "--sample", "2", "--seed", "3")
    assert len(two) == 2
    assert run(tree, "--sample", "2", "--seed", "3")[1] == two
    _, rows = run(tree)
    assert rows[:2] == two
    assert len({row["diff"] for row in rows}) == len(rows) == len(alternatives(SOURCE))


def test_tests_that_never_end_are_ended(tree: Path):
    (tree / "tests" / "test_small.py").write_text("def test_endless():\n    while True:\n        pass\n")
    code = "from tools.mutation.forked_tests import *; print(ForkedTests(Path(sys.argv[1]), ['tests'], limit=3).run())"
    out = subprocess.run([sys.executable, "-c", code, tree], cwd=ROOT, env=PLAIN, capture_output=True, timeout=60)
    assert out.stdout == b"None\n"


def test_tests_that_fail_before_any_edit_are_refused(tree: Path):
    (tree / "tests" / "test_small.py").write_text(TEST.replace("[2, 2]", "[2, 1]"))
    out, rows = run(tree)
    assert "ValueError: paths=['tests/test_small.py']: pytest gives 1 before any edit" in out
    assert rows == []


def test_every_file_of_the_table_is_there():
    paths = [path for value in TESTS.values() for path in value if path.startswith("tests/")]
    assert [path for path in (*TESTS, *paths) if not (ROOT / path).exists()] == []
    assert selected(ROOT, "vtc/stages/select/k_center.py")[1:] == ["-k", "kcenter and not rough"]
    assert selected(ROOT, "vtc/core/budget.py") == ["tests/core/test_budget.py"]
    assert selected(ROOT, "video/clips/weights.py") == ["tests/video/clips/test_weights.py"]
    with pytest.raises(ValueError, match=r"'vtc/no\.py'.*tests/test_no\.py"):
        selected(ROOT, "vtc/no.py")
