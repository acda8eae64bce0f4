"""Every public endpoint, as a program calls it; what may not be read is not."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

ENDPOINTS = ["/ask_image", "/ask_video", "/batch", "/compare", "/count_image", "/count_video"]


@pytest.fixture
def client(url, tmp_path):
    with_files = Client(url, verbose=False, download_files=str(tmp_path))
    yield with_files
    with_files.close()


def numbers(table):
    return {row[0]: row[1:] for row in table["data"]}


def test_these_endpoints_are_public_typed_and_documented(client, url):
    api = client.view_api(return_format="dict")["named_endpoints"]
    assert sorted(api) == ENDPOINTS
    config = json.load(urllib.request.urlopen(f"{url}gradio_api/info"))["named_endpoints"]
    for name in ENDPOINTS:
        assert len(config[name]["description"]) > 40, name
        for parameter in config[name]["parameters"]:
            assert parameter["python_type"]["type"], (name, parameter)


def test_count_image(client, image):
    assert client.predict(handle_file(str(image)), "kcenter", 0.25, api_name="/count_image") == (49, 196)
    assert client.predict(handle_file(str(image)), "kcenter", 0.5, api_name="/count_image") == (98, 196)


def test_count_video(client, video):
    assert client.predict({"video": handle_file(str(video))}["video"], "video", 0.25, api_name="/count_video") == (
        36,
        144,
    )


def test_ask_image_streams_and_ends_with_an_overlay(client, image):
    job = client.submit(handle_file(str(image)), "what is in the picture?", "kcenter", 0.25, 8, api_name="/ask_image")
    full, short, headline, table, notes, overlay = job.result()
    assert full == short == "white cross"
    assert numbers(table)["visual tokens"] == ["196", "49"]
    assert numbers(table)["time to first token"][0].endswith("s")
    assert "4.0 x fewer visual tokens** (49 of 196)" in headline
    assert "KV bytes" in notes
    sizes = [Image.open(path).size for path in overlay]
    assert sizes[0] == sizes[1]
    assert len(job.outputs()) > 1


def test_ask_video_ends_with_a_timeline(client, video):
    full, short, headline, table, _, timeline = client.predict(
        handle_file(str(video)), "what is there at the end?", "video", 0.25, 8, api_name="/ask_video"
    )
    assert full
    assert short
    assert "(36 of 144)" in headline
    assert numbers(table)["visual tokens"] == ["144", "36"]
    assert Image.open(timeline).width == 1360


@pytest.mark.parametrize("medium", ["image", "video"])
def test_compare(client, medium, request):
    path = str(request.getfixturevalue(medium))
    table, tokens, times = client.predict(
        handle_file(path), "what is in the picture?", ["kcenter", "stride"], 0.25, 4, api_name="/compare"
    )
    assert [row[0] for row in table["data"]] == ["all tokens", "kcenter", "stride"]
    assert len(tokens["data"]) == len(times["data"]) == 3


def batch(client, tmp_path, rows, media):
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = [handle_file(str(path)) for path in media]
    return client.predict(handle_file(str(questions)), files, "kcenter", 0.25, 8, api_name="/batch")


def test_batch_answers_uploaded_media_and_names_no_folder(client, image, video, tmp_path):
    rows = [
        {"id": "1", "video": video.name, "question": "what is there at the end?"},
        {"id": "2", "image": image.name, "question": "what is in the picture?"},
        {"id": "3", "image": "missing.png", "question": "what is in the picture?"},
    ]
    said, listed, answers = batch(client, tmp_path, rows, [image, video])
    found = [json.loads(line) for line in Path(answers).read_text().splitlines()]
    assert [row["id"] for row in found] == ["1", "2", "3"]
    assert [cells[0] for cells in listed["data"]] == [video.name, image.name, "missing.png"]
    assert [row["error"] is None for row in found] == [True, True, False]
    assert found[0]["tokens_kept"] == 36
    assert "3 rows, 2 answered" in said
    assert "/" not in json.dumps([row.get("video") or row.get("image") for row in found] + [found[2]["error"]])


@pytest.mark.parametrize("path", ["/etc/hostname", "../../etc/hostname", "http://localhost/x.png"])
def test_a_batch_that_names_other_files_is_refused(client, image, tmp_path, path):
    with pytest.raises(AppError, match=r"questions\.jsonl") as caught:
        batch(client, tmp_path, [{"id": "1", "image": path, "question": "what?"}], [image])
    assert "/tmp" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\nnonsense", b"<svg/>"])
def test_a_broken_file_is_said_to_be_one(client, tmp_path, content):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    for endpoint, more in (("/count_image", ()), ("/ask_image", ())):
        given = ["what?"] if endpoint == "/ask_image" else []
        with pytest.raises(AppError, match=r"broken\.png") as caught:
            client.predict(handle_file(str(path)), *given, "kcenter", 0.25, *more, api_name=endpoint)
        assert "/tmp" not in str(caught.value)


def test_what_is_out_of_range_is_refused(client, image):
    for values in (("kcentre", 0.25), ("kcenter", 7)):
        with pytest.raises(AppError):
            client.predict(handle_file(str(image)), *values, api_name="/count_image")


def posted(url, name, data):
    """What a program gets that writes the request itself and names a path of the server."""
    body = json.dumps({"data": data}).encode()
    ask = urllib.request.Request(f"{url}gradio_api/call/{name}", body, {"Content-Type": "application/json"})
    event = json.load(urllib.request.urlopen(ask))["event_id"]
    return urllib.request.urlopen(f"{url}gradio_api/call/{name}/{event}").read().decode()


def uploaded(url, path):
    """The path on the server of what was uploaded."""
    return httpx.post(f"{url}gradio_api/upload", files={"files": path.read_bytes()}).json()[0]


def test_no_path_of_the_server_is_read(url, image):
    own = {"path": uploaded(url, image), "meta": {"_type": "gradio.FileData"}}
    assert "event: complete" in posted(url, "count_image", [own, "kcenter", 0.25])
    for path in (str(image), "/etc/hostname", str(Path(__file__))):
        said = posted(url, "count_image", [{"path": path, "meta": {"_type": "gradio.FileData"}}, "kcenter", 0.25])
        assert "event: error" in said
        assert "event: complete" not in said
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{url}gradio_api/file={path}")
        assert caught.value.code in (403, 404)


def test_an_upload_above_the_limit_is_refused(state):
    from vtc.app.serve import serve

    served = serve(state, port=0, wait=False, largest="2kb")
    try:
        upload = f"{served.url}gradio_api/upload"
        assert httpx.post(upload, files={"files": bytes(1024)}).status_code == 200
        refused = httpx.post(upload, files={"files": bytes(4096)})
        assert refused.status_code == 413
        assert "exceeded maximum allowed size" in refused.text
    finally:
        served.close()


def test_two_callers_at_once_get_their_own_answers(url, image, video, tmp_path):
    def call(number):
        client = Client(url, verbose=False, download_files=str(tmp_path / str(number)))
        keep = (0.25, 0.5)[number % 2]
        try:
            _, _, _, table, *_ = client.predict(
                handle_file(str(image)), "what is in the picture?", "stride", keep, 8, api_name="/ask_image"
            )
            return numbers(table)["visual tokens"]
        finally:
            client.close()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(call, range(4))) == [["196", "49"], ["196", "98"]] * 2


def test_a_page_looks_up_no_host_but_its_own(state, monkeypatch):
    from vtc.app.serve import LOOPBACK, serve

    asked, stock = set(), socket.getaddrinfo

    def noted(host, *args, **kwargs):
        asked.add(host.decode() if isinstance(host, bytes) else host)
        return stock(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", noted)
    served = serve(state, port=0, wait=False)
    try:
        assert served.url.startswith(f"http://{LOOPBACK}:")
        urllib.request.urlopen(served.url).read()
        for thread in threading.enumerate():
            if "analytics" in thread.name:
                raise AssertionError(thread)
    finally:
        served.close()
    assert asked <= {LOOPBACK, "localhost"}
