"""The start of k-means that is chosen without a key, against brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.clustering import small_kmeans
from tests.clustering.test_kmeans import unit

_medoids = jax.jit(small_kmeans.medoids, static_argnums=2)


@pytest.mark.parametrize("seed", range(4))
def test_each_medoid_adds_most_for_the_points_that_count(seed):
    rng = np.random.default_rng(seed)
    points, mask = unit(rng.normal(size=(30, 4))), rng.random(30) < 0.6
    similarity = points @ points.T
    chosen = []
    for _ in range(5):
        gains = {j: similarity[:, [*chosen, j]].max(1)[mask].sum() for j in np.flatnonzero(mask)}
        chosen.append(max(gains, key=gains.get))
    found = _medoids(jnp.asarray(similarity, jnp.float32), jnp.asarray(mask), 5)
    assert found.tolist() == chosen


def test_each_group_has_a_medoid():
    angles = np.array([0, 1, 2, 60, 61, 62, 180]) * np.pi / 180
    points = np.stack([np.cos(angles), np.sin(angles), np.full(7, 0.2)], 1)
    cosines = small_kmeans.cosines(jnp.asarray(points, jnp.float32))
    # The last is farther from the first two groups than they are from one another.
    for count, groups in ((6, {0, 1}), (7, {0, 1, 2})):
        chosen = _medoids(cosines, jnp.arange(7) < count, 3).tolist()
        assert {i // 3 for i in chosen} == groups
