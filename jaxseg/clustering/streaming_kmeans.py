"""K-means over more points than memory holds: batches that are read from a stream.

A batch is a pair (points f[B ... D], weights f32[B] or bool[B]): a weight counts for every point of
its row, so that a row that only fills up a batch weighs 0. A stream is a function that gives its
batches, the same each time. Batches may be sharded over devices along B; each device then compares
its own points and only sums of [k D] are exchanged. Memory holds one batch, the centroids and, for
the start, a sample, however many batches there are. Sums over batches are float64 on the host, for
float32 cannot count beyond 16 million points.

Metrics are those of `kmeans`; "spherical" normalises the points. An unknown metric or a start that
is not one of STARTS raises ValueError.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxseg.clustering import kmeans, nearest
from jaxseg.processes import fetch

Batch = tuple[Array, Array]
Batches = Callable[[], Iterable[Batch]]
STARTS = ("random", "plusplus")

# Of the two halves of a cluster: FAISS's number.
_NUDGE = 1 / 1024


@dataclasses.dataclass(frozen=True)
class Plan:
    """How mini-batch k-means begins, and how it goes on.

    Attributes:
        start: "random" points of the sample, or "plusplus" (k-means++).
        sample_size: largest number of points in the sample; sample_batches: of how many batches.
        sample_rounds: Lloyd's rounds on the sample.
        update_every: batches that one update takes together.
    """

    start: str = "random"
    sample_size: int = 300_000
    sample_batches: int = 20
    sample_rounds: int = 20
    update_every: int = 1


class MiniBatch:
    """Mini-batch k-means in one pass: `add` each batch, then ask for the `result`.

    A sample of the first batches is clustered with all of Lloyd's rounds, which gives the first
    centroids and, scaled to all points of those batches, the weights n_k. The batches after them
    move both as `minibatch` does.

    Source: Cho et al. 2021 (PiCIE), released code, which clusters all points of its first batches
    and takes random points as a start (FAISS).
    """

    def __init__(self, key: Array, k: int, metric: str = "euclidean", plan: Plan | None = None):
        self._key_sample, self._key_start = jax.random.split(key)
        self._k, self._metric, self._plan = k, metric, plan or Plan()
        self._sample = Sample(self._key_sample, self._plan.sample_size)
        self._first, self._group = 0, list[Batch]()
        self._fit: tuple[np.ndarray, np.ndarray] | None = None

    def add(self, points: Array, weights: Array) -> None:
        """Takes in one batch.

        Raises:
            ValueError: the first batches hold fewer points than clusters.
        """
        if self._fit is None:
            self._sample.add(points, weights)
            self._first += 1
            if self._first == self._plan.sample_batches:
                self._fit = self._begin()
            return
        self._group.append((points, weights))
        if len(self._group) == self._plan.update_every:
            self._fit, self._group = minibatch([*self._group], *self._fit, self._metric, 0), []

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns centroids f32[k D] and weights f64[k]; raises ValueError as `add`."""
        fit = self._begin() if self._fit is None else self._fit
        return minibatch(self._group, *fit, self._metric, 0) if self._group else fit

    def _begin(self) -> tuple[np.ndarray, np.ndarray]:
        found, total = self._sample.result()
        kept = [(jnp.asarray(found), jnp.ones(len(found)))]
        first = first_centroids(self._key_start, found, self._k, self._metric, self._plan.start)
        centroids, _ = lloyd(lambda: kept, first, self._plan.sample_rounds, self._metric)
        return centroids, assigned(kept, centroids, self._metric) * (total / len(found))


def lloyd(
    batches: Batches, centroids: Array | np.ndarray, rounds: int, metric: str = "euclidean"
) -> tuple[np.ndarray, np.ndarray]:
    """Returns centroids f32[k D] after full rounds over the stream, and their last weights f64[k].

    A cluster left without points is put beside the then largest, see `split_empty`. `rounds` passes
    are made.
    """
    moved = np.asarray(centroids, np.float32)
    weights = np.zeros(len(moved))
    for _ in range(rounds):
        means, weights = _pass(batches(), moved, metric)
        if metric == "spherical":
            means = _unit(means)
        moved = np.where(weights[:, None] > 0, means, moved).astype(np.float32)
        moved, weights = split_empty(moved, weights, metric)
    return moved, weights


