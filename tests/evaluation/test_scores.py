import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxseg.evaluation import scores
from jaxseg.evaluation.scores import Confusion
from jaxseg.sharding import make_mesh, over_all

K, C, SHAPE = 5, 4, (2, 3, 4)
PREDICTIONS = hnp.arrays(np.int32, SHAPE, elements=st.integers(0, K - 1))
LABELS = hnp.arrays(np.int32, SHAPE, elements=st.integers(-2, C - 1))
MATCHES = hnp.arrays(np.int64, K, elements=st.integers(-1, C - 1))


@given(PREDICTIONS, LABELS)
@settings(deadline=None, max_examples=40)
def test_confusion_counts_each_valid_pixel_once(prediction, label):
    expected = np.zeros((K, C), int)
    for p, c in zip(prediction.ravel(), label.ravel(), strict=True):
        if c >= 0:
            expected[p, c] += 1
    found = scores.confusion(jnp.asarray(prediction), jnp.asarray(label), K, C)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, expected)


@given(PREDICTIONS, LABELS, MATCHES)
@settings(deadline=None, max_examples=40)
def test_scores_match_brute_force(prediction, label, match):
    counts = Confusion.zeros(K, C).update(prediction, label).counts
    predicted, valid = match[prediction], label >= 0  # -1 is no class, and so right nowhere
    expected = []
    for c in range(C):
        hit = (predicted == c) & (label == c) & valid
        union = ((predicted == c) | (label == c)) & valid
        expected.append(hit.sum() / union.sum() if union.any() else np.nan)
    found = scores.summarise(counts, match)
    np.testing.assert_allclose(found["iou"], expected)
    assert len(found["iou"]) == C
    if not valid.any():
        assert math.isnan(found["accuracy"])
        assert math.isnan(found["miou"])
        return
    assert found["accuracy"] == pytest.approx((predicted == label)[valid].mean())
    if not np.isnan(expected).all():
        assert found["miou"] == pytest.approx(np.nanmean(expected))
    zero = scores.summarise(counts, match, absent="zero")
    assert zero["miou"] == pytest.approx(np.nansum(expected) / C)


@given(PREDICTIONS, LABELS, MATCHES)
@settings(deadline=None, max_examples=40)
def test_things_and_stuff_match_brute_force(prediction, label, match):
    counts = Confusion.zeros(K, C).update(prediction, label).counts
    predicted, valid = match[prediction], label >= 0
    found, whole = scores.partition(counts, match, [3, 1]), scores.summarise(counts, match)["iou"]
    for name, part in (("things", [1, 3]), ("stuff", [0, 2])):
        of_part = valid & np.isin(label, part)
        accuracy = (predicted == label)[of_part].mean() if of_part.any() else np.nan
        expected = [accuracy, np.nan]
        if not np.isnan(np.take(whole, part)).all():
            expected[1] = np.nanmean(np.take(whole, part))
        actual = [found[f"{name}_accuracy"], found[f"{name}_miou"]]
        np.testing.assert_allclose(actual, expected)


def test_things_are_classes_whatever_the_order_of_clusters():
    """PiCIE's released code takes the first clusters for things."""
    counts = np.array([[0, 0, 8], [9, 1, 0], [0, 5, 2]])  # clusters 0, 1, 2 are classes 2, 0, 1
    found = scores.partition(counts, np.array([2, 0, 1]), [0])
    assert found["things_accuracy"] == 1
    assert found["things_miou"] == pytest.approx(9 / 10)
    assert found["stuff_accuracy"] == pytest.approx(13 / 16)
    assert found["stuff_miou"] == pytest.approx((5 / 8 + 8 / 10) / 2)


def test_ignored_pixels_count_nowhere():
    label = np.array([[0, 0, -1, -1], [1, 1, -1, -1]])
    prediction = np.array([[0, 0, 1, 99], [1, 0, 0, -7]])  # whatever they predict
    counts = Confusion.zeros(2, 2).update(prediction, label).counts
    assert counts.tolist() == [[2, 1], [0, 1]]
    found = scores.summarise(counts, np.array([0, 1]))
    assert found["accuracy"] == 3 / 4
    assert found["iou"] == [2 / 3, 1 / 2]


@pytest.mark.parametrize(
    ("prediction", "label", "message"),
    [
        ([0, 3], [0, 1], "prediction outside 0..2"),
        ([0, -1], [0, 1], "prediction outside 0..2"),
        ([0, 1], [0, 255], "label above 1"),
        ([0, 1000], [0, 255], "prediction.*label"),
    ],
)
def test_values_out_of_range_are_never_dropped(prediction, label, message):
    record = Confusion.zeros(3, 2)
    with pytest.raises(ValueError, match=message):
        record.update(np.array(prediction), np.array(label))
    # The same out of a larger jitted function, where only the counts reach the host.
    counts = jax.jit(lambda p, c: scores.confusion(p, c, 3, 2))(
        jnp.asarray(prediction), jnp.asarray(label)
    )
    with pytest.raises(ValueError, match=message):
        record.add(counts)


BLOCKS = 3 * scores._BLOCK - 5  # pixels; the last block overlaps the one before


