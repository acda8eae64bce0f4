"""`vtc bench serve` without vLLM: what is sent, what is timed, and what the table makes of it."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from vtc import embedded
from vtc.bench import serve_run, serve_servers
from vtc.bench.serve_load import Load, run_load, until_up
from vtc.bench.serve_requests import LoadRequests, TokenGrid, percentile
from vtc.bench.serve_run import IDEAL, STOCK, RequestKind, ServeConfig, request_kinds, run, serve_markdown

REQUESTS = LoadRequests(TokenGrid(28, 28, 16), TokenGrid(14, 14, 16), frames=8, videos=0.5, shared=0.5, answer=3)


@pytest.mark.parametrize(("count", "size"), [(784, (28, 28)), (196, (14, 14)), (78, (6, 13)), (1, (1, 1)), (2, (1, 2))])
def test_a_grid_holds_as_many_tokens_as_are_asked_for(count, size):
    found = TokenGrid(1, 1, 16).holding(count)
    assert sorted((found.height, found.width)) == sorted(size)


def test_a_prime_count_is_held_by_the_nearest_grid():
    assert abs(TokenGrid(1, 1, 16).holding(97).tokens - 97) <= 1


def pixels_of(body):
    """The size of the image, or of the video's frames with their number."""
    part = body["messages"][0]["content"][0]
    data = part[part["type"]]["url"].split("base64,")[1].split(",")
    sizes = {Image.open(io.BytesIO(base64.b64decode(frame))).size for frame in data}
    return part["type"], len(data), sizes


def test_the_ideal_has_media_of_as_few_tokens_and_asks_for_no_recipe():
    kinds = set()
    for number in range(30):
        whole = REQUESTS.body("m", number, 0.25, False, "kcenter")
        small = REQUESTS.body("m", number, 0.25, True, "kcenter")
        assert whole["mm_processor_kwargs"] == {"vtc": {"recipe": "kcenter", "keep": 0.25}}
        assert "mm_processor_kwargs" not in small
        kind, frames, sizes = pixels_of(whole)
        kinds.add(kind)
        assert (frames, sizes) == ((1, {(448, 448)}) if kind == "image_url" else (8, {(224, 224)}))
        assert pixels_of(small) == (kind, frames, {(224, 224)} if kind == "image_url" else {(112, 112)})
    assert kinds == {"image_url", "video_url"}


def test_equal_numbers_are_equal_requests_and_shared_media_come_again():
    def urls(first):
        bodies = [REQUESTS.body("m", first + i, None, False, "kcenter") for i in range(40)]
        return {json.dumps(body["messages"][0]["content"][0]) for body in bodies}

    assert urls(0) == urls(0)
    assert 0 < len(urls(0) & urls(1000)) <= 8


def test_kinds_of_requests_and_their_labels():
    found = request_kinds(ServeConfig(keeps=(1.0, 0.25, 32)))
    assert [kind.label for kind in found] == [
        "stock",
        "kcenter 1",
        "kcenter 0.25",
        "ideal 0.25",
        "kcenter 32",
        "ideal 32",
    ]
    two = request_kinds(ServeConfig(recipes=("kcenter", "stride"), keeps=(0.5,)))
    assert [kind.label for kind in two] == ["stock", "kcenter 0.5", "stride 0.5", "ideal 0.5"]


def test_sizes_are_in_the_tokens_of_the_models_own_tower():
    requests, any_size = serve_run._requests(ServeConfig(image_tokens=144), str(embedded.path("tiny-qwen")))
    assert any_size
    assert (requests.image, requests.frame) == (TokenGrid(12, 12, 16), TokenGrid(6, 6, 16))
    requests, any_size = serve_run._requests(ServeConfig(videos=0), str(embedded.path("tiny-llava")))
    assert not any_size
    assert requests.image == TokenGrid(1, 1, 112)
    assert [kind.label for kind in request_kinds(ServeConfig(keeps=(0.25,)), ideal=False)] == ["stock", "kcenter 0.25"]
    with pytest.raises(ValueError, match=r"videos=0.25: .*tiny-llava takes images of one size.*--videos 0"):
        serve_run._requests(ServeConfig(), str(embedded.path("tiny-llava")))


def test_a_config_that_says_no_size_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ValueError, match=r"has neither `spatial_merge_size` nor `image_size`.*take a Qwen-VL"):
        serve_run._requests(ServeConfig(videos=0), str(tmp_path))


def test_a_recipe_of_no_name_is_refused_before_a_server_starts():
    with pytest.raises(ValueError, match="kcentre"):
        run(ServeConfig(recipes=("kcenter", "kcentre")), lambda text: None)


