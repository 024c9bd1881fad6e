"""How good partitions of points are, without labels: silhouette, modularity, agreement.

Points are f[n D]; their length does not count, for they are compared by their cosine. A partition
is i[n], the cluster of each point, in 0..K-1; clusters may be empty.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from sklearn.metrics import adjusted_rand_score, silhouette_score

from jaxseg.clustering import neighbours

NEIGHBOURS = 10  # k of the graph
_FITTED, _ROUNDS = 5000, 20  # points and rounds by which a cloud is fitted


@dataclasses.dataclass(frozen=True, eq=False)
class Cloud:
    """Points, and what the criteria read of them, computed once for many partitions.

    Attributes:
        points: f32[n D], of length 1 (a vector of length 0 stays so).
        distances: f32[n n], 1 - cosine, in [0, 2]; 0 on the diagonal.
        edges: i64[E 2], i < j: the pairs of which one is among the nearest of the other.
    """

    points: np.ndarray
    distances: np.ndarray
    edges: np.ndarray

    @classmethod
    def of(cls, points: np.ndarray, nearest: int = NEIGHBOURS) -> "Cloud":
        """Returns the cloud of f[n D] with the graph of each point's `nearest` others.

        Its memory grows with n^2, so that n is to be some thousands. Raises ValueError unless
        1 <= nearest < n.
        """
        if not 1 <= nearest < len(points):
            raise ValueError(f"{nearest} neighbours of {len(points)} points; each has others only")
        unit = to_unit(points)
        distances = np.clip(1 - unit @ unit.T, 0, 2)
        np.fill_diagonal(distances, 0)
        itself = np.arange(len(unit), dtype=np.int32)
        found = neighbours.nearest(jnp.asarray(unit), jnp.asarray(unit), nearest, own=itself)[1]
        pairs = np.stack([np.repeat(itself, nearest), np.asarray(found).reshape(-1)], axis=1)
        return cls(unit, distances, np.unique(np.sort(pairs, axis=1), axis=0).astype(np.int64))

    def silhouette(self, labels: np.ndarray) -> float:
        """Returns the mean silhouette in [-1, 1]; nan unless 2 to n - 1 clusters are in use.

        Of a point: (b - a) / max(a, b), where a is its mean distance to the others of its cluster
        and b the least mean distance to another cluster; 0 where it is alone in its cluster.

        Source: Rousseeuw 1987.
        """
        if not 2 <= len(np.unique(labels)) < len(labels):
            return float("nan")
        return float(silhouette_score(self.distances, labels, metric="precomputed"))

    def modularity(self, labels: np.ndarray) -> float:
        """Returns the modularity of the graph of nearest points under a partition, in [-0.5, 1).

        The share of edges within clusters, less the share that random edges between points of the
        same degrees would have: 0 for one cluster of all.

        Source: Newman & Girvan 2004.
        """
        ends = labels[self.edges]
        degrees = np.bincount(ends.reshape(-1)) / ends.size
        return float(np.mean(ends[:, 0] == ends[:, 1]) - np.sum(degrees**2))


def agreement(partitions: Sequence[np.ndarray]) -> float:
    """Returns the mean adjusted Rand index over all pairs of partitions of the same points.

    1 = the same but for the numbers of the clusters, 0 = no more alike than chance makes partitions
    with clusters of these sizes; it can be negative. nan where there is only one partition.

    Source: Hubert & Arabie 1985.
    """
    pairs = itertools.combinations(partitions, 2)
    found = [adjusted_rand_score(one, other) for one, other in pairs]
    return float(np.mean(found)) if found else float("nan")


def without_clusters(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Returns f32[count D] of length 1, in one cloud with the mean and covariance of the points.

    It is a Gaussian brought to length 1, whose own mean and covariance are moved until those on the
    sphere are the ones of the points f[n D], at length 1: what the points would be if they had no
    clusters, with as many directions that matter as they have.

    Source: the idea of a reference is that of the gap statistic (Tibshirani et al. 2001), which
    draws from a box along the principal axes; a box has corners, which k-means finds.
    """
    unit = to_unit(points).astype(np.float64)
    mean, spread = unit.mean(axis=0), np.atleast_2d(np.cov(unit, rowvar=False))
    own_mean, own_spread = mean, spread
    trial = rng.normal(size=(_FITTED, len(mean)))
    for _ in range(_ROUNDS):
        found = _on_sphere(trial, own_mean, own_spread)
        own_mean = own_mean + mean - found.mean(axis=0)
        own_spread = own_spread + spread - np.atleast_2d(np.cov(found, rowvar=False))
    return _on_sphere(rng.normal(size=(count, len(mean))), own_mean, own_spread)


def _on_sphere(normals: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Returns standard normals f64[n D] with this mean and covariance, brought to length 1."""
    values, vectors = np.linalg.eigh(spread)
    root = vectors * np.sqrt(np.maximum(values, 0))[None]
    return to_unit(mean[None] + normals @ root.T)


def to_unit(points: np.ndarray) -> np.ndarray:
    """Returns the points f[n D] at length 1, as f32; a vector of length 0 stays so."""
    points = np.asarray(points, np.float32)
    return points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
