"""`vtc app` as a command of its own: without a network, ended by Ctrl-C, and where gradio is missing."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from vtc.core.ports import free_port

BUSY = 240
"""Seconds that a busy machine may take for anything here; an idle one needs 15 for all of it."""
NO_NETWORK = """
import socket, sys

def own(host):
    return host in (None, "127.0.0.1", "localhost", b"localhost")

def connect(self, address, stock=socket.socket.connect):
    if self.family != socket.AF_UNIX and not own(address[0]):
        print("OUTSIDE", address, flush=True)
        raise OSError("no network")
    return stock(self, address)

def look_up(host, *args, stock=socket.getaddrinfo, **kwargs):
    if not own(host):
        print("OUTSIDE", host, flush=True)
        raise OSError("no network")
    return stock(host, *args, **kwargs)

socket.socket.connect, socket.getaddrinfo = connect, look_up
"""
INTERRUPTIBLE = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
"""Of tests that run in the background: their children inherit that an interrupt is ignored."""
COMMAND = "\nfrom vtc.cli.main import main\nsys.argv = ['vtc', 'app', '--port', '0', '--offline']\nmain()\n"
"""Offline: pip, which fetches the model, is a process of its own, and the guard above does not see it."""


def started(code, folder):
    """The command in a process group, a home and a folder of temporary files of its own."""
    (folder / "tmp").mkdir()
    given = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    given |= {"HOME": str(folder), "TMPDIR": str(folder / "tmp")}
    return subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE + code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=given,
        cwd=folder,
        start_new_session=True,
    )


def ended(process):
    """What else it says until it has ended; none of its group outlives it."""
    try:
        return process.communicate(timeout=BUSY)[0]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def test_the_page_starts_without_a_network_and_ends_by_an_interrupt_with_nothing_left(tmp_path):
    process, said = started(NO_NETWORK + COMMAND, tmp_path), []
    try:
        for line in process.stdout:
            said.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
                break
        assert found, said
        with urllib.request.urlopen(found[0], timeout=BUSY) as answer:
            assert b"fewer visual tokens" in answer.read()
        assert list((tmp_path / "tmp").glob("vtc-app-*/**/*.png")), "images to try, which are gone below"
        process.send_signal(signal.SIGINT)
    finally:
        said.append(ended(process))
    assert process.returncode == 0
    assert "OUTSIDE" not in "".join(said)
    assert "Traceback" not in "".join(said)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_the_guard_of_the_network_sees_who_leaves_the_machine(tmp_path):
    code = "\nsocket.create_connection(('192.0.2.1', 80))\n"
    assert "OUTSIDE" in ended(started(NO_NETWORK + code, tmp_path))


def test_where_gradio_is_missing_one_line_says_what_to_install(tmp_path):
    process = started("import sys\nsys.modules['gradio'] = None\n" + COMMAND, tmp_path)
    said = ended(process)
    assert process.returncode == 1
    assert "pip install gradio" in said
    assert len(said.strip().splitlines()) == 1


def serving(tmp_path, code=NO_NETWORK + COMMAND):
    """The command, and the address of its page once it is there."""
    process, said = started(code, tmp_path), []
    for line in process.stdout:
        said.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
            return process, found[0]
    raise AssertionError(said)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_uploads_are_gone_behind_a_page_that_is_ended(tmp_path, number):
    process, url = serving(tmp_path)
    try:
        body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="mine.png"\r\n\r\nsecret\r\n'
        head = {"Content-Type": "multipart/form-data; boundary=x"}
        sent = urllib.request.Request(f"{url}gradio_api/upload", body + b"--x--\r\n", head)
        with urllib.request.urlopen(sent, timeout=BUSY) as answer:
            assert b"mine.png" in answer.read()
        assert len(list((tmp_path / "tmp").glob("vtc-app-*/*/mine.png"))) == 1
        # Another one is on its way when the page is ended.
        with socket.create_connection(url[7:-1].split(":"), timeout=BUSY) as half:
            start = f"POST /gradio_api/upload HTTP/1.1\r\nHost: {url[7:-1]}\r\nContent-Length: 9000000\r\n"
            half.sendall(start.encode() + b"Content-Type: multipart/form-data; boundary=x\r\n\r\n" + body + b"y" * 5000)
            process.send_signal(number)
            process.send_signal(number)
            said = ended(process)
    finally:
        if process.poll() is None:
            ended(process)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_page_that_is_ended_while_it_loads_leaves_nothing(tmp_path):
    code = "from vtc.app.state import AppState\n"
    code += "AppState.load = lambda *a, **k: print('http://127.0.0.1:1/') or time.sleep(99)"
    process, _ = serving(
        tmp_path,
        "import sys, time\n" + code + COMMAND.replace("main()", "sys.stdout.reconfigure(line_buffering=True); main()"),
    )
    process.terminate()
    assert "interrupted" in ended(process)
    assert process.returncode == 130
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_port_that_is_taken_is_named_with_our_own_option(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=rf"port={port} is taken; .*--port 0"):
            free_port("127.0.0.1", port)
        process = started("import sys" + COMMAND.replace("'0'", f"'{port}'"), tmp_path)
        said = ended(process)
    assert process.returncode == 1
    assert said.strip() == f"error: port={port} is taken; pass another one (--port), or --port 0 for any that is free"
    assert free_port("127.0.0.1", port) == port
    assert free_port("localhost", 0) > 1023


@pytest.mark.parametrize(
    ("host", "message"),
    [("192.0.2.1", "host='192.0.2.1' is no address of this machine; pass --host"), ("no where", "is no address; pass")],
)
def test_a_host_that_is_none_is_named(host, message):
    with pytest.raises(OSError, match=message):
        free_port(host, None)
