"""Criteria of partitions against brute force, scikit-learn and networkx."""

import itertools

import networkx
import numpy as np
import pytest
from scipy.stats import kurtosis
from sklearn.metrics import adjusted_rand_score, silhouette_score

from jaxseg.evaluation.partitions import Cloud, agreement, to_unit, without_clusters


@pytest.fixture(scope="module")
def points():
    return np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32) * 3


@pytest.fixture(scope="module")
def cloud(points):
    return Cloud.of(points, nearest=4)


def drawn_labels(seed, clusters=4, count=40):
    return np.random.default_rng(seed).integers(0, clusters, count)


def angle_distances(points):
    """1 - cosine, pair by pair."""
    length = [np.sqrt((p**2).sum()) for p in points.astype(np.float64)]
    pairs = np.zeros((len(points), len(points)))
    for i, j in itertools.permutations(range(len(points)), 2):
        pairs[i, j] = 1 - points[i].astype(np.float64) @ points[j] / length[i] / length[j]
    return pairs


def test_the_silhouette_is_that_of_brute_force_and_scikit_learn(points, cloud):
    labels = drawn_labels(1)
    labels[0] = 9  # alone in its cluster
    distances = angle_distances(points)
    np.testing.assert_allclose(cloud.distances, distances, atol=1e-6)
    each = []
    for i, own in enumerate(labels):
        others = (labels == own) & (np.arange(len(labels)) != i)
        a = distances[i, others].mean() if others.any() else None
        b = min(distances[i, labels == k].mean() for k in set(labels) - {own})
        each.append(0.0 if a is None else (b - a) / max(a, b))
    assert cloud.silhouette(labels) == pytest.approx(np.mean(each), abs=1e-6)
    theirs = silhouette_score(points, labels, metric="cosine")
    assert cloud.silhouette(labels) == pytest.approx(theirs, abs=1e-5)


def test_one_cluster_has_no_silhouette(cloud):
    assert np.isnan(cloud.silhouette(np.zeros(40, int)))
    assert np.isnan(cloud.silhouette(np.arange(40)))


def test_the_graph_joins_each_point_with_its_nearest(points, cloud):
    distances = angle_distances(points) + np.where(np.eye(40, dtype=bool), np.inf, 0)
    nearest = {
        (min(i, j), max(i, j))
        for i, row in enumerate(distances)
        for j in np.argsort(row)[:4].tolist()
    }
    assert set(map(tuple, cloud.edges.tolist())) == nearest


@pytest.mark.parametrize("clusters", [1, 2, 7])
def test_modularity_is_that_of_networkx(cloud, clusters):
    labels = drawn_labels(2, clusters)
    graph = networkx.Graph(cloud.edges.tolist())
    groups = [set(np.flatnonzero(labels == k).tolist()) for k in range(clusters)]
    theirs = networkx.community.modularity(graph, groups)
    assert cloud.modularity(labels) == pytest.approx(theirs, abs=1e-12)


def test_modularity_of_two_cliques_by_hand():
    """Two triangles: all of six edges within, half of the degrees on each side."""
    edges = np.array([[0, 1], [0, 2], [1, 2], [3, 4], [3, 5], [4, 5]])
    cliques = Cloud(np.zeros((6, 1)), np.zeros((6, 6)), edges)
    assert cliques.modularity(np.array([0, 0, 0, 5, 5, 5])) == 0.5
    assert cliques.modularity(np.zeros(6, int)) == 0


def test_agreement_is_the_mean_rand_index_corrected_for_chance():
    one = drawn_labels(3)
    renamed = np.array([3, 0, 2, 1])[one]
    assert agreement([one, renamed]) == 1
    several = [one, drawn_labels(4), renamed]
    theirs = np.mean([adjusted_rand_score(a, b) for a, b in itertools.combinations(several, 2)])
    assert agreement(several) == pytest.approx(theirs)
    # By chance two partitions in two put half of the pairs alike; corrected, that is 0.
    by_chance = [drawn_labels(seed, 2, 4000) for seed in range(4)]
    assert abs(agreement(by_chance)) < 0.01
    assert np.isnan(agreement([one]))


def test_a_cloud_without_clusters_has_the_mean_and_covariance_of_the_points():
    rng = np.random.default_rng(0)
    centres = np.eye(6)[:3] + 1
    points = centres[rng.integers(0, 3, 3000)] + 0.1 * rng.normal(size=(3000, 6))
    drawn = without_clusters(points, 20_000, rng)
    assert drawn.shape == (20_000, 6)
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1, atol=1e-6)
    unit = to_unit(points)
    np.testing.assert_allclose(drawn.mean(0), unit.mean(0), atol=0.03)
    spread = np.cov(unit, rowvar=False)
    # Bringing them back to length 1 takes some of it away.
    np.testing.assert_allclose(np.cov(drawn, rowvar=False), spread, atol=0.1 * spread.max())
    # Along the line between two centres the points have three humps, and these have one.
    line = np.array([1, -1, 0, 0, 0, 0])
    assert kurtosis(unit @ line) < -1.3
    assert kurtosis(drawn @ line) > -0.5


def test_zero_vectors_and_too_few_points():
    assert (to_unit(np.zeros((2, 3))) == 0).all()
    with pytest.raises(ValueError, match="3 neighbours of 3 points"):
        Cloud.of(np.eye(3), nearest=3)
