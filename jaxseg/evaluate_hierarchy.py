"""Evaluation of hierarchies: levels of groups within each image, against labelled regions."""

import collections
import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxseg.core import Array, Batch, Output, Stream, UserError
from jaxseg.evaluation.hierarchy import LEVELS, Hierarchy, HierarchyScores
from jaxseg.evaluation.outputs import Predict, for_pictures, tiled
from jaxseg.evaluation.regions import compare
from jaxseg.processes import fetch
from jaxseg.record import Result, Samples

_SEGMENTS = 1000  # base segments kept for pictures


@dataclasses.dataclass(frozen=True)
class _Image:
    """One real image on the host, without padding."""

    image: np.ndarray  # u8[H W Ch]
    levels: list[np.ndarray]  # i32[H W]
    labels: dict[str, np.ndarray]  # i32[H W]


@dataclasses.dataclass(frozen=True)
class HierarchyEvaluator:
    """Scores the levels of groups that a method finds in each image.

    Attributes:
        name: of the evaluator, in tables and files.
        probe: where the levels come from and what they are compared with.
        test_stream: what is scored; sample_stream: the images shown in pictures.
        classes: names by label map; empty without labels.
        tile: side in pixels of the squares that images are predicted in; 0 = whole. Groups then end
            at the squares' borders.

    Raises:
        UserError: `background` of the probe names no class.
    """

    name: str
    probe: Hierarchy
    test_stream: Stream
    sample_stream: Stream
    classes: dict[str, tuple[str, ...]]
    tile: int = 0

    def __post_init__(self):
        for name in self.probe.background if self.classes else ():
            if name not in self._names:
                raise UserError(
                    f"evals.{self.name}.background names {name!r}; the classes of "
                    f"{self.probe.labels[0]!r} are {', '.join(self._names) or 'none'}."
                )

    @property
    def _names(self) -> tuple[str, ...]:
        return self.classes.get(self.probe.labels[0], ())

    @property
    def _background(self) -> np.ndarray:
        return np.array([name in self.probe.background for name in self._names], bool)

    def protocol(self) -> dict[str, Any]:
        """Returns what has to be known of it to compare its scores; the probe says the rest."""
        return {"matching": "none, groups of an image", "label": ", ".join(self.probe.labels)}

    def run(self, predict: Predict, key: Array) -> Result:
        """Scores the test split; `predict` is a jitted method.predict, and `key` is not used."""
        del key
        if self.tile:
            predict = tiled(predict, self.tile)
        scores, segments = HierarchyScores(), _SegmentSample(self._background)
        for batch in self.test_stream():
            output = predict(batch.view(0))
            parts = None if segments.is_full else for_pictures(output)
            for row, image in self._images(output, batch):
                scores = scores.update(
                    image.levels, image.labels, self._background, self.probe.ignored
                )
                if parts is not None and image.labels:
                    cells = _cut(parts["features"][row], image, batch)
                    segments.add(cells, image.levels[0], next(iter(image.labels.values())))
        samples = self._samples(predict)
        usage = np.bincount(np.concatenate([x.reshape(-1) for x in samples.predictions]) + 1)[1:]
        return Result(
            self.name, scores.result(), usage, self._names, samples, kind="hierarchy",
            arrays=segments.arrays(),
        )  # fmt: skip

    def _images(self, output: Output, batch: Batch) -> Iterator[tuple[int, _Image]]:
        """Yields the real images of a batch with their row."""
        height, width = batch.first_view.shape[1:3]
        levels = [
            fetch(jax.image.resize(x, (len(x), height, width), "nearest"))
            for x in self.probe.levels(output, batch.valid_pixels)
        ]
        labels = {}
        for name in self.probe.labels if batch.label else ():
            if name not in batch.label:
                raise UserError(
                    f"evals.{self.name}.labels names {name!r}, which the test split does not have; "
                    f"it has {', '.join(sorted(batch.label))}."
                )
            labels[name] = fetch(batch.label[name])
        shown, sizes, index = fetch((batch.first_view, batch.size, batch.index))
        for row in np.flatnonzero(index >= 0):
            h, w = sizes[row, 0]
            yield (
                int(row),
                _Image(
                    shown[row, :h, :w],
                    [x[row, :h, :w] for x in levels],
                    {name: x[row, :h, :w] for name, x in labels.items()},
                ),
            )

    def _samples(self, predict: Predict) -> Samples:
        """Returns images with their coarsest level as prediction, and all levels in `extra`.

        There: "level/i" i32[H W], "label/i/NAME" i32[H W], "groups/i" f16[G D] the features of the
        groups of a level, by number; and what the output holds for pictures, without padding.
        """
        images: list[_Image] = []
        extra: dict[str, list[np.ndarray]] = collections.defaultdict(list)
        for batch in self.sample_stream():
            output = predict(batch.view(0))
            parts = for_pictures(output)
            if self.probe.source != LEVELS:  # attention tells of levels that are not shown
                parts = {k: x for k, x in parts.items() if not k.startswith("attention/")}
            for row, image in self._images(output, batch):
                images.append(image)
                for name, part in parts.items():
                    extra[name].append(_cut(part[row], image, batch))
                for number, level in enumerate(image.levels):
                    extra[f"level/{number}"].append(level)
                    groups = group_features(extra["features"][-1], level)
                    extra[f"groups/{number}"].append(groups.astype(np.float16))
                for number, (name, label) in enumerate(image.labels.items()):
                    extra[f"label/{number}/{name}"].append(label)
        labels = [next(iter(x.labels.values())) for x in images if x.labels]
        return Samples(
            [x.image for x in images], labels or None, [x.levels[-1] for x in images], dict(extra)
        )


