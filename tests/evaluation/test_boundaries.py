"""Matching of boundaries against a dense assignment, and BSDS500's recorded results."""

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy.optimize import linear_sum_assignment

from jaxseg.data.bsds500 import read_segmentations
from jaxseg.evaluation import boundaries
from jaxseg.evaluation.boundaries import (
    BoundaryScores,
    contours,
    count_matches,
    even_thresholds,
    match,
    outlines,
)

IMAGES = ("2018", "3063", "5096", "6046", "8068")
KEYS = (
    "ods_threshold", "ods_recall", "ods_precision", "ods",
    "ois_recall", "ois_precision", "ois", "ap",
)  # fmt: skip


@pytest.fixture
def bench(real_data):
    """Returns the folder of the benchmark's own example."""
    return real_data("bsds500") / "bench_vectors"


def least_cost(first, second, radius):
    """Returns the least cost of matching two maps and the number of pairs, from a dense matrix."""
    a, b = np.argwhere(first), np.argwhere(second)
    distance = np.hypot(*(a[:, None] - b[None]).transpose(2, 0, 1))
    alone = 100 * radius
    cost = np.zeros((len(a) + len(b), len(a) + len(b)))
    cost[: len(a), : len(b)] = np.where(distance <= radius, distance, 1e9)
    cost[: len(a), len(b) :] = cost[len(a) :, : len(b)] = alone
    rows, columns = linear_sum_assignment(cost)
    return cost[rows, columns].sum(), int(((rows < len(a)) & (columns < len(b))).sum())


@settings(deadline=None, max_examples=200)
@given(
    hnp.arrays(bool, (2, 7, 9)), st.sampled_from([0.5, 1.0, 1.5, 2.9]), st.sampled_from([1, 8, 500])
)
def test_a_matching_costs_as_little_as_a_dense_assignment(maps, radius, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boundaries, "_BLOCK", block)
        first, second = match(*maps, radius)
    assert not (first & ~maps[0]).any()
    assert not (second & ~maps[1]).any()
    cost, pairs = least_cost(*maps, radius)
    assert first.sum() == second.sum() == pairs
    # The matched pixels alone can be matched fully, at the same cost but for those left out.
    left = 100 * radius * (maps.sum() - 2 * pairs)
    again, all_of_them = least_cost(first, second, radius)
    assert all_of_them == pairs
    np.testing.assert_allclose(again + left, cost, rtol=1e-9)


@pytest.mark.parametrize(("shift", "share"), [(0, 1), (3, 1), (4, 0)])
def test_a_shifted_line_is_found_within_the_tolerance_only(shift, share):
    truth, predicted = np.zeros((2, 300, 400), bool)  # a diagonal of 500: at most 3.75 pixels
    truth[20:120, 50] = predicted[20:120, 50 + shift] = True
    counts = count_matches([predicted], [truth])
    np.testing.assert_array_equal(counts, [[100 * share, 100, 100 * share, 100]])


def test_a_second_line_is_not_matched_too():
    truth, predicted = np.zeros((2, 300, 400), bool)
    truth[20:120, 50] = predicted[20:120, 50] = predicted[20:120, 52] = True
    np.testing.assert_array_equal(count_matches([predicted], [truth]), [[100, 100, 100, 200]])


def test_a_pixel_is_right_with_any_annotator_and_found_with_each():
    predicted, one, other = np.zeros((3, 300, 400), bool)
    predicted[20:120, 50] = predicted[20:120, 200] = predicted[20:120, 300] = True
    one[20:120, 50] = True
    other[20:120, 50] = other[20:120, 200] = other[20:120, 250] = True
    np.testing.assert_array_equal(count_matches([predicted], [one, other]), [[300, 400, 200, 300]])


def test_nothing_predicted_or_nothing_true():
    half = np.repeat([[0, 1]], 40, axis=1).repeat(30, axis=0)
    record = BoundaryScores(even_thresholds(3))
    nothing = record.update(np.zeros(half.shape), [half])
    np.testing.assert_array_equal(nothing.images[0], [[0, 30, 0, 0]] * 3)
    assert set(nothing.result().values()) == {0.0, 0.25}  # 0.25: the first threshold
    one_region = record.update(outlines(half).astype(float), [np.zeros_like(half)])
    np.testing.assert_array_equal(one_region.images[0], [[0, 0, 0, 30]] * 3)
    assert one_region.result()["ods"] == 0
    perfect = record.update(outlines(half).astype(float), [half, half]).result()
    assert (perfect["ods"], perfect["ois"], perfect["ods_threshold"]) == (1, 1, 0.25)
    assert record.result()["ois"] == 0


def test_outlines_run_below_and_right_of_their_pixels():
    segmentation = np.zeros((4, 5), int)
    segmentation[2:, 3:] = 1
    expected = np.zeros((4, 5), bool)
    expected[1, 3:] = expected[1:, 2] = True
    expected[1, 2] = False  # the corner is not needed where lines are connected diagonally
    np.testing.assert_array_equal(outlines(segmentation), expected)


