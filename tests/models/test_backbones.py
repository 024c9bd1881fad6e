"""Backbones by name: sizes of all of them, features of the small ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.core import UserError
from jaxseg.models.backbones import ARCHITECTURES, Backbone

# Parameters of the published models without their heads.
PUBLISHED = {
    "vit_tiny_16": 5_524_416,
    "vit_small_16": 21_665_664,
    "vit_small_8": 21_670_272,
    "vit_base_16": 85_798_656,
    "vit_base_8": 85_807_872,
    "resnet18": 11_176_512,
    "resnet34": 21_284_672,
    "resnet50": 23_508_032,
}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_has_its_sizes(arch):
    backbone = Backbone(arch)
    tree = jax.eval_shape(backbone.init, jax.random.key(0))
    side = 2 * backbone.patch
    image = jax.ShapeDtypeStruct((1, side, 2 * side, 3), jnp.uint8)
    features = jax.eval_shape(backbone.features, tree, image)
    assert features.shape == (1, 2, 4, backbone.width)
    assert features.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {jnp.dtype("float32")}
    if arch in PUBLISHED:
        count = sum(leaf.size for leaf in jax.tree.leaves(tree["params"]))
        assert count == PUBLISHED[arch]


@pytest.mark.parametrize("arch", ["vit_test", "resnet_test"])
def test_features_are_normalised_and_ignore_infrared(arch):
    backbone = Backbone(arch)
    tree = backbone.init(jax.random.key(0))
    image = np.random.default_rng(0).integers(0, 256, (2, 64, 32, 4), np.uint8)
    features = jax.jit(backbone.features)
    expected = features(tree, image)
    assert jnp.isfinite(expected).all()
    image[..., 3] = 0
    np.testing.assert_array_equal(features(tree, image), expected)
    # An affine map of the pixels is undone by that of the normalisation.
    moved = tree | {"mean": 1 - tree["mean"], "std": -tree["std"]}
    np.testing.assert_allclose(features(moved, 255 - image), expected, rtol=1e-3, atol=1e-4)


def test_half_precision_is_near():
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8)
    tree = Backbone("vit_test").init(jax.random.key(0))
    full, half = (
        jax.jit(Backbone("vit_test", dtype).features)(tree, image)
        for dtype in ("float32", "bfloat16")
    )
    assert half.dtype == jnp.float32
    assert 0 < jnp.abs(half - full).max() < 0.05 * jnp.abs(full).max()


def test_what_is_not_there_says_what_is():
    with pytest.raises(UserError, match=r"'vit_small_9' is none of .*vit_small_8"):
        Backbone("vit_small_9")
    with pytest.raises(UserError, match="float32 or bfloat16"):
        Backbone("vit_test", "float16")
