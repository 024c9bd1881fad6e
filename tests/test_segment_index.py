"""The index finds the most alike segments of training images, and is made once."""

import json

import numpy as np
import pytest
from PIL import Image

import jaxseg
from jaxseg import segment_index
from jaxseg.core import UserError
from jaxseg.segment_index import FILE, SegmentIndex, groupings, open_index
from tests.runs import DATA, KMEANS, SEGSORT, make_run

RNG = np.random.default_rng(0)


def photo(seed):
    """Two halves of noise around colours, 40 x 48."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(40, 216, (2, 1, 1, 3))
    halves = [colour + rng.integers(-30, 30, (40, 24, 3)) for colour in colours]
    return np.concatenate(halves, axis=1).astype(np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on a folder of five photographs, and its segmenter."""
    workdir = tmp_path_factory.mktemp("run")
    images = workdir / "images"
    images.mkdir()
    for i in range(5):
        Image.fromarray(photo(i)).save(images / f"{i}.png")
    centroids = RNG.normal(size=(3, 4)).astype(np.float32)
    make_run(workdir, SEGSORT, KMEANS, fitted={"centroids": centroids})
    config = json.loads((workdir / "config.json").read_text())
    config["data"] = DATA | {"root": str(images)}
    (workdir / "config.json").write_text(json.dumps(config))
    return workdir, jaxseg.load(workdir)


def mean_features(found, groups):
    """Brute force: the mean over pixels of the feature of the cell that each lies in."""
    h, w, _ = found.features.shape
    height, width = groups.shape
    sums = {}
    for (y, x), group in np.ndenumerate(groups):
        feature = found.features[y * h // height, x * w // width]
        sums[group] = sums.get(group, 0) + feature
    return {group: total / np.linalg.norm(total) for group, total in sums.items()}


def test_the_nearest_are_those_of_a_loop(run):
    workdir, segmenter = run
    index = open_index(workdir, segmenter)
    assert len(index.images) == 5
    assert set(index.features) == {"clusters", "base segments"}
    query = segmenter(photo(9))
    for name, groups in groupings(query).items():
        feature = segment_index.feature_of(query, groups == groups[20, 24])
        best = {}
        for i in range(5):
            found = segmenter(photo(i))
            others = groupings(found)[name]
            large = {g for g in np.unique(others) if (others == g).sum() >= 0.002 * others.size}
            means = mean_features(found, others)
            best[i] = max(float(means[g] @ feature) for g in large)
        near = index.nearest(name, feature, count=3)
        wanted = sorted(best.values(), reverse=True)[:3]
        np.testing.assert_allclose([one.cosine for one in near], wanted, atol=2e-3)  # kept as f16
        assert all(one.inside.shape == one.image.shape[:2] for one in near)
        assert all(one.inside.any() for one in near)


def test_parts_of_a_cluster_that_do_not_touch_are_two_segments(run):
    found = run[1](photo(0))
    found.__dict__["labels"] = np.array([[0, 1, 0], [0, 1, 0]])
    parts = groupings(found)["clusters"]
    assert parts[0].tolist() == parts[1].tolist()
    assert sorted(parts[0].tolist()) == [0, 1, 2]


def test_it_is_made_once_and_anew_where_it_does_not_fit(run, monkeypatch):
    workdir, segmenter = run
    first = open_index(workdir, segmenter)
    again = SegmentIndex.read(workdir / FILE)
    for name, features in first.features.items():
        np.testing.assert_array_equal(again.features[name], features)
        np.testing.assert_array_equal(again.places[name], first.places[name])
    for one, other in zip(first.images, again.images, strict=True):
        np.testing.assert_array_equal(one, other)
    made = []
    make = segment_index.make_index
    monkeypatch.setattr(segment_index, "make_index", lambda *a: made.append(1) or make(*a))
    open_index(workdir, segmenter)
    assert not made
    (workdir / FILE).write_bytes(b"PK\x03\x04 cut off")
    assert len(open_index(workdir, segmenter).images) == 5
    assert len(open_index(workdir, segmenter, limit=2).images) == 2
    assert len(made) == 2
    assert not list(workdir.glob("*.tmp.npz"))


def test_without_the_training_images(run, tmp_path):
    workdir, segmenter = run
    config = json.loads((workdir / "config.json").read_text())
    config["data"]["root"] = "/nowhere"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="nowhere"):
        open_index(tmp_path, segmenter)
