"""Segmentations of hierarchies against pixel-by-pixel sums, and BSDS500's recorded results."""

import itertools

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from sklearn.metrics import rand_score

from jaxseg.data.bsds500 import read_segmentations
from jaxseg.evaluation.boundaries import even_thresholds
from jaxseg.evaluation.segmentations import Agreement, SegmentationScores, agreement, segments

IMAGES = ("2018", "3063", "5096", "6046", "8068")
COVERING = ("covering_threshold", "covering_ods", "covering_ois", "covering_best")
PAIRS = ("rand_threshold", "rand_ods", "rand_ois", "voi_threshold", "voi_ods", "voi_ois")


@pytest.fixture
def bench(real_data):
    """Returns the folder of the benchmark's own example."""
    return real_data("bsds500") / "bench_vectors"


def entropy(*maps):
    """Returns the bits of the joint distribution of label maps."""
    keys = list(zip(*(each.reshape(-1).tolist() for each in maps), strict=True))
    shares = [keys.count(key) / len(keys) for key in set(keys)]
    return -sum(share * np.log2(share) for share in shares)


def overlaps(truth, predicted):
    """Returns (pixels, best intersection over union) of the truth's regions, from sets."""
    parts = [set(np.flatnonzero(predicted == label)) for label in np.unique(predicted)]
    for label in np.unique(truth):
        region = set(np.flatnonzero(truth == label))
        yield len(region), max(len(region & part) / len(region | part) for part in parts)


@settings(deadline=None, max_examples=50)
@given(hnp.arrays(np.uint16, (4, 3, 5), elements={"min_value": 0, "max_value": 4}))
def test_agreement_is_what_pixels_say(maps):
    predictions, truths = maps[:2], maps[2:]
    found = agreement(predictions, truths)
    pairs = [[list(overlaps(truth, each)) for truth in truths] for each in predictions]
    flat = [list(itertools.chain(*each)) for each in pairs]
    np.testing.assert_allclose(found.covered, [sum(n * iou for n, iou in each) for each in flat])
    best = sum(a[0] * max(a[1], b[1]) for a, b in zip(*flat, strict=True))
    np.testing.assert_allclose(found.best, best)
    assert found.pixels == truths.size
    rand = [np.mean([rand_score(t.ravel(), p.ravel()) for t in truths]) for p in predictions]
    np.testing.assert_allclose(found.rand, rand)
    voi = [np.mean([2 * entropy(p, t) - entropy(p) - entropy(t) for t in truths]) for p in maps[:2]]
    np.testing.assert_allclose(found.voi, voi, atol=1e-12)


def test_segments_are_what_strong_contours_part():
    ucm2 = np.zeros((5, 7))  # 2 x 3 pixels, at odd places
    ucm2[:, 2] = 0.2
    ucm2[:, 4] = 0.6
    ucm2[2, 5:] = 0.4
    np.testing.assert_array_equal(segments(ucm2, 0.1), [[1, 2, 3], [1, 2, 4]])
    np.testing.assert_array_equal(segments(ucm2, 0.2), [[1, 1, 2], [1, 1, 3]])
    np.testing.assert_array_equal(segments(ucm2, 0.5), [[1, 1, 2], [1, 1, 2]])
    np.testing.assert_array_equal(segments(ucm2, 0.6), [[1, 1, 1], [1, 1, 1]])


def test_a_hierarchy_is_what_its_cuts_are():
    key = np.random.default_rng(0)
    thresholds = even_thresholds(9)
    for levels in (3, 40):
        ucm2 = np.zeros((11, 15))
        ucm2[1:-1:2, 2:-1:2], ucm2[2:-1:2, 1::2] = (
            key.choice([*thresholds, *key.uniform(0, 1, levels)], shape)
            for shape in [(5, 6), (4, 7)]
        )
        above, below = ucm2[1:-2:2, 2:-1:2], ucm2[3::2, 2:-1:2]
        left, right = ucm2[2:-1:2, 1:-2:2], ucm2[2:-1:2, 3::2]
        ucm2[2:-1:2, 2:-1:2] = np.max([above, below, left, right], axis=0)
        truths = key.integers(1, 5, (3, 5, 7))
        found = SegmentationScores(thresholds).update(ucm2, truths).images[0]
        expected = agreement([segments(ucm2, each) for each in thresholds], truths)
        for name in Agreement._fields:
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-12)


