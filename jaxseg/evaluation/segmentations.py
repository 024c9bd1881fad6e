"""How well a hierarchy's segmentations match those that people drew: the measures of BSDS500.

A contour map of doubled size is cut at several thresholds into segmentations, and each is compared
with those of all annotators by covering, Rand index and variation of information. Source: Arbelaez
et al. 2011, sections 2.3.2 and 2.3.3, and the benchmark that they released, whose recorded results
the tests reproduce.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.special import xlogy

from jaxseg.evaluation.regions import compare


class Agreement(NamedTuple):
    """How well T segmentations of an image match those of all annotators.

    Attributes:
        covered: f64[T], the sum over all annotators' regions of their pixels times the intersection
            over union with the segment that they overlap best.
        best: that sum with each region's best segment of all T segmentations.
        pixels: what `covered` is at most: the image's pixels times the annotators.
        rand: f64[T] in [0, 1], the mean over annotators of the Rand index.
        voi: f64[T], the mean over annotators of the variation of information, in bits.
    """

    covered: np.ndarray
    best: float
    pixels: int
    rand: np.ndarray
    voi: np.ndarray


def segments(ucm2: np.ndarray, threshold: float) -> np.ndarray:
    """Returns the segments i32[H W], from 1, of a contour map of doubled size f[2H+1 2W+1].

    They are what contours stronger than `threshold` part.
    """
    label, _ = ndimage.label(ucm2 <= threshold, np.ones((3, 3)))
    return label[1::2, 1::2]


def agreement(predictions: Iterable[np.ndarray], truths: Sequence[np.ndarray]) -> Agreement:
    """Returns how well the segmentations of an image match: T predictions, all annotators' truths.

    All are i[H W], not negative: every pixel is in a region.
    """
    return _agreement([_table(truth, each) for truth in truths] for each in predictions)


def _agreement(tables: Iterable[Sequence[np.ndarray]]) -> Agreement:
    """Returns how well T segmentations match from their tables f64[R G], as of `_table`."""
    overlaps, rand, voi = [], [], []
    for each in tables:
        overlaps.append(np.concatenate([_overlap(table) for table in each]))
        rand.append(np.mean([_rand(table) for table in each]))
        voi.append(np.mean([_voi(table) for table in each]))
        area = np.concatenate([table.sum(axis=1) for table in each])  # the same of every one
    overlap = np.stack(overlaps)
    return Agreement(
        overlap @ area,
        float(overlap.max(axis=0) @ area),
        int(area.sum()),
        np.array(rand),
        np.array(voi),
    )


def _cut_tables(
    ucm2: np.ndarray, thresholds: np.ndarray, truths: Sequence[np.ndarray]
) -> Iterator[list[np.ndarray]]:
    """Yields the tables of the truths and the `segments` at each threshold.

    Only the finest segments are compared with the truths; those of a higher threshold are made of
    them, and so are their tables.
    """
    finest = segments(ucm2, thresholds[0]) - 1
    tables = [_table(truth, finest) for truth in truths]
    yield tables
    one, other, contour = _neighbours(finest, ucm2)
    level = np.searchsorted(thresholds, contour)  # the first threshold that is not lower
    parent = np.arange(finest.max() + 1)
    for i in range(1, len(thresholds)):
        merging = level == i
        pairs = parent[one[merging]], parent[other[merging]]
        before = parent.max() + 1
        joined = csr_array((np.ones(merging.sum()), pairs), shape=(before, before))
        count, label = connected_components(joined, directed=False)
        becomes = csr_array((np.ones(before), (np.arange(before), label)), shape=(before, count))
        parent = label[parent]
        tables = [table @ becomes for table in tables]
        yield tables


def _neighbours(segment: np.ndarray, ucm2: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the segments i[M] on both sides of every contour between pixels, and its strength."""
    sides = (
        (segment[:, :-1], segment[:, 1:], ucm2[1::2, 2:-1:2]),
        (segment[:-1], segment[1:], ucm2[2:-1:2, 1::2]),
    )
    one, other, contour = (
        np.concatenate([part.reshape(-1) for part in parts]) for parts in zip(*sides, strict=True)
    )
    apart = one != other
    return one[apart], other[apart], contour[apart]


