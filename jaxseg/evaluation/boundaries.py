"""How well predicted boundaries match those that people drew: the measures of BSDS500.

An edge strength is cut at several thresholds, each cut is thinned to lines one pixel wide, and the
pixels of the lines are matched one to one with those of every annotator, as far as they lie within
0.0075 of the image's diagonal. A predicted pixel is right if it is matched with any annotator's; an
annotator's pixel is found if it is matched. Source: Martin, Fowlkes & Malik 2004; Arbelaez et al.
2011, section 2.3, and the benchmark that they released, whose recorded results the tests reproduce.

The one departure is how a matching of least cost is found. The benchmark's solver (CSA, of Goldberg
& Kennedy) wants a perfect matching, so pixels that may stay alone are joined to a few random
outliers, and costs are rounded to 1/100; its recorded results of the same boundaries differ between
runs, by up to 0.0009 in an image's F. Here the cost is the least exactly: the distances of matched
pixels, and 100 times the largest allowed distance for either pixel of a pair that is not made.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching
from skimage.morphology import thin

TOLERANCE = 0.0075  # of the image's diagonal
_OUTLIER = 100  # cost of a pixel that stays alone, in largest allowed distances
_BLOCK = 500  # rows that are solved together; the solver's time grows faster than their number
_STEPS = 100  # points between two thresholds at which the best F is looked for


def even_thresholds(count: int) -> np.ndarray:
    """Returns f64[count], evenly spaced between 0 and 1 without either, as the benchmark's are."""
    return np.linspace(1 / (count + 1), 1 - 1 / (count + 1), count)


def outlines(segmentation: np.ndarray) -> np.ndarray:
    """Returns the boundaries bool[H W] between the regions of a label map i[H W], thinned.

    A boundary runs along the corners below and right of its pixels. Of BSDS500's segmentations
    these are exactly the boundaries that its files hold.
    """
    wide = np.pad(segmentation, ((0, 1), (0, 1)), mode="edge")
    down, right = wide[1:] != wide[:-1], wide[:, 1:] != wide[:, :-1]
    return thin(down[:, :-1] | down[:, 1:] | right[:-1] | right[1:])


def contours(ucm2: np.ndarray) -> np.ndarray:
    """Returns the strength f[H W] of a contour map of doubled size f[2H+1 2W+1]."""
    return ucm2[2::2, 2::2]


