"""Tiles: where they lie, what they weigh, and what becomes of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxseg import mosaic


@given(
    length=st.integers(1, 3000), cells=st.integers(2, 40), cell=st.sampled_from([1, 4, 8]),
    share=st.sampled_from([0, 2, 4, 8]),
)  # fmt: skip
def test_tiles_cover_and_weigh_one(length, cells, cell, share):
    side = cells * cell
    overlap = side // share if share else 0
    begins = mosaic.starts(length, side, overlap, cell)
    assert begins[0] == 0
    assert all(begin % cell == 0 for begin in begins)
    assert begins[-1] + side >= length
    assert len(begins) == 1 or begins[-1] + side - length < cell
    steps = np.diff(begins)
    assert ((steps > 0) & (steps <= side)).all()
    assert (side - steps >= overlap - 2 * cell).all()
    weights = mosaic.weights(begins, side, overlap, cell)
    assert weights.shape == (len(begins), cells)
    assert (weights > 0).all()
    total = np.zeros(begins[-1] // cell + cells)
    for begin, one in zip(begins, weights, strict=True):
        total[begin // cell : begin // cell + cells] += one
    np.testing.assert_allclose(total, 1, rtol=1e-6)


def test_a_tile_weighs_least_at_its_border():
    first, second = mosaic.weights((0, 12), 16, 4, 1)
    np.testing.assert_array_equal(first[:12], 1)
    np.testing.assert_array_equal(second[4:], 1)
    wanted = np.sin(np.pi / 2 * np.array([0.5, 1.5, 2.5, 3.5]) / 4) ** 2
    np.testing.assert_allclose(second[:4], wanted, rtol=1e-6)
    np.testing.assert_allclose(first[12:], wanted[::-1], rtol=1e-6)


def test_blending_is_the_weighted_sum_of_tiles():
    rng = np.random.default_rng(0)
    seen = {}

    def predict(windows):
        for window in windows:
            seen[window] = rng.random((4, 4, 2)).astype(np.float32)
            yield seen[window]

    found = mosaic.blend((40, 8), (8, 8), (2, 4), 2, predict)
    begins = mosaic.starts(40, 8, 2, 2)
    weights = mosaic.weights(begins, 8, 2, 2)
    wanted = np.zeros((20, 4, 2))
    for begin, weight in zip(begins, weights, strict=True):
        wanted[begin // 2 : begin // 2 + 4] += weight[:, None, None] * seen[begin, 0, 8, 8]
    assert len(seen) == len(begins)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_windows_beyond_the_image_repeat_its_edge():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    found = mosaic.cut(image, (1, 0, 2, 3))
    np.testing.assert_array_equal(found, image[[[1], [1]], [[0, 1, 1]]])
    with pytest.raises(ValueError, match="overlap"):
        mosaic.starts(10, 4, 4, 1)
