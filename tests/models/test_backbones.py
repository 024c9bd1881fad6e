"""Backbones by name: sizes of all of them, features of the small ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.core import UserError
from jaxseg.models import weights
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


@functools.cache
def abstract(arch):
    return jax.eval_shape(Backbone(arch).init, jax.random.key(0))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_has_its_sizes(arch):
    backbone = Backbone(arch)
    tree = abstract(arch)
    if "tiny" in arch or "small" in arch or "resnet" in arch:  # the large ones take a second each
        side = 2 * backbone.patch
        image = jax.ShapeDtypeStruct((1, side, 2 * side, 3), jnp.uint8)
        features = jax.eval_shape(backbone.features, tree, image)
        assert features.shape == (1, 2, 4, backbone.width)
        assert features.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {jnp.dtype("float32")}
    if arch in PUBLISHED:
        count = sum(leaf.size for leaf in jax.tree.leaves(tree["params"]))
        assert count == PUBLISHED[arch]


def test_shapes_tell_architectures_apart():
    found = [tuple(sorted(weights.shapes(abstract(arch)).items())) for arch in ARCHITECTURES]
    assert len(set(found)) == len(ARCHITECTURES)


IMAGE = np.random.default_rng(0).integers(0, 256, (2, 64, 32, 4), np.uint8)


@functools.cache
def drawn(arch):
    """A tree of random arrays, which takes no compiling, and the compiled features."""
    rng = np.random.default_rng(0)
    tree = jax.tree.map(
        lambda leaf: rng.uniform(-0.5, 0.5, leaf.shape).astype(np.float32), abstract(arch)
    )
    variances = jax.tree.map(np.abs, tree["stats"])
    return tree | {"stats": variances}, jax.jit(Backbone(arch).features)


@pytest.mark.parametrize("arch", ["vit_test", "resnet_test"])
def test_features_are_normalised_and_ignore_infrared(arch):
    tree, features = drawn(arch)
    expected = features(tree, IMAGE)
    assert jnp.isfinite(expected).all()
    assert jnp.abs(expected).max() > 0.1
    other = IMAGE.copy()
    other[..., 3] = 0
    np.testing.assert_array_equal(features(tree, other), expected)
    # An affine map of the pixels is undone by that of the normalisation.
    moved = tree | {"mean": 1 - tree["mean"], "std": -tree["std"]}
    np.testing.assert_allclose(features(moved, 255 - IMAGE), expected, rtol=1e-3, atol=1e-3)


def test_half_precision_is_near():
    tree, features = drawn("vit_test")
    full, half = features(tree, IMAGE), jax.jit(Backbone("vit_test", "bfloat16").features)
    half = half(tree, IMAGE)
    assert half.dtype == jnp.float32
    assert 0 < jnp.abs(half - full).max() < 0.05 * jnp.abs(full).max()


def test_fresh_weights_can_be_used():
    tree = Backbone("vit_test").init(jax.random.key(0))
    np.testing.assert_allclose(tree["mean"], [0.485, 0.456, 0.406], rtol=1e-6)
    np.testing.assert_allclose(tree["std"], [0.229, 0.224, 0.225], rtol=1e-6)
    features = drawn("vit_test")[1](tree, IMAGE)
    assert jnp.isfinite(features).all()
    assert features.std() > 0.1


def test_what_is_not_there_says_what_is():
    with pytest.raises(UserError, match=r"'vit_small_9' is none of .*vit_small_8"):
        Backbone("vit_small_9")
    with pytest.raises(UserError, match="float32 or bfloat16"):
        Backbone("vit_test", "float16")
