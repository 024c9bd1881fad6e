"""Scores of a segmentation against labels: the confusion matrix and what follows from it.

A confusion matrix is [K C]: pixels of cluster k whose label is class c. A negative label means an
ignored pixel, which no score sees. A `match` i64[K] (see `matching`) says which class each cluster
stands for, -1 none. Scores are float64 fractions in [0, 1].
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxseg.processes import fetch

_BAD_PREDICTION, _BAD_LABEL = 1, 2
_BLOCK = 1 << 17  # pixels; the bins of more outgrow a processor's cache


@functools.partial(jax.jit, static_argnames=("clusters", "classes", "spread"))
def confusion(
    prediction: Array, label: Array, clusters: int, classes: int, spread: bool = False
) -> Array:
    """Returns i32[K C], the number of pixels by predicted cluster and labelled class.

    `prediction` i32[...] in 0..K-1 and `label` i32[...] below C have the same shape; where the
    label is negative the pixel counts nowhere, whatever is predicted. On an accelerator nothing can
    be raised, so a valid pixel with a prediction outside 0..K-1, or a label of C or more, turns the
    whole matrix negative (-1: a prediction, -2: a label, -3: both); `Confusion.add` raises on that,
    so hand it every result by itself. Not counting such pixels would flatter the scores. At most
    2^31 - 1 pixels a call. A CPU counts them block by block, but where they are `spread` over
    devices: then each counts its own at once.

    Raises ValueError where the shapes differ.
    """
    if prediction.shape != label.shape:
        raise ValueError(f"prediction {prediction.shape} and label {label.shape} differ in shape")
    prediction, label = prediction.reshape(-1), label.reshape(-1)
    in_blocks = jax.default_backend() == "cpu" and not spread and prediction.size > _BLOCK
    count = _count_blocks if in_blocks else _count
    counts, fault = count(prediction, label, clusters, classes)
    return jnp.where(fault > 0, -fault, counts).reshape(clusters, classes)


def _count(prediction: Array, label: Array, clusters: int, classes: int) -> tuple[Array, Array]:
    """Returns i32[K * C], the pixels of each pair, and i32[], what is out of range."""
    valid = label >= 0
    bad_prediction = jnp.any(valid & ((prediction < 0) | (prediction >= clusters)))
    bad_label = jnp.any(label >= classes)
    # Ignored pixels get a bin of their own, which is then cut off.
    bins = jnp.where(valid, prediction * classes + label, clusters * classes)
    counts = jnp.zeros(clusters * classes + 1, jnp.int32).at[bins].add(1)
    return counts[:-1], _BAD_PREDICTION * bad_prediction + _BAD_LABEL * bad_label


def _count_blocks(
    prediction: Array, label: Array, clusters: int, classes: int
) -> tuple[Array, Array]:
    """Returns what `_count` does, of a block of pixels after the other."""
    pixels = prediction.size

    def add(number: Array, found: tuple[Array, Array]) -> tuple[Array, Array]:
        # The last block ends with the pixels; what the one before has counted is left out.
        start = jnp.minimum(number * _BLOCK, pixels - _BLOCK)
        own, true = (jax.lax.dynamic_slice_in_dim(x, start, _BLOCK) for x in (prediction, label))
        new = start + jnp.arange(_BLOCK) >= number * _BLOCK
        counts, fault = _count(own, jnp.where(new, true, -1), clusters, classes)
        return found[0] + counts, found[1] | fault

    none = jnp.zeros(clusters * classes, jnp.int32), jnp.int32(0)
    return jax.lax.fori_loop(0, -(-pixels // _BLOCK), add, none)


@dataclasses.dataclass(frozen=True, eq=False)
class Confusion:
    """A mergeable confusion matrix on the host; `counts` i64[K C]."""

    counts: np.ndarray

    @classmethod
    def zeros(cls, clusters: int, classes: int) -> "Confusion":
        """Returns the record of no pixels."""
        return cls(np.zeros((clusters, classes), np.int64))

    def update(self, prediction: Array | np.ndarray, label: Array | np.ndarray) -> "Confusion":
        """Returns the record with these pixels added; arguments and errors as in `confusion`."""
        prediction, label = jnp.asarray(prediction), jnp.asarray(label)
        spread = len(prediction.sharding.device_set | label.sharding.device_set) > 1
        return self.add(confusion(prediction, label, *self.counts.shape, spread))

    def add(self, counts: Array | np.ndarray) -> "Confusion":
        """Returns the record with `confusion`'s result added.

        Raises ValueError where that result reports a prediction or label out of range, or has
        another shape.
        """
        counts = fetch(counts).astype(np.int64)
        if counts.shape != self.counts.shape:
            raise ValueError(f"counts {counts.shape} do not fit a record of {self.counts.shape}")
        fault = int(-counts.min(initial=0))
        if fault:
            clusters, classes = counts.shape
            parts = []
            if fault & _BAD_PREDICTION:
                parts.append(f"a prediction outside 0..{clusters - 1}")
            if fault & _BAD_LABEL:
                parts.append(f"a label above {classes - 1} (ignored pixels must be negative)")
            raise ValueError("cannot count " + " and ".join(parts))
        return Confusion(self.counts + counts)

    def merge(self, other: "Confusion") -> "Confusion":
        """Returns the record of both sets of pixels; raises ValueError where the shapes differ."""
        return self.add(other.counts)


def matched(counts: np.ndarray, match: np.ndarray) -> np.ndarray:
    """Returns i64[C+1 C]: pixels by predicted class and labelled class.

    `counts` i[K C], `match` i[K] in -1..C-1. Row c < C sums the clusters that stand for class c.
    The last row holds the clusters that stand for none: their pixels are wrong for the class that
    they are labelled with, and a false positive of no class. The total is that of `counts`.

    Raises ValueError where `match` does not fit.

    Departs from the released STEGO and SmooSeg code, which drops clusters beyond the class count
    before counting and averages an always empty row into the mean IoU.
    """
    counts, match = np.asarray(counts, np.int64), np.asarray(match, np.int64)
    clusters, classes = counts.shape
    if match.shape != (clusters,) or not np.all((match >= -1) & (match < classes)):
        raise ValueError(f"match must be [{clusters}] in -1..{classes - 1}, not {match.tolist()}")
    rows = np.zeros((classes + 1, classes), np.int64)
    np.add.at(rows, match, counts)  # -1 is the last row
    return rows


def pixel_accuracy(rows: np.ndarray) -> float:
    """Returns the share of labelled pixels that are right in `rows` from `matched`; nan of none."""
    total = int(rows.sum())
    return float(np.trace(rows) / total) if total else float("nan")


def iou(rows: np.ndarray) -> np.ndarray:
    """Returns f64[C], intersection over union by class, of `rows` from `matched`.

    nan for a class that is neither labelled nor predicted. A class that no pixel is labelled with
    but some are predicted as has IoU 0.
    """
    classes = rows.shape[1]
    hits = np.diagonal(rows).astype(np.float64)
    union = rows[:classes].sum(axis=1) + rows.sum(axis=0) - np.diagonal(rows)
    return np.divide(hits, union, out=np.full(classes, np.nan), where=union > 0)


def miou(rows: np.ndarray, absent: str = "drop") -> float:
    """Returns the mean IoU over the classes of `rows` from `matched`.

    `absent` is what a class that is neither labelled nor predicted does: "drop" leaves it out of
    the mean (released STEGO, SmooSeg and PiCIE), "zero" counts it as 0 (released HSG, which divides
    by the number of classes). nan where no class is left. Raises ValueError for another `absent`.
    """
    return _mean_iou(iou(rows), absent)


def _mean_iou(per_class: np.ndarray, absent: str) -> float:
    if absent == "zero":
        return float(np.mean(np.nan_to_num(per_class, nan=0.0)))
    if absent != "drop":
        raise ValueError(f'absent must be "drop" or "zero", not {absent!r}')
    defined = per_class[~np.isnan(per_class)]
    return float(defined.mean()) if defined.size else float("nan")


def summarise(counts: np.ndarray, match: np.ndarray, absent: str = "drop") -> dict[str, Any]:
    """Returns {"accuracy": float, "miou": float, "iou": C floats} of a matrix under a match.

    Arguments and errors as in `matched` and `miou`; "iou" holds nan where a class is absent.
    """
    rows = matched(counts, match)
    return {
        "accuracy": pixel_accuracy(rows),
        "miou": miou(rows, absent),
        "iou": iou(rows).tolist(),
    }


def partition(
    counts: np.ndarray, match: np.ndarray, things: Sequence[int], absent: str = "drop"
) -> dict[str, float]:
    """Returns accuracy and mean IoU of things and of stuff, the classes that are no things.

    Clusters are first put in the order of their classes, with `matched`; only then are classes
    things or stuff (the released PiCIE code takes the first rows before they are in order, which
    are clusters of any class). The accuracy of a part is that of the pixels labelled with its
    classes; the IoU of a class is the one that it has among all classes, so that things taken for
    stuff count in both parts.

    Arguments and errors as in `matched` and `miou`; `things` holds classes in 0..C-1.
    """
    rows = matched(counts, match)
    hits, labelled, per_class = np.diagonal(rows), rows.sum(axis=0), iou(rows)
    is_thing = np.isin(np.arange(rows.shape[1]), things)
    found = {}
    for name, part in (("things", is_thing), ("stuff", ~is_thing)):
        total = labelled[part].sum()
        found[f"{name}_accuracy"] = float(hits[part].sum() / total) if total else float("nan")
        found[f"{name}_miou"] = _mean_iou(per_class[part], absent)
    return found


def label_entropy(histogram: np.ndarray) -> float:
    """Returns the entropy, in nats, of counts [n]; nan of none; ValueError for a negative count."""
    histogram = np.asarray(histogram, np.float64)
    if np.any(histogram < 0):
        raise ValueError(f"a histogram has no negative counts, but this one has {histogram.min()}")
    if not histogram.any():
        return float("nan")
    share = histogram[histogram > 0] / histogram.sum()
    return float(abs(np.sum(share * np.log(share))))  # abs: one full bin gives -0.0


def effective_clusters(histogram: np.ndarray) -> float:
    """Returns exp(`label_entropy`): n for n equally used clusters, 1 where one took every pixel."""
    return float(np.exp(label_entropy(histogram)))
