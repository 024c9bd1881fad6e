"""Evaluation: fit a probe, measure over a split, keep what reports show.

Labels are read here alone: to match clusters with classes and to score. Nothing that is chosen
(a checkpoint, a threshold) is chosen by them.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from jaxseg.core import Array, Batch, Output, Stream, UserError
from jaxseg.evaluation import matching, scores
from jaxseg.evaluation.alignment import Alignment
from jaxseg.evaluation.outputs import (
    Predict,
    at_label_size,
    for_pictures,
    label_map,
    probabilities,
    real_outputs,
    tiled,
)
from jaxseg.evaluation.probes import Argmax, Cluster
from jaxseg.evaluation.retrieval import Retrieval, Truth
from jaxseg.processes import fetch
from jaxseg.record import Result, Samples

Refine = Callable[[Array, Array, Array], Array]  # see `Evaluator.refine`
UPSAMPLING = ("bilinear", "nearest")
RESOLUTIONS = ("view", "original")
# How clusters stand for classes where the evaluator's own scores are made.
MATCHINGS = ("hungarian", "identity")
ABSENT = ("drop", "zero")  # see `scores.miou`
HISTOGRAM = "_histogram"  # ends the name of an f32[B bins] of shares over [0, 1] in `Output.aux`


@functools.partial(jax.jit, static_argnames="count")
def _usage(prediction: Array, valid: Array, count: int) -> Array:
    """Returns i32[count], how often each cluster occurs where `valid` is true."""
    bins = jnp.where(valid, prediction, count).reshape(-1)
    return jnp.zeros(count + 1, jnp.int32).at[bins].add(1)[:-1]


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Scores one way to get clusters from a method's outputs.

    Attributes:
        name: of the evaluator, in tables and files.
        probe: makes cluster scores from outputs.
        fit_stream: what the probe is fitted on; test_stream: what is scored.
        sample_stream: the images shown in pictures.
        classes: names of the labels' classes; empty without labels.
        label: which label map.
        upsample: "bilinear" or "nearest", see `label_map`.
        resolution: of the labels of `test_stream`, and so of the scores: "view", that of the test
            images, or "original", of the images as they are stored, to which clusters are resized
            by nearest neighbour, as in the released HSG. Nothing else is at that size.
        matching: of the evaluator's own scores: "hungarian", or "identity" for a probe whose
            clusters are classes, because it was trained with labels or looks them up.
        absent: what a class that is neither labelled nor predicted does to the mean IoU: "drop", or
            "zero" as in the released HSG, which divides by the number of classes.
        refine: (probabilities f32[B H W K], images u8[B H W Ch], valid bool[B H W]) -> refined
            probabilities at the labels' resolution, such as a dense CRF; None = none.
        tile: side in pixels of the squares that images are predicted in; 0 = whole. See `tiled`.
        things: classes that are scored apart from the others, the stuff; () = no such scores.
        alignment: whether to measure alignment and uniformity of the features too.
    """

    name: str
    probe: Argmax | Cluster | Retrieval
    fit_stream: Stream
    test_stream: Stream
    sample_stream: Stream
    classes: tuple[str, ...]
    label: str = "class"
    upsample: str = "bilinear"
    resolution: str = "view"
    matching: str = "hungarian"
    absent: str = "drop"
    refine: Refine | None = None
    tile: int = 0
    things: tuple[int, ...] = ()
    alignment: bool = False

    def __post_init__(self):
        options = {
            "upsample": UPSAMPLING,
            "resolution": RESOLUTIONS,
            "matching": MATCHINGS,
            "absent": ABSENT,
        }
        for field, allowed in options.items():
            if (value := getattr(self, field)) not in allowed:
                raise UserError(
                    f"evals.{self.name}.{field} is {value!r}; it is one of {', '.join(allowed)}."
                )
        if self.retrieves and self.matching != "identity":
            raise UserError(
                f"evals.{self.name}.matching is {self.matching!r}, but the probe looks classes up; "
                "set it to 'identity'."
            )

    @property
    def retrieves(self) -> bool:
        """Whether labels of the training split say which class a segment has."""
        return isinstance(self.probe, Retrieval)

    def run(self, predict: Predict, key: Array) -> Result:
        """Fits the probe and scores the test split; `predict` is a jitted method.predict."""

        if self.tile:
            predict = tiled(predict, self.tile)
        fitted: Any
        if isinstance(self.probe, Retrieval):
            fitted = self.probe.fit(functools.partial(self._labelled, predict), key)
        else:
            fitted = self.probe.fit(functools.partial(self._unlabelled, predict), key)

        def clusters(batch: Batch) -> tuple[Array, int, Output]:
            output = predict(batch.view(0))
            logits = self.probe.scores(fitted, output, batch.valid_pixels)
            return self._labels(logits, batch), logits.shape[-1], output

        confusion, usage, alignment = self._measure(clusters)
        found = Result(
            self.name,
            _usage_scalars(usage) | (alignment.result() if alignment else {}),
            usage,
            self.classes,
            self._samples(clusters),
            supervised=self.matching == "identity" and not self.retrieves,
            kind="retrieval" if self.retrieves else "clusters",
            fitted={} if self.retrieves else {k: np.asarray(x) for k, x in fitted.items()},
        )
        return found if confusion is None else self._scored(found, confusion)

    def protocol(self) -> dict[str, Any]:
        """Returns what has to be known of it to compare its scores."""
        found: dict[str, Any] = {
            "matching": f"{self.matching}, over the test split",
            "label": self.label,
            "upsample": self.upsample,
            "resolution": self.resolution,
            "absent": self.absent,
        }
        if self.things:
            found["things"] = [self.classes[i] for i in self.things]
        return found | ({"k": self.probe.neighbours} if isinstance(self.probe, Retrieval) else {})

    def _unlabelled(self, predict: Predict) -> Iterator[tuple[Output, dict]]:
        for batch in self.fit_stream():
            for output in real_outputs(predict(batch.view(0)), batch):
                yield output, {}

    def _labelled(self, predict: Predict) -> Iterator[tuple[Output, Truth]]:
        for batch in self.fit_stream():
            if self.label not in batch.label:
                raise UserError(
                    f"evals.{self.name}: the training split has no label {self.label!r}, which "
                    "this probe looks up; name another data.train_split, or another probe."
                )
            truth = Truth(batch.label[self.label], batch.valid_pixels, len(self.classes))
            yield predict(batch.view(0)), truth

    def _scored(self, found: Result, confusion: scores.Confusion) -> Result:
        match = matching.MATCHINGS[self.matching](confusion.counts)
        one = scores.summarise(confusion.counts, match, self.absent)
        many = scores.summarise(confusion.counts, matching.many_to_one(confusion.counts))
        scalars = {"accuracy": one["accuracy"], "miou": one["miou"]}
        if not self.retrieves:
            scalars |= {f"many_to_one_{name}": many[name] for name in ("accuracy", "miou")}
        if self.things:
            scalars |= scores.partition(confusion.counts, match, self.things, self.absent)
        return dataclasses.replace(
            found,
            scalars=scalars | found.scalars,
            iou=one["iou"],
            counts=confusion.counts,
            match=match,
        )

    def _labels(self, logits: Array, batch: Batch) -> Array:
        """Returns the clusters i32[B H W] at the labels' resolution, refined where asked."""
        height, width = batch.first_view.shape[1:3]
        if self.refine is None:
            return label_map(logits, height, width, self.upsample)
        shares = probabilities(logits, height, width, self.upsample)
        refined = self.refine(shares, batch.first_view, batch.valid_pixels)
        return jnp.argmax(refined, axis=-1).astype(jnp.int32)

    def _measure(self, clusters) -> tuple[scores.Confusion | None, np.ndarray, Alignment | None]:
        confusion, usage, alignment = None, np.zeros(0, np.int64), None
        for batch in self.test_stream():
            prediction, count, output = clusters(batch)
            if not usage.size:
                usage = np.zeros(count, np.int64)
            usage += fetch(_usage(prediction, batch.valid_pixels, count))
            if self.classes and self.label in batch.label:
                if confusion is None:
                    confusion = scores.Confusion.zeros(count, len(self.classes))
                label = batch.label[self.label]
                confusion = confusion.update(_at_labels(prediction, batch, label), label)
            if self.alignment:
                if alignment is None:
                    alignment = Alignment.zeros(count, output.features.shape[-1])
                alignment = _aligned(alignment, output, prediction, batch)
        return confusion, usage, alignment

    def _samples(self, clusters) -> Samples:
        images, labels, predictions = [], [], []
        extra: dict[str, list[np.ndarray]] = collections.defaultdict(list)
        for batch in self.sample_stream():
            found, _, output = clusters(batch)
            parts = for_pictures(output)
            prediction, shown, sizes, index = fetch(
                (found, batch.first_view, batch.size, batch.index)
            )
            label = fetch(batch.label.get(self.label))
            for row in np.flatnonzero(index >= 0):
                height, width = size = sizes[row, 0]
                images.append(shown[row, :height, :width])
                predictions.append(prediction[row, :height, :width])
                for name, part in parts.items():
                    extra[name].append(part[row])
                # How much of the maps is image; the rest is padding.
                extra["real"].append(np.asarray(size / shown.shape[1:3], np.float16))
                if label is not None:
                    labels.append(label[row, :height, :width])
        known = labels if len(labels) == len(images) else None
        return Samples(images, known, predictions, dict(extra))


