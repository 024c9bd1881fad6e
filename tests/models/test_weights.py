"""Weights files: what goes in comes out, and nothing damaged or foreign comes in."""

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxseg.core import UserError
from jaxseg.models import weights
from jaxseg.models.backbones import Backbone

META = {"architecture": "resnet_test", "name": "drawn at random"}


@pytest.fixture(scope="module")
def tree():
    abstract = jax.eval_shape(Backbone("resnet_test").init, jax.random.key(0))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), abstract)


@pytest.fixture
def path(tree, tmp_path):
    weights.write_weights(tmp_path / "w.safetensors", tree, META)
    return tmp_path / "w.safetensors"


def test_what_is_written_is_read(tree, path):
    found, meta = weights.read_weights(path)
    jax.tree.map(np.testing.assert_array_equal, found, tree)
    assert meta["architecture"] == "resnet_test"
    assert meta["name"] == "drawn at random"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_the_hash_stands_for_arrays_and_normalisation(tree, path, tmp_path):
    _, meta = weights.read_weights(path)
    other = tmp_path / "other.safetensors"
    assert weights.write_weights(other, tree, META) == meta["sha256"]
    changed = tree | {"std": tree["std"] * 2}
    assert weights.write_weights(other, changed, META) != meta["sha256"]
    changed = tree | {"params": jax.tree.map(lambda x: x + 1, tree["params"])}
    assert weights.write_weights(other, changed, META) != meta["sha256"]


@pytest.mark.parametrize("place", [0.002, 0.5, 0.999])
def test_an_altered_file_is_an_error(path, place):
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"w\.safetensors"):
        weights.read_weights(path)


@pytest.mark.parametrize("size", [0, 5, 1000, -1])
def test_a_truncated_file_is_an_error(path, size):
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match=r"w\.safetensors is damaged.*again"):
        weights.read_weights(path)


def test_foreign_and_absent_files_say_how_to_convert(tmp_path):
    safetensors.numpy.save_file({"x": np.zeros(1)}, tmp_path / "f.safetensors")
    with pytest.raises(UserError, match=r"no weights file of jaxseg.*jaxseg\.convert"):
        weights.read_weights(tmp_path / "f.safetensors")
    with pytest.raises(UserError, match=r"no weights file .*nothing.*jaxseg\.convert"):
        weights.read_weights(tmp_path / "nothing")


def test_load_into_a_place_of_a_tree(tree, path):
    empty = jax.eval_shape(Backbone("resnet_test").init, jax.random.key(0))
    state = {"frozen": {"backbone": empty, "other": 1}, "rest": 2}
    found, meta = weights.load_into(state, path, "frozen/backbone")
    jax.tree.map(np.testing.assert_array_equal, found["frozen"]["backbone"], tree)
    assert (found["frozen"]["other"], found["rest"]) == (1, 2)
    assert state["frozen"]["backbone"] is empty
    line = weights.describe(path, tree, meta)
    assert f"{path}: drawn at random (resnet_test, " in line
    assert line.endswith(f"sha256 {meta['sha256'][:12]})")
    whole, _ = weights.load_into(empty, path)
    assert jax.tree.structure(whole) == jax.tree.structure(empty)


def test_another_architecture_lists_what_differs(tree, path):
    params = dict(tree["params"])
    params["extra"] = {"kernel": params.pop("stem")["kernel"]}
    params["res2_0"] = jax.tree.map(lambda x: x[..., :1], params["res2_0"])
    with pytest.raises(UserError) as caught:
        weights.load_into(tree | {"params": params}, path)
    message = str(caught.value)
    assert "Missing (1): params/extra/kernel." in message
    assert "Unexpected (1): params/stem/kernel." in message
    assert "params/res2_0/norm1/bias is [4] and should be [1]" in message
