import fractions
import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxseg.clustering import kmeans, nearest

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


def unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def scores_by_hand(points, centroids, metric):
    if metric == "spherical":
        return unit(points) @ unit(centroids).T
    return -((points[:, None] - centroids[None]) ** 2).sum(-1)


def lloyd_by_hand(points, labels, k, rounds, metric, mask):
    for _ in range(rounds):
        members = [points[(labels == c) & mask] for c in range(k)]
        scores = np.full((len(points), k), -np.inf)
        for c, member in enumerate(members):
            if metric == "spherical":
                scores[:, c] = points @ unit(member.sum(0))
            elif len(member):
                scores[:, c] = -((points - member.mean(0)) ** 2).sum(-1)
        labels = scores.argmax(-1)
    return labels


def blobs(seed, per_blob=40, offset=0.0):
    """Four tight groups of unit length in 3-D, plus an offset."""
    rng = np.random.default_rng(seed)
    centres = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]])
    points = np.repeat(centres, per_blob, 0) + rng.normal(0, 0.05, (4 * per_blob, 3))
    return (unit(points) + offset).astype(np.float32), np.repeat(np.arange(4), per_blob)


def fit_four(seed, points, metric="spherical"):
    """Fits 160 points; one set of static arguments, so that it is compiled once a metric."""
    key, points = jax.random.key(seed), jnp.asarray(points)
    return kmeans.fit_kmeans(key, points, 4, 5, 2, metric, chunk=64)


def same_partition(a, b):
    pairs = set(zip(np.asarray(a).tolist(), np.asarray(b).tolist(), strict=True))
    return len(pairs) == len({x for x, _ in pairs}) == len({y for _, y in pairs})


def test_lloyd_matches_the_reference():
    golden = np.load(GOLDEN / "spherical_kmeans.npz")
    images, height, width, _ = golden["embeddings"].shape
    rows, columns = golden["grid"].tolist()
    location = kmeans.locations(height, width)
    np.testing.assert_allclose(location, golden["location"], atol=1e-6)
    start = kmeans.grid_labels(height, width, rows, columns)
    np.testing.assert_array_equal(start, golden["initial_labels"])

    points = kmeans.with_location(jnp.asarray(golden["embeddings"]), location)
    points = points.reshape(images, height * width, -1)
    k, rounds = rows * columns, int(golden["iterations"])
    found = jax.vmap(
        lambda p: kmeans.lloyd_from_labels(p, jnp.asarray(start.reshape(-1)), k, rounds)
    )(points)

    for point, got, expected in zip(
        np.asarray(points), np.asarray(found), golden["labels"].reshape(images, -1), strict=True
    ):
        # Only an assignment whose two best similarities tie within 1e-6 may differ.
        sums = np.stack([point[expected == c].sum(0) for c in range(k)])
        best = np.sort(point @ unit(sums).T, -1)
        tied = best[:, -1] - best[:, -2] < 1e-6
        np.testing.assert_array_equal(got[~tied], expected[~tied])
        assert tied.mean() < 0.01


def test_clusters_at_the_border_of_the_grid_are_half_as_wide():
    labels = kmeans.grid_labels(28, 28, 4, 4)
    assert np.bincount(labels[:, 0]).tolist() == [5, 9, 9, 5]
    assert labels[0, :].tolist() == [0] * 5 + [4] * 9 + [8] * 9 + [12] * 5  # row + rows * column


@given(st.tuples(*[st.integers(1, 60)] * 2), st.tuples(*[st.integers(1, 13)] * 2))
@settings(deadline=None, max_examples=60)
def test_grid_labels_round_half_to_even(size, grid):
    def steps(cells, count):  # round() of a fraction is exact and rounds half to even
        return [round(fractions.Fraction(i * (count - 1), max(cells - 1, 1))) for i in range(cells)]

    expected = [[y + grid[0] * x for x in steps(size[1], grid[1])] for y in steps(size[0], grid[0])]
    labels = kmeans.grid_labels(*size, *grid)
    assert labels.dtype == np.int32
    assert labels.tolist() == expected


def test_a_grid_without_rows_is_an_error():
    with pytest.raises(ValueError, match="0x4"):
        kmeans.grid_labels(8, 8, 0, 4)


def test_with_location_has_unit_length_and_a_finite_gradient_at_zero():
    x = jnp.zeros((2, 3, 4, 5)).at[0].set(7.0)
    location = kmeans.locations(3, 4)
    y = kmeans.with_location(x, location)
    np.testing.assert_allclose(np.linalg.norm(y[0], axis=-1), 1, rtol=1e-6)
    by_hand = unit(np.concatenate([np.full(5, 5**-0.5), [-0.5, 0.5]]))
    np.testing.assert_allclose(y[0, 0, 3], by_hand, rtol=1e-5)
    gradient = jax.jit(jax.grad(lambda z: kmeans.with_location(z, location).sum()))(x)
    assert np.isfinite(gradient).all()
    with pytest.raises(ValueError, match="H W"):
        kmeans.with_location(x, kmeans.locations(4, 3))


