"""Spherical k-means of a few points, without a key: the start is chosen from the points alone."""

import jax.numpy as jnp
from jax import Array, lax

from jaxseg.clustering import kmeans
from jaxseg.clustering.nearest import normalise


def cosines(points: Array) -> Array:
    """Returns the cosines f32[P P] between points f[P D]; those of a zero vector are 0."""
    points = normalise(points)
    return jnp.einsum("pd,qd->pq", points, points, precision=lax.Precision.HIGHEST)


def few_points(points: Array, mask: Array, k: int, rounds: int = 30) -> Array:
    """Returns the labels of spherical k-means, i32[P] in 0..k-1; -1 where `mask` is false.

    `points` f[P D] are normalised first; `mask` bool[P]. Points are put with the nearest of the
    `medoids`, and Lloyd's rounds go on from there, as `kmeans.lloyd_from_labels` says. No more
    than k clusters are filled, fewer where points are fewer. May be vmapped over images.
    """
    similarity = cosines(points)
    start = jnp.argmax(similarity[:, medoids(similarity, mask, k)], axis=1)
    labels = kmeans.lloyd_from_labels(normalise(points), start, k, rounds, mask=mask)
    return jnp.where(mask, labels, -1)


def medoids(similarity: Array, mask: Array, k: int) -> Array:
    """Returns the indices i32[k] of points that stand for the others, the best one first.

    Each is the point that adds most to the sum, over the points that `mask` bool[P] keeps, of the
    similarity f32[P P] to the nearest one chosen. Ties go to the smaller index; when all points are
    chosen the first of them follows again. So a far-off point is not taken before a group of points
    is, which the usual way without chance, the farthest point next, would do.

    Source: Kaufman & Rousseeuw 1990 (PAM), the phase "build".
    """

    def choose(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        chosen, best = carry
        reached = jnp.maximum(best[:, None], similarity)
        total = jnp.sum(jnp.where(mask[:, None], reached, 0.0), axis=0)
        index = jnp.argmax(jnp.where(mask, total, -jnp.inf)).astype(jnp.int32)
        return chosen.at[i].set(index), reached[:, index]

    none = (jnp.zeros(k, jnp.int32), jnp.full(len(similarity), -jnp.inf))
    return lax.fori_loop(0, k, choose, none)[0]
