"""The heads on frozen features against the reference, and what stands around them."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.models import heads
from jaxseg.models.backbones import Backbone

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "golden" / "smooseg_energy.npz")
BACKBONE = Backbone("vit_test")


def test_projector_matches_the_reference():
    params = {
        layer: {"kernel": GOLDEN[f"{layer}_kernel"], "bias": GOLDEN[f"{layer}_bias"]}
        for layer in ("linear", "mlp1", "mlp2")
    }
    head = heads.CodeHead(12, "silu", 0.2)
    code = heads.codes(head, params, jnp.asarray(GOLDEN["features"]))
    np.testing.assert_allclose(code, GOLDEN["code"], rtol=1e-4, atol=1e-6)
    relu = heads.codes(heads.CodeHead(12, "relu", 0.2), params, jnp.asarray(GOLDEN["features"]))
    assert np.abs(relu - code).max() > 0.1


def test_layers_begin_as_in_torch():
    params = heads.CodeHead(64, "silu", 0.2).init(
        jax.random.key(0), jnp.zeros((1, 1, 1, 400)), False
    )["params"]
    for layer in params.values():
        for array in layer.values():
            assert np.abs(array).max() == pytest.approx(400**-0.5, rel=0.05)
            assert np.std(array) == pytest.approx(400**-0.5 / 3**0.5, rel=0.15)


def test_dropout_takes_whole_channels_of_an_image():
    x = jnp.ones((4, 3, 5, 500))
    dropped = np.asarray(heads.channel_dropout(jax.random.key(0), x, 0.2))
    assert (dropped == dropped[:, :1, :1]).all()
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(1.25)}
    assert (dropped == 0).mean() == pytest.approx(0.2, abs=0.05)
    assert (dropped[0] != dropped[1]).any()
    np.testing.assert_array_equal(heads.channel_dropout(jax.random.key(0), x, 0.0), x)


def test_the_two_branches_of_a_head_drop_other_channels():
    """With identities for weights, the code is what is left of an input of ones on each side."""
    eye, zero = np.eye(50, dtype=np.float32), np.zeros(50, np.float32)
    params = {
        "linear": {"kernel": eye, "bias": zero},
        "mlp1": {"kernel": eye, "bias": zero},
        "mlp2": {"kernel": 100 * eye, "bias": zero},
    }
    head = heads.CodeHead(50, "relu", 0.5)
    code = np.asarray(heads.codes(head, params, jnp.ones((2, 1, 1, 50)), jax.random.key(1)))
    assert set(np.unique(code)) == {np.float32(v) for v in (0, 2, 200, 202)}


def test_prototypes_begin_with_length_one():
    found = heads.unit_prototypes(jax.random.key(0), 7, 64)
    np.testing.assert_allclose(jnp.linalg.norm(found, axis=1), jnp.ones(7), rtol=1e-5)


def test_tokens_are_taken_as_they_are_and_images_through_the_backbone():
    tree = BACKBONE.init(jax.random.key(0))
    image = jax.random.randint(jax.random.key(1), (2, 16, 24, 3), 0, 256).astype(jnp.uint8)
    tokens = heads.frozen_tokens(BACKBONE, tree, image)
    assert tokens.shape == (2, 2, 3, 48)
    cached = tokens.astype(jnp.float16)
    again = heads.frozen_tokens(BACKBONE, tree, cached)
    assert again.dtype == jnp.float32
    np.testing.assert_array_equal(again, cached.astype(jnp.float32))
    with pytest.raises(ValueError, match="47 features, those of vit_test 48"):
        heads.frozen_tokens(BACKBONE, tree, cached[..., :47])


def test_flip_averaging_makes_the_codes_of_a_mirrored_image_mirrored_codes():
    tree = BACKBONE.init(jax.random.key(0))
    image = jax.random.randint(jax.random.key(1), (2, 16, 24, 3), 0, 256).astype(jnp.uint8)

    def codes(view, flip):
        return heads.predicted_codes(BACKBONE, tree, lambda x: x[..., :5], view, flip)[1]

    code, mirrored = codes(image, True), codes(image[:, :, ::-1], True)
    np.testing.assert_allclose(mirrored[:, :, ::-1], code, atol=1e-5)
    assert np.abs(codes(image, False) - code).max() > 1e-2
    tokens = heads.frozen_tokens(BACKBONE, tree, image)
    np.testing.assert_array_equal(codes(tokens, True), tokens[..., :5])


@pytest.mark.parametrize("holds_pixels", [True, False])
def test_scores_are_taken_where_codes_are_brought_to_pixels(holds_pixels):
    rng = np.random.default_rng(0)
    code, prototypes = rng.normal(size=(1, 2, 3, 4)), rng.normal(size=(5, 4))
    view = jnp.zeros((1, 16, 24, 3), jnp.uint8) if holds_pixels else jnp.zeros((1, 2, 3, 9))
    found = heads.pixel_scores(*map(jnp.asarray, (code, prototypes)), view, 8)
    assert found.shape == (1, 16, 24, 5)
    # Half-pixel centres: pixel 3 lies at cell -1/16, which is the border, pixel 9 at 11/16.
    y, x = code[0, 0], code[0, 1]
    edge = y[0]
    inner = (5 * (5 * y[0] + 11 * y[1]) + 11 * (5 * x[0] + 11 * x[1])) / 256
    for place, vector in (((0, 3, 3), edge), ((0, 9, 9), inner)):
        cosine = prototypes @ vector / np.linalg.norm(vector) / np.linalg.norm(prototypes, axis=1)
        np.testing.assert_allclose(found[place], 2 * cosine, rtol=1e-4, atol=1e-5)
