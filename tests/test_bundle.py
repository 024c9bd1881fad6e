"""Bundles: one file that segments as its work directory does, bit for bit, wherever either lies."""

import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

import jaxseg
from jaxseg.commands.bundle import bundle
from jaxseg.core import UserError
from jaxseg.data.fingerprint import of_arrays
from jaxseg.models.backbones import Backbone
from jaxseg.models.weights import write_weights
from tests.runs import INFOSEG, KMEANS, OWN, SEGSORT, SMOOSEG, make_run

IMAGE = np.random.default_rng(0).integers(0, 256, (45, 70, 3), np.uint8)
CENTROIDS = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)


def assert_same(first, second):
    """The two segment an image alike, bit for bit."""
    one, other = first(IMAGE), second(IMAGE)
    np.testing.assert_array_equal(one.scores(), other.scores())
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(one.colours, other.colours)
    for level, same in zip(one.levels, other.levels, strict=True):
        np.testing.assert_array_equal(level, same)
    assert one.names == other.names
    assert first.trained.sha256 == second.trained.sha256


@pytest.mark.parametrize(
    ("method", "entry", "fitted"),
    [(INFOSEG, OWN, {}), (INFOSEG, None, {}), (SEGSORT, KMEANS, {"centroids": CENTROIDS})],
)
def test_a_bundle_is_its_work_directory(tmp_path, method, entry, fitted):
    workdir, file = tmp_path / "run", tmp_path / "model.safetensors"
    make_run(workdir, method, entry, resize=40, fitted=fitted)
    before = jaxseg.load(workdir)
    line = bundle(str(workdir), str(file))
    assert before.trained.sha256[:12] in line
    assert not list(tmp_path.glob("*.tmp"))
    shutil.move(workdir, tmp_path / "moved")
    assert_same(before, jaxseg.load(file))
    assert_same(before, jaxseg.load(tmp_path / "moved"))


def make_frozen(tmp_path, name="dino.safetensors"):
    """Returns a work directory of SmooSeg on frozen weights, and their file."""
    weights = tmp_path / name
    tree = Backbone("vit_test").init(jax.random.key(5))
    write_weights(weights, tree, {"architecture": "vit_test", "name": "test"})
    section = SMOOSEG | {
        "weights": str(weights), "weights_sha256": of_arrays(jax.device_get(tree))
    }  # fmt: skip
    make_run(tmp_path / "run", section, OWN)
    return tmp_path / "run", weights


def test_frozen_weights_are_found_or_asked_for(tmp_path):
    workdir, weights = make_frozen(tmp_path)
    file = tmp_path / "model.safetensors"
    bundle(str(workdir), str(file))
    before = jaxseg.load(workdir)
    weights.rename(tmp_path / "gone")
    assert_same(before, jaxseg.load(file))
    with pytest.raises(UserError, match=r"dino\.safetensors.*Copy the file.*jaxseg\.bundle"):
        jaxseg.load(workdir)
    shutil.copy(tmp_path / "gone", workdir / "dino.safetensors")
    assert_same(before, jaxseg.load(workdir))
    other = Backbone("vit_test").init(jax.random.key(6))
    write_weights(weights, other, {"architecture": "vit_test", "name": "test"})
    with pytest.raises(UserError, match="other weights"):
        jaxseg.load(workdir)


def test_random_frozen_weights_are_drawn_again(tmp_path):
    state = make_run(tmp_path / "run", SMOOSEG, OWN)
    again = jaxseg.load(tmp_path / "run").trained.state.frozen
    jax.tree.map(np.testing.assert_array_equal, state.frozen, again)


def test_a_bundle_tells_no_paths(tmp_path):
    workdir, _ = make_frozen(tmp_path)
    config = json.loads((workdir / "config.json").read_text())
    config["data"] |= {"root": str(tmp_path), "tokens": str(tmp_path / "kept")}
    (workdir / "config.json").write_text(json.dumps(config))
    bundle(str(workdir), str(tmp_path / "model.safetensors"))
    assert str(tmp_path).encode() not in (tmp_path / "model.safetensors").read_bytes()


def test_what_is_no_bundle_is_told(tmp_path):
    make_run(tmp_path / "run", INFOSEG, OWN)
    file = tmp_path / "model.safetensors"
    with pytest.raises(UserError, match="--out"):
        bundle(str(tmp_path / "run"), str(tmp_path / "model.pkl"))
    bundle(str(tmp_path / "run"), str(file))
    with pytest.raises(UserError, match=r"holds the entry 'scored'.*--entry=other"):
        jaxseg.load(file, entry="other")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        jaxseg.load(file)
    file.write_bytes(content[:100])
    with pytest.raises(UserError, match="damaged"):
        jaxseg.load(file)


def test_importing_jaxseg_is_light():
    code = "import sys, jaxseg; sys.exit(any(m in sys.modules for m in ('jax', 'numpy', 'flax')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert jaxseg.Segmenter.__name__ == "Segmenter"
    with pytest.raises(AttributeError, match="nothing"):
        _ = jaxseg.nothing
