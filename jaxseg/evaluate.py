"""Evaluation: fit a probe, measure over a split, keep what reports show.

Labels are read here alone: to match clusters with classes and to score. Nothing that is chosen
(a checkpoint, a threshold) is chosen by them.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from jaxseg.core import Array, Batch, Output, Stream, UserError
from jaxseg.evaluation import matching, scores
from jaxseg.evaluation.probes import Argmax, Cluster
from jaxseg.writer import write_atomic

Predict = Callable[[Array], Output]  # u8[B H W Ch] -> Output
UPSAMPLING = ("bilinear", "nearest")


@dataclasses.dataclass(frozen=True)
class Samples:
    """Some test images with labels (None without) and predicted clusters, for pictures."""

    images: list[np.ndarray]  # u8[H W Ch]
    labels: list[np.ndarray] | None  # i32[H W], -1 = ignored
    predictions: list[np.ndarray]  # i32[H W]


@dataclasses.dataclass(frozen=True)
class Result:
    """What one evaluator found.

    Attributes:
        name: of the evaluator.
        scalars: fractions and counts by name; without labels only those that need none.
        iou: by class under the Hungarian match; None without labels.
        counts: i64[K C] confusion matrix, None without labels; match: i64[K] class of each cluster
            under the Hungarian match, -1 for none.
        usage: i64[K] pixels by predicted cluster.
        classes: names.
        samples: images for pictures.
    """

    name: str
    scalars: dict[str, float]
    usage: np.ndarray
    classes: tuple[str, ...]
    samples: Samples
    iou: list[float] | None = None
    counts: np.ndarray | None = None
    match: np.ndarray | None = None


@functools.partial(jax.jit, static_argnames=("height", "width", "rule"))
def label_map(logits: Array, height: int, width: int, rule: str) -> Array:
    """Returns the clusters i32[B height width] of logits f32[B h w K] at another resolution.

    Args:
        rule: "bilinear" resizes the logits before the argmax; "nearest" the label map after it.
    """
    shape = (logits.shape[0], height, width)
    if rule == "nearest":
        return jax.image.resize(logits.argmax(-1), shape, "nearest").astype(jnp.int32)
    resized = jax.image.resize(logits, (*shape, logits.shape[-1]), "bilinear", antialias=False)
    return resized.argmax(-1).astype(jnp.int32)


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


def _real(output: Output, batch: Batch) -> Iterator[Output]:
    """Yields the batch's outputs without fill-up images and without padded cells."""
    sizes, indices = np.asarray(batch.size)[:, 0], np.asarray(batch.index)
    full = np.asarray(batch.first_view.shape[1:3])
    real = int((indices >= 0).sum())
    if (sizes[:real] == full).all():
        yield jax.tree.map(lambda x: x[:real], output)
        return
    for row in range(real):
        cells = np.asarray(output.features.shape[1:3])
        h, w = np.ceil(cells * sizes[row] / full).astype(int)
        logits = None if output.logits is None else output.logits[row : row + 1, :h, :w]
        yield Output(features=output.features[row : row + 1, :h, :w], logits=logits)


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
    """

    name: str
    probe: Argmax | Cluster
    fit_stream: Stream
    test_stream: Stream
    sample_stream: Stream
    classes: tuple[str, ...]
    label: str = "class"
    upsample: str = "bilinear"

    def __post_init__(self):
        if self.upsample not in UPSAMPLING:
            raise UserError(
                f"evals.{self.name}.upsample is {self.upsample!r}; it is one of "
                f"{', '.join(UPSAMPLING)}."
            )

    def run(self, predict: Predict, key: Array) -> Result:
        """Fits the probe and scores the test split; `predict` is a jitted method.predict."""

        def pairs():
            for batch in self.fit_stream():
                for output in _real(predict(batch.first_view), batch):
                    yield output, {}

        fitted = self.probe.fit(pairs, key)

        def clusters(batch: Batch) -> tuple[Array, int]:
            logits = self.probe.scores(fitted, predict(batch.first_view))
            return label_map(logits, *batch.first_view.shape[1:3], self.upsample), logits.shape[-1]

        confusion, usage = self._measure(clusters)
        samples = self._samples(clusters)
        found = Result(self.name, _usage_scalars(usage), usage, self.classes, samples)
        if confusion is None:
            return found
        match = matching.hungarian(confusion.counts)
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

    def _measure(self, clusters) -> tuple[scores.Confusion | None, np.ndarray]:
        confusion, usage = None, np.zeros(0, np.int64)
        for batch in self.test_stream():
            prediction, count = clusters(batch)
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
        for batch in self.sample_stream():
            prediction = np.asarray(clusters(batch)[0])
            shown, sizes = np.asarray(batch.first_view), np.asarray(batch.size)[:, 0]
            for row in np.flatnonzero(np.asarray(batch.index) >= 0):
                height, width = sizes[row]
                images.append(shown[row, :height, :width])
                predictions.append(prediction[row, :height, :width])
                if self.label in batch.label:
                    labels.append(np.asarray(batch.label[self.label])[row, :height, :width])
        return Samples(images, labels if len(labels) == len(images) else None, predictions)


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
        return {f"monitor/{k}": found[k] for k in ("entropy", "effective_clusters")}

    return monitor


def save_result(directory: pathlib.Path, result: Result, protocol: dict[str, Any]) -> None:
    """Writes NAME.json (scores, protocol) and NAME.npz (matrix, match, samples)."""
    directory.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {"usage": result.usage}
    if result.counts is not None:
        arrays |= {"counts": result.counts, "match": result.match}
    samples = result.samples
    for kind in ("images", "labels", "predictions"):
        for i, array in enumerate(getattr(samples, kind) or ()):
            arrays[f"{kind}/{i:03d}"] = array
    temporary = directory / f"{result.name}.tmp.npz"
    np.savez_compressed(temporary, **arrays)
    temporary.replace(directory / f"{result.name}.npz")
    record = {
        "name": result.name,
        "scores": result.scalars,
        "iou": result.iou,
        "classes": result.classes,
        "protocol": protocol,
    }
    # Last, so that where the JSON is, the arrays are too.
    write_atomic(directory / f"{result.name}.json", json.dumps(_no_nan(record), indent=2) + "\n")


def load_results(directory: pathlib.Path) -> list[Result]:
    """Returns the results that `save_result` wrote, in the order of their files' times."""
    paths = sorted(directory.glob("*.json"), key=lambda p: (p.stat().st_mtime_ns, p.name))
    return [_load_result(path) for path in paths]