def _table(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Returns pixels by region of the truth and predicted segment, f64[R G]; none is empty."""
    # Files hold unsigned numbers, which `compare` does not take.
    table = compare(truth.astype(np.int64), predicted.astype(np.int64))[:-1, :-1].astype(float)
    return table[table.any(axis=1)][:, table.any(axis=0)]


def _overlap(table: np.ndarray) -> np.ndarray:
    """Returns each region's intersection over union with its best segment, f64[R]."""
    region, segment = table.sum(axis=1, keepdims=True), table.sum(axis=0, keepdims=True)
    return (table / (region + segment - table)).max(axis=1)


def _rand(table: np.ndarray) -> float:
    """Returns the Rand index: the share of pairs of pixels together, or apart, in both."""
    pixels = table.sum()
    ordered = (table.sum(axis=0) ** 2).sum() + (table.sum(axis=1) ** 2).sum()
    return 1 - (ordered / 2 - (table**2).sum()) / (pixels * (pixels - 1) / 2)


def _voi(table: np.ndarray) -> float:
    """Returns the variation of information in bits: what either segmentation leaves unknown."""
    parts = (table.sum(axis=0), table.sum(axis=1))
    known = sum(xlogy(part, part).sum() for part in parts) - 2 * xlogy(table, table).sum()
    return float(known / table.sum() / np.log(2))


@dataclasses.dataclass(frozen=True, eq=False)
class SegmentationScores:
    """A mergeable record of hierarchies cut at several thresholds.

    Attributes:
        thresholds: f64[T], ascending.
        images: how well each image's T segmentations match.
    """

    thresholds: np.ndarray
    images: tuple[Agreement, ...] = ()

    def update(self, ucm2: np.ndarray, segmentations: Sequence[np.ndarray]) -> "SegmentationScores":
        """Returns the record with an image added.

        Args:
            ucm2: f[2H+1 2W+1] in [0, 1], an ultrametric contour map of doubled size: 0 on pixels,
                and at a corner the strongest of the contours that meet there.
            segmentations: i[H W] each, not negative, one of every annotator.
        """
        found = _agreement(_cut_tables(ucm2, self.thresholds, segmentations))
        return SegmentationScores(self.thresholds, (*self.images, found))

    def merge(self, other: "SegmentationScores") -> "SegmentationScores":
        """Returns the record of the images of both; ValueError for other thresholds."""
        if not np.array_equal(self.thresholds, other.thresholds):
            raise ValueError("only records of the same thresholds can be merged")
        return SegmentationScores(self.thresholds, self.images + other.images)

    def curve(self) -> np.ndarray:
        """Returns f64[T 3]: covering, Rand index, variation of information at each threshold.

        The covering is over the pixels of all images and annotators, the others are means over
        images; nan without images.
        """
        if not self.images:
            return np.full((len(self.thresholds), 3), np.nan)
        covering = sum(each.covered for each in self.images) / self._pixels()
        rand = np.mean([each.rand for each in self.images], axis=0)
        voi = np.mean([each.voi for each in self.images], axis=0)
        return np.stack([covering, rand, voi], axis=-1)

    def _pixels(self) -> int:
        return sum(each.pixels for each in self.images)

    def result(self) -> dict[str, float]:
        """Returns the scores by name; nan without images.

        "covering", "rand" (the probabilistic Rand index) and "voi" (smaller is better), each with
        "_ods" at the best threshold for all images, which "_threshold" gives, and "_ois" at each
        image's best; "covering_best" takes each region's best segment at any threshold.
        """
        curve = self.curve()
        pixels, count = self._pixels() or np.nan, len(self.images) or np.nan
        means = {  # over images, each at its best
            "covering": sum(image.covered.max() for image in self.images) / pixels,
            "rand": sum(image.rand.max() for image in self.images) / count,
            "voi": sum(image.voi.min() for image in self.images) / count,
        }
        found = {"covering_best": sum(image.best for image in self.images) / pixels}
        for column, (name, best) in zip(curve.T, means.items(), strict=True):
            place = column.argmin() if name == "voi" else column.argmax()
            found[f"{name}_threshold"] = float(self.thresholds[place])
            found[f"{name}_ods"] = float(column[place])
            found[f"{name}_ois"] = float(best)
        return found
