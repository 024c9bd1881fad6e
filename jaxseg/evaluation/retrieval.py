"""The retrieval probe: which class the most similar segments of labelled images have.

Its scores use the labels of the training split, if only to look them up, and are not comparable
with those of clusters that are matched with classes.

Source: Ke et al. 2022 (HSG), section 4, and released code; Hwang et al. 2019 (SegSort).
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxseg.clustering.neighbours import nearest
from jaxseg.clustering.segments import base_segments, paint
from jaxseg.core import Output, UserError
from jaxseg.processes import fetch


class Truth(NamedTuple):
    """What is known of a batch of labelled images."""

    label: Array  # i32[B H W], below `classes`; negative = ignored
    valid: Array  # bool[B H W], the real pixels of real images
    classes: int


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """A vote of the nearest training segments on the class of each test segment.

    Of each training image the features are resized to label resolution and clustered by k-means
    with location features; the mean of a segment, of length 1, goes into a bank with the class that
    most of its pixels have. Ignored pixels count as a class of their own here, and segments that it
    wins are dropped. A test segment gets the class that most of its `neighbours` nearest bank
    entries have, by cosine; ties go to the smaller class number.

    Attributes:
        grid: rows and columns of segments that k-means starts from; the released code has 6 x 6 for
            VOC, COCO-Stuff and Potsdam, 12 x 24 for Cityscapes, 6 x 12 for KITTI-STEP.
        rounds: of k-means.
        neighbours: how many vote; 20 in HSG's code (the paper does not say), 15 in SegSort's.
        source: the part of the output that holds the features, as in `Output.part`.

    Raises:
        UserError: a value below 1.
    """

    grid: tuple[int, int] = (6, 6)
    rounds: int = 15
    neighbours: int = 20
    source: str = "features"

    def __post_init__(self) -> None:
        if len(self.grid) != 2 or min(*self.grid, self.rounds, self.neighbours) < 1:
            raise UserError(
                f'probe "retrieval": grid is {self.grid}, rounds {self.rounds} and neighbours '
                f"{self.neighbours}; set all to 1 or more, grid to (rows, columns)"
            )

    def check(self, output: Output) -> None:
        """Raises UserError for an output, abstract perhaps, without the part `source`."""
        output.part(self.source)

    def fit(
        self, pairs: Callable[[], Iterable[tuple[Output, Truth]]], key: Array
    ) -> dict[str, Any]:
        """Returns {"bank": f32[N D], "labels": i32[N], "classes": C} of one pass over `pairs`.

        Batches come whole, with the padding and the images that fill them up, which `Truth.valid`
        tells apart: cutting them would compile k-means for every size.

        Raises:
            UserError: no segment has a class, or a feature is not finite.
        """
        del key  # the start of k-means is a grid
        vectors, labels, classes = [], [], 0
        for output, truth in pairs():
            classes = truth.classes
            numbers, means = self._segments(output, truth.valid)
            found, means = fetch((majority(numbers, truth.label, means.shape[1], classes), means))
            kept = (found >= 0) & (found < classes)
            vectors.append(means[kept])
            labels.append(found[kept])
        bank = np.concatenate(vectors) if vectors else np.zeros((0, 1), np.float32)
        if not len(bank):
            raise UserError(
                'probe "retrieval": no segment of the training split has a class; set '
                "data.train_split to one with labels"
            )
        if not np.isfinite(bank).all():
            raise UserError(
                'probe "retrieval": the features hold nan or infinity; the weights are probably '
                "broken (did training diverge?): evaluate an earlier checkpoint"
            )
        return {
            "bank": jnp.asarray(bank),
            "labels": jnp.asarray(np.concatenate(labels)),
            "classes": classes,
        }

    def scores(self, fitted: dict[str, Any], output: Output, valid: Array | None = None) -> Array:
        """Returns the logarithm of each class's share of the votes, f32[B H W C], floored at 1e-5.

        Without `valid` every cell is real, and the resolution that of the features.
        """
        if valid is None:
            valid = jnp.ones(output.part(self.source).shape[:3], bool)
        numbers, means = self._segments(output, valid)
        queries = means.reshape(-1, means.shape[-1])
        votes = vote(queries, fitted["bank"], fitted["labels"], self.neighbours, fitted["classes"])
        shares = votes.reshape(*means.shape[:2], -1) / self.neighbours
        return paint(jnp.log(jnp.maximum(shares, 1e-5)), numbers, empty=0)

    def _segments(self, output: Output, valid: Array) -> tuple[Array, Array]:
        features = output.part(self.source)
        # As many images at a time as there are devices, each with one of its own.
        together = len(features.devices())
        together = together if len(features) % together == 0 else 1
        return segments(features, valid, tuple(self.grid), self.rounds, together)


@functools.partial(jax.jit, static_argnames=("grid", "rounds", "together"))
def segments(
    features: Array, valid: Array, grid: tuple[int, int], rounds: int, together: int = 1
) -> tuple[Array, Array]:
    """Returns the segments i32[B H W] of features f32[B h w D] and their means f32[B S D].

    The features are resized bilinearly to the resolution of `valid` bool[B H W], normalised and
    clustered from a grid of S = rows * columns segments. Means are of length 1, and 0 for an empty
    segment; a pixel that is not valid has number S. `together` images at a time exist at full
    resolution; it divides B.
    """
    batch, (height, width) = len(features), valid.shape[1:]

    def some(pair: tuple[Array, Array]) -> tuple[Array, Array]:
        cells, real = pair
        return base_segments(cells, (height, width), grid, rounds, real)[:2]

    def split(x: Array) -> Array:
        # Images of one device stay together, so that none moves to another.
        return jnp.swapaxes(x.reshape(together, batch // together, *x.shape[1:]), 0, 1)

    found = lax.map(some, (split(features), split(valid)))
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1).reshape(batch, *x.shape[2:]), found)


@functools.partial(jax.jit, static_argnames=("k", "classes"))
def vote(queries: Array, bank: Array, labels: Array, k: int, classes: int) -> Array:
    """Returns i32[Q C], how many of the k bank entries nearest to each query have each class.

    `queries` f32[Q D] and `bank` f32[N D] are compared by their dot product; `labels` i32[N] in
    0..C-1. With fewer than k entries all of them vote.
    """
    _, found = nearest(queries, bank, k)
    chosen = jnp.where(found < 0, classes, jnp.take(labels, found))
    rows = jnp.broadcast_to(jnp.arange(len(queries))[:, None], chosen.shape)
    return jnp.zeros((len(queries), classes + 1), jnp.int32).at[rows, chosen].add(1)[:, :-1]


@functools.partial(jax.jit, static_argnames=("count", "classes"))
def majority(numbers: Array, label: Array, count: int, classes: int) -> Array:
    """Returns the most frequent label i32[B S] of segments i32[B H W], count = S of them.

    It is C for ignored pixels, whose label is negative, and -1 for a segment without pixels; ties
    go to the smaller one. Pixels of segment S are in none.
    """
    bins = classes + 1
    label = jnp.where(label < 0, classes, label)

    def one(numbers: Array, label: Array) -> Array:
        counts = jnp.zeros((count + 1, bins), jnp.int32).at[numbers, label].add(1)[:-1]
        return jnp.where(counts.sum(axis=1) > 0, counts.argmax(axis=1), -1)

    return jax.vmap(one)(numbers, label).astype(jnp.int32)