def match(first: np.ndarray, second: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns which pixels of two maps bool[H W] are matched one to one, bool[H W] of either.

    Pixels further apart than `radius`, in pixels, are not matched. The cost of the matching is the
    least: see the head of the module.
    """
    if first.sum() > second.sum():  # the solver's time depends on the rows, those of the first
        other, one = match(second, first, radius)
        return one, other
    matched = np.zeros(first.shape, bool), np.zeros(second.shape, bool)
    row, column, distance = _near(first, second, radius)
    for part in _blocks(row, column):
        pairs = _solve(row[part], column[part], distance[part], 2 * _OUTLIER * radius)
        for pixels, found in zip(matched, pairs, strict=True):
            pixels.reshape(-1)[found] = True
    return matched


def _near(
    first: np.ndarray, second: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns pairs of pixels at most `radius` apart: positions i[M] in either map, f64[M] pixels.

    Positions count along rows; those of the first map come in order.
    """
    reach = int(radius)
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    distance = np.hypot(dy, dx)
    disc = distance <= radius
    dy, dx, distance = dy[disc], dx[disc], distance[disc]
    width = first.shape[1]
    padded = np.pad(second, reach)
    at = np.flatnonzero(first)
    inner = (at // width + reach) * padded.shape[1] + at % width + reach
    row, offset = np.nonzero(padded.reshape(-1)[inner[:, None] + (dy * padded.shape[1] + dx)[None]])
    return at[row], at[row] + dy[offset] * width + dx[offset], distance[offset]


def _blocks(row: np.ndarray, column: np.ndarray) -> list[np.ndarray]:
    """Returns the numbers of the pairs in groups that share no pixel, of about `_BLOCK` rows."""
    if not len(row):
        return []
    rows, number = np.unique(row, return_inverse=True)
    columns, other = np.unique(column, return_inverse=True)
    count = len(rows) + len(columns)
    joined = csr_array((np.ones(len(row), bool), (number, len(rows) + other)), shape=(count, count))
    _, label = connected_components(joined, directed=False)
    block = np.cumsum(np.bincount(label[: len(rows)])) // _BLOCK
    mine = block[label[number]]
    order = np.argsort(mine, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(mine[order])) + 1)


def _solve(
    row: np.ndarray, column: np.ndarray, distance: np.ndarray, alone: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows and columns of the matching of least cost among pairs.

    A row may take a column of its own instead, at the cost `alone`, so that all rows have one. All
    costs are raised by 1, as a sparse matrix has none of 0.
    """
    rows, number = np.unique(row, return_inverse=True)
    columns, other = np.unique(column, return_inverse=True)
    own = np.arange(len(rows))
    cost = csr_array(
        (
            np.append(distance, np.full(len(rows), alone)) + 1,
            (np.append(number, own), np.append(other, len(columns) + own)),
        ),
        shape=(len(rows), len(columns) + len(rows)),
    )
    _, taken = min_weight_full_bipartite_matching(cost)
    paired = taken < len(columns)
    return rows[paired], columns[taken[paired]]


def count_matches(
    predictions: Iterable[np.ndarray], truths: Sequence[np.ndarray], tolerance: float = TOLERANCE
) -> np.ndarray:
    """Returns an image's counts i64[T 4], by prediction, against all annotators.

    The counts are: pixels of annotators found, and there; predicted pixels right, and there. T
    predictions and the truths are thin lines, bool[H W] each; `tolerance` is a share of the
    diagonal.
    """
    counts = []
    for predicted in predictions:
        found, right = 0, np.zeros(predicted.shape, bool)
        for truth in truths:
            mine, theirs = match(predicted, truth, tolerance * np.hypot(*predicted.shape))
            right |= mine
            found += int(theirs.sum())
        there = sum(int(truth.sum()) for truth in truths)
        counts.append((found, there, int(right.sum()), int(predicted.sum())))
    return np.array(counts, np.int64).reshape(-1, 4)


@dataclasses.dataclass(frozen=True, eq=False)
class BoundaryScores:
    """A mergeable record of boundaries at several thresholds.

    Attributes:
        thresholds: f64[T], ascending.
        images: the counts i64[T 4] of each image, as of `count_matches`.
    """

    thresholds: np.ndarray
    images: tuple[np.ndarray, ...] = ()

    def update(self, strength: np.ndarray, segmentations: Sequence[np.ndarray]) -> "BoundaryScores":
        """Returns the record with an image added.

        Args:
            strength: f[H W] in [0, 1]; of an ultrametric contour map, its `contours`. A raw edge
                strength is to be reduced to its ridges first, or thinning decides where they lie.
            segmentations: i[H W] each, one of every annotator.
        """
        cuts = (thin(strength >= threshold) for threshold in self.thresholds)
        counts = count_matches(cuts, [outlines(each) for each in segmentations])
        return BoundaryScores(self.thresholds, (*self.images, counts))

    def merge(self, other: "BoundaryScores") -> "BoundaryScores":
        """Returns the record of the images of both; ValueError for other thresholds."""
        if not np.array_equal(self.thresholds, other.thresholds):
            raise ValueError("only records of the same thresholds can be merged")
        return BoundaryScores(self.thresholds, self.images + other.images)

    def curve(self) -> np.ndarray:
        """Returns f64[T 3]: recall, precision and F at each threshold, over all images."""
        return _measures(sum(self.images, np.zeros((len(self.thresholds), 4), np.int64)))

    def result(self) -> dict[str, float]:
        """Returns the scores by name, in [0, 1]; 0 where nothing is predicted.

        "ods": the largest F at one threshold for all images, recall and precision interpolated
        between the thresholds; beside it its threshold, recall and precision. "ois": F where each
        image has its best threshold, not interpolated; "ap": the area under precision over recall,
        where recalls that no threshold has count 0.
        """
        curve = self.curve()
        best = (counts[_measures(counts)[:, 2].argmax()] for counts in self.images)
        recall, precision, ois = _measures(sum(best, np.zeros(4, np.int64)))
        names = ("ods_threshold", "ods_recall", "ods_precision", "ods")
        return dict(zip(names, _best(self.thresholds, curve), strict=True)) | {
            "ois_recall": float(recall),
            "ois_precision": float(precision),
            "ois": float(ois),
            "ap": _area(curve),
        }


def _f(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Returns the harmonic mean; 0 of zeros."""
    total = recall + precision
    return 2 * recall * precision / np.where(total > 0, total, 1)


def _measures(counts: np.ndarray) -> np.ndarray:
    """Returns recall, precision and F, f64[... 3], of counts i64[... 4]."""
    recall, precision = (counts[..., i] / np.maximum(counts[..., i + 1], 1) for i in (0, 2))
    return np.stack([recall, precision, _f(recall, precision)], axis=-1)


def _best(thresholds: np.ndarray, curve: np.ndarray) -> list[float]:
    """Returns threshold, recall, precision and F at the largest F of the curve f64[T 3].

    Threshold, recall and precision are interpolated between neighbours at `_STEPS` points.
    """
    points = np.concatenate([thresholds[:, None], curve[:, :2]], axis=1)
    share = np.linspace(0, 1, _STEPS)[None, :, None]
    between = points[1:, None] * share + points[:-1, None] * (1 - share)
    points = np.concatenate([points[:1], between.reshape(-1, 3)])
    scores = _f(points[:, 1], points[:, 2])
    place = scores.argmax()
    return [*points[place].tolist(), float(scores[place])]


def _area(curve: np.ndarray) -> float:
    """Returns the mean precision at recalls 0, 0.01, ..., 1 of the curve f64[T 3], 0 beyond it."""
    recall, first = np.unique(curve[:, 0], return_index=True)
    if len(recall) < 2:
        return 0.0
    wanted = np.linspace(0, 1, 101)
    return float(np.interp(wanted, recall, curve[first, 1], left=0, right=0).sum() / 100)
