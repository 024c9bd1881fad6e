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
from jaxseg.evaluation.probes import Argmax, Cluster
from jaxseg.record import Result, Samples

Predict = Callable[[Array], Output]  # u8[B H W Ch] -> Output
Refine = Callable[[Array, Array, Array], Array]  # see `Evaluator.refine`
UPSAMPLING = ("bilinear", "nearest")
# How clusters stand for classes where the evaluator's own scores are made.
MATCHINGS = ("hungarian", "identity")

_PICTURED_CELLS = 1000  # about so many features of an image are kept for pictures


@functools.partial(jax.jit, static_argnames=("height", "width", "rule"))
def label_map(logits: Array, height: int, width: int, rule: str) -> Array:
    """Returns the clusters i32[B height width] of logits f32[B h w K] at another resolution.

    Args:
        rule: "bilinear" resizes the logits before the argmax; "nearest" the label map after it.
    """
    if rule == "nearest":
        shape = (logits.shape[0], height, width)
        return jax.image.resize(logits.argmax(-1), shape, "nearest").astype(jnp.int32)
    return _resized(logits, height, width, rule).argmax(-1).astype(jnp.int32)


def _resized(logits: Array, height: int, width: int, rule: str) -> Array:
    shape = (logits.shape[0], height, width, logits.shape[-1])
    return jax.image.resize(logits, shape, rule, antialias=False)


@functools.partial(jax.jit, static_argnames=("height", "width", "rule"))
def _probabilities(logits: Array, height: int, width: int, rule: str) -> Array:
    """Returns the softmax f32[B height width K] of logits f32[B h w K] at another resolution."""
    return jax.nn.softmax(_resized(logits, height, width, rule), axis=-1)


def tiled(predict: Predict, side: int) -> Predict:
    """Returns a function that predicts in squares of `side` pixels and puts them together again.

    So a large image is seen at the scale of the crops that the method was trained on. It takes
    images whose sides `side` divides; what is no map in `aux` becomes [B squares ...].

    Raises:
        ValueError: `side` does not divide the images.
    """

    def stitched(image: Array) -> Output:
        batch, height, width, channels = image.shape
        if height % side or width % side:
            raise ValueError(
                f"images of {height} x {width} pixels do not divide in squares of {side}"
            )
        rows, columns = height // side, width // side
        squares = image.reshape(batch, rows, side, columns, side, channels)
        squares = jnp.swapaxes(squares, 2, 3).reshape(-1, side, side, channels)
        output = predict(squares)

        def together(x: Array) -> Array:
            grid = x.reshape(batch, rows, columns, *x.shape[1:])
            return jnp.swapaxes(grid, 2, 3).reshape(
                batch, rows * x.shape[1], columns * x.shape[2], *x.shape[3:]
            )

        return _map_maps(output, together, lambda x: x.reshape(batch, -1, *x.shape[1:]))

    return stitched


@functools.partial(jax.jit, static_argnames="count")
def _usage(prediction: Array, valid: Array, count: int) -> Array:
    """Returns i32[count], how often each cluster occurs where `valid` is true."""
    bins = jnp.where(valid, prediction, count).reshape(-1)
    return jnp.zeros(count + 1, jnp.int32).at[bins].add(1)[:-1]


def _valid(batch: Batch) -> Array:
    """Returns bool[B H W], true on the real pixels of real images."""
    height, width = batch.first_view.shape[1:3]
    sizes = jnp.asarray(batch.size)[:, 0]
    rows = jnp.arange(height).reshape(1, -1, 1) < sizes[:, 0].reshape(-1, 1, 1)
    columns = jnp.arange(width).reshape(1, 1, -1) < sizes[:, 1].reshape(-1, 1, 1)
    return rows & columns & (batch.index >= 0).reshape(-1, 1, 1)


def _map_maps(
    output: Output, change: Callable[[Array], Array], rest: Callable[[Array], Array] = lambda x: x
) -> Output:
    """Returns the output with its maps [B h w ...] changed, and what is no map by `rest`.

    Maps are the features, the logits, and what is [B h w D] with the cells of either in `aux`.
    """
    grids = {x.shape[1:3] for x in (output.features, output.logits) if x is not None}

    def fitting(x: Array) -> Callable[[Array], Array]:
        return change if x.ndim == 4 and x.shape[1:3] in grids else rest

    return Output(
        features=change(output.features),
        logits=None if output.logits is None else change(output.logits),
        aux={name: fitting(x)(x) for name, x in output.aux.items()},
    )


