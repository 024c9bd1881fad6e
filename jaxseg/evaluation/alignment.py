"""How near features lie to what stands for their cluster, and how spread out both are.

Features and prototypes are taken at length 1. Alignment is the mean squared distance of a feature
from the prototype of its cluster, in [0, 4], 0 = at one with it. Uniformity is the log of the mean
of exp(-2 d^2) over pairs of different points at distance d, in [-8, 0]: 0 = all alike; points
spread evenly over a sphere of many dimensions have about -4 (Wang and Isola 2020, eq. for t = 2).
Labels of the data have no part in either.

The prototype of a cluster is the mean direction of its features, so that any method has some. Where
a method has vectors of its own for the clusters of an image, such as SAN's semantics, those are
measured beside them, by image.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxseg.clustering.kmeans import normalise
from jaxseg.processes import fetch

# Uniformity of features is that of a sample: of so many cells an image, so many in all.
CELLS, POINTS = 32, 4096


@dataclasses.dataclass(frozen=True, eq=False)
class Alignment:
    """A mergeable record on the host.

    Attributes:
        sums: f64[K D], of the features of each cluster; counts: i64[K], their number.
        points: f32[n D], sampled features, n <= POINTS; priorities: f64[n], of which the lowest
            are kept, so that how images are batched or merged does not matter.
        own: f64[4] of the methods' own vectors: squared distances of features from them, number of
            features, and over pairs of vectors the sums of exp(-2 d^2) and of |cosine|; pairs:
            their number.
    """

    sums: np.ndarray
    counts: np.ndarray
    points: np.ndarray
    priorities: np.ndarray
    own: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(4))
    pairs: int = 0

    @classmethod
    def zeros(cls, clusters: int, dim: int) -> "Alignment":
        """Returns the record of no features."""
        return cls(
            np.zeros((clusters, dim)),
            np.zeros(clusters, np.int64),
            np.zeros((0, dim), np.float32),
            np.zeros(0),
        )

    def update(
        self,
        features: Array,
        labels: Array,
        valid: Array,
        index: Array,
        semantics: Array | None = None,
    ) -> "Alignment":
        """Returns the record with a batch added.

        Args:
            features: f[B h w D], of any length; vectors of length 0 lie at a distance of 1.
            labels: i32[B h w], cluster of each, in 0..K-1; valid: bool[B h w], those that count.
            index: i32[B], position of the image in its split, which the sample is drawn by.
            semantics: f32[B K D], a method's own vectors of each image's clusters.
        """
        unit, sums, counts = _sums(features, labels, valid, len(self.counts))
        real = fetch(valid).reshape(len(valid), -1)
        chosen, priorities = _draw(real, fetch(index))
        points = fetch(jnp.take_along_axis(unit, jnp.asarray(chosen)[..., None], 1))
        kept = np.isfinite(priorities)
        new = dataclasses.replace(
            self,
            sums=fetch(sums).astype(np.float64),
            counts=fetch(counts).astype(np.int64),
            points=points[kept],
            priorities=priorities[kept],
            own=np.zeros(4),
            pairs=0,
        )
        if semantics is not None:
            images = real.any(1)
            own = fetch(_own(unit, labels, valid, semantics, jnp.asarray(images)))
            count = semantics.shape[1]
            pairs = int(images.sum()) * count * (count - 1)
            new = dataclasses.replace(new, own=own, pairs=pairs)
        return self.merge(new)

    def merge(self, other: "Alignment") -> "Alignment":
        """Returns the record of both sets of images."""
        points = np.concatenate([self.points, other.points])
        priorities = np.concatenate([self.priorities, other.priorities])
        first = np.argsort(priorities, kind="stable")[:POINTS]
        return Alignment(
            self.sums + other.sums,
            self.counts + other.counts,
            points[first],
            priorities[first],
            self.own + other.own,
            self.pairs + other.pairs,
        )

    def result(self) -> dict[str, float]:
        """Returns the measures by name; nan where there are too few features or clusters.

        "alignment" and "uniformity" of features; "prototype_uniformity" and "prototype_cosine",
        the mean |cosine| of two prototypes, 0 = orthogonal; and where the method has vectors of its
        own "semantic_alignment", "semantic_uniformity" and "semantic_cosine".
        """
        used = self.counts > 0
        lengths = np.linalg.norm(self.sums[used], axis=1)
        total = self.counts.sum()
        prototypes = self.sums[used] / np.maximum(lengths, 1e-12)[:, None]
        cosines = _between(prototypes)
        found = {
            # |f - p|^2 = 2 - 2 f.p, and the sum of f.p over a cluster is the length of its sum.
            "alignment": 2 - 2 * float(lengths.sum()) / total if total else float("nan"),
            "uniformity": _uniformity(_between(self.points)),
            "prototype_uniformity": _uniformity(cosines),
            "prototype_cosine": float(np.abs(cosines).mean()) if cosines.size else float("nan"),
        }
        if self.pairs:
            distance, count, spread, cosine = self.own
            found |= {
                "semantic_alignment": float(distance / count),
                "semantic_uniformity": float(np.log(spread / self.pairs)),
                "semantic_cosine": float(cosine / self.pairs),
            }
        return found


@functools.partial(jax.jit, static_argnames="clusters")
def _sums(
    features: Array, labels: Array, valid: Array, clusters: int
) -> tuple[Array, Array, Array]:
    """Returns unit features f32[B n D], and by cluster their sums f32[K D] and number i32[K]."""
    unit = normalise(features.astype(jnp.float32))
    unit = unit.reshape(len(unit), -1, unit.shape[-1])
    # What does not count gets a cluster of its own, which is then cut off.
    place = jnp.where(valid, labels, clusters).reshape(-1)
    sums = jnp.zeros((clusters + 1, unit.shape[-1])).at[place].add(unit.reshape(-1, unit.shape[-1]))
    counts = jnp.zeros(clusters + 1, jnp.int32).at[place].add(1)
    return unit, sums[:-1], counts[:-1]


@jax.jit
def _own(unit: Array, labels: Array, valid: Array, semantics: Array, images: Array) -> Array:
    """Returns f32[4], as `Alignment.own`, of one batch; `images` bool[B] are the real ones."""
    vectors = normalise(semantics.astype(jnp.float32))
    batch, cells = unit.shape[:2]
    mine = jnp.take_along_axis(vectors, labels.reshape(batch, cells)[..., None], axis=1)
    counts = valid.reshape(batch, cells)
    distance = jnp.where(counts, ((unit - mine) ** 2).sum(-1), 0.0).sum()
    cosines = jnp.einsum("bnd,bmd->bnm", vectors, vectors)
    others = (1.0 - jnp.eye(vectors.shape[1]))[None] * images[:, None, None]
    spread = (others * jnp.exp(4 * cosines - 4)).sum()
    return jnp.stack([distance, counts.sum(), spread, (others * jnp.abs(cosines)).sum()])


def _draw(real: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns cells i64[B CELLS] drawn from the real ones bool[B n] of each image, and priorities.

    A priority f64[B CELLS] is infinite where an image has too few.
    """
    chosen = np.zeros((len(real), CELLS), np.int64)
    priorities = np.full((len(real), CELLS), np.inf)
    for row, cells in enumerate(real):
        places = np.flatnonzero(cells)
        if len(places):
            generator = np.random.default_rng(int(index[row]))
            some = generator.permutation(places)[:CELLS]
            chosen[row, : len(some)] = some
            priorities[row, : len(some)] = generator.random(len(some))
    return chosen, priorities


def _between(points: np.ndarray) -> np.ndarray:
    """Returns the cosines of all pairs of different unit vectors f[n D], flat."""
    return (points @ points.T)[np.triu_indices(len(points), 1)]


def _uniformity(cosines: np.ndarray) -> float:
    return float(np.log(np.exp(4.0 * cosines - 4).mean())) if cosines.size else float("nan")
