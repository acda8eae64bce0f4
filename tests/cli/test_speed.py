"""`vtc bench speed`: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json

import pytest

from tests.cli.test_main import vtc_command
from vtc.bench.speed import SpeedTest
from vtc.bench.speed_plot import speed_curve
from vtc.bench.speed_tables import table, verdict

QUICK = ("--recipes", "kcenter", "--keep", ".25", "--batch", "1", "--rounds", 1, "--answer", 2, "--threads", 1)


def test_a_tiny_model(tmp_path):
    result = vtc_command("bench", "speed", *QUICK, "--model", "tiny-llava", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.error
    assert "all tokens" in result.text
    assert "Batch of 1: too few timed calls (1) to say what pays; take --rounds 3 or more" in result.text
    assert "no chart: no recipe was timed at two numbers of tokens" in result.error
    made = json.loads((tmp_path / "out" / "speed.json").read_text())
    assert {"cpu", "cores", "threads"} <= made["machine"].keys()
    assert [row["name"] for row in made["rows"]] == ["full", "kcenter"]
    written = (tmp_path / "out" / "speed.md").read_text()
    assert "Medians of 1 calls" in written
    assert "peak MiB" not in written
    assert not (tmp_path / "out" / "speed.png").exists()  # a single keep makes no curve
    assert len({line.count("|") for line in written.splitlines() if line.startswith("|")}) == 1


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
        (("--model", "tiny-llava", "--layers", 2), "--layers 2: a model is timed as it is; pass --arch"),
        (("--model", "tiny-llava", "--image-tokens", 64), "--image-tokens 64: a model is timed as it is; pass --arch"),
        (("--arch", "qwen3-vl-4b", "--image-tokens", 0), "--image-tokens 0; expected a whole number of at least 1"),
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


def test_two_keeps_make_a_chart(tmp_path):
    quick = ["--rounds", 1, "--answer", 2, "--threads", 1, "--batch", "1,2", "--recipes", "kcenter,fastv"]
    result = vtc_command("bench", "speed", "--model", "tiny-llava", "--keep", ".5,.1", *quick, "--out", tmp_path)
    assert result.exit_code == 0, result.error
    rules = [line.rstrip() for line in result.stdout.splitlines() if line.startswith(" ──")]
    assert len(rules) == 4  # two tables a batch
    assert max(map(len, rules)) <= 80
    chart = (tmp_path / "speed.svg").read_text()
    for name in ("kcenter", "the ideal", "all tokens", "tiny-llava, batch of 2"):
        assert f"<!-- {name} -->" in chart


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
        row("same", 0.5, 128, 0.99),
        row("none", 0.5, 0, 1.0, refused="it cannot"),
    ]
    good, slow, same, cost, left_out = verdict({"rows": rows, "left_out": "batch of 16"})
    assert same.startswith("Batch of 1, `same`: makes no clear difference here; at best the first token comes 1.01 x")
    assert left_out == "Not measured: batch of 16."
    assert good == (
        "Batch of 1, `good`: pays from keep 0.5 on (128 of 256 tokens, 1.25 times sooner); at keep 0.25, 2.00 times "
        "sooner."
    )
    assert cost == (
        "Batch of 1: with `good` most of the time is then encode, 60 %; a cheaper encoder would cut it: `tome` or "
        "`resize`; of videos fewer frames (`video`, `dcode`)."
    )
    assert slow.startswith("Batch of 1, `slow`: does not pay here; at best the first token takes 1.20 times as long")


def test_a_curve_is_of_percent_of_all_tokens():
    ideal, other = ({"median": m, "low": m, "high": m, "count": 7} for m in (0.4, 0.6))
    rows = [
        row("full", 1.0, 200, 2.0, ideal=None),
        row("good", 0.5, 100, 1.0, ideal=ideal),
        row("good", 0.25, 50, 0.5, ideal=ideal),
        row("even", 0.5, 100, 1.0, ideal=other),
        row("none", 0.5, 0, 1.0, refused="it cannot"),
    ]
    curve = speed_curve(rows)
    assert [(p.x, p.y, p.low, p.high) for p in curve.series["good"]] == [
        (25, 25, pytest.approx(24.75), pytest.approx(25.25)),
        (50, 50, pytest.approx(49.5), pytest.approx(50.5)),
    ]
    assert [(p.x, round(p.y, 6)) for p in curve.series["the ideal"]] == [(25, 20), (50, 25)]
    assert speed_curve(rows[:2]) is None


def test_columns_in_which_nothing_stands_are_left_out():
    whole = {"step": {"median": 0.1}, "kv_bytes": 2**20, "flops": 8, "requests_a_second": 2.0}
    full = row("full", 1.0, 200, 2.0, over_ideal=None, peak_bytes=None, **whole)
    kept = row("good", 0.5, 100, 1.0, over_ideal=None, peak_bytes=None, **whole)
    head, cells = table([full, kept])
    assert "over the ideal" not in head
    assert "peak MiB" not in head
    assert cells[1][head.index("times sooner")] == "2.00"
    phases = {"encode": 0.5, "select": 0.1, "merge": 0.04, "splice": 0.06}
    more = {"peak_bytes": 3 * 2**20, "over_ideal": {"median": 1.01, "low": 1, "high": 1.02}, "phases": phases}
    head, cells = table([full, {**kept, **more}])
    assert cells[0][head.index("peak MiB")] == ""
    assert cells[1][head.index("peak MiB")] == "3"
    assert cells[1][head.index("overhead")] == "25.0%"
    assert cells[1][head.index("over the ideal")] == "1.010 (1.000-1.020)"


def test_a_batch_that_memory_does_not_hold_loses_no_other(monkeypatch):
    whole = SpeedTest.rows

    def rows(self, given, *args):
        if len(given["input_ids"]) == 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return whole(self, given, *args)

    monkeypatch.setattr(SpeedTest, "rows", rows)
    options = [
        *("--recipes", "kcenter", "--keep", ".25", "--rounds", 1, "--answer", 2, "--model", "tiny-llava", "--json")
    ]
    result = vtc_command("bench", "speed", *options, "--batch", "1,2,3")
    assert result.exit_code == 0, result.error
    made = json.loads(result.stdout)
    assert {row["batch"] for row in made["rows"]} == {1}
    assert made["left_out"] == "batch of 2 and what follows: out of memory"
    assert vtc_command("bench", "speed", *options, "--batch", "2").exit_code != 0
