import numpy as np
import pytest
import scipy.linalg
import scipy.sparse

from jaxseg.boundaries import spectral
from jaxseg.boundaries.pmi import local_pairs


def grid(height, width, radius=2, seed=0):
    """A random affinity f64 of the pixels of a small image, as a sparse matrix."""
    places = local_pairs(height, width, radius)
    values = np.random.default_rng(seed).lognormal(0, 1.5, places.shape[1])
    half = scipy.sparse.csr_array((values, tuple(places)), shape=(height * width,) * 2)
    return half + half.T


def dense(weights, count):
    degree = np.diag(weights.sum(axis=1))
    values, vectors = scipy.linalg.eigh(degree - weights.toarray(), degree)
    return values[:count], vectors[:, :count]


@pytest.mark.parametrize("largest_dense", [3000, 200])
def test_eigenvectors_are_those_of_a_dense_solver(monkeypatch, largest_dense):
    # 24 x 30 pixels are solved densely, or from a graph of 12 x 15.
    monkeypatch.setattr(spectral, "_DENSE", largest_dense)
    monkeypatch.setattr(spectral, "_TOLERANCE", 1e-5)
    weights = grid(24, 30)
    values, vectors = spectral.eigenvectors(weights, (24, 30), 10)
    expected, others = dense(weights, 10)
    np.testing.assert_allclose(values, expected, atol=1e-8)
    gram = vectors.T @ (weights.sum(axis=1)[:, None] * vectors)
    np.testing.assert_allclose(gram, np.eye(10), atol=1e-8)
    overlap = others.T @ (weights.sum(axis=1)[:, None] * vectors)
    np.testing.assert_allclose(np.abs(np.diag(overlap)), 1, atol=1e-6)


def test_parts_that_hardly_hold_together_come_first():
    weights = grid(20, 20).tolil()
    left = np.arange(400) % 20 < 8
    across = np.ix_(left, ~left)
    weights[across] = weights[across] * 1e-4
    weights[np.ix_(~left, left)] = weights[across].T
    values, vectors = spectral.eigenvectors(weights.tocsr(), (20, 20), 3)
    assert values[1] < 1e-3 < 10 * values[2]
    second = vectors[:, 1] * np.sign(vectors[0, 1])
    np.testing.assert_array_equal(second > second.mean(), left)


@pytest.mark.parametrize("place", range(8))
def test_an_edge_is_strongest_in_its_direction(place):
    run = spectral.ANGLES[place]
    y, x = np.mgrid[:41, :41] - 20.0
    step = np.tanh(np.cos(run) * y - np.sin(run) * x)
    vectors = np.stack([np.ones_like(step), step], axis=-1).reshape(-1, 2)
    strength = spectral.oriented_edges(np.array([0, 0.25]), vectors, (41, 41))
    assert strength.shape == (8, 41, 41)
    assert strength[:, 20, 20].argmax() == place


def test_strength_is_of_a_step_through_a_derivative_of_unit_absolute_sum():
    # Half of the derivative's absolute sum lies on either side of a step from 0 to 1; a second
    # vector of four times the eigenvalue counts half.
    step = np.repeat((np.arange(20) >= 10).astype(float)[None], 20, axis=0)
    vectors = np.stack([0 * step, step, -3 * step], axis=-1).reshape(-1, 3)
    strength = spectral.oriented_edges(np.array([0, 0.01, 0.04]), vectors, (20, 20))
    upright = strength[4, 10]
    assert upright[9:11] == pytest.approx(15 * 0.5 * np.array([1, 1]), rel=0.2)
    assert upright[9] == pytest.approx(upright[10], rel=1e-5)
    assert upright[[2, 17]] == pytest.approx(0, abs=1e-5)
    assert strength[0, 10].max() < 1e-4


def test_edges_along_the_border_fade():
    faded = spectral.fade_at_border(np.ones((8, 60, 80), np.float32), 10)
    upright, level = faded[4], faded[0]
    np.testing.assert_allclose(upright[30, [0, 5, 10, 40, 79]], [0, 0.25, 1, 1, 0], atol=1e-6)
    np.testing.assert_allclose(level[[0, 5, 10, 59], 40], [0, 0.25, 1, 0], atol=1e-6)
    # What runs across the border stays.
    np.testing.assert_allclose(upright[[0, 59], 40], 1, atol=1e-6)
    np.testing.assert_allclose(level[30, [0, 79]], 1, atol=1e-6)
    np.testing.assert_array_equal(spectral.fade_at_border(np.ones((8, 9, 9), "f4"), 0), 1)