@pytest.mark.parametrize("metric", kmeans.METRICS)
@pytest.mark.parametrize("chunk", [16, 1000])
def test_lloyd_matches_brute_force(metric, chunk):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        points = unit(rng.normal(size=(50, 4))).astype(np.float32)
        labels = rng.integers(0, 6, 50)
        mask = rng.random(50) < 0.8
        found = kmeans.lloyd_from_labels(
            jnp.asarray(points), jnp.asarray(labels), 6, 4, metric, jnp.asarray(mask), chunk=chunk
        )
        expected = lloyd_by_hand(points.astype(np.float64), labels, 6, 4, metric, mask)
        np.testing.assert_array_equal(found, expected)


def test_an_empty_cluster_attracts_opposite_points_only_if_spherical():
    points = jnp.asarray([[1.0, 0.0], [0.8, 0.6], [0.8, -0.6], [-1.0, 0.0]])
    start = jnp.zeros(4, jnp.int32)  # cluster 1 is empty, cluster 0 points to (1, 0)
    assert kmeans.lloyd_from_labels(points, start, 2, 1).tolist() == [0, 0, 0, 1]
    assert kmeans.lloyd_from_labels(points, start, 2, 1, "euclidean").tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("metric", kmeans.METRICS)
@pytest.mark.parametrize("seed", range(4))
def test_fit_finds_the_groups(metric, seed):
    # Far from the origin, squared distances must not cancel.
    points, truth = blobs(seed, offset=1000.0 if metric == "euclidean" else 0.0)
    fit = fit_four(seed, points, metric)
    assert same_partition(kmeans.assign(jnp.asarray(points), fit, metric), truth)
    members = [points[truth == c].mean(0) for c in range(4)]
    nearest = kmeans.assign(jnp.asarray(np.stack(members)), fit, metric)
    expected = np.stack(members) if metric == "euclidean" else unit(np.stack(members))
    np.testing.assert_allclose(np.asarray(fit)[nearest], expected, atol=1e-3)


def test_fit_reaches_the_best_of_all_partitions():
    def cost(points, part):
        groups = [points[np.array(part) == c] for c in set(part)]
        return sum(((group - group.mean(0)) ** 2).sum() for group in groups)

    for seed in range(4):
        points = np.random.default_rng(seed).normal(size=(7, 2)).astype(np.float32)
        fit = kmeans.fit_kmeans(jax.random.key(seed), jnp.asarray(points), 3, 10, 12, "euclidean")
        found = -scores_by_hand(points, np.asarray(fit), "euclidean").max(-1).sum()
        best = min(cost(points, part) for part in itertools.product(range(3), repeat=7))
        assert found == pytest.approx(best, rel=1e-4)


def test_fit_depends_on_the_key_alone():
    points = jnp.asarray(np.random.default_rng(0).normal(size=(160, 3)).astype(np.float32))
    one, again, other = (fit_four(seed, points) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)
    in_one_chunk = kmeans.fit_kmeans(jax.random.key(0), points, 4, 5, 2)
    np.testing.assert_allclose(in_one_chunk, one, atol=1e-5)


def test_spherical_fit_ignores_the_length_of_points():
    points, _ = blobs(0)
    scale = np.random.default_rng(0).uniform(0.1, 9, (len(points), 1)).astype(np.float32)
    fit = fit_four(0, points * scale)
    np.testing.assert_allclose(fit, fit_four(0, points), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(fit, axis=-1), 1, rtol=1e-5)


def test_fit_survives_fewer_distinct_points_than_clusters():
    kind = np.arange(160) % 3
    points = np.eye(3, dtype=np.float32)[kind]
    fit = fit_four(0, points)
    assert np.isfinite(fit).all()
    assert same_partition(kmeans.assign(jnp.asarray(points), fit), kind)


@pytest.mark.parametrize("metric", kmeans.METRICS)
def test_empty_clusters_are_put_into_the_largest(metric):
    points, truth = blobs(0)
    draws = np.random.default_rng(0).random((13, 4), np.float32)
    # All seeds are one point, so that three of four clusters start empty.
    run = jax.jit(lambda draws, p: kmeans._one_run(draws, p[:1], p, metric, 64))
    fit, objective = run(jnp.asarray(draws), jnp.asarray(points))
    found = kmeans.assign(jnp.asarray(points), fit, metric)
    assert len(np.unique(found)) == 4
    expected = scores_by_hand(points, np.asarray(fit), metric).max(-1).mean()
    if (
        metric == "euclidean"
    ):  # the objective leaves out |x|^2, which is 1 here, and halves the rest
        expected = (expected + 1) / 2
    assert objective == pytest.approx(expected, rel=1e-4)

    labels, counts = jnp.asarray(truth), jnp.asarray([0.0, 40, 50, 0])
    centroids = jnp.full((4, 3), 9.0)
    draw = jnp.asarray([0.999, 0.5, 0.5, 0.999])
    filled = kmeans._fill_empty(draw, jnp.asarray(points), labels, counts, centroids)
    assert np.all(filled[1:3] == 9)
    first, last = points[truth == 2][[19, 39]]  # the ends of the cluster's two halves
    np.testing.assert_array_equal(filled[0], first)
    np.testing.assert_array_equal(filled[3], last)