def group_features(features: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Returns the mean features f32[G D], of length 1, of groups i[H W], G the largest number + 1.

    Every pixel has the feature of the cell of `features` f[h w D] that it lies in, so that small
    groups have one too; a number that no pixel has gets 0.
    """
    h, w = features.shape[:2]
    rows, columns = (
        np.arange(side) * n // side for n, side in zip((h, w), groups.shape, strict=True)
    )
    cells = rows[:, None] * w + columns[None]
    shares = compare(groups, cells)[:-1, :-1].astype(np.float32)
    sums = shares @ features.reshape(h * w, -1).astype(np.float32)
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)


def _cut(part: np.ndarray, image: _Image, batch: Batch) -> np.ndarray:
    """Returns a map [h w D] without padded cells; what is no map as it is."""
    if part.ndim != 3:
        return part
    share = np.asarray(image.image.shape[:2]) / batch.first_view.shape[1:3]
    h, w = np.ceil(np.asarray(part.shape[:2]) * share).astype(int)
    return part[:h, :w]


class _SegmentSample:
    """The first base segments of a split with classes: what pictures of their features show."""

    def __init__(self, background: np.ndarray):
        self._background = background
        self._features: list[np.ndarray] = []
        self._classes: list[np.ndarray] = []
        self._beside: list[np.ndarray] = []

    @property
    def is_full(self) -> bool:
        """Whether more segments would not be kept."""
        return sum(map(len, self._features)) >= _SEGMENTS

    def add(self, features: np.ndarray, segments: np.ndarray, classes: np.ndarray) -> None:
        """Adds the segments i[H W] of an image with features f[h w D] and classes i[H W]."""
        means = group_features(features, segments)
        table = compare(segments, classes)[:-1, :-1]
        kept = table.any(axis=1) & means.any(axis=1)
        if self.is_full or not kept.any():
            return
        most = table.argmax(axis=1)
        # The largest foreground class of the image beside the segment's own; -1 = there is none.
        others = np.where(self._background[: table.shape[1]], 0, table.sum(axis=0))
        others = np.tile(others, (len(table), 1))
        others[np.arange(len(table)), most] = 0
        beside = np.where(others.any(axis=1), others.argmax(axis=1), -1)
        self._features.append(means[kept].astype(np.float16))
        self._classes.append(most[kept])
        self._beside.append(beside[kept])

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns "segment_features" f16[N D], "segment_class" i64[N], "segment_beside" i64[N]."""
        if not self._features:
            return {}
        return {
            f"segment_{name}": np.concatenate(parts)[:_SEGMENTS]
            for name, parts in (
                ("features", self._features),
                ("class", self._classes),
                ("beside", self._beside),
            )
        }
