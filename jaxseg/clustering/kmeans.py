"""K-means with static shapes: the short one on an image's grid, and the long one over a data set.

Two metrics. "spherical": points and centroids are unit vectors and are compared by their dot
product; a centroid is the normalised sum of its points. "euclidean": squared distance; a centroid
is the mean. Everything is float32 and free of gradients, except `with_location` and `similarity`.
Matrix products ask for full precision, for a rounded one moves assignments. An unknown metric
raises ValueError.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxseg.clustering import nearest
from jaxseg.clustering.nearest import normalise

METRICS = ("spherical", "euclidean")

# k-means++ looks at this many points, or this many a cluster where that is more.
_SEEDING_POINTS = 16_384
_SEEDING_POINTS_PER_CLUSTER = 32


def grid_labels(height: int, width: int, rows: int, columns: int) -> np.ndarray:
    """Returns the start of the grid k-means: each cell's nearest point of a rows x columns grid.

    The row of cell y is y (rows - 1) / (height - 1), rounded half to even, and the same for
    columns, so that the clusters at the border are about half as wide as the others (28 cells on 4:
    5, 9, 9, 5). label = row + rows * column. The fractions are exact integers here, where the
    released code rounds a float32 `linspace`; the two can only differ on an exact half.

    Returns i32[height width], in 0..rows * columns - 1, as NumPy: it depends on shapes alone.
    Raises ValueError where a size is below 1.

    Source: Ke et al. 2022 (HSG) and Hwang et al. 2019 (SegSort), released code.
    """
    if min(height, width, rows, columns) < 1:
        raise ValueError(f"grid {rows}x{columns} on {height}x{width} cells: all must be at least 1")
    row = _rounded_steps(height, rows)
    column = _rounded_steps(width, columns)
    return np.asarray(row[:, None] + rows * column[None, :], np.int32)


def _rounded_steps(cells: int, steps: int) -> np.ndarray:
    """Returns round(linspace(0, steps - 1, cells)), half to even, in integer arithmetic."""
    span = max(cells - 1, 1)
    whole, rest = np.divmod(np.arange(cells) * (steps - 1), span)
    up = (2 * rest > span) | ((2 * rest == span) & (whole % 2 == 1))
    return whole + up


def locations(height: int, width: int) -> np.ndarray:
    """Returns f32[height width 2]: y and x of each cell, evenly from -0.5 to 0.5 inclusive."""
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32)
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32)
    return np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1)


def with_location(embeddings: Array, location: Array | np.ndarray) -> Array:
    """Returns normalise([normalise(embedding); location]), what the grid k-means compares.

    `embeddings` f[... H W D] of any length, `location` f32[H W 2] as from `locations`; the result
    is f32[... H W D+2], of length 1. Differentiable. Raises ValueError where H or W differ.

    Source: Ke et al. 2022 (HSG), released code.
    """
    if embeddings.shape[-3:-1] != location.shape[:2]:
        raise ValueError(
            f"embeddings {embeddings.shape} and location {location.shape} differ in H W"
        )
    location = jnp.broadcast_to(
        jnp.asarray(location, jnp.float32), (*embeddings.shape[:-1], location.shape[-1])
    )
    return normalise(jnp.concatenate([normalise(embeddings), location], axis=-1))


@functools.partial(jax.jit, static_argnames=("k", "rounds", "metric", "chunk"))
def lloyd_from_labels(
    points: Array,
    initial_labels: Array,
    k: int,
    rounds: int,
    metric: str = "spherical",
    mask: Array | None = None,
    chunk: int = 0,
) -> Array:
    """Returns the labels after `rounds` times {centroid, assign} from given labels; no gradient.

    `points` f32[N D] (unit vectors for "spherical"; they are not normalised here), `initial_labels`
    i32[N] in 0..k-1, `mask` bool[N] (false: the point moves no centroid; it still gets a label).
    The result is i32[N]; equal similarities go to the smaller label. A spherical cluster that loses
    its points becomes the zero vector, as in the reference, and so wins a point whose similarity to
    every other centroid is negative; a Euclidean one stays empty. At most `chunk` * k similarities
    exist at once (0: as many as suit the device). May be vmapped over images.

    Source: Hwang et al. 2019 (SegSort) and Ke et al. 2022 (HSG), released code.
    """
    _check_metric(metric)
    points = lax.stop_gradient(points).astype(jnp.float32)
    count = points.shape[0]
    weights = jnp.ones(count) if mask is None else mask.astype(jnp.float32)
    chunk = nearest.chunk_size(count, k, chunk)
    blocks, weight_blocks = nearest.blocks_of(points, chunk), nearest.blocks_of(weights, chunk)

    def one_round(_: int, labels: Array) -> Array:
        sums, counts = nearest.label_sums(blocks, labels, weight_blocks, k)
        centroids = _centroids(sums, counts, metric)
        alive = (counts > 0) | (metric == "spherical")
        return nearest.nearest(blocks, centroids, metric, alive)[0]

    labels = nearest.blocks_of(initial_labels.astype(jnp.int32), chunk)
    return lax.fori_loop(0, rounds, one_round, labels).reshape(-1)[:count]


@functools.partial(jax.jit, static_argnames=("k", "rounds", "restarts", "metric", "chunk"))
def fit_kmeans(
    key: Array,
    points: Array,
    k: int,
    rounds: int = 30,
    restarts: int = 3,
    metric: str = "spherical",
    chunk: int = 0,
) -> Array:
    """Returns the centroids f32[k D] of k-means, the best of `restarts` by its objective.

    `points` f[N D]; "spherical" normalises them first. Each restart draws its start by k-means++
    from a random subsample (so that its cost does not grow with N), then does `rounds` Lloyd
    rounds. A cluster left without points gets a random point of the then largest cluster, which it
    thereby splits. The objective is the mean similarity of a point to its centroid. The same `key`
    and points give the same centroids. Beside the points, memory holds `chunk` * k similarities
    (0: as many as suit the device).

    Raises ValueError where N < k, where k, rounds or restarts is below 1, or chunk is below 0.

    Source: Arthur & Vassilvitskii 2007 for the start. Departs from the released code of PiCIE and
    DeepCluster, whose library (FAISS) draws the start uniformly and splits a large cluster by
    nudging a copy of its centroid.
    """
    _check_metric(metric)
    if min(k, rounds, restarts, chunk + 1) < 1:
        raise ValueError(f"{k=}, {rounds=}, {restarts=}: all must be at least 1, and {chunk=} 0")
    if points.ndim != 2 or points.shape[0] < k:
        raise ValueError(f"points must be [N D] with N >= {k=}, not {points.shape}")
    points = lax.stop_gradient(points).astype(jnp.float32)
    # Squared distances far from the origin cancel; the shift changes none of them.
    shift = jnp.zeros(points.shape[1]) if metric == "spherical" else jnp.mean(points, axis=0)
    points = normalise(points) if metric == "spherical" else points - shift[None]
    key_subsample, key_draws = jax.random.split(key)
    run = functools.partial(
        _one_run,
        seeds=subsample(key_subsample, points, k),
        points=points,
        metric=metric,
        chunk=nearest.chunk_size(len(points), k, chunk),
    )
    # One restart after another: side by side they would need `restarts` times the memory.
    centroids, objective = lax.map(run, jax.random.uniform(key_draws, (restarts, rounds + 1, k)))
    return centroids[jnp.argmax(objective)] + shift[None]


@functools.partial(jax.jit, static_argnames=("metric",))
def similarity(points: Array, centroids: Array, metric: str = "spherical") -> Array:
    """Returns the scores f32[... k] of points f[... D] against centroids f[k D]; higher is nearer.

    "spherical": the cosine, in [-1, 1]; neither side needs to be normalised, and a zero vector has
    cosine 0. "euclidean": minus the squared distance.
    """
    _check_metric(metric)
    points, centroids = points.astype(jnp.float32), centroids.astype(jnp.float32)
    if metric == "spherical":
        return _raw_similarity(normalise(points), normalise(centroids), metric)
    shift = jnp.mean(centroids, axis=0)  # see fit_kmeans
    points = points - jnp.broadcast_to(shift, points.shape)
    length = jnp.sum(points**2, axis=-1, keepdims=True)
    # Rounding can leave a tiny positive value where a point sits on its centroid.
    return jnp.minimum(2 * _raw_similarity(points, centroids - shift[None], metric) - length, 0.0)


@functools.partial(jax.jit, static_argnames=("metric",))
def assign(points: Array, centroids: Array, metric: str = "spherical") -> Array:
    """Returns i32[...], the nearest of centroids f[k D] for points f[... D]; ties: the smaller."""
    return jnp.argmax(similarity(points, centroids, metric), axis=-1).astype(jnp.int32)


def _check_metric(metric: str) -> None:
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}; expected one of {METRICS}")


def _raw_similarity(points: Array, centroids: Array, metric: str) -> Array:
    """Returns what orders the centroids for a point: x·c, or x·c - |c|^2 / 2."""
    dot = jnp.einsum("...d,kd->...k", points, centroids, precision=lax.Precision.HIGHEST)
    if metric == "spherical":
        return dot
    return dot - jnp.broadcast_to(0.5 * jnp.sum(centroids**2, axis=-1), dot.shape)


def _centroids(sums: Array, counts: Array, metric: str) -> Array:
    return normalise(sums) if metric == "spherical" else sums / jnp.maximum(counts, 1.0)[:, None]


def _one_run(
    draws: Array, seeds: Array, points: Array, metric: str, chunk: int
) -> tuple[Array, Array]:
    """Returns the centroids f32[k D] and the objective f32[] of one start.

    `draws` f32[rounds + 1, k] in [0, 1): the first row draws the start from `seeds` f32[n D], the
    others what becomes of empty clusters.
    """
    rounds = draws.shape[0] - 1
    blocks, weights = (
        nearest.blocks_of(points, chunk),
        nearest.blocks_of(jnp.ones(len(points)), chunk),
    )

    def one_round(i: Array, centroids: Array) -> Array:
        sums, counts, labels = nearest.compare(blocks, weights, centroids, metric)
        labels = labels.reshape(-1)[: len(points)]
        return _fill_empty(draws[i], points, labels, counts, _centroids(sums, counts, metric))

    centroids = lax.fori_loop(1, rounds + 1, one_round, plus_plus(draws[0], seeds))
    # |x|^2 is the same for every start, so the raw similarity ranks them as the objective does.
    best = jnp.where(weights > 0, nearest.nearest(blocks, centroids, metric)[1], 0.0)
    return centroids, jnp.sum(best) / len(points)


def _fill_empty(
    draw: Array, points: Array, labels: Array, counts: Array, centroids: Array
) -> Array:
    """Puts each empty cluster on another random point of the largest cluster.

    `draw` f32[k] in [0, 1). The largest cluster is cut into as many runs as clusters are empty, in
    the order of its points, and each run gives one.
    """
    member = jnp.cumsum(labels == jnp.argmax(counts))
    empty = counts == 0
    nth = jnp.cumsum(empty) - 1  # which of the empty clusters this is
    share = (nth + draw) / jnp.maximum(jnp.sum(empty), 1)
    position = jnp.minimum((share * member[-1]).astype(member.dtype), member[-1] - 1)
    chosen = jnp.searchsorted(member, position, side="right")
    return jnp.where(empty[:, None], points[chosen], centroids)


def subsample(key: Array, points: Array, k: int) -> Array:
    """Returns the points that k-means++ looks at: all, or a bounded number drawn at random."""
    size = max(_SEEDING_POINTS, _SEEDING_POINTS_PER_CLUSTER * k)
    if len(points) <= size:
        return points
    # With replacement: k-means++ does not choose a point twice, for it is at distance 0 to itself.
    return points[jax.random.randint(key, (size,), 0, len(points))]


def plus_plus(draws: Array, points: Array) -> Array:
    """Returns k points, each drawn in proportion to its squared distance to those before it.

    `draws` f32[k] in [0, 1). For unit vectors that distance is 2 - 2 cos, so that one rule serves
    both metrics.
    """

    def choose(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        chosen, nearest = carry
        cumulative = jnp.cumsum(nearest)
        index = jnp.sum(cumulative <= draws[i] * cumulative[-1])
        # Past the end where every point is already chosen, or by rounding.
        index = jnp.minimum(index, len(points) - 1)
        distance = jnp.sum((points - points[index][None]) ** 2, axis=-1)
        # The first draw is from equal weights, which are no distances.
        nearest = jnp.where(i == 0, distance, jnp.minimum(nearest, distance))
        return chosen.at[i].set(index), nearest

    k = len(draws)
    start = (jnp.zeros(k, jnp.int32), jnp.ones(len(points)))
    return points[lax.fori_loop(0, k, choose, start)[0]]
