"""The demo page: in a real browser, and what it refuses."""

import argparse
import http.client
import io
import json
import pathlib
import threading

import numpy as np
import pytest
from PIL import Image

import jaxseg
from jaxseg.cluster_names import FILE
from jaxseg.commands import demo
from jaxseg.core import UserError
from tests.browser import browser
from tests.runs import DATA, KMEANS, make_run

HSG = {
    "name": "hsg", "backbone": "resnet_tiny", "dim": 4, "test_grid": (2, 2), "rounds": 2,
    "slots": 8, "sizes": (3, 2), "layers": (1, 1), "heads": 2, "hidden": 8, "positions": 4,
    "trained_cells": 2,
}  # fmt: skip
NASTY = '<img src=x onerror="document.title=1">'


def photo(seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (40, 48, 3), np.uint8)


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    pytest.importorskip("starlette", reason="the extra `demo` is not installed")
    pytest.importorskip("uvicorn", reason="the extra `demo` is not installed")
    workdir = tmp_path_factory.mktemp("demo") / "run"
    images = workdir / "images"
    images.mkdir(parents=True)
    Image.fromarray(photo(1)).save(images / "a.png")  # one alone needs no program of its own
    centroids = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    make_run(workdir, HSG, KMEANS, fitted={"centroids": centroids})
    config = json.loads((workdir / "config.json").read_text())
    config["data"] = DATA | {"root": str(images)}
    (workdir / "config.json").write_text(json.dumps(config))
    return workdir


@pytest.fixture(scope="module")
def address(workdir):
    """Where the page is served, by the command's own function."""
    started, found = threading.Event(), []

    def note(server, address):
        found.extend((server, address))
        started.set()

    arguments = demo._parser().parse_args([f"--model={workdir}", "--port=0"])
    thread = threading.Thread(target=demo.serve, args=(arguments, note), daemon=True)
    thread.start()
    assert started.wait(120)
    yield found[1]
    found[0].should_exit = True
    thread.join(30)


def post(address, path, body, headers=None, host=None):
    """Returns (status, JSON or text, headers) of a request."""
    connection = http.client.HTTPConnection(address.split("/")[2], timeout=120)
    given = {"X-Jaxseg": "1"} if headers is None else headers
    if host:
        given = given | {"Host": host}
    connection.request("GET" if body is None else "POST", path, body, given)
    answer = connection.getresponse()
    text = answer.read().decode()
    is_json = answer.headers.get_content_type() == "application/json"
    return answer.status, json.loads(text) if is_json else text, answer.headers


def test_upload_click_and_rename_in_a_browser(workdir, address, tmp_path):
    Image.fromarray(photo()).save(tmp_path / "photo.png")
    with browser(tmp_path) as page:
        page.open(address)
        page.type("#file", str(tmp_path / "photo.png"))
        page.wait("!document.getElementById('look').hidden")
        outputs = page.run(
            "return [...document.querySelectorAll('#output option')].map(o => o.text)"
        )
        assert outputs == ["clusters", "base segments", "level 1", "level 2"]
        page.run("""const output = document.getElementById('output');
                 output.value = 'level 1'; output.dispatchEvent(new Event('change'))""")
        page.click("#picture")
        page.wait("!document.getElementById('segment').hidden")
        assert page.run("return document.querySelectorAll('#neighbours img').length") == 1
        assert page.run("return document.querySelectorAll('#attention img').length") == 3 + 2
        captions = page.run("return document.querySelector('#neighbours figcaption').textContent")
        assert captions.startswith("cosine ")
        loaded = "[...document.images].every(i => !i.src || (i.complete && i.naturalWidth > 1))"
        page.wait(loaded)
        page.run("document.querySelector('#names input').value = ''")
        page.type("#names input", NASTY)
        page.click("#names button")
        page.wait("document.getElementById('message').textContent == 'The names are saved.'")
        page.open(address)
        shown = page.run("return document.querySelector('#names input').value")
        assert (shown, page.run("return document.title")) == (NASTY, "run")
        assert page.messages() == []
        # Beside it the browser asks for pages of its own, chrome://..., and for data URIs.
        asked = [url for url in page.requests() if url.startswith(("http", "ws", "ftp"))]
        assert f"{address}segments" in asked
        assert all(url.startswith(address) for url in asked), asked
    assert jaxseg.load(workdir).names[0] == NASTY