def slow_result(thresholds, images):
    """Returns ODS with its threshold, OIS and AP of counts [N T 4], step by step."""

    def measure(counts):
        recall, precision = counts[0] / max(counts[1], 1), counts[2] / max(counts[3], 1)
        return recall, precision, f(recall, precision)

    def f(recall, precision):
        return 2 * recall * precision / (recall + precision) if recall + precision else 0.0

    curve = [measure(counts) for counts in images.sum(axis=0)]
    ods, where = curve[0][2], thresholds[0]
    for i in range(1, len(thresholds)):
        for d in np.linspace(0, 1, 100):
            recall, precision, threshold = (
                d * after + (1 - d) * before
                for before, after in [
                    (curve[i - 1][0], curve[i][0]),
                    (curve[i - 1][1], curve[i][1]),
                    (thresholds[i - 1], thresholds[i]),
                ]
            )
            if f(recall, precision) > ods + 1e-12:
                ods, where = f(recall, precision), threshold
    chosen = sum(image[np.argmax([measure(c)[2] for c in image])] for image in images)
    area = 0.0
    for recall in np.linspace(0, 1, 101):
        for (r0, p0, _), (r1, p1, _) in zip(curve[1:], curve[:-1], strict=True):
            if r0 <= recall < r1 or (recall == r1 == curve[0][0]):
                area += (p0 + (p1 - p0) * (recall - r0) / (r1 - r0)) / 100
                break
    return {"ods": ods, "ods_threshold": where, "ois": measure(chosen)[2], "ap": area}


def test_scores_of_counts_merged_or_not():
    key = np.random.default_rng(0)
    thresholds = even_thresholds(6)
    there = np.sort(key.integers(100, 5000, (5, 6)), axis=1)[:, ::-1]
    right = (there * np.sort(key.uniform(0.2, 1, (5, 6)), axis=1)).astype(int)
    found = np.minimum(there, np.sort(key.integers(1, 3000, (5, 6)), axis=1)[:, ::-1])
    images = np.stack([found, np.full((5, 6), 3000), right, there], axis=-1)
    whole = BoundaryScores(thresholds, tuple(images))
    found = whole.result()
    for name, value in slow_result(thresholds, images).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, err_msg=name)
    assert found["ods_threshold"] not in thresholds
    first = BoundaryScores(thresholds, tuple(images[:2]))
    assert first.merge(BoundaryScores(thresholds, tuple(images[2:]))).result() == found
    with pytest.raises(ValueError, match="same thresholds"):
        first.merge(BoundaryScores(thresholds / 2))


def test_the_boundaries_of_the_files_are_the_outlines_of_their_segmentations(bench):
    for image in IMAGES:
        path = bench / "groundTruth" / f"{image}.mat"
        drawn = [cell["Boundaries"][0, 0] > 0 for cell in scipy.io.loadmat(path)["groundTruth"][0]]
        found = [outlines(each) for each in read_segmentations(path)]
        np.testing.assert_array_equal(found, drawn)


@pytest.mark.parametrize(
    ("test", "source"), [("test_1", "ucm2"), ("test_2", "png"), ("test_3", "segs")]
)
def test_recorded_results_of_the_benchmark(bench, test, source):
    record = BoundaryScores(np.arange(1.0, 6) if source == "segs" else even_thresholds(5))
    for image in IMAGES:
        truths = read_segmentations(bench / "groundTruth" / f"{image}.mat")
        path = bench / source / f"{image}.{'png' if source == 'png' else 'mat'}"
        if source == "segs":
            predictions = [outlines(each) for each in scipy.io.loadmat(path)["segs"][0]]
            counts = count_matches(predictions, [outlines(each) for each in truths])
            record = record.merge(BoundaryScores(record.thresholds, (counts,)))
        elif source == "png":
            record = record.update(np.asarray(Image.open(path)) / 255, truths)
        else:
            record = record.update(contours(scipy.io.loadmat(path)["ucm2"]), truths)
    # The recorded results of test_1 to test_4, on the same boundaries, differ by up to 0.001.
    result = record.result()
    recorded = np.loadtxt(bench / test / "eval_bdry.txt")
    np.testing.assert_allclose([result[key] for key in KEYS], recorded, rtol=0, atol=1e-3)
    if source == "segs":  # the same boundaries, recorded once more
        again = np.loadtxt(bench / "test_4" / "eval_bdry.txt")
        np.testing.assert_allclose([result[key] for key in KEYS], again, rtol=0, atol=1e-3)
    curve = np.loadtxt(bench / test / "eval_bdry_thr.txt")
    np.testing.assert_allclose(record.curve(), curve[:, 1:], rtol=0, atol=1e-3)
    images = np.loadtxt(bench / test / "eval_bdry_img.txt")
    for counts, row in zip(record.images, images, strict=True):
        one = BoundaryScores(record.thresholds, (counts,)).result()
        np.testing.assert_allclose([one[key] for key in KEYS[:4]], row[1:], rtol=0, atol=2e-3)


@pytest.mark.slow
def test_a_recorded_image_among_all_test_images(real_data):
    """The example's images are also in the results of all 200, at 99 thresholds."""
    root = real_data("bsds500")
    names = sorted(path.stem for path in (root / "images/test").glob("*.jpg"))
    rows = np.loadtxt(root / "ucm2_test_eval/eval_bdry_img.txt")
    for image in ("5096", "8068"):
        ucm2 = scipy.io.loadmat(root / f"bench_vectors/ucm2/{image}.mat")["ucm2"]
        truths = read_segmentations(root / f"groundTruth/test/{image}.mat")
        found = BoundaryScores(even_thresholds(99)).update(contours(ucm2), truths).result()
        row = rows[names.index(image), 1:]
        np.testing.assert_allclose([found[key] for key in KEYS[:4]], row, rtol=0, atol=2e-3)
