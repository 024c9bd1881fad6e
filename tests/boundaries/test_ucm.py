"""Hierarchies: against brute force, and the conventions of Higra and of the BSDS benchmark."""

import os
import pathlib

import numpy as np
import pytest
import scipy.io
import scipy.ndimage

from jaxseg.boundaries.edges import Edges, with_angles
from jaxseg.boundaries.ucm import make_hierarchy

EIGHT = np.ones((3, 3))


@pytest.fixture(scope="module")
def edges():
    noise = np.random.default_rng(0).random((37, 52))
    smooth = scipy.ndimage.gaussian_filter(noise, 1.5)
    strength = (smooth - smooth.min()) / np.ptp(smooth)
    return with_angles(strength.astype(np.float32))


@pytest.fixture(scope="module")
def hierarchy(edges):
    return make_hierarchy(edges)


def same_partition(one, other):
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    return pairs.shape[1] == len(np.unique(one)) == len(np.unique(other))


def thresholds(hierarchy):
    return np.concatenate([[0], np.quantile(hierarchy.altitudes, np.linspace(0, 1, 9)), [1]])


def test_regions_are_the_components_of_the_benchmarks_map(hierarchy):
    for t in thresholds(hierarchy):
        components = scipy.ndimage.label(hierarchy.doubled_map <= np.float32(t), EIGHT)[0]
        # Halfway between float32 values the map's rounding can put a contour on the other side.
        regions = hierarchy.regions(float(np.float32(t)) + 1e-7)
        assert regions.dtype == np.int32
        assert same_partition(regions, components[1::2, 1::2])
        assert set(np.unique(regions)) == set(range(hierarchy.count(float(np.float32(t)) + 1e-7)))


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 20, 10_000])
def test_a_threshold_is_the_lowest_with_so_few_regions(hierarchy, limit):
    threshold = hierarchy.threshold(limit)
    assert hierarchy.count(threshold) <= limit
    if threshold > 0:
        assert hierarchy.count(np.nextafter(threshold, 0)) > limit


def test_regions_are_connected_and_nested(hierarchy):
    finer = hierarchy.pieces
    for t in thresholds(hierarchy):
        regions = hierarchy.regions(t)
        for number in range(regions.max() + 1):
            assert scipy.ndimage.label(regions == number)[1] == 1
        assert len(np.unique(np.stack([finer, regions], -1).reshape(-1, 2), axis=0)) == len(
            np.unique(finer)
        )
        finer = regions
    assert (hierarchy.regions(1.0) == 0).all()


def test_contours_are_ultrametric(hierarchy):
    """Along a closed path the strongest contour is met at least twice: no contour has an end."""
    doubled = hierarchy.doubled_map
    across, below = doubled[1::2, 2:-1:2], doubled[2:-1:2, 1::2]
    around = np.sort(
        np.stack([across[:-1], across[1:], below[:, :-1], below[:, 1:]]).reshape(4, -1), axis=0
    )
    assert around[-1].max() > 0
    np.testing.assert_array_equal(around[-1], around[-2])
    parents = hierarchy.tree.parents()
    assert (hierarchy.altitudes[parents] >= hierarchy.altitudes).all()


def test_a_merges_altitude_is_the_mean_along_the_border():
    """Three bands between two straight ridges: the weaker goes first, each at its own height."""
    strength = np.zeros((20, 31), np.float32)
    strength[:, [10, 20]] = [0.3, 0.8]
    edges = Edges(strength, np.full(strength.shape, np.pi / 2, np.float32))
    hierarchy = make_hierarchy(edges)
    # A contour runs between pixels: a ridge of one pixel beside zeros has half its strength there.
    np.testing.assert_allclose(hierarchy.altitudes[hierarchy.altitudes > 0], [0.15, 0.4], atol=1e-7)
    assert [hierarchy.count(t) for t in (0, 0.14, 0.16, 0.39, 0.41)] == [3, 3, 2, 2, 1]


@pytest.mark.parametrize("degrees", [0, 20, 45, 70, 90, 115, 135, 160])
def test_angles_mean_the_same_here_and_in_higra(degrees):
    """With the edge's own angle the contour keeps its strength; across it, it is lost."""
    y, x = np.mgrid[:81, :91].astype(np.float64) - 40.5
    run = np.deg2rad(degrees)
    strength = np.exp(-(((np.cos(run) * y - np.sin(run) * x) / 2) ** 2)).astype(np.float32)
    strongest = {}
    for turn in (0, 30, 90):
        angle = np.full(strength.shape, np.mod(run + np.deg2rad(turn), np.pi), np.float32)
        strongest[turn] = make_hierarchy(Edges(strength, angle)).altitudes.max()
    assert strongest[0] > 0.93
    assert strongest[30] == pytest.approx(strongest[0] * np.cos(np.pi / 6), rel=0.02)
    assert strongest[90] < 0.02
    assert make_hierarchy(with_angles(strength)).altitudes.max() > 0.92


def test_angles_that_straddle_zero_do_not_average_to_a_right_angle():
    strength = np.zeros((20, 30), np.float32)
    strength[9:11] = 1
    angle = np.zeros(strength.shape, np.float32)
    angle[9] = np.pi - 0.02
    angle[10] = 0.02
    assert make_hierarchy(Edges(strength, angle)).altitudes.max() > 0.99


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (7, 1), (5, 6)])
def test_images_without_edges_are_one_region(shape):
    hierarchy = make_hierarchy(with_angles(np.zeros(shape, np.float32)))
    assert hierarchy.count(0) == 1
    assert (hierarchy.regions(0) == 0).all()
    assert hierarchy.regions(0).shape == shape
    assert not hierarchy.doubled_map.any()


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (2, 2)])
def test_narrow_images(shape):
    strength = np.linspace(0, 1, 9, dtype=np.float32)[: shape[0] * shape[1]].reshape(shape)
    hierarchy = make_hierarchy(with_angles(strength))
    assert hierarchy.doubled_map.shape == (2 * shape[0] + 1, 2 * shape[1] + 1)
    assert hierarchy.count(1) == 1


@pytest.mark.parametrize("wrong", [1.5, -0.1, np.nan])
def test_strengths_outside_the_range_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        make_hierarchy(with_angles(np.full((4, 4), wrong, np.float32)))


def test_the_doubled_map_keeps_the_official_files_conventions(hierarchy):
    folder = pathlib.Path(os.environ.get("JAXSEG_DATA", "/none")) / "bsds500/bench_vectors/ucm2"
    files = sorted(folder.glob("*.mat"))
    if not files:
        pytest.skip("the official benchmark's ucm2 files are not in JAXSEG_DATA/bsds500")
    for doubled in [hierarchy.doubled_map, *(scipy.io.loadmat(f)["ucm2"] for f in files)]:
        assert not doubled[1::2, 1::2].any()
        inner = doubled[1:-1, 1:-1]
        np.testing.assert_array_equal(np.pad(inner, 1, mode="edge"), doubled)
        plus = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]])
        corners = scipy.ndimage.maximum_filter(inner, footprint=plus, mode="constant")
        np.testing.assert_array_equal(corners[1::2, 1::2], inner[1::2, 1::2])


def test_thresholds_are_compared_with_what_the_edges_say_of_a_contour(edges, hierarchy):
    told = make_hierarchy(edges._replace(contour=np.sqrt))
    np.testing.assert_array_equal(told.pieces, hierarchy.pieces)
    np.testing.assert_allclose(told.doubled_map, np.sqrt(hierarchy.doubled_map), atol=1e-6)
    for t in (0.1, 0.3, 0.6):
        assert told.count(np.sqrt(t)) == hierarchy.count(t)
