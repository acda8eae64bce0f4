"""Tries the lowest versions that pyproject allows, each laid over the finished environment, on tests that touch it.

usage: lowest.py [PACKAGE...] | lowest.py constraints

`constraints` prints `package==lowest` for every bound of pyproject, extras included: what .ci/nightly installs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10: pip brings the same parser
    from pip._vendor import tomli as tomllib

ROOT = Path(__file__).parents[1]
TRIED = {  # package: its module, pytest's arguments
    "transformers": (
        "transformers",
        ["tests/adapters/test_generic.py", "tests/reduction/test_arguments.py", "-k", "Exaone or encoder or types"],
    ),
    "timm": ("timm", ["tests/adapters/test_vision_tower.py", "-k", "timm and (both_kernels or wrong_rule)"]),
    "einops": ("einops", ["tests/adapters/test_cues.py", "-k", "every_cue and (qwen2vl or internvl)"]),
    # pillow-heif of a finished environment wants a newer Pillow.
    "pillow": ("PIL", ["tests/media/test_images.py", "tests/viz/test_contact_sheets.py", "-k", "not heic_is_read"]),
    "opencv-python-headless": ("cv2", ["tests/video/reading/test_reading.py", "-k", "opencv"]),
    "av": ("av", ["tests/video/reading/test_reading.py", "-k", "pyav or not (decord or opencv or torchcodec)"]),
    "decord2": ("decord", ["tests/video/reading/test_reading.py", "-k", "decord"]),
    "scenedetect-headless": ("scenedetect", ["tests/video/clips/test_segment_rules.py"]),
    "typer": ("typer", ["tests/cli/test_main.py", "-k", "version_and_help or usage"]),
    "accelerate": ("accelerate", ["tests/embedded/test_gguf.py"]),
    "gguf": ("gguf", ["tests/embedded/test_gguf.py"]),
    "filelock": ("filelock", ["tests/core/test_cache_folder.py"]),
    "jinja2": ("jinja2", ["tests/html_report/test_answers.py", "-k", "text or word or rows_come_to"]),
    "rich": ("rich", ["tests/cli/test_main.py", "-k", "version_and_help or usage"]),
}
"""What is small enough to be laid over an environment; torch, gradio and ray are not: .ci/nightly has them."""

CHILD = """
import importlib, sys
from importlib.metadata import version
import pytest
from pip._vendor.packaging.version import Version
overlay, package, lowest, module, *arguments = sys.argv[1:]
assert Version(version(package)) == Version(lowest), (package, version(package), lowest)
status = pytest.main(["-q", "-x", "-p", "no:cacheprovider", *arguments])
# Behind the tests: decord2 1.0 imported before PyAV breaks PyAV's VP9 encoder, with which the tests write videos.
found = importlib.import_module(module).__file__
assert found.startswith(overlay), f"{module} is {found}, not of {overlay}"
sys.exit(status)
"""


def bounds() -> dict[str, str]:
    """The lowest version that pyproject allows, by package; only of those with a bound."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    wanted = [Requirement(line) for line in [*project["dependencies"], *extras]]
    return {r.name: spec.version for r in wanted for spec in r.specifier if spec.operator in (">=", "==")}


def try_lowest(package: str, lowest: str) -> bool:
    """Whether the tests of `package` pass with its version `lowest`; prints one line, and pytest's if they do not."""
    module, arguments = TRIED[package]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as overlay:
        install = [
            "pip",
            "install",
            "--quiet",
            "--no-compile",
            "--no-deps",
            "--target",
            overlay,
            f"{package}=={lowest}",
        ]
        subprocess.run([sys.executable, "-m", *install], check=True)
        ran = subprocess.run(
            [sys.executable, "-c", CHILD, overlay, package, lowest, module, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": overlay, "HF_HUB_OFFLINE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    passed = ran.returncode == 0
    closing = ran.stdout.strip().splitlines()[-1] if ran.stdout.strip() else "no output"
    print(
        f"{package} {lowest}: {'ok' if passed else 'FAILED'} ({time.monotonic() - began:.0f} s) {closing}", flush=True
    )
    if not passed:
        print(ran.stdout)
    return passed


def main(names: list[str]) -> int:
    """The exit status."""
    lowest = bounds()
    if names == ["constraints"]:
        print("\n".join(f"{package}=={version}" for package, version in sorted(lowest.items())))
        return 0
    unbound = sorted(TRIED.keys() - lowest.keys())
    if unbound:
        raise SystemExit(f"pyproject gives no lowest version of {', '.join(unbound)}")
    passed = [try_lowest(package, lowest[package]) for package in names or TRIED]  # all of them, also after a failure
    return 0 if all(passed) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
