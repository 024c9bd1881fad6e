"""The heavy kernels on their own: functions of sizes that prepare a call, and what it needs.

Each `..._needs` counts by hand the operations and bytes that the algorithm cannot do without, at
the sizes that the function before it takes.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.clustering import nearest, segments
from jaxseg.clustering.neighbours import nearest as nearest_of_bank
from jaxseg.evaluation.matching import hungarian as match
from jaxseg.evaluation.scores import confusion as count_pixels
from jaxseg.losses.contrastive import Compared, hierarchical_contrast
from jaxseg.refine import dense_crf, permutohedral

Sizes = dict[str, int]


class Work(NamedTuple):
    """A call to be timed; `program` is what XLA made of it, None where it runs on the host."""

    call: Callable[[], object]
    program: Any = None


class Needs(NamedTuple):
    """What an algorithm cannot do without: floating-point operations and bytes of memory."""

    flops: float
    bytes: float


class Kernel(NamedTuple):
    """A function of sizes that prepares a call, what that call needs, and sizes to measure."""

    make: Callable[..., Work]
    needs: Callable[..., Needs]
    sizes: tuple[Sizes, ...]


def compiled(function: Callable, *arguments: Any) -> Work:
    """Returns a call of a function of arrays that is compiled for them."""
    arguments = jax.device_put(arguments)
    program = jax.jit(function).lower(*arguments).compile()
    return Work(lambda: program(*arguments), program)


def unit(*shape: int, seed: int = 0) -> jax.Array:
    """Returns random vectors of length 1, f32[shape]."""
    return nearest.normalise(jax.random.normal(jax.random.key(seed), shape))


def kmeans(points: int, clusters: int, dim: int) -> Work:
    """One Lloyd round of spherical k-means: the sums over each centroid's nearest points."""
    round_ = functools.partial(nearest.nearest_sums, metric="spherical")
    return compiled(round_, unit(points, dim), jnp.ones(points), unit(clusters, dim, seed=1))


def kmeans_needs(points: int, clusters: int, dim: int) -> Needs:
    """2 N K D for the products, N K to compare them and N D to add up the points.

    Points and weights are read and centroids read, sums and counts written: 4 bytes (N D + N + 2 K
    D + K).
    """
    flops = 2 * points * clusters * dim + points * clusters + points * dim
    return Needs(flops, 4 * (points * dim + points + 2 * clusters * dim + clusters))


def grid_kmeans(images: int, side: int, grid: int, dim: int, rounds: int) -> Work:
    """The segments of images: spherical k-means of features and places from a grid."""
    group = functools.partial(segments.grid_kmeans, grid=(grid, grid), rounds=rounds)
    return compiled(group, unit(images, side, side, dim))


def grid_kmeans_needs(images: int, side: int, grid: int, dim: int, rounds: int) -> Needs:
    """B times a round 2 N K D' + N K + N D', as for `kmeans_needs`, with D' = D + 2.

    N = side^2 cells and K = grid^2 clusters an image, which stays in a cache: 4 bytes B N (D + 1)
    for features and labels.
    """
    cells, clusters, width = side**2, grid**2, dim + 2
    a_round = 2 * cells * clusters * width + cells * clusters + cells * width
    return Needs(images * rounds * a_round, 4 * images * cells * (dim + 1))