def _at_labels(prediction: Array, batch: Batch, label: Array) -> Array:
    """Returns clusters i32[B H W] at the size of their labels i32[B Hl Wl]."""
    if batch.label_size is None:
        return prediction
    sizes = jnp.asarray(batch.size)[:, 0]
    return at_label_size(prediction, sizes, batch.label_size, *label.shape[1:])


def _aligned(record: Alignment, output: Output, prediction: Array, batch: Batch) -> Alignment:
    """Returns the record with the features of a batch, by their clusters i32[B H W], added.

    The vectors in `Output.aux` under "semantics" are the method's own of its clusters.
    """
    shape = output.features.shape[:3]
    labels, valid = (
        jax.image.resize(x, shape, "nearest") for x in (prediction, batch.valid_pixels)
    )
    own = output.aux.get("semantics")
    if own is not None and own.shape[1] != len(record.counts):
        own = None  # the clusters are a probe's
    return record.update(output.features, labels, valid, batch.index, own)


def _usage_scalars(usage: np.ndarray) -> dict[str, float]:
    return {
        "clusters": float(usage.size),
        "entropy": scores.label_entropy(usage),
        "effective_clusters": scores.effective_clusters(usage),
    }


def collapse_monitor(
    stream: Stream,
) -> Callable[[Predict], tuple[dict[str, float], dict[str, np.ndarray]]]:
    """Returns a function that looks, without labels, at what a method says of fixed images.

    It returns (scalars that say how many clusters the method's own labels use, histograms f32[bins]
    of the method's own: means over the images of the entries of `Output.aux` that are named so),
    ({}, {}) for a method without logits, and warns where nearly all pixels are in one cluster.
    """

    def monitor(predict: Predict) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        usage: Any = 0
        shares: dict[str, list[np.ndarray]] = collections.defaultdict(list)
        for batch in stream():
            output = predict(batch.first_view)
            if (logits := output.logits) is None:
                return {}, {}
            labels = label_map(logits, *batch.first_view.shape[1:3], "nearest")
            found = _usage(labels, batch.valid_pixels, logits.shape[-1])
            usage = usage + fetch(found).astype(np.int64)
            real = fetch(batch.index) >= 0
            for name, part in output.aux.items():
                if name.endswith(HISTOGRAM):
                    shares[f"monitor/{name}"].extend(fetch(part)[real])
        scalars = _usage_scalars(usage)
        if scalars["clusters"] > 1 and scalars["effective_clusters"] < 1.2:
            logging.warning(
                "The segmentation is collapsing: %.2f of %d clusters are in use.",
                scalars["effective_clusters"],
                scalars["clusters"],
            )
        chosen = {f"monitor/{k}": scalars[k] for k in ("entropy", "effective_clusters", "clusters")}
        return chosen, {name: np.mean(each, axis=0) for name, each in shares.items()}

    return monitor