def test_best_thresholds_of_all_images_and_of_each():
    first = Agreement(np.array([60.0, 80]), 90, 100, np.array([0.5, 0.7]), np.array([2.0, 1]))
    second = Agreement(np.array([240.0, 90]), 250, 300, np.array([0.6, 0.1]), np.array([3.0, 3.5]))
    thresholds = even_thresholds(2)
    record = SegmentationScores(thresholds, (first, second))
    expected = {
        "covering_threshold": 1 / 3, "covering_ods": 300 / 400, "covering_ois": 320 / 400,
        "rand_threshold": 1 / 3, "rand_ods": 0.55, "rand_ois": 0.65,
        "voi_threshold": 2 / 3, "voi_ods": 2.25, "voi_ois": 2.0, "covering_best": 340 / 400,
    }  # fmt: skip
    assert record.result() == pytest.approx(expected)
    parts = [SegmentationScores(thresholds, (each,)) for each in (first, second)]
    assert parts[0].merge(parts[1]).result() == record.result()
    assert np.isnan(SegmentationScores(thresholds).result()["covering_best"])
    with pytest.raises(ValueError, match="same thresholds"):
        record.merge(SegmentationScores(thresholds / 2))


@pytest.mark.parametrize(
    ("test", "source"), [("test_1", "ucm2"), ("test_4", "segs"), ("test_5", "segs")]
)
def test_recorded_results_of_the_benchmark(bench, test, source):
    record = SegmentationScores(even_thresholds(5) if source == "ucm2" else np.arange(1.0, 6))
    for image in IMAGES:
        truths = read_segmentations(bench / "groundTruth" / f"{image}.mat")
        predicted = scipy.io.loadmat(bench / source / f"{image}.mat")[source]
        if source == "ucm2":
            record = record.update(predicted, truths)
        else:
            found = agreement(predicted[0], truths)
            record = record.merge(SegmentationScores(record.thresholds, (found,)))
    result = record.result()
    for name, keys in (("eval_cover", COVERING), ("eval_RI_VOI", PAIRS)):
        recorded = np.loadtxt(bench / test / f"{name}.txt")  # six digits
        np.testing.assert_allclose([result[key] for key in keys], recorded, rtol=1e-5)
    curves = [
        np.loadtxt(bench / test / f"{name}.txt")[:, 1:]
        for name in ("eval_cover_th", "eval_RI_VOI_thr")
    ]
    np.testing.assert_allclose(record.curve(), np.concatenate(curves, axis=1), rtol=1e-5)
    images = np.loadtxt(bench / test / "eval_cover_img.txt")
    covering = [(each.covered / each.pixels).max() for each in record.images]
    np.testing.assert_allclose(covering, images[:, 2], rtol=1e-5)


def test_recorded_covering_among_all_test_images(real_data):
    """The example's five images are also in the results of all 200, at 99 thresholds."""
    root = real_data("bsds500")
    names = sorted(path.stem for path in (root / "images/test").glob("*.jpg"))
    rows = np.loadtxt(root / "ucm2_test_eval/eval_cover_img.txt")
    for image in IMAGES:
        ucm2 = scipy.io.loadmat(root / f"bench_vectors/ucm2/{image}.mat")["ucm2"]
        truths = read_segmentations(root / f"groundTruth/test/{image}.mat")
        found = SegmentationScores(even_thresholds(99)).update(ucm2, truths).result()
        row = rows[names.index(image)]
        assert found["covering_ods"] == pytest.approx(row[2], rel=1e-5)
        assert found["covering_threshold"] == pytest.approx(row[1])