class Server(BaseHTTPRequestHandler):
    """Streams three tokens, the first after a while, and counts how many it has in hand."""

    protocol_version = "HTTP/1.1"
    wait = 0.1

    def log_message(self, *args):
        pass

    def do_GET(self):
        self._send("text/plain", b'vllm:kv_cache_usage_perc{engine="0"} 0.375\n')

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        state = self.server
        if body["model"] == "missing":
            self._send("application/json", b'{"error": "no such model"}', 404)
            return
        with state.lock:
            state.now += 1
            state.most = max(state.most, state.now)
        time.sleep(self.wait)
        events = [{"choices": [{"delta": {"role": "assistant"}}]}] if body["model"] != "empty" else []
        events += [{"choices": [{"delta": {"content": "a"}}]}] * (3 if body["model"] != "empty" else 0)
        events += [{"choices": [], "usage": {"prompt_tokens": 21}}]
        text = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
        with state.lock:
            state.now -= 1
        self._send("text/event-stream", text.encode())

    def _send(self, kind, data, status=200):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def server():
    found = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    found.lock, found.now, found.most = threading.Lock(), 0, 0
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield found, f"http://127.0.0.1:{found.server_port}"
    found.shutdown()
    found.server_close()


@pytest.mark.parametrize("count", [1, 4])
def test_a_load_has_so_many_requests_at_a_time_and_no_more(server, count):
    found, url = server
    load = run_load(url, [{"model": "m"}] * 8, count, 10)
    assert (found.most, load.errors, load.prompt, load.kv_use) == (count, [], [21] * 8, 0.375)
    assert min(load.first) >= Server.wait
    assert load.seconds >= 8 / count * Server.wait


def test_a_load_runs_beside_a_loop_of_the_callers(server):
    _, url = server

    async def within_a_loop():
        return run_load(url, [{"model": "m"}], 1, 10)

    # A thread of its own, since a browser's test may have left a loop running in this one.
    with ThreadPoolExecutor(1) as thread:
        assert len(thread.submit(asyncio.run, within_a_loop()).result().first) == 1


def test_what_fails_is_said_and_the_rest_goes_on(server):
    _, url = server
    load = run_load(url, [{"model": "missing"}, {"model": "empty"}, {"model": "m"}], 1, 10)
    assert len(load.first) == 1
    assert "404" in load.errors[0]
    assert "without a token" in load.errors[1]


def test_a_server_is_waited_for_until_it_ends(server):
    _, url = server
    assert until_up(url, lambda: False, 5)
    assert not until_up("http://127.0.0.1:9", lambda: True, 5)


def test_ratios_are_taken_round_by_round():
    stock = [Load(10.0, [1.0], [900], 0.5), Load(20.0, [1.0], [900], 0.5)]
    ours = [Load(5.0, [0.5], [300], 0.25), Load(8.0, [0.5], [300], 0.25)]
    ideal = [Load(4.5, [0.4], [300], 0.2), Load(8.0, [0.4], [300], 0.2)]
    loads = {RequestKind(STOCK): stock, RequestKind("kcenter", 0.25): ours, RequestKind(IDEAL, 0.25): ideal}
    row = serve_run._row(RequestKind("kcenter", 0.25), 4, loads)
    assert row["times_stock"] == {"median": 2.25, "least": 2.0, "most": 2.5}
    assert row["of_ideal"] == {"median": 0.95, "least": 0.9, "most": 1.0}
    assert serve_run._row(RequestKind(IDEAL, 0.25), 4, loads)["of_ideal"] is None
    assert (row["requests_per_second"], row["prompt_tokens"], row["kv_use"]) == (0.1625, 300.0, 0.25)
    made = {
        "model": "m",
        "config": {"requests": 1, "rounds": 2, "videos": 0.25, "shared": 0.5, "image_tokens": 784, "answer": 8},
        "machine": {"cpu": "x", "cores": 2},
        "versions": {"vllm": "0.32.0"},
        "date": "2026-12-01",
        "rows": [row],
    }
    assert (
        "| 4 | kcenter 0.25 | 300 | 0.16 | 2.25 (2.00-2.50) | 0.95 (0.90-1.00) | 500 | 500 | 25.0% |"
        in serve_markdown(made)
    )


def test_a_percentile_of_nothing_is_none():
    assert percentile([], 0.5) != percentile([], 0.5)


def test_without_vllm_the_remedy_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(serve_servers.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(serve_servers.shutil, "which", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'vtc-vlm\[vllm\]'"):
        serve_servers.vllm_command()


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("first\nthe reason", "the reason"),
        ("ValueError: the reason\nFor further information visit x", "ValueError: the reason"),
        ("", "it printed nothing"),
    ],
)
def test_a_server_that_ends_is_an_error_with_its_reason_and_its_log(monkeypatch, tmp_path, printed, shown):
    fake = tmp_path / "vllm"
    fake.write_text(f"#!/bin/sh\ncat <<'EOF'\n{printed}\nEOF\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(serve_servers, "vllm_command", lambda: str(fake))
    monkeypatch.setattr(serve_servers.tempfile, "tempdir", str(tmp_path))
    with (
        pytest.raises(OSError, match=f"did not start: {shown} \\(all of it: ") as error,
        serve_servers.served("m", None, {}, tmp_path / "log"),
    ):
        pass
    kept = Path(str(error.value).partition("all of it: ")[2].rstrip(")"))
    assert kept.read_text().strip() == printed


def test_arguments_become_flags():
    assert serve_servers._argument("max_model_len", 5) == ["--max-model-len", "5"]
    assert serve_servers._argument("enforce_eager", True) == ["--enforce-eager"]
    assert serve_servers._argument("limit_mm_per_prompt", {"image": 2}) == ["--limit-mm-per-prompt", '{"image": 2}']
