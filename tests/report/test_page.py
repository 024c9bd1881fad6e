"""The page of a run shows what the run has recorded, is one file, and is safe."""

import base64
import dataclasses
import html.parser
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from jaxseg import report
from jaxseg.core import UserError
from jaxseg.record import Result, Samples, save_result
from jaxseg.report.__main__ import main
from jaxseg.report.parts import Layer, Picture

CLASSES = ("sky", "road")
NASTY = '<img src=x onerror=alert(1)> "$x^{" </script>'
SETTINGS = ["Run settings", "What next"]


class Page(html.parser.HTMLParser):
    """What is in a page: titles of sections, text, rows of tables, and whatever it refers to."""

    def __init__(self, text):
        super().__init__()
        self.titles, self.rows, self.links, self.tags, self.alts = [], [], [], [], []
        self._open, self._cell = [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self._open.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "srcset", "data", "action", "poster"):
                self.links.append(value)
            if name == "alt":
                self.alts.append(value)
            assert not name.startswith("on")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if self._open and self._open[-1] == "h2":
            self.titles.append(data)
        if self._open and self._open[-1] in ("td", "th"):
            self.rows[-1][-1] += data

    def row(self, title):
        """Returns the cells of every row with a title."""
        return [cells for first, *cells in self.rows if first == title]


def read(path):
    """Returns the page, which must not refer to anything but itself and its own pictures."""
    text = path.read_text()
    page = Page(text)
    assert all(link.startswith(("data:image/webp;base64,", "#")) for link in page.links)
    assert not re.search(r"url\(|@import|https?:|//[a-z]", re.sub(r'"data:[^"]*"', "", text))
    assert not {"link", "iframe", "object", "embed", "base"} & set(page.tags)
    anchors = re.findall(r'<section id="([^"]*)"', text)
    assert [link for link in page.links if link[0] == "#"] == [f"#{a}" for a in anchors]
    return page


def clusters(name="infoseg", seed=0, labelled=True, classes=CLASSES, model="trained", **fields):
    """A result of three clusters, of which the last is matched with no class."""
    rng = np.random.default_rng(seed)
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3), np.uint8)
    labels = [rng.integers(-1, 2, (16, 24), np.int32) for _ in images]
    predictions = [rng.integers(0, 3, (16, 24), np.int32) for _ in images]
    scalars = {"clusters": 3.0, "entropy": 0.7, "effective_clusters": 2.0}
    if labelled:
        scalars |= {"accuracy": 0.625, "miou": 0.5}
        scalars |= {"many_to_one_accuracy": 0.75, "many_to_one_miou": 0.25}
    result = Result(
        name, scalars, np.array([6, 4, 0]), classes if labelled else (),
        Samples(list(images), labels if labelled else None, predictions),
        iou=[0.125, float("nan")] if labelled else None,
        counts=np.array([[4, 1], [2, 2], [0, 0]]) if labelled else None,
        match=np.array([0, 1, -1]) if labelled else None,
        protocol={"model": model, "data": "toy", "test_split": "val (2)"},
    )  # fmt: skip
    return dataclasses.replace(result, **fields)


def retrieval(name="kept"):
    scalars = {"accuracy": 0.25, "miou": 0.2, "clusters": 2.0, "effective_clusters": 1.5}
    counts = np.array([[3, 1], [2, 4]])
    return clusters(
        name, kind="retrieval", scalars=scalars, counts=counts, match=np.arange(2),
        usage=np.array([4, 6]),
    )  # fmt: skip


