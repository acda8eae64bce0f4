"""Which tests are run for a file: few and fast, yet all that a wrong file should fail."""

from __future__ import annotations

from pathlib import Path

STAGES = ("tests/stages/test_stages.py",)
GRID = ("tests/reduction/test_grid_oracle.py", "tests/reduction/test_grid_counts.py")
DECODER = tuple(
    f"tests/reduction/decoder/test_{name}.py" for name in ("schedules", "parity", "exact", "caches", "shown", "trace")
)
TESTS: dict[str, tuple[str, ...]] = {
    "vtc/core/flops.py": ("tests/reduction/test_report.py", "tests/reduction/decoder/test_trace.py"),
    "vtc/core/tokens.py": ("tests/core/test_tokens.py", "tests/core/test_allocation.py", *STAGES),
    "vtc/stages/allocate": ("tests/stages/test_allocate.py", "tests/stages/test_density.py", *STAGES),
    "vtc/stages/allocate/thumbnail.py": ("tests/stages/test_thumbnail.py", "tests/stages/test_allocate.py"),
    "vtc/stages/decoder": ("tests/reduction/decoder/test_stages.py", *DECODER[:2]),
    "vtc/stages/encoder": ("tests/stages/test_encoder.py",),
    "vtc/stages/grid_partition.py": ("tests/stages/test_lattice.py",),
    "vtc/stages/input": ("tests/reduction/test_resize.py", *STAGES),
    "vtc/stages/merge": ("tests/stages/test_lattice.py", *STAGES),
    "vtc/stages/ops.py": ("tests/stages/test_maxmin.py", "tests/stages/test_maxsum.py", *STAGES),
    "vtc/stages/select": (*STAGES, "tests/stages/test_maxmin.py", "tests/stages/test_lattice.py"),
    "vtc/stages/select/cls_sampling.py": ("tests/stages/test_cls_sampling.py",),
    "vtc/stages/select/local_global.py": ("tests/stages/test_local_global.py",),
    "vtc/stages/select/maxmin.py": ("tests/stages/test_maxmin.py",),
    "vtc/stages/select/maxsum.py": ("tests/stages/test_maxsum.py",),
    "vtc/stages/thumbnail_maps.py": ("tests/stages/test_thumbnail.py", "tests/stages/test_local_global.py"),
    "vtc/reduction/prompt.py": ("tests/reduction/test_prompt.py",),
    "vtc/reduction/decoder": (*DECODER, "-k", "llava or qwen25vl"),
}
"""Arguments of pytest by file, or by folder for the files that have no entry of their own."""


def selected(root: Path, name: str) -> list[str]:
    """Arguments of pytest for the source file `name` below `root`.

    Raises:
        ValueError: neither the table nor a test file in the mirrored place has any.
    """
    for place in (name, *map(str, Path(name).parents)):
        if place in TESTS:
            return list(TESTS[place])
    path = Path(name)
    folder = Path(*path.parts[1:-1]) if path.parts[0] == "vtc" else path.parent
    mirrored = Path("tests") / folder / f"test_{path.name}"
    if (root / mirrored).is_file():
        return [str(mirrored)]
    raise ValueError(f"name={name!r}: no tests in {mirrored}; add it to TESTS in {__name__}, or pass --tests")
