"""Groupings of an image's segments at several sizes, each merging the one before.

What HSG's clustering transformers are compared with. A function of GROUPERS takes `segments`
f32[B S D] (normalised here), `mask` bool[B S], false at padded slots, and `sizes`, fine to coarse,
and returns a grouping i32[B S] for each size n: labels in 0..n-1, -1 at padded slots. Segments
share a group of a level wherever they share one of the level before. Groups may be empty: where an
image has fewer segments, or groups of the level before, than n. Nothing is drawn at random, images
do not depend on one another, and no gradient flows. Slots without a segment change nothing, but for
rounding.

Sizes below 1, or that grow, raise ValueError.

Source: Ke et al. 2022 (HSG), table 4, which names the algorithms; how they are run is ours.
"""

import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxseg.clustering.finch import finch
from jaxseg.clustering.ncut import affinity, merge, ncut
from jaxseg.clustering.nearest import normalise
from jaxseg.clustering.small_kmeans import few_points

Grouper = Callable[[Array, Array, tuple[int, ...]], tuple[Array, ...]]


@functools.partial(jax.jit, static_argnames=("sizes",))
def group_by_kmeans(segments: Array, mask: Array, sizes: tuple[int, ...]) -> tuple[Array, ...]:
    """Returns groupings by spherical k-means, 30 rounds each; see the module.

    A level clusters the means of the segments in each group of the level before, all of equal
    weight. The start is that of `small_kmeans.medoids`.
    """
    return _over_images(few_points, _unit, _sums, segments, mask, sizes)


@functools.partial(jax.jit, static_argnames=("sizes",))
def group_by_ncut(segments: Array, mask: Array, sizes: tuple[int, ...]) -> tuple[Array, ...]:
    """Returns groupings by normalised cuts, see `ncut.ncut`; see the module.

    The graph of a level is that of `ncut.affinity` over the segments, the groups of the level
    before being its vertices: all levels cut one graph.
    """
    return _over_images(ncut, affinity, merge, segments, mask, sizes)


@functools.partial(jax.jit, static_argnames=("sizes",))
def group_by_finch(segments: Array, mask: Array, sizes: tuple[int, ...]) -> tuple[Array, ...]:
    """Returns groupings by first neighbours, see `finch.finch`; see the module.

    A level goes on from the groups of the level before and the means of their segments.
    """
    return _over_images(finch, _unit, _sums, segments, mask, sizes)


GROUPERS: dict[str, Grouper] = {
    "kmeans": group_by_kmeans,
    "ncut": group_by_ncut,
    "finch": group_by_finch,
}


def _over_images(
    cluster: Callable[[Array, Array, int], Array],
    begin: Callable[[Array, Array], Array],
    combine: Callable[[Array, Array], Array],
    segments: Array,
    mask: Array,
    sizes: tuple[int, ...],
) -> tuple[Array, ...]:
    """Returns the levels of each image.

    `begin(segments, mask)` is what the first level clusters, and `combine(those, member)` what the
    next one does; `cluster(those, mask, n)` gives labels, -1 where there is nothing.
    """
    if not sizes or min(sizes) < 1 or any(a < b for a, b in itertools.pairwise(sizes)):
        raise ValueError(f"sizes must be at least 1, fine to coarse, not {sizes}")

    def of_image(segments: Array, mask: Array) -> tuple[Array, ...]:
        level, levels = jnp.arange(len(mask)), []
        things = begin(lax.stop_gradient(segments), mask)
        for size in sizes:
            labels = cluster(things, mask, size)
            member = jax.nn.one_hot(labels, size)  # -1: a row of zeros
            things, mask = combine(things, member), jnp.any(member > 0, axis=0)
            level = jnp.where(level < 0, -1, labels[level])
            levels.append(level)
        return tuple(levels)

    return jax.vmap(of_image)(segments, mask)


def _unit(segments: Array, mask: Array) -> Array:
    """Returns segments of length 1, zeros at padded slots: f32[S D]."""
    return jnp.where(mask[:, None], normalise(segments), 0.0)


def _sums(points: Array, member: Array) -> Array:
    """Returns the sums f32[n D] of the points in each group; their directions are the means'."""
    return jnp.einsum("sn,sd->nd", member, points, precision=lax.Precision.HIGHEST)
