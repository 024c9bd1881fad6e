"""How near the heavy kernels come to what the machine can do (its roofline), as JSON.

python benchmarks/kernels.py
python benchmarks/kernels.py --only=kmeans --set=points=1000000,clusters=512

For each kernel at a few sizes: the operations and bytes that the algorithm cannot do without,
counted by hand in its `..._needs`; the median time of a call after a warm-up; what that makes a
second; and the bound, the time that the machine would take at best: the larger of operations over
`peak_GFLOPS` (a large matrix product) and bytes over `peak_GBs` (a large triad), both float32 and
measured in the same run, before and after the kernels, of which the better counts. `fraction` is
bound over time. `xla_GFLOP` and `xla_GB` are XLA's counts of the program, which take the body of a
loop once. Bytes are those of memory: what fits a cache, such as centroids, is read once.

`--clock=cpu` takes the processor time of all threads, peaks included, in the place of that on the
wall: on one core (taskset -c 0) what other programs take does not count then.
"""

import argparse
import functools
import inspect
import json
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from steps import peak_flops, seconds

from jaxseg.clustering import nearest, segments
from jaxseg.clustering.neighbours import nearest as nearest_of_bank
from jaxseg.evaluation.matching import hungarian as match
from jaxseg.evaluation.scores import confusion as count_pixels
from jaxseg.losses.contrastive import Compared, hierarchical_contrast
from jaxseg.refine import dense_crf, permutohedral

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
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
    """Returns an image u8[1 side side 3] of patches with noise, which is to the CRF as photographs:

    it touches 0.9 vertices a pixel at 160 x 160 pixels and 0.4 at 320 x 320.
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


def peak_bytes(repeats: int, clock: Callable[[], float]) -> float:
    """Returns the bytes a second of x <- x + y / 2 on arrays that no cache holds.

    Two arrays are read and one, which is one of them, is written: no new memory is asked for.
    """
    count = 1 << (24 if jax.default_backend() == "cpu" else 28)
    triad = jax.jit(lambda x, y: x + 0.5 * y, donate_argnums=0)
    x, y = jnp.zeros(count), jnp.ones(count)

    def once() -> jax.Array:
        nonlocal x
        x = triad(x, y)
        return x

    return 3 * 4 * count / seconds(once, repeats, clock)


def measure(
    kernel: Kernel, sizes: Sizes, repeats: int, clock: Callable[[], float]
) -> tuple[float, Needs, dict[str, Any]]:
    """Returns the seconds of a call, what it needs, and what is to be told beside them."""
    work, needs = kernel.make(**sizes), kernel.needs(**sizes)
    told: dict[str, Any] = sizes | {"where": "host" if work.program is None else "device"}
    if work.program is not None:
        cost = work.program.cost_analysis() or {}
        told["xla_GFLOP"] = round(cost.get("flops", float("nan")) / 1e9, 4)
        told["xla_GB"] = round(cost.get("bytes accessed", float("nan")) / 1e9, 4)
    return seconds(work.call, repeats, clock), needs, told


def against_peaks(spent: float, needs: Needs, flops: float, rate: float) -> dict[str, Any]:
    """Returns what is achieved in the time spent, with peaks of operations and bytes a second."""
    computing, moving = needs.flops / flops, needs.bytes / rate
    return {
        "ms": round(1e3 * spent, 4),
        "GFLOP": round(needs.flops / 1e9, 6),
        "GB": round(needs.bytes / 1e9, 6),
        "GFLOPS": round(needs.flops / spent / 1e9, 2),
        "GBs": round(needs.bytes / spent / 1e9, 2),
        "bound": "operations" if computing > moving else "bytes",
        "bound_ms": round(1e3 * max(computing, moving), 4),
        "fraction": round(max(computing, moving) / spent, 3),
    }


def changed(kernel: Kernel, given: Sizes) -> list[Sizes]:
    """Returns the kernel's sizes with those given in the place of its own, each once."""
    known = inspect.signature(kernel.make).parameters
    own = {name: value for name, value in given.items() if name in known}
    found = [sizes | own for sizes in kernel.sizes]
    return [sizes for i, sizes in enumerate(found) if sizes not in found[:i]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(KERNELS), help="kernels, with commas")
    parser.add_argument("--set", default="", help="NAME=NUMBER,... in the place of sizes")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", default="wall", choices=CLOCKS)
    arguments = parser.parse_args()
    given = {
        name: int(value)
        for name, value in (pair.split("=") for pair in arguments.set.split(",") if pair)
    }
    repeats, clock = arguments.repeats, CLOCKS[arguments.clock]

    def peaks() -> np.ndarray:
        return np.array([peak_flops("float32", repeats, clock), peak_bytes(repeats, clock)])

    before = peaks()
    found = {
        name: [
            measure(KERNELS[name], sizes, repeats, clock) for sizes in changed(KERNELS[name], given)
        ]
        for name in arguments.only.split(",")
    }
    flops, rate = np.maximum(before, peaks()).tolist()
    result = {
        "device": jax.devices()[0].device_kind,
        "cores": len(os.sched_getaffinity(0)),
        "clock": arguments.clock,
        "peak_GFLOPS": round(flops / 1e9, 1),
        "peak_GBs": round(rate / 1e9, 1),
        "kernels": {
            name: [
                told | against_peaks(spent, needs, flops, rate) for spent, needs, told in measured
            ]
            for name, measured in found.items()
        },
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
