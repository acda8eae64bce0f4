"""The scripts in demos/ run offline, and say what they are there to show."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

DEMOS = Path(__file__).parents[2] / "demos"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    def script(name: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, str(tmp_path / "out")])
        runpy.run_path(str(DEMOS / name))
        return capsys.readouterr().out

    return script


def test_wrapping_takes_ten_lines(run):
    assert "49 of 196 visual tokens" in run("wrap_a_model.py")
    code = (DEMOS / "wrap_a_model.py").read_text().split("\n\n", 1)[1]
    assert sum(bool(line) and not line.startswith(("import", "from", "print")) for line in code.splitlines()) <= 10


def test_recipes_are_compared(run, tmp_path):
    lines = run("compare_recipes.py").splitlines()
    assert len(lines) == 9
    scores = {line[:22].strip(): int(re.search(r"(\d+) of 11 right", line).group(1)) for line in lines}
    assert scores["all tokens"] >= scores["kcenter, keep 0.25"] > scores["random, keep 0.05"]
    images = [Image.open(path) for path in sorted((tmp_path / "out").glob("*.png"))]
    assert len(images) == 8
    assert len({image.tobytes() for image in images}) == 8


def test_a_video_is_cut_and_budgeted(run, tmp_path):
    said = run("video_clip_budgets.py")
    clips = re.findall(r"clip \d+, .*: (\d+) of (\d+) tokens", said)
    assert len(clips) >= 4
    counts = [tuple(map(int, found)) for found in re.findall(r": (\d+) of (\d+) visual tokens", said)]
    assert len(counts) == 3
    assert all(kept == round(0.25 * total) for kept, total in counts)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    recipes = ("uniform", "clip-budget", "video")
    assert names == {"video.mp4", *(f"{name}-{what}.png" for name in recipes for what in ("timeline", "frames"))}
