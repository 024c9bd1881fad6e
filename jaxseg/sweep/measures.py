"""What a sweep over K measures, and on which cells of which images."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxseg.clustering import kmeans
from jaxseg.core import Array, Output, UserError, check_range
from jaxseg.data.subset import Subset
from jaxseg.evaluation import scores
from jaxseg.evaluation.outputs import Predict, real_outputs
from jaxseg.evaluation.partitions import NEIGHBOURS, Cloud, agreement, without_clusters
from jaxseg.evaluation.probes import Cluster, sample_features
from jaxseg.run import Run
from jaxseg.sweep.rule import CRITERIA

CLUSTERS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32)
IMAGES = 400  # training images that are looked at, spread over the split, where nothing says else


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a sweep is made.

    Attributes:
        clusters: the K that are tried.
        seeds: clusterings, or runs, with each K.
        steps: of each short run of a method that has K among its fields.
        entry: of `evals`, with probe="cluster": probe what it clusters, with its metric, rounds and
            restarts; "" = train where the method has K among its fields, else the first such entry
            of the trained model.
        judged: cells that all seeds name, from half of the images; fitted: cells that each seed's
            k-means is fitted on, from its share of the other half. Fewer where there are fewer.
        references: clouds without clusters that the criteria are compared with.
    """

    clusters: tuple[int, ...] = CLUSTERS
    seeds: int = 3
    steps: int = 300
    entry: str = ""
    judged: int = 2000
    fitted: int = 5000
    references: int = 5

    def __post_init__(self):
        check_range("sweep", self, seeds=2, steps=1, judged=NEIGHBOURS + 1, fitted=1, references=2)
        if len(self.clusters) < 2 or min(self.clusters) < 2:
            raise UserError(
                f"--sweep_clusters is {self.clusters}; give at least two numbers of at least 2."
            )


class Probed:
    """Features to be clustered: of each seed's images, and the cells that all seeds name.

    Attributes:
        fitted: f32[m D] for each seed; cloud: the cells that are judged.
    """

    def __init__(self, fitted: Sequence[np.ndarray], judged: np.ndarray):
        least = min(map(len, fitted))  # of one size, so that one program serves all
        self.fitted = [points[:least] for points in fitted]
        self.cloud = Cloud.of(judged, min(NEIGHBOURS, len(judged) - 1))

    def cluster(
        self, clusters: int, key: Array, probe: Cluster
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Returns the partition i[n] of the judged cells and the centroids f32[K D] of each seed.

        Raises UserError where a seed has fewer cells than clusters.
        """
        partitions, found = [], []
        for seed, points in enumerate(self.fitted):
            if len(points) < clusters:
                raise UserError(
                    f"K = {clusters}, but each seed has {len(points)} cells; give more images, or "
                    "leave such numbers out of --sweep_clusters."
                )
            centroids = kmeans.fit_kmeans(
                jax.random.fold_in(key, seed), points, clusters, probe.rounds, probe.restarts
            )
            partitions.append(np.asarray(kmeans.assign(self.cloud.points, centroids)))
            found.append(np.asarray(centroids))
        return partitions, found

    def reference(self, number: int) -> "Probed":
        """Returns as many points from a cloud without clusters; another for each number."""
        everything = np.concatenate([*self.fitted, self.cloud.points])
        drawn = without_clusters(everything, len(everything), np.random.default_rng(number))
        ends = np.cumsum([len(points) for points in self.fitted])
        *fitted, judged = np.split(drawn, ends)
        return Probed(fitted, judged)


def measure(
    clouds: Sequence[Cloud], partitions: Sequence[np.ndarray], clusters: int
) -> tuple[dict[str, float], float]:
    """Returns the criteria of the seeds' partitions, each of its own cloud, and clusters in use."""
    pairs = list(zip(clouds, partitions, strict=True))
    sizes = [np.bincount(labels, minlength=clusters) for labels in partitions]
    found = {
        "silhouette": float(np.mean([cloud.silhouette(labels) for cloud, labels in pairs])),
        "stability": agreement(partitions),
        "modularity": float(np.mean([cloud.modularity(labels) for cloud, labels in pairs])),
    }
    return found, float(np.mean([scores.effective_clusters(each) for each in sizes]))


def by_kmeans(probed: Probed, clusters: int, key: Array, probe: Cluster) -> dict[str, float]:
    """Returns the criteria of k-means with K clusters, one clustering a seed."""
    partitions, _ = probed.cluster(clusters, key, probe)
    return measure([probed.cloud] * len(partitions), partitions, clusters)[0]


def by_criterion(found: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, ...]]:
    """Returns the values of each criterion in `found`, by criterion."""
    return {c: tuple(each[c] for each in found) for c in CRITERIA}


def sample(
    run: Run,
    predict: Predict,
    images: tuple[int, ...],
    count: int,
    part: Callable[[Output], Array],
    key: Array,
) -> np.ndarray:
    """Returns `part` f32[n D] at up to `count` random cells of training images, alike from each."""
    stream = run.data.pipeline.eval_stream(Subset(run.data.train, images))

    def parts() -> Iterator[Array]:
        for batch in stream():
            yield from map(part, real_outputs(predict(batch.view(0)), batch))

    found = sample_features(parts(), count, key)
    if not np.isfinite(found).all():
        raise UserError(
            f"The features of {run.workdir} hold nan or infinity; did training diverge?"
        )
    return found


def protocol_of(run: Run, settings: Settings) -> dict[str, Any]:
    """Returns what has to be known of a sweep, whichever way it goes."""
    return {
        "method": type(run.method).__name__,
        "data": run.data.section.name,
        "train_split": run.data.section.train_split,
        "train_images": len(run.data.train),
        "view": dataclasses.asdict(run.data.pipeline.eval_view),
        "weights": [f"{weights.name} ({weights.sha256[:8]})" for weights in run.weights],
        "seed": run.train.seed,
        "seeds": settings.seeds,
        "references": settings.references,
        "neighbours": NEIGHBOURS,
    }
