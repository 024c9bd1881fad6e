"""HSG's clustering transformers by their published names, as golden files have them."""

import pathlib

import numpy as np
import pytest

from jaxseg.models import published_hsg, weights

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"

ENCODER = ("attention/out", "attention/qkv", "down", "up")
DECODER = ("cross_attention/out", "cross_attention/qkv", "down")
DECODER += ("self_attention/out", "self_attention/qkv", "up")


def paths(norms, dense):
    """Returns the paths of a transformer's arrays: norms by (name, kinds), layers by kind."""
    found = {f"encoder{i}/{layer}/{kind}" for i in (0, 1) for layer in ENCODER for kind in dense}
    found |= {f"decoder{i}/{layer}/{kind}" for i in (0, 1) for layer in DECODER for kind in dense}
    places = [f"encoder{i}/norm{n}" for i in (0, 1) for n in (1, 2)]
    places += [f"decoder{i}/norm{n}" for i in (0, 1) for n in (1, 2, 3)]
    places += ["decoder_norm", "content/norm", "centroid/norm", "feature/norm"]
    return found | {f"{place}/{kind}" for place in places for kind in norms}


PARAMS = paths(("scale", "bias"), ("kernel", "bias")) | {
    "content/up/kernel",
    "content/down/kernel",
    "content/down/bias",
    "centroid/dense/kernel",
    "feature/dense/kernel",
}
"""HSG's output layers and the first of the content layers have no bias."""


@pytest.fixture
def transformer():
    with np.load(GOLDEN / "clustering_transformer.npz") as file:
        return {key[2:]: file[key] for key in file.files if key.startswith("w/")}


def test_names_and_shapes(transformer):
    tree = published_hsg.clustering_transformer(
        transformer | {"_transformer.tgt_fc.1.num_batches_tracked": np.zeros((), np.int64)}
    )
    shapes = weights.shapes(tree["params"])
    assert set(shapes) == PARAMS
    assert set(weights.shapes(tree["stats"])) == paths(("mean", "var"), ())
    assert shapes["encoder0/attention/qkv/kernel"] == (32, 96)
    assert shapes["encoder1/up/kernel"] == (32, 64)
    assert shapes["decoder0/down/kernel"] == (64, 32)
    assert shapes["content/up/kernel"] == (64, 64)
    name = "_transformer.decoder.layers.1.multihead_attn.in_proj_weight"
    np.testing.assert_array_equal(
        tree["params"]["decoder1"]["cross_attention"]["qkv"]["kernel"], transformer[name].T
    )
    name = "centroid_feat_fc.2.running_var"
    np.testing.assert_array_equal(tree["stats"]["feature"]["norm"]["var"], transformer[name])


def test_all_that_hsg_groups_with(transformer):
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=(4, 3)) for name in published_hsg.TABLES.values()}
    for level in ("fine", "coarse"):
        arrays |= {f"{level}_hrchy_transformer.{k}": v for k, v in transformer.items()}
    found = published_hsg.grouping(arrays)
    assert set(found) == {"fine", "coarse", *published_hsg.TABLES}
    assert set(weights.shapes(found["coarse"]["params"])) == PARAMS
    np.testing.assert_array_equal(found["rows"], arrays["pos_embed.row_embed.weight"])
    with pytest.raises(KeyError, match="row_embed"):
        published_hsg.grouping(transformer)
