"""`vtc bench speed`: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json

import pytest

from tests.cli.test_main import vtc_command
from vtc.bench.speed_tables import verdict

QUICK = ("--recipes", "kcenter", "--keep", ".25", "--batch", "1", "--rounds", 1, "--answer", 2, "--threads", 1)


def test_a_tiny_model(tmp_path):
    result = vtc_command("bench", "speed", *QUICK, "--model", "tiny-llava", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.error
    assert "all tokens" in result.text
    assert "Batch of 1, `kcenter`:" in result.text
    made = json.loads((tmp_path / "out" / "speed.json").read_text())
    assert {"cpu", "cores", "threads"} <= made["machine"].keys()
    assert [row["name"] for row in made["rows"]] == ["full", "kcenter"]
    table = (tmp_path / "out" / "speed.md").read_text()
    assert "Medians of 1 calls" in table
    assert len({line.count("|") for line in table.splitlines() if line.startswith("|")}) == 1


def test_videos_and_several_images():
    for options in (("--model", "tiny-qwen", "--frames", 4), ("--model", "tiny-internvl", "--images", 2)):
        result = vtc_command("bench", "speed", *QUICK, *options, "--json")
        assert result.exit_code == 0, result.error
        full, kept = json.loads(result.stdout)["rows"]
        assert kept["tokens"] == pytest.approx(full["tokens"] / 4, abs=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--arch", "qwen3-vl-4"), "did you mean 'qwen3-vl-4b'"),
        (("--arch", "qwen3-vl-4b", "--model", "tiny-llava"), "pass one of them"),
        (("--arch", "qwen3-vl-4b", "--frames", 4), "--frames: requests for --arch qwen3-vl-4b are about images"),
        (("--model", "tiny-llava", "--rounds", 0), "--rounds 0; expected a whole number of at least 1"),
        (("--model", "tiny-llava", "--batch", "0"), "--batch 0; expected whole numbers"),
        (("--model", "tiny-llava", "--batch", "two"), "expected whole numbers, such as 1,4,16"),
        (("--model", "tiny-llava", "--attn", "fast"), "--attn 'fast'; expected one of sdpa"),
        (
            (
                "--model",
                "tiny-lava",
            ),
            "did you mean 'tiny-llava'",
        ),
        (("--model", "tiny-llava", "--recipes", "kcentre"), "did you mean 'kcenter'"),
    ],
)
def test_bad_options(options, message):
    result = vtc_command("bench", "speed", *options)
    assert result.exit_code in (1, 2)
    assert message in result.error


def row(name, keep, tokens, seconds, **more):
    spread = {"median": seconds, "low": seconds * 0.99, "high": seconds * 1.01, "count": 7}
    made = {"batch": 1, "name": name, "keep": keep, "tokens": tokens, "first": spread, "phases": {}, "refused": None}
    return {**made, **more}


def test_the_verdict_in_plain_words():
    rows = [
        row("full", 1.0, 256, 1.0),
        row("good", 0.5, 128, 0.8, phases={"encode": 0.1}),
        row("good", 0.25, 64, 0.5, phases={"encode": 0.3}),
        row("slow", 0.5, 128, 1.2),
        row("none", 0.5, 0, 1.0, refused="it cannot"),
    ]
    good, slow = verdict({"rows": rows})
    assert good == (
        "Batch of 1, `good`: pays from keep 0.5 on (128 of 256 tokens, 1.25 times sooner); at keep 0.25 2.00 times "
        "sooner. Most of that time is encode, 60%; a cheaper encoder would cut it: `tome` or `resize`; of videos fewer "
        "frames (`video`, `dcode`)."
    )
    assert slow.startswith("Batch of 1, `slow`: does not pay here; at best the first token takes 1.20 times as long")