def contrast(images: int, cells: int, slots: int, dim: int) -> Work:
    """HSG's contrast of cells with the segments of all images, with its gradient; full slots."""
    features, vectors = unit(images, cells, dim), unit(images, slots, dim, seed=1)
    slot = jnp.broadcast_to(jnp.arange(cells) % slots, (images, cells))
    mask = jnp.ones((images, slots), bool)
    groups = jnp.broadcast_to(jnp.arange(slots) // 4, (images, slots))

    def loss(features: jax.Array, vectors: jax.Array) -> jax.Array:
        compared = Compared(features, slot, vectors, mask)
        return hierarchical_contrast(compared, [groups], kappa=16.0)[0]

    return compiled(jax.value_and_grad(loss, (0, 1)), features, vectors)


def contrast_needs(images: int, cells: int, slots: int, dim: int) -> Needs:
    """(6 D + 4) B N B S: of each pair a product and the two of its gradient, scale, exp, two sums.

    Cells and segments are read and their gradients written, 8 bytes (B N + B S) D; no pair is ever
    in memory.
    """
    pairs = images * cells * images * slots
    return Needs((6 * dim + 4) * pairs, 8 * images * (cells + slots) * dim)


def picture(side: int) -> jax.Array:
    """Returns an image u8[1 side side 3] of patches with noise.

    It touches 0.9 vertices a pixel at 160 x 160 pixels and 0.4 at 320 x 320, as photographs do.
    """
    colours = jax.random.uniform(jax.random.key(0), (1, 8, 8, 3), maxval=255)
    patches = jax.image.resize(colours, (1, side, side, 3), "nearest")
    noise = 3 * jax.random.normal(jax.random.key(1), patches.shape)
    return jnp.clip(patches + noise, 0, 255).astype(jnp.uint8)


def crf(side: int, classes: int, steps: int) -> Work:
    """The dense CRF of one square image."""
    scores = jax.random.normal(jax.random.key(2), (1, 8, 8, classes))
    scores = jax.image.resize(scores, (1, side, side, classes), "bilinear")
    refine = functools.partial(dense_crf, steps=steps)
    return compiled(refine, jax.nn.softmax(2 * scores), picture(side))


def vertices(side: int) -> int:
    """Returns how many vertices of the lattice the picture touches, with the default sigmas."""
    scale = np.float32([67, 67, 3, 3, 3])
    extent = tuple(([side, side, 255, 255, 255] / scale).tolist())
    y, x = np.mgrid[:side, :side]
    points = np.dstack([x, y, picture(side)[0]]).reshape(-1, 5) / scale
    valid = jnp.ones(side**2, bool)
    return int(permutohedral.locate(jnp.asarray(points), extent, valid).count)


def crf_needs(side: int, classes: int, steps: int) -> Needs:
    """A step takes 71 N K + 18 M K operations and 4 bytes (10 N K + 14 M K + 24 N + 12 M).

    Of N pixels, K classes and M vertices: a softmax (6 N K), two convolutions of 9 taps (38 N K
    with the weights), values onto 6 vertices and back (24 N K), six directions of three operations
    (18 M K), the sum of the terms (3 N K). Each of these reads what it takes and writes what it
    gives once, with 6 N corners and weights twice and 12 M neighbours. Finding the vertices, once
    an image, is left out.
    """
    pixels, count = side**2 * classes, vertices(side)
    flops = 71 * pixels + 18 * count * classes
    values = 10 * pixels + 14 * count * classes + 24 * side**2 + 12 * count
    return Needs(steps * flops, 4 * steps * values)


def confusion(pixels: int, classes: int) -> Work:
    """The confusion matrix of a batch's pixels, on the device."""
    prediction, label = jax.random.randint(jax.random.key(0), (2, pixels), 0, classes)
    count = functools.partial(count_pixels, clusters=classes, classes=classes)
    return compiled(count, prediction, label)


def confusion_needs(pixels: int, classes: int) -> Needs:
    """3 N operations (a product, a sum, an increment); 4 bytes (2 N + C^2)."""
    return Needs(3 * pixels, 4 * (2 * pixels + classes**2))


def hungarian(classes: int) -> Work:
    """The one-to-one match of clusters with classes, by SciPy on the host."""
    counts = np.random.default_rng(0).integers(0, 10**6, (classes, classes))
    return Work(lambda: match(counts))


def hungarian_needs(classes: int) -> Needs:
    """C^3 operations, the order of the worst case; the matrix is read once, 8 bytes C^2.

    The search follows pointers, so that the peak of a matrix product says little about it.
    """
    return Needs(classes**3, 8 * classes**2)


def retrieval(queries: int, bank: int, dim: int, neighbours: int) -> Work:
    """The nearest vectors of a bank to each query."""
    search = functools.partial(nearest_of_bank, k=neighbours)
    return compiled(search, unit(queries, dim), unit(bank, dim, seed=1))


def retrieval_needs(queries: int, bank: int, dim: int, neighbours: int) -> Needs:
    """2 Q N D for the products and Q N to compare them; 4 bytes (Q D + N D + 2 Q k).

    The bank is read once for all queries.
    """
    flops = 2 * queries * bank * dim + queries * bank
    return Needs(flops, 4 * (queries * dim + bank * dim + 2 * queries * neighbours))


KERNELS = {
    "kmeans": Kernel(kmeans, kmeans_needs, (
        {"points": 200_000, "clusters": 27, "dim": 128},
        {"points": 50_000, "clusters": 512, "dim": 128},
        {"points": 100_000, "clusters": 27, "dim": 512},
    )),
    "grid_kmeans": Kernel(grid_kmeans, grid_kmeans_needs, (
        {"images": 16, "side": 14, "grid": 4, "dim": 128, "rounds": 10},
        {"images": 16, "side": 28, "grid": 4, "dim": 128, "rounds": 10},
        {"images": 1, "side": 160, "grid": 6, "dim": 128, "rounds": 15},
    )),
    "contrast": Kernel(contrast, contrast_needs, (
        {"images": 4, "cells": 392, "slots": 64, "dim": 128},
        {"images": 8, "cells": 392, "slots": 128, "dim": 128},
        {"images": 4, "cells": 1568, "slots": 256, "dim": 128},
    )),
    "crf": Kernel(crf, crf_needs, (
        {"side": 160, "classes": 27, "steps": 10},
        {"side": 320, "classes": 27, "steps": 10},
    )),
    "confusion": Kernel(confusion, confusion_needs, (
        {"pixels": 1_000_000, "classes": 27},
        {"pixels": 10_000_000, "classes": 27},
    )),
    "hungarian": Kernel(hungarian, hungarian_needs, ({"classes": 27}, {"classes": 512})),
    "retrieval": Kernel(retrieval, retrieval_needs, (
        {"queries": 288, "bank": 50_000, "dim": 128, "neighbours": 20},
        {"queries": 288, "bank": 200_000, "dim": 128, "neighbours": 20},
        {"queries": 288, "bank": 50_000, "dim": 512, "neighbours": 20},
    )),
}  # fmt: skip
