import pathlib

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxseg.clustering import segments

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


def test_grid_kmeans_matches_the_reference():
    golden = np.load(GOLDEN / "spherical_kmeans.npz")
    found = segments.grid_kmeans(
        jnp.asarray(golden["embeddings"]), tuple(golden["grid"].tolist()), int(golden["iterations"])
    )
    np.testing.assert_array_equal(found, golden["labels"])


def test_padded_cells_move_no_centroid():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(1, 6, 6, 4)).astype(np.float32)
    valid = np.ones((1, 6, 6), bool)
    valid[:, :, 4:] = False
    other = features.copy()
    other[:, :, 4:] = rng.normal(size=(1, 6, 2, 4))
    found = [segments.grid_kmeans(jnp.asarray(x), (2, 2), 5, valid) for x in (features, other)]
    np.testing.assert_array_equal(found[0][:, :, :4], found[1][:, :, :4])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000))
def test_segments_are_the_distinct_view_label_region(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (2, 2, 4, 5)).astype(np.int32)
    regions = rng.integers(-1, 4, (2, 2, 4, 5)).astype(np.int32) * 7
    found = segments.split(jnp.asarray(labels), jnp.asarray(regions), 32)
    slot, mask = np.asarray(found.slot), np.asarray(found.mask)
    assert (np.asarray(found.merged) == 0).all()
    for b in range(2):
        np.testing.assert_array_equal(slot[b] == 32, regions[b] < 0)
        keys = {}
        for v, y, x in np.argwhere(regions[b] >= 0):
            key = (v, labels[b, v, y, x], regions[b, v, y, x])
            assert keys.setdefault(key, slot[b, v, y, x]) == slot[b, v, y, x]
        assert len(set(keys.values())) == len(keys) == mask[b].sum()
        for (v, _, r), s in keys.items():
            assert found.view[b, s] == v
            assert found.region[b, s] == r
            assert mask[b, s]
        sizes = [(slot[b] == s).sum() for s in range(mask[b].sum())]
        assert sizes == sorted(sizes, reverse=True)


def test_what_finds_no_slot_is_merged_into_the_closest_large_one():
    labels = np.array([[[0, 0, 0, 1, 1, 2], [0, 0, 0, 0, 0, 0]]])[:, :, None]
    regions = np.array([[[5, 5, 5, 5, 5, 6], [5, 5, 5, 5, 9, 9]]])[:, :, None]
    found = segments.split(jnp.asarray(labels), jnp.asarray(regions), 3)
    # View 1's largest (4 cells), view 0's largest (3); then two of 2 cells, of which view 0's has
    # the smaller key. What is left goes to the same label, and to the same view.
    np.testing.assert_array_equal(found.slot[0, 0, 0], [1, 1, 1, 2, 2, 1])
    np.testing.assert_array_equal(found.slot[0, 1, 0], [0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(found.region[0], [5, 5, 5])
    np.testing.assert_array_equal(found.merged, [2])


def test_sums_directions_and_painting():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    slot = rng.integers(0, 4, (2, 3, 4)).astype(np.int32)  # 3 = none
    found = np.asarray(segments.segment_sums(jnp.asarray(features), jnp.asarray(slot), 3))
    directions = np.asarray(
        segments.segment_directions(jnp.asarray(features), jnp.asarray(slot), 3)
    )
    for b in range(2):
        for s in range(3):
            total = features[b][slot[b] == s].sum(0)
            np.testing.assert_allclose(found[b, s], total, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(directions[b, s], total / np.linalg.norm(total), rtol=1e-5)
    painted = np.asarray(segments.paint(jnp.asarray([[7, 8, 9], [1, 2, 3]]), jnp.asarray(slot)))
    np.testing.assert_array_equal(painted[1], np.array([1, 2, 3, -1])[slot[1]])


def test_a_cell_has_the_region_at_its_top_left_corner():
    regions = np.arange(36).reshape(6, 6)
    np.testing.assert_array_equal(segments.reduce_map(regions, 3, 2), regions[::2, ::3])
    np.testing.assert_array_equal(segments.reduce_map(regions, 6, 6), regions)


def test_segments_of_views_by_hand():
    rng = np.random.default_rng(0)
    features = jnp.asarray(rng.normal(size=(2, 2, 4, 6, 3)), jnp.float32)
    regions = rng.integers(0, 3, (2, 2, 8, 12)).astype(np.int32)
    regions[1, :, :, 8:] = -1  # padded
    found = segments.segments_of_views(features, jnp.asarray(regions), (2, 2), 3, slots=64)
    small = regions[:, :, ::2, ::2]
    labels = segments.grid_kmeans(
        features.reshape(4, 4, 6, 3), (2, 2), 3, jnp.asarray(small.reshape(4, 4, 6) >= 0)
    )
    expected = segments.split(labels.reshape(2, 2, 4, 6), jnp.asarray(small), 64)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    whole = segments.segments_of_views(features, jnp.asarray(regions), (1, 1), 3, slots=64)
    np.testing.assert_array_equal(whole.mask.sum(1), [6, 6])  # three regions in each of two views


def test_base_segments_leave_out_what_is_not_valid():
    rng = np.random.default_rng(0)
    features = jnp.asarray(rng.normal(size=(1, 4, 4, 3)), jnp.float32)
    valid = np.ones((1, 8, 8), bool)
    valid[:, :, 6:] = False
    labels, directions, mask = segments.base_segments(features, (8, 8), (2, 3), 4, valid)
    labels = np.asarray(labels)
    assert (labels[~valid] == 6).all()
    assert set(np.unique(labels[valid])) == set(np.flatnonzero(mask[0]))
    np.testing.assert_allclose(np.linalg.norm(directions[0][mask[0]], axis=-1), 1, rtol=1e-5)