def hierarchy(name="levels"):
    base = np.broadcast_to(np.arange(24) // 6, (16, 24))
    plain = clusters()
    extra = {
        "level/0": [base] * 2,
        "level/1": [base // 2] * 2,
        "groups/0": [np.eye(4)] * 2,
        "groups/1": [np.eye(2)] * 2,
        "label/0/class": plain.samples.labels,
        "attention/level1": [np.random.default_rng(0).random((4, 6, 2))] * 2,
    }
    scalars = {"groups_level0": 4.0, "groups_level1": 2.0}
    scalars |= {"covering_level0_class": 0.5, "covering_level1_class": 0.25}
    samples = dataclasses.replace(plain.samples, extra=extra, predictions=[base // 2] * 2)
    arrays = {
        "segment_features": np.random.default_rng(0).normal(size=(12, 4)).astype(np.float16),
        "segment_class": np.arange(12) % 2,
        "segment_beside": np.full(12, -1),
    }
    return dataclasses.replace(
        plain, name=name, kind="hierarchy", samples=samples, scalars=scalars, arrays=arrays,
        iou=None, counts=None, match=None,
    )  # fmt: skip


def make_run(workdir, results=(), rows=(), method="infoseg", steps=20, seed=0):
    """Writes what a run leaves behind, but for its state."""
    workdir.mkdir(parents=True, exist_ok=True)
    config = {
        "method": {"name": method, "clusters": 3}, "data": {"name": "toy"},
        "train": {"seed": seed, "steps": steps}, "evals": {},
    }  # fmt: skip
    (workdir / "config.json").write_text(json.dumps(config))
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for result in results:
        save_result(workdir / "evaluation", result, result.protocol)
    return workdir


def metrics(**more):
    return [{"step": step, "train/loss": 1 / step, **more} for step in (10, 20)]


def test_a_page_has_every_section_that_there_is_something_for(tmp_path):
    monitored = {"monitor/effective_clusters": 2.0, "monitor/clusters": 3, "monitor/entropy": 0.7}
    results = [
        clusters("untrained", model="untrained"), clusters(), retrieval(), hierarchy(),
    ]  # fmt: skip
    workdir = make_run(tmp_path / "run", results, metrics(**monitored, **{"infoseg/miou": 0.4}))
    (workdir / "versions.json").write_text('{"jax": "1.2.3"}')
    names = {path.name for path in report.write(workdir)}
    assert {"curves.png", "curves_scores.png", "monitor.png", "samples.png"} <= names
    page = read(workdir / "report" / "index.html")
    assert page.titles == [
        "Scores", "Test images", "Classes", "Confusion", "Training", "Collapse monitor",
        "Retrieval gallery", "Attention", "Features", *SETTINGS,
    ]  # fmt: skip
    # One to one, then many-to-one: tables of their own. Baselines come last.
    assert page.row("infoseg")[:2] == [["62.5", "50.0", "2.0 of 3"], ["75.0", "25.0"]]
    assert [row[0] for row in page.rows if len(row) == 4][1:3] == ["infoseg", "untrained"]
    assert page.row("kept")[0] == ["25.0", "20.0", "1.5 of 2"]
    assert page.row("levels level 1") == [["2.0", "25.0"]]
    assert page.row("sky")[0] == ["12.5", "12.5"]
    assert page.row("road")[0] == ["-", "-"]
    # 3 clusters, 2 in use, of which one has 60 % of the pixels; and one has none.
    assert page.row("infoseg")[2] == ["3", "2.0", "60.0", "1"]
    assert page.row("state") == [["not finished: last logged step 20 of 20"]]
    assert page.row("jax") == [["1.2.3"]]
    layers = [alt.removesuffix(" of test image 2") for alt in page.alts if alt.endswith("image 2")]
    trained = ["image", "base segments", "level 1", "infoseg", "kept", "label: class"]
    assert layers == [*trained, "image", "untrained", "label"]


@pytest.mark.parametrize("kind", ["without labels", "without evaluation", "cut off", "supervised"])
def test_pages_of_runs_that_lack_something(tmp_path, kind):
    results = {"without labels": [clusters(labelled=False)],
               "supervised": [clusters("probe", supervised=True)]}.get(kind, [])  # fmt: skip
    workdir = make_run(tmp_path / "run", results, metrics())
    if kind == "cut off":
        with (workdir / "metrics.jsonl").open("a") as file:
            file.write('{"step": 30, "train/lo')
    report.write(workdir)
    page = read(workdir / "report" / "index.html")
    scored = {
        "without labels": ["Scores", "Test images", "Training", "Collapse monitor"],
        "supervised": ["Scores", "Test images", "Classes", "Confusion", "Training",
                       "Collapse monitor"],
    }  # fmt: skip
    assert page.titles == [*scored.get(kind, ["Training"]), *SETTINGS]
    if kind == "without labels":
        assert page.row("infoseg")[0] == ["2.0 of 3"]
    if kind == "cut off":
        assert page.row("state") == [["not finished: last logged step 20 of 20"]]
    if kind == "supervised":
        assert page.row("probe *")[0][:2] == ["62.5", "50.0"]
        assert "has learned from labels" in (workdir / "report" / "index.html").read_text()


def test_names_are_text_whatever_they_are(tmp_path):
    classes = (NASTY, "road")
    results = [clusters(classes=classes), clusters("b", classes=classes, model="untrained")]
    workdir = make_run(tmp_path / NASTY.replace("/", ""), results, metrics(), method=NASTY)
    report.write(workdir)
    page = read(workdir / "report" / "index.html")
    assert page.tags.count("script") == 1
    assert page.row(NASTY)[0] == ["12.5", "12.5"]
    assert page.row("method") == [[NASTY]]


def test_several_runs_beside_each_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "a", [clusters()], metrics(), seed=0)
    make_run(
        tmp_path / "b", [clusters("picie", seed=1)], metrics(**{"train/L_within": 1.0}), seed=3
    )
    main(["a", "b", "a/../b"])
    pages = ["a/report/index.html", "b/report/index.html", "comparison.html"]
    assert capsys.readouterr().out.split() == pages
    page = read(tmp_path / "comparison.html")
    differ = "What differs in the configs"
    assert page.titles == ["Scores", "Test images", "Classes", "Training", differ]
    assert page.row("sky") == [["12.5", "12.5"]]
    assert page.row("a: infoseg")[0] == page.row("b: picie")[0] == ["62.5", "50.0", "2.0 of 3"]
    assert page.row("train.seed") == [["0", "3"]]
    assert not page.row("method.name")
    layers = [alt.removesuffix(" of test image 1") for alt in page.alts if alt.endswith("image 1")]
    assert layers == ["image", "a: infoseg", "b: picie", "label"]
    main(["a", "b", "--out=deep/er.html"])
    assert read(tmp_path / "deep/er.html").titles == page.titles


def test_runs_of_one_name_are_called_by_their_paths(tmp_path):
    for folder in ("x", "y"):
        make_run(tmp_path / folder / "run", [clusters()], metrics())
    workdirs = [tmp_path / folder / "run" for folder in ("x", "y")]
    report.compare(workdirs, tmp_path / "page.html")
    page = read(tmp_path / "page.html")
    assert len(page.row(f"{workdirs[1]}: infoseg")) == 2


def test_what_a_user_gets_wrong(tmp_path):
    (tmp_path / "empty").mkdir()
    run = make_run(tmp_path / "run", [], metrics())
    for arguments, message in (
        ([tmp_path / "empty"], r"empty holds no run \(config.json or metrics.jsonl\); give"),
        ([run, tmp_path / "absent"], "absent is absent; give the work directory of a run"),
        ([run, "--out=page.html"], "--out names the page that compares runs"),
    ):
        with pytest.raises(UserError, match=message):
            main([str(argument) for argument in arguments])
    assert not (run / "report").exists()  # before anything is drawn
    (run / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config.json is no JSON .* restore it"):
        main([str(run)])


def test_colours_of_labels_are_exact_and_large_pictures_small():
    def decoded(uri):
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))

    colours = np.random.default_rng(0).integers(0, 256, (5, 3), np.uint8)
    noise = colours[np.random.default_rng(1).integers(0, 5, (30, 700))]
    found = decoded(Layer("label", noise, exact=True).uri)
    assert found.shape == (22, 512, 3)
    assert {tuple(c) for c in found.reshape(-1, 3)} <= {tuple(c) for c in colours}
    small = noise[:, :20]
    np.testing.assert_array_equal(decoded(Layer("label", small, exact=True).uri), small)
    stream = io.BytesIO()
    Image.new("RGB", (20_000, 40)).save(stream, "PNG")  # more than WebP can hold
    assert decoded(Picture("wide", stream.getvalue(), "wide").uri).shape == (8, 4096, 3)


def test_smoothness_has_a_section(tmp_path):
    plain = clusters("smooseg")
    extra = {"delta_histogram": [np.arange(10, dtype=np.float16)] * 2}
    samples = dataclasses.replace(plain.samples, extra=extra)
    workdir = make_run(tmp_path / "run", [dataclasses.replace(plain, samples=samples)])
    report.write(workdir)
    assert "Smoothness" in read(workdir / "report" / "index.html").titles
