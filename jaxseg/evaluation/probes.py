"""Probes: what turns a method's outputs into class or cluster scores.

A probe is a value with `fit(pairs, key) -> tree`, `scores(fitted, output, valid) -> f32[B h w K]`
and `check(output)`, which raises UserError for an abstract output that it cannot read. `pairs()`
gives (Output, {}) batch by batch, any number of times, without the images that only fill up a batch
and without padded cells (but see `retrieval`); `valid` bool[B H W] are the real pixels of real
images.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxseg.clustering import kmeans
from jaxseg.core import Output, PyTree, UserError
from jaxseg.evaluation.hierarchy import Hierarchy
from jaxseg.evaluation.retrieval import Retrieval
from jaxseg.processes import fetch

Pairs = Callable[[], Iterable[tuple[Output, dict[str, Array]]]]


@dataclasses.dataclass(frozen=True)
class Argmax:
    """Takes scores that the method has itself; there is nothing to fit.

    `source` is the part of its output that holds them, as in `Output.part`.
    """

    source: str = "logits"

    def check(self, output: Output) -> None:
        """Raises UserError for an output, abstract perhaps, without the part `source`."""
        output.part(self.source)

    def fit(self, pairs: Pairs, key: Array) -> PyTree:
        """Returns an empty tree without reading `pairs`."""
        del pairs, key
        return {}

    def scores(self, fitted: PyTree, output: Output, valid: Array | None = None) -> Array:
        """Returns the part `source`; raises UserError for a method that has none."""
        del fitted, valid
        return output.part(self.source)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Runs k-means over a sample of the features of a whole split.

    `source` is the part of the output that holds the features, as in `Output.part`; `clusters` K;
    `metric` as in `kmeans`; at most `points` feature vectors are clustered, for at
    most `rounds` Lloyd rounds from each of `restarts` starts. Raises UserError for values out of
    range.
    """

    clusters: int
    source: str = "features"
    metric: str = "spherical"
    points: int = 100_000
    rounds: int = 30
    restarts: int = 3

    def __post_init__(self) -> None:
        if self.metric not in kmeans.METRICS:
            raise UserError(
                f'probe "cluster": metric is {self.metric!r}; set it to one of {kmeans.METRICS}'
            )
        for name in ("clusters", "points", "rounds", "restarts"):
            if getattr(self, name) < 1:
                raise UserError(
                    f'probe "cluster": {name} is {getattr(self, name)}; set it to 1 or more'
                )

    def check(self, output: Output) -> None:
        """Raises UserError for an output, abstract perhaps, without the part `source`."""
        output.part(self.source)

    def fit(self, pairs: Pairs, key: Array) -> PyTree:
        """Returns {"centroids": f32[K D]}; one pass over `pairs`, deterministic in `key`.

        Raises UserError where the split has fewer feature vectors than clusters, or where a sampled
        one is not finite.
        """
        key_sample, key_fit = jax.random.split(key)
        features = (output.part(self.source) for output, _ in pairs())
        sample = sample_features(features, self.points, key_sample)
        if len(sample) < self.clusters:
            raise UserError(
                f'probe "cluster": {len(sample)} feature vectors for {self.clusters} clusters; fit '
                "on more images, or set fewer clusters or more points"
            )
        if not np.isfinite(sample).all():
            raise UserError(
                'probe "cluster": the features hold nan or infinity; the weights are probably '
                "broken (did training diverge?): evaluate an earlier checkpoint"
            )
        centroids = kmeans.fit_kmeans(
            key_fit, jnp.asarray(sample), self.clusters, self.rounds, self.restarts, self.metric
        )
        return {"centroids": centroids}

    def scores(self, fitted: PyTree, output: Output, valid: Array | None = None) -> Array:
        """Returns twice each cell's similarity to each centroid, f32[B h w K]; higher is nearer.

        Twice, because the softmax that a CRF starts from is that of 2 cos in the released code of
        STEGO and SmooSeg; which is the largest does not depend on it.
        """
        del valid
        return 2.0 * kmeans.similarity(output.part(self.source), fitted["centroids"], self.metric)


def sample_features(features: Iterable[Array], points: int, key: Array) -> np.ndarray:
    """Returns f32[n D], n = min(points, all cells): random cells in equal shares from every image.

    `features` gives f32[B h w D], h and w free to vary; how many there are need not be known. Each
    cell gets a priority in [0, 1) and the `points` lowest are kept. The priorities of one image are
    its cells' ranks in a random order, so that any bound on them keeps the same share of every
    image, to within one cell. The result does not depend on how images are batched. At most 3 *
    `points` vectors are held, on the host; only the chosen ones leave the device.

    Returns f32[0 0] where `features` is empty.
    """
    # Two streams, read image by image, make the draws independent of the batching.
    seeds = np.random.SeedSequence(np.asarray(jax.random.bits(key, (4,), jnp.uint32)).tolist())
    order, jitter = (np.random.default_rng(s) for s in seeds.spawn(2))
    kept, priorities = np.zeros((0, 0), np.float32), np.zeros(0)
    new: list[tuple[np.ndarray, np.ndarray]] = []
    bound = np.inf
    for batch in features:
        cells = batch.shape[1] * batch.shape[2]
        rank = order.random((len(batch), cells)).argsort(axis=1).argsort(axis=1)
        priority = ((rank + jitter.random((len(batch), cells))) / cells).reshape(-1)
        chosen = np.flatnonzero(priority < bound)
        chosen = chosen[np.argsort(priority[chosen])[:points]]
        new.append((_take(batch, chosen), priority[chosen]))
        if sum(len(p) for _, p in new) > points:
            kept, priorities = _lowest(kept, priorities, new, points)
            new, bound = [], priorities[-1]
    return _lowest(kept, priorities, new, points)[0] if new else kept


def _lowest(
    kept: np.ndarray,
    priorities: np.ndarray,
    new: list[tuple[np.ndarray, np.ndarray]],
    points: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the `points` vectors of lowest priority of old and new ones, in order of priority."""
    old = [(kept, priorities)] if len(kept) else []
    vectors = np.concatenate([v for v, _ in old + new])
    order_by = np.concatenate([p for _, p in old + new])
    first = np.argsort(order_by, kind="stable")[:points]
    return vectors[first], order_by[first]


def _take(batch: Array, chosen: np.ndarray) -> np.ndarray:
    """Returns the chosen cells of f[B h w D] as f32[n D] on the host."""
    size = 1 << max(len(chosen) - 1, 0).bit_length()  # a few shapes only: each is compiled once
    padded = np.zeros(size, np.int32)
    padded[: len(chosen)] = chosen
    rows = jnp.take(batch.reshape(-1, batch.shape[-1]), padded, axis=0)
    return fetch(rows).astype(np.float32)[: len(chosen)]


PROBES: dict[str, Any] = {
    "argmax": Argmax,
    "cluster": Cluster,
    "retrieval": Retrieval,
    "hierarchy": Hierarchy,
}