def minibatch(
    batches: Iterable[Batch],
    centroids: Array | np.ndarray,
    weights: np.ndarray,
    metric: str = "euclidean",
    update_every: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns centroids f32[k D] and weights f64[k] moved by each group of `update_every` batches.

    0 takes all batches as one group. Of m_k points of a group nearest to centroid k: n_k <- n_k +
    m_k, mu_k <- mu_k + (m_k / n_k) (their mean - mu_k). Euclidean centroids are not normalised
    again, whatever the points.

    Source: Sculley 2010; Cho et al. 2021 (PiCIE), released code.
    """
    moved, weights = np.asarray(centroids, np.float32), np.array(weights, np.float64)
    rest = iter(batches)
    while group := list(itertools.islice(rest, update_every or None)):
        means, new = _pass(group, moved, metric)
        weights += new
        rate = new / np.maximum(weights, 1e-12)
        moved = (moved + rate[:, None] * (means - moved)).astype(np.float32)
        if metric == "spherical":
            moved = _unit(moved)
    return moved, weights


def assigned(
    batches: Iterable[Batch], centroids: Array | np.ndarray, metric: str = "euclidean"
) -> np.ndarray:
    """Returns the weight f64[k] of the points that are nearest to each centroid."""
    return _pass(batches, np.asarray(centroids, np.float32), metric)[1]


class Sample:
    """Random points of a stream of unknown length: `add` each batch, then ask for the `result`.

    Each point of weight above 0 draws a number and the lowest `size` are kept, so that all have the
    same chance. At most twice `size` points and one batch are held, on the host.
    """

    def __init__(self, key: Array, size: int):
        self._rng = np.random.default_rng(np.asarray(jax.random.bits(key, (4,), jnp.uint32)))
        self._size, self._total, self._bound = size, 0, np.inf
        self._points, self._draws = list[np.ndarray](), list[np.ndarray]()

    def add(self, points: Array, weights: Array) -> None:
        """Takes in one batch."""
        draws, chosen = self._draw(fetch(weights) > 0, int(np.prod(points.shape[1:-1])))
        self._points.append(_take(points, chosen))
        self._draws.append(draws)
        if sum(map(len, self._draws)) >= 2 * self._size:
            self._keep_lowest()
            self._bound = self._draws[0][-1]

    def _draw(self, real: np.ndarray, cells: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the lowest draws f64[n] of a batch, in order, and their points' places i64[n].

        Every process draws for all rows of the batch, `cells` points each, some rows at a time: all
        the numbers at once would need room that grows with the number of processes.
        """
        draws, places, bound = np.zeros(0), np.zeros(0, np.int64), self._bound
        rows = max(1, self._size // cells)
        for first in range(0, len(real), rows):
            kept = real[first : first + rows]
            draw = np.where(kept[:, None], self._rng.random((len(kept), cells)), np.inf).ravel()
            self._total += int(kept.sum()) * cells
            low = np.flatnonzero(draw < bound)  # never those of weight 0
            draws = np.concatenate([draws, draw[low]])
            places = np.concatenate([places, low + first * cells])
            order = np.argsort(draws, kind="stable")[: self._size]
            draws, places = draws[order], places[order]
            if len(draws) == self._size:
                bound = draws[-1]
        return draws, places

    def result(self) -> tuple[np.ndarray, int]:
        """Returns the points f32[n D], n = min(size, all), and the number of all.

        Raises:
            ValueError: no batch was added.
        """
        if not self._points:
            raise ValueError("k-means was given no batches")
        self._keep_lowest()
        return self._points[0], self._total

    def _keep_lowest(self) -> None:
        draws, points = np.concatenate(self._draws), np.concatenate(self._points)
        first = np.argsort(draws, kind="stable")[: self._size]
        self._points, self._draws = [points[first]], [draws[first]]


def first_centroids(
    key: Array, points: np.ndarray, k: int, metric: str = "euclidean", start: str = "random"
) -> np.ndarray:
    """Returns k of the points f32[n D]: drawn at random without repetition, or by k-means++.

    Raises:
        ValueError: fewer points than k, or an unknown start.
    """
    if len(points) < k:
        raise ValueError(f"{len(points)} points for {k} clusters: give more points or fewer k")
    if start not in STARTS:
        raise ValueError(f"start is {start!r}; it is one of {STARTS}")
    if metric == "spherical":
        points = _unit(points)
    if start == "random":
        return points[np.asarray(jax.random.permutation(key, len(points))[:k])]
    key_few, key_draw = jax.random.split(key)
    few = kmeans.subsample(key_few, jnp.asarray(points), k)
    return np.asarray(jax.jit(kmeans.plus_plus)(jax.random.uniform(key_draw, (k,)), few))


def split_empty(
    centroids: np.ndarray, weights: np.ndarray, metric: str = "euclidean"
) -> tuple[np.ndarray, np.ndarray]:
    """Returns centroids f32[k D] and weights f64[k] in which each empty cluster halves a large one.

    The then largest cluster gives half of its weight and a copy of its centroid; the coordinates of
    the two are multiplied by 1 + 1/1024 and 1 - 1/1024 in turn, and the other way round. Clusters
    of one point are left alone.

    Source: FAISS, which draws the cluster to split in proportion to its size.
    """
    centroids, weights = centroids.copy(), weights.astype(np.float64)
    nudge = np.where(np.arange(centroids.shape[1]) % 2, 1 - _NUDGE, 1 + _NUDGE)
    for empty in np.flatnonzero(weights == 0):
        largest = int(np.argmax(weights))
        if weights[largest] <= 1:
            break
        whole = centroids[largest].copy()
        centroids[empty], centroids[largest] = whole * nudge, whole * (2 - nudge)
        weights[empty] = weights[largest] = weights[largest] / 2
    return (_unit(centroids) if metric == "spherical" else centroids), weights


def _pass(
    batches: Iterable[Batch], centroids: np.ndarray, metric: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean f64[k D] of each centroid's points, 0 for none, and their weight f64[k]."""
    if metric not in kmeans.METRICS:
        raise ValueError(f"unknown metric {metric!r}; expected one of {kmeans.METRICS}")
    # Squared distances far from the origin cancel; the shift changes none of them.
    shift = np.zeros(centroids.shape[1]) if metric == "spherical" else centroids.mean(0)
    shift = shift.astype(np.float32)
    sums, weights = np.zeros(centroids.shape), np.zeros(len(centroids))
    for more_sums, more_weights in _one_late(
        _sums(points, weight, centroids - shift, shift, metric, _shards(points))
        for points, weight in batches
    ):
        sums += fetch(more_sums)
        weights += fetch(more_weights)
    means = sums / np.maximum(weights, 1e-12)[:, None] + shift
    return np.where(weights[:, None] > 0, means, 0.0), weights


def _one_late(found: Iterable[tuple[Array, Array]]) -> Iterator[tuple[Array, Array]]:
    """Yields what is given one step late: reading a result waits for the device."""
    before = None
    for now in found:
        if before is not None:
            yield before
        before = now
    if before is not None:
        yield before


@functools.partial(jax.jit, static_argnames=("metric", "shards"))
def _sums(
    points: Array, weights: Array, centroids: Array, shift: Array, metric: str, shards: int
) -> tuple[Array, Array]:
    """Returns the sums f32[k D] and weights f32[k] of one batch; centroids are shifted already."""
    size = points.shape[-1]
    cells = points.size // (len(points) * size)
    weights = jnp.broadcast_to(weights.astype(jnp.float32)[:, None], (len(points), cells))

    def prepare(block: Array) -> Array:
        block = block.astype(jnp.float32)
        return nearest.normalise(block) if metric == "spherical" else block - shift[None]

    def of_shard(points: Array, weights: Array) -> tuple[Array, Array]:
        return nearest.nearest_sums(points, weights, centroids, metric, prepare=prepare)

    if shards == 1:
        return of_shard(points.reshape(-1, size), weights.reshape(-1))
    # Side by side along an axis of their own, so that no device reads another's points.
    points, weights = points.reshape(shards, -1, size), weights.reshape(shards, -1)
    return jax.tree.map(lambda x: jnp.sum(x, axis=0), jax.vmap(of_shard)(points, weights))


def _shards(points: Array) -> int:
    """Returns in how many parts the rows lie on different devices."""
    if not isinstance(points, jax.Array):
        return 1
    rows = points.sharding.shard_shape(points.shape)[0]
    return len(points) // max(rows, 1)


def _take(points: Array, chosen: np.ndarray) -> np.ndarray:
    """Returns the chosen points of f[... D] as f32[n D] on the host."""
    size = 1 << max(len(chosen) - 1, 0).bit_length()  # a few shapes only: each is compiled once
    padded = np.zeros(size, np.int32)
    padded[: len(chosen)] = chosen
    rows = jnp.take(points.reshape(-1, points.shape[-1]), padded, axis=0)
    return fetch(rows).astype(np.float32)[: len(chosen)]


def _unit(x: np.ndarray) -> np.ndarray:
    return (x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)).astype(np.float32)
