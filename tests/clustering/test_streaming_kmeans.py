"""Streaming k-means against scikit-learn and plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from sklearn.cluster import KMeans

from jaxseg.clustering import kmeans
from jaxseg.clustering import streaming_kmeans as streaming


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def cells(seed, batches=3, rows=4, offset=0.0):
    """Batches f32[B 2 3 D] with a last row that does not count, and all points that do."""
    rng = np.random.default_rng(seed)
    data = (rng.normal(size=(batches, rows, 2, 3, 4)) + offset).astype(np.float32)
    weights = np.ones((batches, rows), np.float32)
    weights[-1, -1] = 0
    data[-1, -1] = 1e6
    stream = [(jnp.asarray(x), jnp.asarray(w)) for x, w in zip(data, weights, strict=True)]
    return stream, data.reshape(-1, 4)[:-6]


@pytest.mark.parametrize("offset", [0.0, 300.0])
@pytest.mark.parametrize("rounds", [1, 4])
def test_rounds_over_a_stream_are_those_of_scikit_learn(offset, rounds):
    stream, points = cells(0, offset=offset)
    start = points[:5]
    found, weights = streaming.lloyd(lambda: stream, start, rounds)
    reference = KMeans(5, init=start, n_init=1, max_iter=rounds, tol=0).fit(points)
    np.testing.assert_allclose(found, reference.cluster_centers_, rtol=1e-4, atol=1e-4)
    assert weights.sum() == len(points)
    counts = streaming.assigned(stream, found)
    # Not by scikit-learn's predict, which cancels far from the origin.
    far = points.astype(np.float64)[:, None] - reference.cluster_centers_[None]
    nearest = (far**2).sum(-1).argmin(-1)
    np.testing.assert_array_equal(counts, np.bincount(nearest, minlength=5))


def test_spherical_rounds_ignore_lengths_and_give_unit_centroids():
    stream, points = cells(1)
    centroids = unit(points[:3])
    found, _ = streaming.lloyd(lambda: stream, centroids, 2, "spherical")
    for _ in range(2):
        labels = (unit(points) @ centroids.T).argmax(-1)
        centroids = unit(np.stack([unit(points)[labels == c].sum(0) for c in range(3)]))
    np.testing.assert_allclose(found, centroids, atol=1e-5)


@pytest.mark.parametrize("update_every", [1, 2, 0])
def test_minibatch_updates_are_those_of_the_reference(update_every):
    stream, points = cells(2)
    mu, n = points[:3].astype(np.float64), np.array([2.0, 0.0, 5.0])
    found, weights = streaming.minibatch(stream, mu, n, update_every=update_every)
    flat = [points[:24], points[24:48], points[48:]]
    size = update_every or 3
    for at in range(0, 3, size):
        group = np.concatenate(flat[at : at + size])
        labels = ((group[:, None] - mu[None]) ** 2).sum(-1).argmin(-1)
        for k in np.unique(labels):
            member = group[labels == k]
            n[k] += len(member)
            mu[k] += len(member) / n[k] * (member.mean(0) - mu[k])
    np.testing.assert_allclose(found, mu, atol=1e-5)
    np.testing.assert_array_equal(weights, n)


@pytest.mark.parametrize("metric", kmeans.METRICS)
def test_one_device_and_eight_agree(metric):
    stream, points = cells(3, batches=2, rows=8)
    mesh = Mesh(np.asarray(jax.devices()), ("data",))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    spread = [(jax.device_put(x, rows), jax.device_put(w, rows)) for x, w in stream]
    one, _ = streaming.lloyd(lambda: stream, unit(points[:4]), 2, metric)
    eight, weights = streaming.lloyd(lambda: spread, unit(points[:4]), 2, metric)
    np.testing.assert_allclose(eight, one, atol=1e-5)
    assert weights.sum() == len(points)


@pytest.mark.parametrize("metric", kmeans.METRICS)
def test_empty_clusters_halve_the_largest(metric):
    centroids = np.eye(4, dtype=np.float32) + 0.5
    found, weights = streaming.split_empty(centroids, np.array([3.0, 0, 8, 0]), metric)
    np.testing.assert_array_equal(weights, [3, 2, 4, 2])
    near = centroids if metric == "euclidean" else unit(centroids)
    for copy in (1, 2, 3):
        np.testing.assert_allclose(found[copy], near[2], rtol=5e-3)
        assert not np.array_equal(found[copy], found[(copy % 3) + 1])
    alone, same = streaming.split_empty(centroids, np.array([1.0, 0, 1, 1]))
    np.testing.assert_array_equal(alone, centroids)
    np.testing.assert_array_equal(same, [1, 0, 1, 1])


@pytest.mark.parametrize("start", streaming.STARTS)
def test_fit_finds_groups_from_a_sample_and_the_rest(start):
    rng = np.random.default_rng(0)
    centres = 9 * np.eye(4)[:3]
    truth = rng.integers(0, 3, (6, 8, 20))
    data = (centres[truth] + rng.normal(0, 0.3, (6, 8, 20, 4))).astype(np.float32)
    stream = [(jnp.asarray(x), jnp.ones(8)) for x in data]

    def fit(seed):
        plan = streaming.Plan(start, sample_size=100, sample_batches=2, update_every=3)
        found = streaming.MiniBatch(jax.random.key(seed), 3, plan=plan)
        for batch in stream:
            found.add(*batch)
        return found.result()

    best = min((fit(seed) for seed in range(3)), key=lambda f: float(np.ptp(f[1])))
    order = best[0].argmax(-1)
    assert sorted(order) == [0, 1, 2]
    np.testing.assert_allclose(best[0], centres[order], atol=0.1)
    np.testing.assert_allclose(best[1], np.bincount(truth.ravel())[order], rtol=0.1)
    np.testing.assert_array_equal(fit(0)[0], fit(0)[0])


def test_a_sample_holds_every_point_with_the_same_chance():
    stream = [(jnp.arange(b, b + 40.0).reshape(4, 10, 1), jnp.array([1, 1, 1, b < 80])) for b in
              (0, 40, 80)]  # fmt: skip

    def sampled(seed, size):
        sample = streaming.Sample(jax.random.key(seed), size)
        for batch in stream:
            sample.add(*batch)
        return sample.result()

    counts = np.zeros(120)
    for seed in range(300):
        found, total = sampled(seed, 11)
        assert found.shape == (11, 1)
        assert total == 110
        assert len(np.unique(found)) == 11
        counts[found[:, 0].astype(int)] += 1
    assert counts[110:].sum() == 0
    # 30 expected a point, deviation 5.2.
    assert counts[:110].min() > 8
    assert counts[:110].max() < 56
    everything, _ = sampled(0, 1000)
    assert sorted(everything[:, 0]) == list(range(110))


@pytest.mark.parametrize("size", [3, 7, 100])
def test_a_sample_is_the_points_of_the_lowest_draws(size):
    """Whatever rows of a batch are drawn for at once, which depends on the size."""
    key = jax.random.key(5)
    sample = streaming.Sample(key, size)
    for first in range(0, 60, 20):
        sample.add(jnp.arange(first, first + 20.0).reshape(5, 4, 1), jnp.arange(5) != 1)
    draws = np.random.default_rng(np.asarray(jax.random.bits(key, (4,), jnp.uint32))).random(60)
    draws[np.arange(60) // 4 % 5 == 1] = np.inf
    found, total = sample.result()
    np.testing.assert_array_equal(found[:, 0], np.argsort(draws)[: min(size, 48)])
    assert total == 48


def test_what_does_not_fit_is_an_error():
    stream, points = cells(0)
    with pytest.raises(ValueError, match="5 points for 6 clusters"):
        streaming.first_centroids(jax.random.key(0), points[:5], 6)
    with pytest.raises(ValueError, match="plusplus"):
        streaming.first_centroids(jax.random.key(0), points, 6, start="best")
    with pytest.raises(ValueError, match="cosine"):
        streaming.lloyd(lambda: stream, points[:2], 1, "cosine")
    with pytest.raises(ValueError, match="no batches"):
        streaming.Sample(jax.random.key(0), 3).result()
