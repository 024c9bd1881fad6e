"""COCO's masks: run lengths against hand-made ones, polygons against a point-in-polygon test."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxseg.data.masks import decode_mask, decode_runs, fill_polygon
from tests.data.layouts_coco import encode_runs


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        # Pairs made with the reference implementation (pycocotools 2.0.11).
        ([6, 1, 40, 4, 5, 4, 5, 4, 10021], "61X13mN000Pi9"),
        ([0, 10090], "0Zk9"),
        ([10090], "Zk9"),
    ],
)
def test_strings(counts, text):
    size = [1, sum(counts)]
    expected = np.repeat(np.arange(len(counts)) % 2 == 1, counts)[None]
    np.testing.assert_array_equal(decode_runs({"size": size, "counts": counts}), expected)
    np.testing.assert_array_equal(decode_runs({"size": size, "counts": text}), expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.booleans())
def test_round_trip(height, width, seed, compressed):
    rng = np.random.default_rng(seed)
    mask = np.cumsum(rng.random((height, width)) < 0.2, axis=0) % 2 == 1
    runs = encode_runs(mask, compressed)
    np.testing.assert_array_equal(decode_mask(runs, height, width), mask)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({"size": [2, 3], "counts": [5]}, "runs of 5 pixels in a mask of 2 x 3"),
        ({"size": [2, 3], "counts": [7, -1]}, "not whole numbers"),
        ({"size": [2, 3], "counts": [6.0]}, "not whole numbers"),
        ({"size": [2, 3], "counts": 6}, "not whole numbers"),
        ({"size": [2, 3], "counts": "\x7f"}, "out of place"),
        ({"size": [2, 3], "counts": "ooooooooo"}, "out of place"),
        ({"size": [2, 3], "counts": "V"}, "end within a number"),
        ({"size": [2], "counts": [2]}, r"size \[2\]"),
        ({"counts": [2]}, "size None"),
        ({"size": [3, 2], "counts": [6]}, r"size \(3, 2\), not \(2, 3\)"),
        ("0Z", "a segmentation is a str"),
        (None, "a segmentation is a NoneType"),
        ([[1, 2, 3, 4]], "three or more pairs"),
        ([[1, 2, 3, 4, 5, 6, 7]], "three or more pairs"),
        ([[1, 2, 3, 4, 5, float("nan")]], "three or more pairs"),
        ([["a", "b"]], "three or more pairs"),
        ([None], "three or more pairs"),
    ],
)
def test_malformed(runs, message):
    with pytest.raises(ValueError, match=message):
        decode_mask(runs, 2, 3)


def test_a_rectangle_covers_the_centres_inside():
    mask = fill_polygon([1, 2, 4, 2, 4, 5, 1, 5], 6, 6)
    expected = np.zeros((6, 6), bool)
    expected[2:5, 1:4] = True
    np.testing.assert_array_equal(mask, expected)
    # Beyond the image, and in the other sense.
    np.testing.assert_array_equal(fill_polygon([-9, -9, -9, 99, 99, 99, 99, -9], 6, 6), True)
    np.testing.assert_array_equal(fill_polygon([9, 9, 12, 9, 12, 12], 6, 6), False)


def test_polygons_of_one_object_are_united():
    left, right = [0, 0, 2, 0, 2, 4, 0, 4], [1, 0, 3, 0, 3, 4, 1, 4]
    mask = decode_mask([left, right], 4, 4)
    np.testing.assert_array_equal(mask, np.arange(4)[None] < [[3]] * 4)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-3, 15, width=32), min_size=6, max_size=16).filter(lambda p: len(p) % 2 == 0)
)
def test_polygons_against_a_ray_of_each_pixel(polygon):
    points = [(float(x), float(y)) for x, y in zip(polygon[::2], polygon[1::2], strict=True)]
    expected = np.zeros((9, 12), bool)
    for i, j in np.ndindex(9, 12):
        x, y = j + 0.5, i + 0.5
        for (xa, ya), (xb, yb) in zip(points, points[1:] + points[:1], strict=True):
            if (ya <= y) != (yb <= y) and xa + (y - ya) * ((xb - xa) / (yb - ya)) <= x:
                expected[i, j] ^= True
    np.testing.assert_array_equal(fill_polygon(polygon, 9, 12), expected)
