"""Sweeping over K by short runs of a method that has K among its fields.

Each K is trained with several seeds, and names cells by the method's own scores.
"""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxseg.core import Array, Output, UserError
from jaxseg.data.pipeline import spread
from jaxseg.evaluation.outputs import label_map
from jaxseg.evaluation.partitions import Cloud
from jaxseg.evaluation.probes import Cluster
from jaxseg.run import Run
from jaxseg.short_runs import short_run
from jaxseg.sweep.measures import (
    IMAGES,
    Probed,
    Settings,
    by_criterion,
    by_kmeans,
    measure,
    protocol_of,
    sample,
)
from jaxseg.sweep.rule import Sweep, Trial, decide


def trial_place(workdir: pathlib.Path, clusters: int, seed: int) -> pathlib.Path:
    """Returns the work directory of one short run."""
    return workdir / f"clusters{clusters}_seed{seed}"


def trial_config(config: ConfigDict, steps: int, clusters: int, seed: int) -> ConfigDict:
    """Returns the config of one short run, with the `seed`-th seed from the config's own on."""
    trial = short_run(config, steps)
    with trial.unlocked():
        trial.method.clusters = clusters
        trial.train.seed = config.train.get("seed", 0) + seed
    return trial


def train_runs(
    config: ConfigDict, workdir: pathlib.Path, settings: Settings, report=lambda _: None
) -> tuple[Sweep, dict[str, Any]]:
    """Sweeps over K by short runs below `workdir`; those that are there already are not repeated.

    The criteria of a run are those of its own scores' argmax on its own features. Where fewer than
    sqrt(K) clusters are in use, by their entropy, the runs with that K have collapsed.

    Returns:
        (sweep, what has to be known of it).

    Raises:
        UserError: the method reads labels, or what `Run` raises.
    """
    probe = Cluster(2)  # its rounds and restarts are those of the references
    trials, protocol = [], {}
    for clusters in settings.clusters:
        clouds, partitions = [], []
        for seed in range(settings.seeds):
            # Each run has programs of its own, which would pile up.
            jax.clear_caches()
            place = trial_place(workdir, clusters, seed)
            run = Run(trial_config(config, settings.steps, clusters, seed), place)
            if run.method.reads_labels:
                raise UserError(
                    f"{config.method.name} learns from labels, which say how many classes there "
                    "are; sweep_k is for methods that do not."
                )
            if run.final.latest() is None:
                run.fit()
            points, labels = _named_cells(run, settings)
            clouds.append(Cloud.of(points))
            partitions.append(labels)
            protocol = protocol_of(run, settings) | {"cells_judged": len(points)}
        found, used = measure(clouds, partitions, clusters)
        references = [
            _trained_reference(clouds[i % len(clouds)], i, clusters, settings.seeds, probe)
            for i in range(settings.references)
        ]
        collapsed = used < clusters**0.5
        trials.append(Trial(clusters, found, by_criterion(references), used, collapsed))
        report(trials[-1])
    return decide(trials), protocol | {
        "way": "train: short runs with each K and seed",
        "steps": settings.steps,
        "images_judged": min(IMAGES // 2, protocol["train_images"]),
    }


def _trained_reference(
    cloud: Cloud, number: int, clusters: int, seeds: int, probe: Cluster
) -> dict[str, float]:
    """Returns the criteria of k-means on a cloud like that of a run's features."""
    like = Probed([cloud.points] * seeds, cloud.points)
    return by_kmeans(like.reference(number), clusters, jax.random.key(number), probe)


def _named_cells(run: Run, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Returns features f32[n D] of sampled cells and the run's own clusters of them, i[n].

    The cells are the same for every run: they are drawn from a key that no run's seed changes.
    """

    def both(output: Output) -> Array:
        height, width = output.features.shape[1:3]
        labels = label_map(output.part("logits"), height, width, "nearest")
        return jnp.concatenate([output.features, labels[..., None].astype(jnp.float32)], axis=-1)

    images = spread(len(run.data.train), IMAGES // 2)
    found = sample(run, run.predictor("trained"), images, settings.judged, both, jax.random.key(5))
    return found[:, :-1], found[:, -1].astype(np.int64)