def _load_result(path: pathlib.Path) -> Result:
    record = json.loads(path.read_text())
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
        arrays = dict(file)

    def several(kind: str) -> list[np.ndarray]:
        return [arrays[name] for name in sorted(arrays) if name.startswith(f"{kind}/")]

    samples = Samples(several("images"), several("labels") or None, several("predictions"))
    return Result(
        name=record["name"],
        scalars={k: _nan(v) for k, v in record["scores"].items()},
        iou=None if record["iou"] is None else [_nan(v) for v in record["iou"]],
        classes=tuple(record["classes"]),
        usage=arrays["usage"],
        counts=arrays.get("counts"),
        match=arrays.get("match"),
        samples=samples,
    )


def _no_nan(value: Any) -> Any:
    """JSON has no nan: null stands for it."""
    if isinstance(value, dict):
        return {k: _no_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_no_nan(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value


def score_table(results: list[Result]) -> str:
    """Returns the results as a table for the terminal, percentages where they are fractions."""
    columns = {
        "accuracy": "Acc %",
        "miou": "mIoU %",
        "many_to_one_accuracy": "many-to-one Acc %",
        "effective_clusters": "clusters in use",
    }
    width = max(len(r.name) for r in results) if results else 0
    lines = ["  ".join([" " * width, *columns.values()])]
    for result in results:
        cells = []
        for name, title in columns.items():
            value = result.scalars.get(name, float("nan"))
            if name == "effective_clusters":
                text = f"{value:.1f} of {result.scalars['clusters']:.0f}"
            else:
                text = f"{100 * value:.1f}" if np.isfinite(value) else "-"
            cells.append(text.rjust(len(title)))
        lines.append("  ".join([result.name.ljust(width), *cells]))
    return "\n".join(lines)
