import numpy as np
import pytest

from jaxseg.boundaries.edges import Edges, suppressed, with_angles


@pytest.mark.parametrize("degrees", [0, 20, 45, 70, 90, 115, 135, 160])
def test_an_edge_runs_where_it_was_drawn(degrees):
    y, x = np.mgrid[:65, :65].astype(np.float32) - 32
    run = np.deg2rad(degrees)
    distance = np.cos(run) * y - np.sin(run) * x
    strength = np.exp(-((distance / 2) ** 2)).astype(np.float32)
    edges = with_angles(strength)
    assert edges.angle.dtype == np.float32
    assert (edges.angle >= 0).all()
    assert (edges.angle < np.pi + 1e-6).all()
    ridge = (np.abs(distance) < 1) & (np.hypot(x, y) < 20)
    off = np.abs((edges.angle[ridge] - run + np.pi / 2) % np.pi - np.pi / 2)
    assert np.rad2deg(off).max() < 3


def test_strength_is_handed_on():
    strength = np.random.default_rng(0).random((20, 30), np.float32)
    np.testing.assert_array_equal(with_angles(strength).strength, strength)


def slow_suppression(strength, angle):
    """Pixel by pixel, in float64."""
    height, width = strength.shape
    kept = np.zeros(strength.shape)
    for y, x in np.ndindex(strength.shape):
        beside = []
        for side in (-1, 1):
            at_y = np.clip(y + side * np.cos(angle[y, x]), 0, height - 1)
            at_x = np.clip(x - side * np.sin(angle[y, x]), 0, width - 1)
            y0, x0 = min(int(at_y), height - 2), min(int(at_x), width - 2)
            v, u = at_y - y0, at_x - x0
            square = strength[y0 : y0 + 2, x0 : x0 + 2].astype(np.float64)
            beside.append(np.array([1 - v, v]) @ square @ np.array([1 - u, u]))
        if strength[y, x] * 1.01 >= max(beside):
            from_end = min(y, x, height - 1 - y), min(x, width - 1 - x), min(y, height - 1 - y)
            kept[y, x] = strength[y, x] * min(from_end[1] / 5, 1) * min(from_end[2] / 5, 1)
    return kept


def test_suppression_is_that_of_a_loop_over_pixels():
    rng = np.random.default_rng(0)
    strength = rng.random((21, 33), np.float32)
    edges = Edges(strength, (rng.random((21, 33)) * np.pi).astype(np.float32))
    expected = slow_suppression(edges.strength, edges.angle)
    found = suppressed(edges)
    assert found.dtype == np.float32
    assert 0.05 < (found > 0).mean() < 0.5
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("degrees", [0, 30, 90, 135])
def test_a_ridge_is_thinned_to_its_crest(degrees):
    y, x = np.mgrid[:65, :65].astype(np.float32) - 32
    distance = np.cos(np.deg2rad(degrees)) * y - np.sin(np.deg2rad(degrees)) * x
    thin = suppressed(with_angles(np.exp(-((distance / 3) ** 2)).astype(np.float32)))
    inside = np.hypot(x, y) < 22
    assert thin[inside & (np.abs(distance) > 1) & (np.abs(distance) < 10)].max() == 0
    assert (thin[inside & (np.abs(distance) < 0.3)] > 0.95).all()
    assert not thin[[0, -1]].any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 2)])
def test_narrow_images_have_edges(shape):
    edges = with_angles(np.ones(shape, np.float32))
    assert edges.angle.shape == suppressed(edges).shape == shape
    assert np.isfinite(edges.angle).all()
