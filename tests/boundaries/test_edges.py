import numpy as np
import pytest

from jaxseg.boundaries.edges import with_angles


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
