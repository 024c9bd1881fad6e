"""Which class a cluster stands for.

Each function takes a confusion matrix i[K C] (pixels of cluster k labelled class c, over the whole
test set) and returns i64[K]: the class of each cluster, or -1 for a cluster that stands for none.
`scores.matched` keeps the pixels of the latter, as wrong ones.
"""

from collections.abc import Callable

import numpy as np
from scipy.optimize import linear_sum_assignment


def hungarian(confusion: np.ndarray) -> np.ndarray:
    """Returns the one-to-one match with the most correctly labelled pixels.

    With more clusters than classes the K - C left over get -1; with fewer, C - K classes stay
    without a cluster. A cluster may be matched to a class that it shares no pixel with; that class
    then counts as predicted, as in the released STEGO, SmooSeg and PiCIE code.

    Source: Kuhn 1955; the protocol of Ji et al. 2019 (IIC).
    """
    confusion = np.asarray(confusion, np.int64)
    match = np.full(confusion.shape[0], -1, np.int64)
    cluster, label = linear_sum_assignment(confusion, maximize=True)
    match[cluster] = label
    return match


def many_to_one(confusion: np.ndarray) -> np.ndarray:
    """Returns each cluster's most frequent class (ties: the smallest); -1 for one without pixels.

    Its accuracy grows with the number of clusters: not comparable with a one-to-one match.
    """
    confusion = np.asarray(confusion, np.int64)
    return np.where(confusion.sum(axis=1) > 0, confusion.argmax(axis=1), -1).astype(np.int64)


def identity(confusion: np.ndarray) -> np.ndarray:
    """Returns cluster k -> class k, for predictions that are classes; -1 for clusters beyond C."""
    clusters, classes = np.shape(confusion)
    index = np.arange(clusters, dtype=np.int64)
    return np.where(index < classes, index, -1)


MATCHINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "hungarian": hungarian,
    "many_to_one": many_to_one,
    "identity": identity,
}
