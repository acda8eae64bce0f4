"""`vtc serve` as a command of its own: it starts, answers, and ends by a signal with nothing left."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from tests.integrations.serving import BUSY, data_url
from vtc.embedded.samples import samples

INTERRUPTIBLE = "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
"""Of tests that run in the background: their children inherit that an interrupt is ignored."""
COMMAND = "from vtc.cli.main import main\nsys.argv = ['vtc', 'serve', *sys.argv[1:]]\nmain()\n"


def started(folder, *args, code=""):
    """The command, with a folder of temporary files of its own."""
    (folder / "tmp").mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE + code + COMMAND, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(folder / "tmp"), "COLUMNS": "200"},
        cwd=folder,
    )


def ended(process):
    """What else it says until it has ended."""
    try:
        return process.communicate(timeout=BUSY)[0]
    finally:
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_server_answers_until_a_signal_ends_it(tmp_path, number):
    process, lines = started(tmp_path, "tiny-llava", "--port", "0", "--keep", "0.25", "--name", "mine"), []
    try:
        for line in process.stdout:
            lines.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+/v1", line):
                break
        assert found, lines
        assert "mine answers at" in line
        assert "one request at a time" in line
        parts = [{"type": "image_url", "image_url": {"url": data_url(samples()[0].path)}}]
        body = {"model": "mine", "messages": [{"role": "user", "content": parts}]}
        response = httpx.post(f"{found[0]}/chat/completions", json=body, timeout=BUSY)
        assert response.json()["usage"]["prompt_tokens_details"]["visual_tokens"] == 49
        process.send_signal(number)
    finally:
        rest = ended(process)
    assert process.returncode == 0, rest
    assert "49 of 196 visual tokens" in rest
    assert "Traceback" not in rest
    assert list((tmp_path / "tmp").iterdir()) == []


def test_what_cannot_be_served_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        cases = {
            (f"port={port} is taken", ""): ("tiny-llava", "--port", port),
            ("is guided by a thumbnail", ""): ("tiny-llava", "--port", "0", "--recipe", "globalcom2"),
            ("fps=0.0 is out of range", ""): ("tiny-llava", "--fps", "0"),
            ("vtc serve needs uvicorn, which is not installed: pip install", "sys.modules['uvicorn'] = None\n"): ("x",),
        }
        for (words, code), args in cases.items():
            process = started(tmp_path, *args, code=code)
            said = ended(process)
            assert process.returncode == 1
            assert words in said
            assert len(said.strip().splitlines()) == 1, said


def test_a_directory_is_served_by_its_name_alone(tmp_path):
    from vtc.cli.serve import _name

    (tmp_path / "model").mkdir()
    assert _name(str(tmp_path / "model")) == "model"
    assert _name("Qwen/Qwen2.5-VL-3B-Instruct") == "Qwen/Qwen2.5-VL-3B-Instruct"
