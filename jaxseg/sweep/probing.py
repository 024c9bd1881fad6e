"""Sweeping over K without training: k-means over the features of a finished run.

Each seed has images, cells and starts of its own, and all of them name the same cells of other
images, so that their agreement says whether another collection of images gives the same clusters.
"""

from typing import Any, TypeGuard

import jax
import numpy as np

from jaxseg.core import Array, UserError
from jaxseg.data.pipeline import spread
from jaxseg.evaluation.outputs import tiled
from jaxseg.evaluation.probes import Cluster
from jaxseg.run import Run
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


def sweep_features(
    probed: Probed, settings: Settings, key: Array, probe: Cluster, report=lambda _: None
) -> tuple[Sweep, dict[int, list[np.ndarray]]]:
    """Returns the sweep of k-means over features, and by K the centroids f32[K D] of each seed.

    Args:
        probe: says how many rounds and restarts; its other fields do nothing here.
        report: told of each trial when it is done.
    """
    clouds = [probed.reference(number) for number in range(settings.references)]
    trials, centroids = [], {}
    for clusters in settings.clusters:
        partitions, centroids[clusters] = probed.cluster(clusters, key, probe)
        found, used = measure([probed.cloud] * len(partitions), partitions, clusters)
        references = [by_kmeans(cloud, clusters, key, probe) for cloud in clouds]
        trials.append(Trial(clusters, found, by_criterion(references), used))
        report(trials[-1])
    return decide(trials), centroids


def can_be_probed(probe: Any) -> TypeGuard[Cluster]:
    """Says whether a probe clusters features by their direction, as all of this does."""
    return isinstance(probe, Cluster) and probe.metric == "spherical"


def probe_run(
    run: Run, name: str, settings: Settings, report=lambda _: None
) -> tuple[Sweep, dict[str, Any], dict[int, list[np.ndarray]]]:
    """Sweeps over K in an entry of the run's `evals`; returns the centroids of each K too.

    Returns:
        (sweep, what has to be known of it, by K the centroids of each seed).

    Raises:
        UserError: the entry is none that can be probed, or there are too few images.
    """
    section, evaluator = run.evaluators[name]
    probe = evaluator.probe
    if not can_be_probed(probe):
        raise UserError(
            f"evals.{name} cannot be probed: sweep_k needs probe='cluster' and metric='spherical'."
        )
    predict = run.predictor(section.model)
    if section.tile:
        predict = tiled(predict, section.tile)
    images = spread(len(run.data.train), section.fit_limit or IMAGES)
    judged, rest = images[::2], images[1::2]
    if len(rest) < settings.seeds:
        raise UserError(
            f"{len(images)} training images are too few for {settings.seeds} seeds, each of which "
            f"needs images of its own; {2 * settings.seeds} would do, or lower --sweep_seeds."
        )
    key = jax.random.fold_in(jax.random.key(run.train.seed), 5)
    shares = [rest[seed :: settings.seeds] for seed in range(settings.seeds)]

    def cells(some: tuple[int, ...], count: int) -> np.ndarray:
        return sample(run, predict, some, count, lambda output: output.part(probe.source), key)

    probed = Probed([cells(s, settings.fitted) for s in shares], cells(judged, settings.judged))
    sweep, centroids = sweep_features(probed, settings, key, probe, report)
    protocol = protocol_of(run, settings) | {
        "way": "probe: k-means over features, no retraining",
        "entry": name,
        "model": section.model,
        "source": probe.source,
        "metric": probe.metric,
        "rounds": probe.rounds,
        "restarts": probe.restarts,
        "images_judged": len(judged),
        "images_of_each_seed": [len(share) for share in shares],
        "cells_judged": len(probed.cloud.points),
        "cells_of_each_seed": len(probed.fitted[0]),
        "steps": run.steps,
    }
    return sweep, protocol, centroids
