import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image
from typer.testing import CliRunner

from tests.cli.test_main import row, vtc_command
from tests.video.reading.test_shapes import changing
from tests.video.reading.test_tracks import tracks
from tests.video.videos import (
    cut,
    flipped,
    numbered,
    write,
)
from vtc.cli.main import app
from vtc.embedded.samples import samples
from vtc.embedded.video import Video
from vtc.inference import prompting
from vtc.inference.asking import compare
from vtc.inference.loading import load
from vtc.recipes.named import recipe
from vtc.video.reading import probe
from vtc.video.reading.sampling import Sampling

STORY = Video(2**41 + 12)
IMAGE = samples()[0].path
QUICK = ("--max-new-tokens", "4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def video(folder) -> Path:
    return write(folder / "video.mp4", STORY.pixels(96), fps=2)


@pytest.fixture(scope="module")
def long(folder) -> Path:
    return write(folder / "long.mkv", numbered(300), fps=30)


# ask


def test_ask_answers_about_a_video_with_all_tokens_and_with_fewer(video):
    question = STORY.questions[0].question
    result = vtc_command("ask", video, question)
    assert (result.exit_code, result.stderr) == (0, "")
    assert row(result, "visual tokens") == ["288", "72"]
    assert "video, keep 0.25" in result.stdout
    assert result.text.startswith("video.mp4, tiny-qwen on cpu")
    assert re.search(r"read: 16 of 16 frames of 8 s of video, none lost, [\d.]+ s of reading", result.text)
    model, processor = load("tiny-qwen", device="cpu")
    sampling = Sampling()
    frames, _ = sampling.read(video, sampling.candidates(probe(video)))
    pair = compare(model, processor, frames, question, recipe("video"), rounds=0)
    assert row(result, "answer") == [pair.full, pair.short]


def test_stretch_and_rate_choose_the_frames(long):
    options = ("--fps", "4", "--frames", "10", "--start", "2", "--end", "4", "--recipe", "clip-budget", *QUICK)
    assert "read: 8 of 300 frames" in vtc_command("ask", long, "what moves?", *options).text
    options = ("--frames", "4", "--recipe", "kcenter", "--keep", "0.5", *QUICK)
    result = vtc_command("ask", long, "what moves?", *options)
    assert "read: 4 of 300 frames" in result.text
    full, short = map(int, row(result, "visual tokens"))
    assert full == 2 * short


def test_a_model_that_takes_frames_as_images_says_so_and_shares_over_them(video):
    result = vtc_command("ask", video, "what moves?", "--model", "tiny-internvl", "--fps", "1", *QUICK)
    assert result.exit_code == 0
    assert "InternVLForConditionalGeneration takes the frames of a video as images" in result.error
    assert row(result, "visual tokens") == [str(8 * 36), str(8 * 9)]
    model, processor = load("tiny-internvl", device="cpu")
    sampling = Sampling(fps=1)
    frames, _ = sampling.read(video, sampling.candidates(probe(video)))
    assert prompting.frames_are_images(model)
    one = replace(recipe("video"), images_as="frames")
    pair = compare(model, processor, frames, "what moves?", one, max_new_tokens=4, rounds=0)
    assert row(result, "answer") == [pair.full, pair.short]


def test_images_keep_their_own_defaults():
    result = vtc_command("ask", IMAGE, "where is it?", *QUICK)
    assert "tiny-llava on cpu" in result.text
    assert "kcenter, keep 0.25" in result.stdout
    assert "read:" not in result.text


@pytest.mark.parametrize("option", ["fps", "frames", "start", "end"])
def test_options_of_videos_are_refused_with_a_image(option):
    result = vtc_command("ask", IMAGE, "where?", f"--{option}", "2")
    assert result.exit_code == 1
    assert f"--{option} is about videos, and {IMAGE} is none" in result.error


def test_an_animated_image_is_a_video(tmp_path):
    frames = [Image.new("RGB", (96, 96), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:], duration=500)
    result = vtc_command("ask", tmp_path / "x.gif", "what color is it?", *QUICK)
    assert result.exit_code == 0
    assert "read: 2 of 2 frames" in result.text
    frames[0].save(tmp_path / "still.gif")
    result = vtc_command("ask", tmp_path / "still.gif", "what color is it?", *QUICK)
    assert result.exit_code == 0
    assert "tiny-llava on cpu" in result.text


@pytest.mark.parametrize("command", [("ask", "what?"), ("probe",), ("show", "--out", "x.png")], ids=lambda x: x[0])
def test_an_address_is_no_path(command):
    result = vtc_command(command[0], "https://example.org/video.mp4", *command[1:])
    assert result.exit_code == 1
    assert "is an address, and only files are read; download it first" in result.error


@pytest.mark.parametrize("reader", ["opencv", "decord"])
def test_a_reader_can_be_named(long, reader):
    options = ("--frames", "4", "--recipe", "kcenter", *QUICK)
    named = vtc_command("ask", long, "what moves?", *options, "--reader", reader)
    plain = vtc_command("ask", long, "what moves?", *options)
    assert (named.exit_code, row(named, "answer")) == (0, row(plain, "answer"))
    assert vtc_command("probe", long, "--reader", reader).exit_code == 0


def test_a_reader_that_refuses_a_file_and_one_that_is_not_known(folder):
    turned = write(folder / "x.ts", numbered(30))
    assert vtc_command("probe", turned).exit_code == 0
    result = vtc_command("probe", turned, "--reader", "decord")
    assert result.exit_code == 1
    assert "use backend='pyav'" in result.error
    result = vtc_command("ask", turned, "what?", "--reader", "vlc")
    assert result.exit_code == 1
    assert "backend='vlc' is not known" in result.error


def test_frames_of_another_size_are_told(folder):
    path = changing(folder / "call.webm", ((160, 96), (80, 48)))
    result = vtc_command("ask", path, "what moves?", "--fps", "10", *QUICK)
    assert "10 frames have another size in the file and were scaled to that of the first" in result.error
    assert "read: 20 of 20 frames" in result.text


def test_a_track_can_be_named_and_several_are_told(folder):
    path = tracks(folder / "two.mkv", ((160, 96), 10, Disposition(0)), ((96, 160), 20, Disposition.default))
    result = vtc_command("ask", path, "what moves?", *QUICK)
    assert "track 1 (h264, 96 x 160, default) is read; there are track 0 (h264, 160 x 96) too" in result.error
    assert "of 20 frames" in result.text
    assert "of 10 frames" in vtc_command("ask", path, "what moves?", "--track", "0", *QUICK).text
    assert "160 x 96 pixels" in vtc_command("probe", path, "--track", "0").text
    refused = vtc_command("probe", path, "--track", "5")
    assert (refused.exit_code, "which has track 0" in refused.error) == (1, True)


def test_frames_that_were_lost_are_told(folder):
    damaged = flipped(write(folder / "whole.mp4", numbered(120, 128, 192), fps=30, gop=120), 20, seed=1)
    reading = Sampling(fps=30, frames=30)
    _, report = reading.read(damaged, reading.candidates(probe(damaged)))
    assert report.lost
    assert report.damaged  # else the video is not damaged enough for this test
    result = vtc_command("ask", damaged, "what?", "--fps", "30", "--frames", "30", *QUICK)
    assert result.exit_code == 0
    told = {"could not be read and are left out": report.lost, "come after damage in the file": report.damaged}
    for text, frames in told.items():
        assert (
            (f"note: {len(frames)} " in result.error and text in result.error) if frames else text not in result.error
        )
    assert (f"{len(report.lost)} lost" if report.lost else "none lost") in result.text


def test_a_video_that_was_cut_short_is_read_and_told(folder, long):
    short = cut(long, 0.5)
    result = vtc_command("ask", short, "what?", "--frames", "4", *QUICK)
    assert result.exit_code == 0
    assert "is cut short, or its header is wrong" in result.error
    assert int(re.search(r"read: 4 of (\d+) frames", result.text)[1]) < 300


def test_a_plan_prints_every_call(video):
    result = vtc_command("ask", video, "what flashes?", "--plan", "segment-thought", *QUICK)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert [line.split(":")[0] for line in lines[:4]] == [*(f"describe part {i} of 3" for i in (1, 2, 3)), "answer"]
    assert "video.mp4, tiny-qwen on cpu: 4 calls of the model, " in result.text


@pytest.mark.parametrize(
    ("medium", "plan", "message"),
    [("image", "decompose", "is an image; leave it away"), ("video", "decompos", "did you mean 'decompose'")],
)
def test_a_plan_that_does_not_fit_is_refused(video, medium, plan, message):
    result = vtc_command("ask", video if medium == "video" else IMAGE, "what?", "--plan", plan)
    assert (result.exit_code, message in result.error) == (1, True)


# show


def test_show_draws_a_timeline(video, tmp_path):
    drawn = {}
    for name in ("video", "clip-budget", "uniform"):
        result = vtc_command("show", video, "--out", tmp_path / f"{name}.png", "--recipe", name)
        assert (result.exit_code, result.stderr) == (0, "")
        assert f"{name}: 72 of 288 visual tokens" in result.text
        counts = re.findall(r"(\d+) of (\d+) tokens, (\d+) of (\d+) encoded", result.text)
        assert [sum(map(int, column)) for column in zip(*counts, strict=True)][:2] == [72, 288]
        drawn[name] = np.asarray(Image.open(tmp_path / f"{name}.png"))
    assert len({image.tobytes() for image in drawn.values()}) == 3
    assert drawn["video"].shape[1] == 1360


def test_show_draws_the_frames_of_a_model_that_takes_images(long, tmp_path):
    options = ("--model", "tiny-llava", "--frames", "3", "--recipe", "keyframes")
    result = vtc_command("show", long, "--out", tmp_path / "x.png", *options)
    assert result.exit_code == 0
    assert "1 of 3 frames encoded" in result.text
    assert Image.open(tmp_path / "x.png").width == 1360


# probe


def test_probe_prints_what_videos_are(video, long):
    result = vtc_command("probe", video, long)
    assert (result.exit_code, result.stderr) == (0, "")
    for path in (video, long):
        assert str(probe(path)) in result.stdout
    assert "16 frames in 8 s, 2 frames/s" in result.text


def test_probe_goes_on_behind_a_broken_file(video, long, folder):
    result = vtc_command("probe", video, folder / "none.mp4", IMAGE, long)
    assert result.exit_code == 1
    assert result.stderr.count("error: ") == result.stderr.count("\n") == 2
    assert str(folder / "none.mp4") in result.error
    assert str(probe(long)) in result.stdout


def test_probe_speaks_json(video, folder):
    result = vtc_command("probe", "--json", video, folder / "none.mp4")
    assert (result.exit_code, result.stderr) == (1, "")
    good, bad = map(json.loads, result.stdout.splitlines())
    assert (good["frames"], good["duration"], good["width"], good["keyframes"]) == (
        16,
        8.0,
        96,
        len(probe(video).keyframes),
    )
    assert good["truncated"] is False
    assert set(bad) == {"path", "error"}
    assert "no such file" in bad["error"]


# Bad input


def sound(path: Path) -> Path:
    import av

    with av.open(str(path), "w") as container:
        track = container.add_stream("aac", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48_000
        container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return path


BAD = {
    "missing": lambda folder, video: folder / "none.mp4",
    "directory": lambda folder, video: folder,
    "empty": lambda folder, video: _bytes(folder / "empty.mp4", b""),
    "text": lambda folder, video: _bytes(folder / "text.mp4", b"words, words, words"),
    "sound only": lambda folder, video: sound(folder / "sound.mp4"),
    "no index": lambda folder, video: _bytes(folder / "half.mp4", video.read_bytes()[: video.stat().st_size // 2]),
    "no frames": lambda folder, video: write(folder / "none-in-it.mkv", []),
}


def _bytes(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_image_with_the_ending_of_a_video_is_a_image(tmp_path):
    path = _bytes(tmp_path / "image.mp4", IMAGE.read_bytes())
    assert "tiny-llava on cpu" in vtc_command("ask", path, "what?", *QUICK).text
    result = vtc_command("probe", path)
    assert (result.exit_code, "is a still image, no video" in result.error) == (1, True)


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("command", ["ask", "show", "probe"])
def test_bad_videos_are_one_plain_line(tmp_path, video, kind, command, capfd):
    folder = tmp_path / "x.mp4"
    folder.mkdir()
    path = BAD[kind](folder, video)
    rest = {"ask": ["what?"], "show": ["--out", tmp_path / "out.png"], "probe": []}[command]
    result = vtc_command(command, path, *rest)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert path.name in result.error
    assert result.stdout == ""
    assert capfd.readouterr() == ("", "")  # nor does a child that decodes print
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fps", "0"], "fps=0.0 is out of range; expected"),
        (["--fps", "nan"], "fps=nan is out of range; expected"),
        (["--frames", "0"], "frames=0 is below 1; expected"),
        (["--start", "99"], "start=99.0 lies outside"),
        (["--start", "3", "--end", "2"], "end=2.0 is not behind start=3.0"),
        (["--start", "nan"], "start=nan"),
        (["--end", "nan"], "end=nan"),
        (["--recipe", "vidoe"], "unknown recipe 'vidoe'; did you mean 'video'"),
        (["--keep", "0"], "keep=0.0 is outside (0, 1]"),
    ],
)
def test_bad_options_are_one_plain_line(video, options, message):
    result = vtc_command("ask", video, "what?", *options)
    assert (result.exit_code, result.stderr.count("\n"), result.stdout) == (1, 1, "")
    assert result.stderr.startswith("error: ")
    assert message in result.error


def test_debug_shows_where_an_error_comes_from(tmp_path):
    result = CliRunner().invoke(app, ["probe", "--debug", str(tmp_path / "none.mp4")])
    assert result.exit_code == 1
    result = CliRunner().invoke(app, ["ask", "--debug", str(tmp_path / "none.mp4"), "what?"])
    assert isinstance(result.exception, FileNotFoundError)


def test_probe_loads_no_model_code(video):
    code = f"import sys; from vtc.cli.main import app; app(['probe', {str(video)!r}], standalone_mode=False); "
    code += "sys.exit(str([m for m in ('torch', 'transformers') if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "[]"
    assert "16 frames" in done.stdout