def test_what_is_served(address):
    status, text, headers = post(address, "/", None)
    assert status == 200
    assert "https:" not in text
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    status, shown, _ = post(address, "/images", png(photo()))
    assert status == 200
    assert sum(shown["shares"]) == pytest.approx(1)
    asked = {"id": shown["id"], "output": "base segments", "x": 0.1, "y": 0.9}
    status, found, _ = post(address, "/segments", json.dumps(asked))
    assert status == 200
    assert [-1 <= one["cosine"] <= 1 for one in found["neighbours"]] == [True]
    # Base segments of 2 x 2 cells: each is about a quarter.
    assert 0.05 < found["share"] < 0.6


def test_what_is_refused(address, workdir):
    _, shown, _ = post(address, "/images", png(photo()))
    good = {"id": shown["id"], "output": "clusters", "x": 0.5, "y": 0.5}
    wide = Image.new("L", (2**13, 2**12))
    stream = io.BytesIO()
    wide.save(stream, "PNG")
    for path, body, message in (
        ("/images", b"no image", "no image that can be read"),
        ("/images", png(photo())[:200], "The file"),
        ("/images", stream.getvalue(), "8192 x 4096 pixels"),
        ("/segments", b"{", "no JSON"),
        ("/segments", b"[]", "no 'id'"),
        ("/segments", json.dumps(good | {"id": "other"}), "drop it again"),
        ("/segments", json.dumps(good | {"output": "../x"}), "no output '../x'"),
        ("/segments", json.dumps(good | {"x": 1.5}), "outside of the image"),
        ("/names", json.dumps({"names": ["a"]}), "There are 3 clusters"),
        ("/names", json.dumps({"names": "abc"}), "no 'names'"),
    ):
        status, told, _ = post(address, path, body)
        assert (status, message in told["error"]) == (422, True), told
    before = (workdir / FILE).read_text() if (workdir / FILE).exists() else ""
    names = json.dumps({"names": ["a", "b", "c"]})
    # A form of another site, and a site whose name leads here.
    assert post(address, "/names", names, {"Content-Type": "text/plain"})[0] == 403
    assert post(address, "/names", names, host="evil.example")[0] == 400
    assert post(address, "/images", b"x" * (2**25 + 1))[0] == 413
    assert post(address, "/../../etc/passwd", None)[0] == 404
    assert post(address, "/names.json", None)[0] == 404
    assert ((workdir / FILE).read_text() if (workdir / FILE).exists() else "") == before


def test_what_a_user_gets_wrong(workdir, address, tmp_path, monkeypatch):
    port = address.rstrip("/").rpartition(":")[2]
    (tmp_path / "file").write_text("")
    for flags, message in (
        ([f"--model={tmp_path / 'absent'}"], "give the work directory of a run"),
        ([f"--model={tmp_path / 'file'}"], "give the work directory of a run"),
        ([f"--model={tmp_path}", "--port=0"], "holds no trained run"),
        ([f"--model={workdir}", f"--port={port}"], "cannot be listened at .* another --port"),
        ([f"--model={workdir}", "--port=99999"], "cannot be listened at"),
    ):
        with pytest.raises(UserError, match=message):
            demo.serve(demo._parser().parse_args(flags))
    monkeypatch.setattr(demo, "Starlette", None)
    with pytest.raises(UserError, match=r"pip install 'jaxseg\[demo\]'"):
        demo.serve(argparse.Namespace(model=pathlib.Path(workdir)))
