import itertools
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxseg.evaluation import matching, scores

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
SIZES = st.tuples(st.integers(1, 4), st.integers(1, 4))


def test_hungarian_matches_the_reference():
    golden = np.load(GOLDEN / "hungarian.npz")
    classes = int(golden["num_classes"])
    record = scores.Confusion.zeros(classes, classes)
    for prediction, label in zip(golden["predictions"], golden["labels"], strict=True):
        record = record.update(prediction, label)
    np.testing.assert_array_equal(record.counts, golden["confusion_cluster_by_class"])
    match = matching.hungarian(record.counts)
    np.testing.assert_array_equal(match, golden["matched_class_of_cluster"])
    found = scores.summarise(record.counts, match)
    assert found["iou"][8] == 0  # predicted but never labelled
    assert 100 * found["accuracy"] == pytest.approx(golden["accuracy_percent"], rel=1e-4)
    assert 100 * found["miou"] == pytest.approx(golden["miou_percent"], rel=1e-4)
    plain = scores.summarise(record.counts, matching.identity(record.counts))
    assert 100 * plain["accuracy"] == pytest.approx(golden["unmatched_accuracy_percent"], rel=1e-4)
    assert 100 * plain["miou"] == pytest.approx(golden["unmatched_miou_percent"], rel=1e-4)


def test_more_clusters_than_classes_keep_every_pixel():
    golden = np.load(GOLDEN / "overclustered_confusion.npz")
    record = scores.Confusion.zeros(int(golden["num_clusters"]), int(golden["num_classes"]))
    record = record.update(golden["predictions"], golden["labels"])
    np.testing.assert_array_equal(record.counts, golden["confusion_cluster_by_class"])
    match = matching.hungarian(record.counts)
    assert np.sum(match == -1) == 4
    rows = scores.matched(record.counts, match)
    assert rows.sum() == np.sum(golden["labels"] >= 0)
    right = sum(record.counts[k, c] for k, c in enumerate(match) if c >= 0)
    found = scores.summarise(record.counts, match)
    assert found["accuracy"] == right / np.sum(golden["labels"] >= 0)
    assert len(found["iou"]) == 9


@given(SIZES.flatmap(lambda s: hnp.arrays(np.int64, s, elements=st.integers(0, 50))))
@settings(deadline=None, max_examples=60)
def test_hungarian_is_the_best_one_to_one_match(counts):
    clusters, classes = counts.shape
    match = matching.hungarian(counts)
    used = match[match >= 0]
    assert match.shape == (clusters,)
    assert len(used) == len(set(used.tolist())) == min(clusters, classes)
    # Columns beyond C stand for "no class", so that every choice of columns is a match.
    padded = np.pad(counts, [(0, 0), (0, clusters)])
    best = max(
        sum(padded[k, c] for k, c in enumerate(columns))
        for columns in itertools.permutations(range(classes + clusters), clusters)
    )
    assert sum(counts[k, c] for k, c in enumerate(match) if c >= 0) == best


def test_permuted_clusters_are_perfect():
    order = np.array([2, 0, 3, 1])
    label = np.random.default_rng(0).integers(0, 4, (3, 8, 8))
    counts = scores.Confusion.zeros(4, 4).update(order[label], label).counts
    match = matching.hungarian(counts)
    assert match[order].tolist() == [0, 1, 2, 3]
    found = scores.summarise(counts, match)
    assert found == {"accuracy": 1.0, "miou": 1.0, "iou": [1.0] * 4}


def test_three_clusters_for_two_classes():
    counts = np.array([[5, 1], [6, 0], [0, 9]])
    assert matching.hungarian(counts).tolist() == [-1, 0, 1]
    found = scores.summarise(counts, matching.hungarian(counts))
    assert found["accuracy"] == 15 / 21
    assert found["iou"] == [6 / 11, 9 / 10]
    assert matching.many_to_one(counts).tolist() == [0, 0, 1]
    assert scores.summarise(counts, matching.many_to_one(counts))["accuracy"] == 20 / 21
    assert matching.identity(counts).tolist() == [0, 1, -1]
    assert scores.summarise(counts, matching.identity(counts))["accuracy"] == 5 / 21


def test_two_clusters_for_three_classes():
    counts = np.array([[1, 7, 3], [4, 6, 0]])
    assert matching.hungarian(counts).tolist() == [1, 0]
    found = scores.summarise(counts, matching.hungarian(counts))
    assert found["accuracy"] == 11 / 21
    assert found["iou"] == [4 / 11, 7 / 17, 0.0]  # class 2 is labelled, so it counts
    assert matching.many_to_one(counts).tolist() == [1, 1]
    assert matching.identity(counts).tolist() == [0, 1]


def test_many_to_one_of_ties_and_of_clusters_without_pixels():
    counts = np.array([[0, 4, 4], [0, 0, 0]])
    assert matching.many_to_one(counts).tolist() == [1, -1]


def test_every_matching_keeps_every_pixel():
    counts = np.random.default_rng(0).integers(0, 9, (6, 4))
    for match in matching.MATCHINGS.values():
        assert match(counts).dtype == np.int64
        assert scores.matched(counts, match(counts)).sum(0).tolist() == counts.sum(0).tolist()