def test_blocks_count_each_pixel_once():
    rng = np.random.default_rng(0)
    prediction, label = rng.integers(0, K, BLOCKS), rng.integers(-1, C, BLOCKS)
    expected = np.zeros((K, C), np.int64)
    valid = label >= 0
    np.add.at(expected, (prediction[valid], label[valid]), 1)
    found = scores.confusion(jnp.asarray(prediction), jnp.asarray(label), K, C)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("place", [0, scores._BLOCK + 1, BLOCKS - 1])
def test_values_out_of_range_are_found_in_every_block(place):
    prediction = np.zeros(BLOCKS, np.int32)
    prediction[place] = K
    with pytest.raises(ValueError, match=r"^cannot count a prediction outside 0..\d+$"):
        Confusion.zeros(K, C).update(prediction, np.zeros(BLOCKS, np.int32))


def test_pixels_on_several_devices_are_counted_where_they_are(monkeypatch):
    rng, spread = np.random.default_rng(0), over_all(make_mesh())
    prediction, label = (rng.integers(0, C, (8, BLOCKS // 8)) for _ in range(2))
    programs = []

    def compiled(*arguments):
        programs.append(original.lower(*arguments).compile().as_text())
        return original(*arguments)

    original = scores.confusion
    monkeypatch.setattr(scores, "confusion", compiled)
    zero = Confusion.zeros(K, C)
    there = zero.update(*(jax.device_put(x, spread) for x in (prediction, label)))
    np.testing.assert_array_equal(there.counts, zero.update(prediction, label).counts)
    assert "all-reduce" in programs[0]
    assert "all-gather" not in programs[0]


def test_shapes_that_differ_are_an_error():
    with pytest.raises(ValueError, match="differ in shape"):
        Confusion.zeros(2, 2).update(np.zeros((2, 3), int), np.zeros((3, 2), int))
    with pytest.raises(ValueError, match="do not fit"):
        Confusion.zeros(2, 2).merge(Confusion.zeros(3, 2))


def test_merging_is_counting_together():
    rng = np.random.default_rng(0)
    prediction, label = rng.integers(0, K, (4, 9)), rng.integers(-1, C, (4, 9))
    zero = Confusion.zeros(K, C)
    together = zero.update(prediction, label)
    apart = zero.update(prediction[:1], label[:1]).merge(zero.update(prediction[1:], label[1:]))
    np.testing.assert_array_equal(together.counts, apart.counts)
    assert zero.counts.sum() == 0  # a record is a value: nothing is added in place


def test_counts_beyond_32_bits():
    record = Confusion(np.full((1, 1), 2**40, np.int64)).update(np.zeros(3, int), np.zeros(3, int))
    assert record.counts.tolist() == [[2**40 + 3]]
    assert record.counts.dtype == np.int64


def test_unmatched_clusters_are_wrong_for_their_class_and_predict_none():
    counts = np.array([[8, 0], [0, 6], [2, 4]])
    rows = scores.matched(counts, np.array([0, 1, -1]))
    assert rows.tolist() == [[8, 0], [0, 6], [2, 4]]
    found = scores.summarise(counts, np.array([0, 1, -1]))
    assert found["accuracy"] == 14 / 20
    assert found["iou"] == [8 / 10, 6 / 10]  # two classes, not three
    assert found["miou"] == pytest.approx(0.7)


def test_several_clusters_of_one_class_add_up():
    rows = scores.matched(np.array([[8, 0], [1, 6], [2, 4]]), np.array([0, 1, 1]))
    assert rows.tolist() == [[8, 0], [3, 10], [0, 0]]


def test_a_class_that_is_absent_and_one_that_is_only_predicted():
    counts = np.array([[3, 0, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0]])
    found = scores.summarise(counts, np.array([0, 1, 2]))  # class 3 has neither
    np.testing.assert_array_equal(found["iou"], [3 / 4, 1.0, 0.0, np.nan])
    assert found["miou"] == pytest.approx(1.75 / 3)
    zero = scores.summarise(counts, np.array([0, 1, 2]), absent="zero")
    assert zero["miou"] == pytest.approx(1.75 / 4)
    with pytest.raises(ValueError, match="drop"):
        scores.summarise(counts, np.array([0, 1, 2]), absent="skip")


@pytest.mark.parametrize("match", [[0, 1], [0, 1, 2], [0, 1, -2]])
def test_a_match_that_does_not_fit_is_an_error(match):
    with pytest.raises(ValueError, match="match must be"):
        scores.matched(np.zeros((3, 2), int), np.array(match))


def test_entropy_of_a_histogram():
    assert scores.label_entropy(np.array([5, 5, 0, 5, 5])) == pytest.approx(math.log(4))
    assert scores.effective_clusters(np.array([5, 5, 0, 5, 5])) == pytest.approx(4)
    assert scores.effective_clusters(np.array([0, 9])) == 1
    assert math.copysign(1, scores.label_entropy(np.array([0, 9]))) == 1
    by_hand = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert scores.label_entropy(np.array([1, 3])) == pytest.approx(by_hand)
    assert math.isnan(scores.label_entropy(np.zeros(3)))
    with pytest.raises(ValueError, match="negative"):
        scores.label_entropy(np.array([1, -1]))