def test_start_is_drawn_in_proportion_to_squared_distance():
    points = jnp.asarray([[0.0], [1.0], [3.0]])
    plus_plus = jax.jit(jax.vmap(kmeans.plus_plus, in_axes=(0, None)))
    second = np.linspace(0, 1, 100, endpoint=False, dtype=np.float32) + 0.005
    first_is_0 = plus_plus(jnp.stack([jnp.zeros(100), second], 1), points)[:, :, 0]
    assert np.all(first_is_0[:, 0] == 0)
    values, times = np.unique(first_is_0[:, 1], return_counts=True)
    assert dict(zip(values.tolist(), times.tolist(), strict=True)) == {1.0: 10, 3.0: 90}  # 1 : 9
    by_first = plus_plus(jnp.stack([second, second], 1), points)[:, 0, 0]
    assert np.unique(by_first, return_counts=True)[1].tolist() == [33, 34, 33]


def test_start_is_drawn_from_a_subsample_where_there_are_many_points(monkeypatch):
    monkeypatch.setattr(kmeans, "_SEEDING_POINTS", 8)
    monkeypatch.setattr(kmeans, "_SEEDING_POINTS_PER_CLUSTER", 4)
    points = jnp.asarray(blobs(0)[0])
    assert kmeans.subsample(jax.random.key(0), points, 40) is points
    for k, size in ((1, 8), (4, 16)):
        seeds = np.asarray(kmeans.subsample(jax.random.key(0), points, k))
        assert seeds.shape == (size, 3)
        assert all((points == row[None]).all(-1).any() for row in seeds)


@pytest.mark.parametrize("metric", kmeans.METRICS)
def test_similarity_matches_brute_force(metric):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(2, 3, 4)).astype(np.float32)
    centroids = rng.normal(size=(5, 4)).astype(np.float32)
    found = kmeans.similarity(jnp.asarray(points), jnp.asarray(centroids), metric)
    expected = scores_by_hand(points.reshape(-1, 4), centroids, metric).reshape(2, 3, 5)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    nearest = kmeans.assign(jnp.asarray(points), jnp.asarray(centroids), metric)
    assert nearest.dtype == jnp.int32
    np.testing.assert_array_equal(nearest, expected.argmax(-1))


def test_similarity_of_a_point_on_its_centroid():
    centroids = jnp.asarray(np.random.default_rng(0).normal(3, 1, (40, 8)).astype(np.float32))
    euclidean = np.diagonal(kmeans.similarity(centroids, centroids, "euclidean"))
    assert (euclidean <= 0).all()
    assert (euclidean > -1e-4).all()
    zero = kmeans.similarity(jnp.zeros((1, 8)), centroids)
    np.testing.assert_array_equal(zero, np.zeros((1, 40)))
    ties = jnp.concatenate([centroids[:1], centroids[:1]])
    assert kmeans.assign(centroids, ties).tolist() == [0] * 40


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 11}, "N >= k"),
        ({"k": 0}, "at least 1"),
        ({"restarts": 0}, "at least 1"),
        ({"metric": "cosine"}, "spherical"),
    ],
)
def test_bad_arguments_of_fit(change, message):
    with pytest.raises(ValueError, match=message):
        kmeans.fit_kmeans(jax.random.key(0), jnp.ones((10, 2)), **({"k": 2} | change))


@pytest.mark.parametrize("k", [3, 100])  # by a product and by a scatter
@pytest.mark.parametrize("chunk", [0, 48])
def test_sums_of_the_nearest(k, chunk):
    rng = np.random.default_rng(0)
    points, centroids = rng.normal(size=(200, 5)), rng.normal(size=(k, 5))
    weights = rng.integers(0, 3, 200).astype(np.float32)
    label = scores_by_hand(points, centroids, "euclidean").argmax(-1)
    sums, counts = nearest.nearest_sums(
        *(jnp.asarray(x, jnp.float32) for x in (points, weights, centroids)), "euclidean", chunk
    )
    member = (label[None] == np.arange(k)[:, None]) * weights[None]
    np.testing.assert_allclose(sums, member @ points, atol=1e-4)
    np.testing.assert_array_equal(counts, member.sum(-1))


def test_chunks_divide_the_points_where_they_can():
    assert nearest.chunk_size(6400 * 4, 27) == 3200
    assert nearest.chunk_size(100, 27) == 100
    assert nearest.chunk_size(10_007, 27, 100) == 100
