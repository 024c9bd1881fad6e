"""The inner loop of k-means: which centroid is nearest, and the sums over each one's points.

Points are compared in chunks, whose similarities [k chunk] alone exist at once; "blocks" are points
f32[n chunk D] so cut, and the last one may be filled up. Raw similarities are x·c for "spherical"
(unit vectors) and x·c - |c|^2 / 2 for "euclidean", which order the centroids for a point as its
distances do. Matrix products ask for full precision, for a rounded one moves assignments.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

# Up to so many clusters a product with the one-hot matrix is a CPU's fastest sum over members, and
# above it a scatter, which is one thread's work but does not grow with the clusters.
_SCATTER_CLUSTERS = 96


def chunk_size(count: int, k: int, wanted: int = 0) -> int:
    """Returns how many of `count` points are compared with k centroids at a time.

    `wanted` or fewer; 0: on a CPU as many as leave the similarities in a core's cache, elsewhere
    enough to keep the device busy. A divisor of `count` is taken where one is near, for then the
    points need not be copied to fill up the last chunk.
    """
    if not wanted:
        wanted = 65_536
        if jax.default_backend() == "cpu":
            wanted = min(max((1 << 19) // k, 512), 4_096)
    wanted = min(wanted, count)
    near = (n for n in range(wanted, wanted // 2, -1) if count % n == 0)
    return next(near, wanted)


def nearest_sums(
    points: Array,
    weights: Array,
    centroids: Array,
    metric: str,
    chunk: int = 0,
    prepare: Callable[[Array], Array] = lambda block: block,
) -> tuple[Array, Array]:
    """Returns the weighted sums f32[k D] and weights f32[k] of each centroid's nearest points.

    Of `points` f[n D] with `weights` f32[n], each of which is read once; ties go to the smaller
    number. `prepare` is applied to each chunk and gives f32[chunk D], of length 1 for "spherical".
    """
    chunk = chunk_size(len(points), len(centroids), chunk)
    blocks = blocks_of(points, chunk), blocks_of(weights, chunk)
    return compare(*blocks, centroids, metric, prepare)[:2]


def compare(
    blocks: Array,
    weights: Array,
    centroids: Array,
    metric: str,
    prepare: Callable[[Array], Array] = lambda block: block,
) -> tuple[Array, Array, Array]:
    """Returns weighted sums f32[k D], weights f32[k] and labels i32[n chunk] of the nearest."""
    half = _half_squares(centroids, metric)

    def add(total: tuple[Array, Array], block: tuple[Array, Array]):
        points = prepare(block[0])
        label, _ = _winners(_columns(points, centroids, half))
        sums, counts = _member_sums(points, label, block[1], len(centroids))
        return (total[0] + sums, total[1] + counts), label

    zero = (jnp.zeros_like(centroids), jnp.zeros(len(centroids)))
    (sums, counts), labels = lax.scan(add, zero, (blocks, weights))
    return sums, counts, labels


def label_sums(blocks: Array, labels: Array, weights: Array, k: int) -> tuple[Array, Array]:
    """Returns the weighted sum f32[k D] and weight f32[k] of each label's points."""

    def add(total: tuple[Array, Array], block: tuple[Array, Array, Array]):
        sums, counts = _member_sums(*block, k)
        return (total[0] + sums, total[1] + counts), None

    zero = (jnp.zeros((k, blocks.shape[-1])), jnp.zeros(k))
    return lax.scan(add, zero, (blocks, labels, weights))[0]


def nearest(
    blocks: Array, centroids: Array, metric: str, alive: Array | None = None
) -> tuple[Array, Array]:
    """Returns the nearest living centroid i32[n chunk] and its raw similarity f32[n chunk]."""

    half = _half_squares(centroids, metric)

    def one(points: Array) -> tuple[Array, Array]:
        scores = _columns(points, centroids, half)
        if alive is not None:
            scores = jnp.where(alive[:, None], scores, -jnp.inf)
        return _winners(scores)

    return lax.map(one, blocks)


def normalise(x: Array) -> Array:
    """Divides by the length over the last axis; zero stays zero, with a finite gradient."""
    x = x.astype(jnp.float32)
    return x * lax.rsqrt(jnp.maximum(jnp.sum(x**2, axis=-1, keepdims=True), 1e-24))


def blocks_of(x: Array, chunk: int) -> Array:
    """Cuts [N ...] into [n chunk ...], filled up with zeros."""
    x = jnp.pad(x, [(0, -len(x) % chunk)] + [(0, 0)] * (x.ndim - 1))
    return x.reshape(-1, chunk, *x.shape[1:])


def _member_sums(points: Array, label: Array, weight: Array, k: int) -> tuple[Array, Array]:
    """Returns the weighted sums f32[k D] and the weights f32[k] of one block f32[n D]."""
    if k > _SCATTER_CLUSTERS and jax.default_backend() == "cpu":
        sums = jax.ops.segment_sum(points * weight[:, None], label, k)
        return sums, jax.ops.segment_sum(weight, label, k)
    cluster = lax.broadcasted_iota(jnp.int32, (k, len(label)), 0)
    member = jnp.where(cluster == label[None], weight[None], 0.0)
    sums = jnp.einsum("kn,nd->kd", member, points, precision=lax.Precision.HIGHEST)
    return sums, jnp.sum(member, axis=1)


def _half_squares(centroids: Array, metric: str) -> Array:
    """Returns what is to be taken off x·c, f32[k 1]: 0, or |c|^2 / 2 for "euclidean"."""
    if metric == "spherical":
        return jnp.zeros((len(centroids), 1))
    return 0.5 * jnp.sum(centroids**2, axis=-1, keepdims=True)


def _columns(points: Array, centroids: Array, half: Array) -> Array:
    """Returns the raw similarities f32[k n], a column a point.

    In this order the reduction over centroids runs along whole vectors of points, which on a CPU
    takes a fraction of the time of a row's.
    """
    return jnp.einsum("kd,nd->kn", centroids, points, precision=lax.Precision.HIGHEST) - half


def _winners(scores: Array) -> tuple[Array, Array]:
    """Returns the row i32[n] and the value f32[n] of each column's maximum; ties: the smaller."""
    best = jnp.max(scores, axis=0)
    # XLA's argmax does not vectorise on a CPU; two reductions of one value each do.
    cluster = lax.broadcasted_iota(jnp.int32, scores.shape, 0)
    label = jnp.min(jnp.where(scores == best[None], cluster, len(scores) - 1), axis=0)
    return label, best
