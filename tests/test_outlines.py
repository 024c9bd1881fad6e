"""Run lengths and polygons say where a mask is."""

import cv2
import numpy as np
import pytest

from jaxseg.data.masks import decode_runs
from jaxseg.outlines import polygons, run_lengths

RNG = np.random.default_rng(0)
BLOBS = cv2.GaussianBlur(RNG.random((60, 80)).astype(np.float32), (9, 9), 2) > 0.5
NOISE = RNG.random((30, 40)) > 0.5


def redrawn(parts, shape):
    """Returns bool[H W], drawn from the polygons' vertices."""
    found = np.zeros(shape, np.uint8)
    for part in parts:
        outer, *holes = (
            (np.reshape(ring, (-1, 1, 2)) - 0.5).astype(np.int32)
            for ring in (part["outer"], *part["holes"])
        )
        own = cv2.fillPoly(np.zeros(shape, np.uint8), [outer], 1)
        for hole in holes:
            # The ring of a hole runs over the pixels around it, which are not in the hole.
            inner = cv2.fillPoly(np.zeros(shape, np.uint8), [hole], 1)
            cv2.polylines(inner, [hole], True, 0)
            own[inner > 0] = 0
        found |= own
    return found > 0


@pytest.mark.parametrize("mask", [BLOBS, NOISE, np.ones((3, 4), bool), np.zeros((3, 4), bool)])
def test_both_are_the_mask_again(mask):
    runs = run_lengths(mask)
    assert runs["size"] == list(mask.shape)
    np.testing.assert_array_equal(decode_runs(runs), mask)
    np.testing.assert_array_equal(redrawn(polygons(mask), mask.shape), mask)


def test_vertices_are_centres_and_small_parts_are_left_out():
    mask = np.zeros((10, 20), bool)
    mask[2:7, 3:9] = True
    mask[4, 5] = False
    mask[8, 15] = True
    large, *others = polygons(mask, smallest=4)
    assert others == []
    assert large["holes"] == []
    corners = sorted(zip(large["outer"][::2], large["outer"][1::2], strict=True))
    assert corners == [(3.5, 2.5), (3.5, 6.5), (8.5, 2.5), (8.5, 6.5)]
    assert len(polygons(mask)) == 2
    assert [len(part["holes"]) for part in polygons(mask)] in ([1, 0], [0, 1])
