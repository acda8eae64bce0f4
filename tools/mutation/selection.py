"""Which tests are run for a file: few and fast, since they run once an edit."""

from __future__ import annotations

from pathlib import Path

STAGES = "tests/stages/test_stages.py"
DECODER = tuple(f"tests/reduction/decoder/test_{name}.py" for name in ("exact", "caches", "turns"))
TESTS: dict[str, tuple[str, ...]] = {
    "vtc/core/flops.py": ("tests/reduction/test_report.py", "tests/reduction/decoder/test_trace.py"),
    "vtc/stages/allocate": ("tests/stages/test_allocate.py", "tests/stages/test_density.py"),
    "vtc/stages/allocate/thumbnail.py": ("tests/stages/test_thumbnail.py", "tests/stages/test_allocate.py"),
    "vtc/stages/decoder": ("tests/reduction/decoder/test_stages.py", "tests/reduction/decoder/test_schedules.py"),
    "vtc/stages/encoder": ("tests/stages/test_encoder.py",),
    "vtc/stages/grid_partition.py": ("tests/stages/test_lattice.py",),
    "vtc/stages/input": ("tests/reduction/test_resize.py",),
    "vtc/stages/merge": ("tests/stages/test_lattice.py", STAGES, "-k", "merge or fold or lattice"),
    "vtc/stages/ops.py": tuple(f"tests/stages/test_{name}.py" for name in ("maxmin", "maxsum", "local_global")),
    "vtc/stages/select": (STAGES, "-k", "{stem} and not rough"),
    "vtc/stages/select/cls_sampling.py": ("tests/stages/test_cls_sampling.py",),
    "vtc/stages/select/grid.py": ("tests/stages/test_lattice.py",),
    "vtc/stages/select/local_global.py": ("tests/stages/test_local_global.py",),
    "vtc/stages/select/maxmin.py": ("tests/stages/test_maxmin.py",),
    "vtc/stages/select/maxsum.py": ("tests/stages/test_maxsum.py",),
    "vtc/stages/thumbnail_maps.py": ("tests/stages/test_thumbnail.py", "tests/stages/test_local_global.py"),
    "vtc/reduction/decoder": (*DECODER, "-k", "llava and not onevision"),
}
"""Arguments of pytest by file, or by folder for files without an entry; `{stem}` is the file's name as classes have it.

A file in neither is tested by the file of its name in the mirrored folder.
"""


def selected(root: Path, name: str) -> list[str]:
    """Arguments of pytest for the source file `name` below `root`.

    Raises:
        ValueError: neither the table nor a test file in the mirrored place has any.
    """
    path = Path(name)
    for place in (name, *map(str, path.parents)):
        if place in TESTS:
            return [argument.format(stem=path.stem.replace("_", "")) for argument in TESTS[place]]
    folder = Path(*path.parts[1:-1]) if path.parts[0] == "vtc" else path.parent
    mirrored = Path("tests") / folder / f"test_{path.name}"
    if (root / mirrored).is_file():
        return [str(mirrored)]
    raise ValueError(f"name={name!r}: no tests in {mirrored}; add it to TESTS in {__name__}, or pass --tests")
