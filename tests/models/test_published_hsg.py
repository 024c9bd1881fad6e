"""HSG's clustering transformers by their published names, as golden files have them."""

import pathlib

import numpy as np
import pytest

from jaxseg.models import published_hsg

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


def test_names_and_shapes_of_a_transformer(transformer):
    counter = "_transformer.tgt_fc.1.num_batches_tracked"
    found, ignored = published_hsg.grouping_arrays(transformer | {counter: np.zeros((), np.int64)})
    assert ignored == [counter]
    shapes = {name: array.shape for name, array in found.items()}
    stats = paths(("mean", "var"), ())
    expected = {f"params/level_0/{name}" for name in PARAMS}
    assert set(shapes) == expected | {f"stats/level_0/{name}" for name in stats}
    assert published_hsg.expected_shapes(shapes) == shapes
    place = "params/level_0/"
    assert shapes[place + "encoder0/attention/qkv/kernel"] == (32, 96)
    assert shapes[place + "encoder1/up/kernel"] == (32, 64)
    assert shapes[place + "decoder0/down/kernel"] == (64, 32)
    assert shapes[place + "content/up/kernel"] == (64, 64)
    name = "_transformer.decoder.layers.1.multihead_attn.in_proj_weight"
    kernel = found[place + "decoder1/cross_attention/qkv/kernel"]
    np.testing.assert_array_equal(kernel, transformer[name].T)
    variance = found["stats/level_0/feature/norm/var"]
    np.testing.assert_array_equal(variance, transformer["centroid_feat_fc.2.running_var"])
    fresh = published_hsg.fresh_statistics(
        {name: array for name, array in found.items() if name.startswith("params/")}
    )
    assert {name: array.shape for name, array in fresh.items()} == {
        name: shape for name, shape in shapes.items() if name.startswith("stats/")
    }
    assert {float(array.mean()) for name, array in fresh.items() if name.endswith("/var")} == {1}
    assert not any(array.any() for name, array in fresh.items() if name.endswith("/mean"))


def test_all_that_hsg_groups_with(transformer):
    rng = np.random.default_rng(0)
    shapes = {"rows": (50, 16), "columns": (50, 16), "queries_0": (6, 32), "queries_1": (3, 32)}
    arrays = {published_hsg.TABLES[k]: rng.normal(size=shapes[k]) for k in shapes}
    for prefix in published_hsg.LEVELS.values():
        arrays |= {f"{prefix}{k}": v for k, v in transformer.items()}
    found, ignored = published_hsg.grouping_arrays(arrays | {"head.weight": np.zeros(2)})
    assert {name.rpartition(".")[2] for name in ignored if "centroid_feat_fc" in name} == {
        "weight", "bias", "running_mean", "running_var",
    }  # fmt: skip
    assert [name for name in ignored if "centroid_feat_fc" not in name] == ["head.weight"]
    kept = {name for name in PARAMS if not name.startswith("feature/")}
    for level, expected in (("level_0", PARAMS), ("level_1", kept)):
        place = f"params/{level}/"
        assert {k.removeprefix(place) for k in found if k.startswith(place)} == expected
    np.testing.assert_array_equal(found["params/rows"], arrays["pos_embed.row_embed.weight"])
    shapes = {name: array.shape for name, array in found.items()}
    assert published_hsg.expected_shapes(shapes) == shapes


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("pos_embed.row_embed.weight", ""),
        ("module.model.fine_hrchy_transformer.centroid_fc.1.weight", "module.model."),
        ("w/_transformer.tgt_fc.0.weight", "w/"),
        ("my_pos_embed.row_embed.weight", None),
        ("my_transformer.tgt_fc.0.weight", None),
        ("cls_token", None),
    ],
)
def test_what_stands_before_the_names(name, prefix):
    assert published_hsg.prefix_of(["other", name]) == prefix
