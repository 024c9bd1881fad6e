"""STEGO's loss against the reference, and its sampling against loops."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.losses import correspondence as co

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "golden" / "stego_correspondence.npz")
FEATURES = jnp.asarray(GOLDEN["features_a"]), jnp.asarray(GOLDEN["features_b"])
CODES = jnp.asarray(GOLDEN["code_a"]), jnp.asarray(GOLDEN["code_b"])
SHIFT = float(GOLDEN["shift"])


def test_every_pair_matches_the_reference():
    found = co.correspondence(FEATURES, CODES, SHIFT)
    expected = GOLDEN["loss_elementwise"].reshape(found.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_mean_and_gradients_match_the_reference():
    def mean(a, b):
        return co.correspondence(FEATURES, (a, b), SHIFT).mean()

    loss, gradients = jax.value_and_grad(mean, argnums=(0, 1))(*CODES)
    np.testing.assert_allclose(loss, GOLDEN["loss_mean_clamped"], rtol=1e-4, atol=1e-6)
    for gradient, name in zip(gradients, ("grad_code_a", "grad_code_b"), strict=True):
        expected = GOLDEN[name]
        within = 1e-3 * np.abs(expected).max()
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=within, err_msg=name)


def test_stabilised_mean_matches_the_reference():
    found = co.correspondence(FEATURES, CODES, SHIFT, stabilise=True).mean()
    np.testing.assert_allclose(found, GOLDEN["loss_mean_stabilised"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("pointwise", [True, False])
@pytest.mark.parametrize("zero_clamp", [True, False])
def test_options_are_those_of_the_definition(pointwise, zero_clamp):
    def cosines(a, b):
        a, b = (v.reshape(3, -1, v.shape[-1]).astype(np.float64) for v in (a, b))
        a, b = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (a, b))
        return np.einsum("bpc,bqc->bpq", a, b)

    closeness = cosines(*map(np.asarray, FEATURES))
    if pointwise:
        closeness += closeness.mean() - closeness.mean(2, keepdims=True)
    similar = cosines(*map(np.asarray, CODES))
    assert (similar < 0).any()
    expected = -(np.maximum(similar, 0) if zero_clamp else similar) * (closeness - SHIFT)
    found = co.correspondence(FEATURES, CODES, SHIFT, pointwise, zero_clamp)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_no_gradient_passes_through_the_features():
    def mean(a):
        return co.correspondence((a, FEATURES[1]), CODES, SHIFT).mean()

    assert not jax.grad(mean)(FEATURES[0]).any()


def test_cluster_probe_matches_the_reference():
    centres = jnp.asarray(GOLDEN["clusters"])
    loss, gradient = jax.value_and_grad(co.cluster_loss, argnums=(0, 1))(CODES[0], centres)
    np.testing.assert_allclose(loss, GOLDEN["cluster_probe_loss"], rtol=1e-4, atol=1e-6)
    assert not gradient[0].any()
    chosen = GOLDEN["cluster_probe_onehot"].reshape(-1, 7).any(0)
    np.testing.assert_array_equal(jnp.abs(gradient[1]).max(1) > 0, chosen)


def by_loops(features, points):
    height, width = features.shape[1:3]
    found = np.zeros((*points.shape[:-1], features.shape[-1]))
    for place in np.ndindex(points.shape[:-1]):
        y, x = (points[place] + 1) / 2 * (height - 1, width - 1)
        y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
        for row in range(height):
            for column in range(width):
                weight = max(0, 1 - abs(y - row)) * max(0, 1 - abs(x - column))
                found[place] += weight * features[place[0], row, column]
    return found


@pytest.mark.parametrize("cells", [(4, 6), (1, 3), (1, 1)])
def test_sampling_is_bilinear_with_the_border_going_on(cells):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, *cells, 3)).astype(np.float32)
    points = rng.uniform(-1.2, 1.2, (2, 5, 4, 2)).astype(np.float32)
    points[0, 0, :] = [[-1, -1], [1, 1], [-1, 1], [0, 0]]
    found = co.sample(jnp.asarray(features), jnp.asarray(points))
    np.testing.assert_allclose(found, by_loops(features, points), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[0, 0, 1], features[0, -1, -1], rtol=1e-5)


def test_every_image_gets_another_one():
    for seed in range(20):
        for count in (2, 3, 8):
            found = np.asarray(co.permutation(jax.random.key(seed), count))
            assert not (found == np.arange(count)).any()
            assert ((found >= 0) & (found < count)).all()
    assert co.permutation(jax.random.key(0), 1).tolist() == [0]