def _real(output: Output, batch: Batch) -> Iterator[Output]:
    """Yields the batch's outputs without fill-up images and without padded cells."""
    sizes, indices = np.asarray(batch.size)[:, 0], np.asarray(batch.index)
    full = np.asarray(batch.first_view.shape[1:3])
    real = int((indices >= 0).sum())
    if (sizes[:real] == full).all():
        yield jax.tree.map(lambda x: x[:real], output)
        return
    for row in range(real):
        share = sizes[row] / full

        def cut(x: Array, share: np.ndarray = share) -> Array:
            h, w = np.ceil(np.asarray(x.shape[1:3]) * share).astype(int)
            return x[:, :h, :w]

        yield _map_maps(jax.tree.map(lambda x, row=row: x[row : row + 1], output), cut)


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
        matching: of the evaluator's own scores: "hungarian", or "identity" for a probe whose
            clusters are classes, because it was trained with labels.
        refine: (probabilities f32[B H W K], images u8[B H W Ch], valid bool[B H W]) -> refined
            probabilities at the labels' resolution, such as a dense CRF; None = none.
        tile: side in pixels of the squares that images are predicted in; 0 = whole. See `tiled`.
    """

    name: str
    probe: Argmax | Cluster
    fit_stream: Stream
    test_stream: Stream
    sample_stream: Stream
    classes: tuple[str, ...]
    label: str = "class"
    upsample: str = "bilinear"
    matching: str = "hungarian"
    refine: Refine | None = None
    tile: int = 0

    def __post_init__(self):
        for field, allowed in (("upsample", UPSAMPLING), ("matching", MATCHINGS)):
            if (value := getattr(self, field)) not in allowed:
                raise UserError(
                    f"evals.{self.name}.{field} is {value!r}; it is one of {', '.join(allowed)}."
                )

    def run(self, predict: Predict, key: Array) -> Result:
        """Fits the probe and scores the test split; `predict` is a jitted method.predict."""

        if self.tile:
            predict = tiled(predict, self.tile)

        def pairs():
            for batch in self.fit_stream():
                for output in _real(predict(batch.view(0)), batch):
                    yield output, {}

        fitted = self.probe.fit(pairs, key)

        def clusters(batch: Batch) -> tuple[Array, int, Output]:
            output = predict(batch.view(0))
            logits = self.probe.scores(fitted, output)
            return self._labels(logits, batch), logits.shape[-1], output

        confusion, usage = self._measure(clusters)
        samples = self._samples(clusters)
        supervised = self.matching == "identity"
        found = Result(
            self.name, _usage_scalars(usage), usage, self.classes, samples, supervised=supervised
        )
        if confusion is None:
            return found
        match = matching.MATCHINGS[self.matching](confusion.counts)
        one = scores.summarise(confusion.counts, match)
        many = scores.summarise(confusion.counts, matching.many_to_one(confusion.counts))
        scalars = {
            "accuracy": one["accuracy"],
            "miou": one["miou"],
            "many_to_one_accuracy": many["accuracy"],
            "many_to_one_miou": many["miou"],
        }
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
        probabilities = _probabilities(logits, height, width, self.upsample)
        refined = self.refine(probabilities, batch.first_view, _valid(batch))
        return jnp.argmax(refined, axis=-1).astype(jnp.int32)

    def _measure(self, clusters) -> tuple[scores.Confusion | None, np.ndarray]:
        confusion, usage = None, np.zeros(0, np.int64)
        for batch in self.test_stream():
            prediction, count, _ = clusters(batch)
            if not usage.size:
                usage = np.zeros(count, np.int64)
            usage += np.asarray(_usage(prediction, _valid(batch), count), np.int64)
            if self.classes and self.label in batch.label:
                if confusion is None:
                    confusion = scores.Confusion.zeros(count, len(self.classes))
                confusion = confusion.update(prediction, batch.label[self.label])
        return confusion, usage

    def _samples(self, clusters) -> Samples:
        images, labels, predictions = [], [], []
        extra: dict[str, list[np.ndarray]] = collections.defaultdict(list)
        for batch in self.sample_stream():
            found, _, output = clusters(batch)
            parts = _for_pictures(output)
            prediction = np.asarray(found)
            shown, sizes = np.asarray(batch.first_view), np.asarray(batch.size)[:, 0]
            for row in np.flatnonzero(np.asarray(batch.index) >= 0):
                height, width = sizes[row]
                images.append(shown[row, :height, :width])
                predictions.append(prediction[row, :height, :width])
                for name, part in parts.items():
                    extra[name].append(part[row])
                if self.label in batch.label:
                    labels.append(np.asarray(batch.label[self.label])[row, :height, :width])
        known = labels if len(labels) == len(images) else None
        return Samples(images, known, predictions, dict(extra))


def _for_pictures(output: Output) -> dict[str, np.ndarray]:
    """Returns the features and `aux` of a batch as f16, of maps every n-th cell."""
    cells = output.features.shape[1:3]
    step = max(1, round((cells[0] * cells[1] / _PICTURED_CELLS) ** 0.5))
    thin = _map_maps(output, lambda x: x[:, ::step, ::step])
    return {
        k: np.asarray(x, np.float16) for k, x in ({"features": thin.features} | thin.aux).items()
    }


def _usage_scalars(usage: np.ndarray) -> dict[str, float]:
    return {
        "clusters": float(usage.size),
        "entropy": scores.label_entropy(usage),
        "effective_clusters": scores.effective_clusters(usage),
    }


def collapse_monitor(stream: Stream) -> Callable[[Predict], dict[str, float]]:
    """Returns a function that says how many clusters the method's own labels use on fixed images.

    It returns {} for a method without logits, and warns where nearly all pixels are in one cluster.
    """

    def monitor(predict: Predict) -> dict[str, float]:
        usage: Any = 0
        for batch in stream():
            logits = predict(batch.first_view).logits
            if logits is None:
                return {}
            labels = label_map(logits, *batch.first_view.shape[1:3], "nearest")
            usage = usage + np.asarray(_usage(labels, _valid(batch), logits.shape[-1]), np.int64)
        found = _usage_scalars(usage)
        if found["clusters"] > 1 and found["effective_clusters"] < 1.2:
            logging.warning(
                "The segmentation is collapsing: %.2f of %d clusters are in use.",
                found["effective_clusters"],
                found["clusters"],
            )
        return {f"monitor/{k}": found[k] for k in ("entropy", "effective_clusters", "clusters")}

    return monitor
