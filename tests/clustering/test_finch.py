"""FINCH's partitions against NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from jaxseg.clustering import finch
from tests.clustering.test_kmeans import same_partition, unit

_partition = jax.jit(finch.partition)
_components = jax.jit(finch.components)
_finch = jax.jit(finch.finch, static_argnums=2)


def linked(link):
    """Component of each point, by SciPy."""
    size = len(link)
    graph = coo_matrix((np.ones(size), (np.arange(size), link)), (size, size))
    return connected_components(graph, directed=False)[1]


def partition_by_hand(points):
    """The adjacency of eq. 1, all three of its cases, and its components."""
    similarity = unit(points) @ unit(points).T
    np.fill_diagonal(similarity, -np.inf)
    first = similarity.argmax(1)
    i, j = np.indices(similarity.shape)
    adjacent = (first[i] == j) | (first[j] == i) | (first[i] == first[j])
    return connected_components(adjacent, directed=False)[1]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 29), min_size=30, max_size=30))
def test_components_are_those_of_the_graph(link):
    found = np.asarray(_components(jnp.array(link)))
    truth = linked(link)
    assert same_partition(found, truth)
    for label in set(truth):
        members = np.flatnonzero(truth == label)
        assert (found[members] == members.min()).all()


def test_components_of_a_long_chain():
    link = np.maximum(np.arange(30) - 1, 0)
    assert (np.asarray(_components(jnp.asarray(link))) == 0).all()
    assert (np.asarray(_components(jnp.asarray(np.minimum(np.arange(30) + 1, 29)))) == 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_first_partition_is_that_of_the_paper(seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(60, 5))
    mask = rng.random(60) < 0.7
    found = np.asarray(_partition(jnp.asarray(points, jnp.float32), jnp.asarray(mask)))
    truth = partition_by_hand(points[mask])
    assert 1 < truth.max() + 1 < mask.sum() / 2
    assert same_partition(found[mask], truth)
    assert (found[~mask] == np.flatnonzero(~mask)).all()


@pytest.mark.parametrize("seed", range(5))
def test_partitions_follow_one_another_on_means(seed):
    points = unit(np.random.default_rng(seed).normal(size=(60, 5)))
    first = partition_by_hand(points)
    means = np.stack([points[first == g].sum(0) for g in range(first.max() + 1)])
    second = partition_by_hand(means)[first]
    ones = jnp.ones(60, bool)
    for truth in (first, second):
        found = _finch(jnp.asarray(points, jnp.float32), ones, int(truth.max()) + 1)
        assert same_partition(found, truth)
