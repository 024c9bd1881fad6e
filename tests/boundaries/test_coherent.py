import types

import numpy as np
import pytest
import scipy.ndimage

from jaxseg.boundaries import coherent
from jaxseg.boundaries.coherent import MOST, PRESETS, Cut, coherent_regions
from jaxseg.boundaries.detectors import DETECTORS
from jaxseg.boundaries.edges import with_angles
from jaxseg.boundaries.gradient import gradient_edges
from jaxseg.boundaries.ucm import make_hierarchy
from jaxseg.core import UserError


def counting(counts):
    """What has `counts[t]` regions from the threshold t on."""
    return types.SimpleNamespace(
        count=lambda threshold: [n for t, n in counts.items() if t <= threshold + 1e-9][-1]
    )


@pytest.fixture(scope="module")
def noise():
    smooth = scipy.ndimage.gaussian_filter(np.random.default_rng(0).random((60, 80)), 1.5)
    return with_angles(((smooth - smooth.min()) / np.ptp(smooth)).astype(np.float32))


def test_the_threshold_rises_until_there_are_few_enough():
    hierarchy = counting({0: 900, 0.3: 49, 0.32: 48, 0.5: 2})
    assert Cut(0.25, 48).threshold(hierarchy) == pytest.approx(0.32)
    assert Cut(0.25, 47).threshold(hierarchy) == pytest.approx(0.5)
    assert Cut(0.4, 48).threshold(hierarchy) == 0.4
    assert Cut(0.25, 48, step=0.1).threshold(hierarchy) == pytest.approx(0.35)


def test_the_released_loop_ends_at_its_first_threshold():
    assert Cut(0.05, 1024, fixed=True).threshold(counting({0: 5000})) == 0.05


@pytest.mark.parametrize("step", [1e-3, 0.3, 1.0])
def test_the_search_ends_at_one(step):
    assert Cut(0.25, 1, step=step).threshold(counting({0: 7})) == 1.0


@pytest.mark.parametrize("limit", [1, 2, 10, 100])
def test_there_are_at_most_as_many_regions_as_the_limit(noise, limit):
    cut = Cut(0.0, limit)
    hierarchy = make_hierarchy(noise)
    regions = hierarchy.regions(cut.threshold(hierarchy))
    count = len(np.unique(regions))
    assert regions.max() + 1 == count <= limit
    # A step lower there are too many.
    assert hierarchy.count(0.0) > limit
    assert hierarchy.count(cut.threshold(hierarchy) - cut.step) > limit


def test_strengths_of_one_end_in_one_region():
    strength = np.zeros((20, 20), np.float32)
    strength[:, 9:11] = 1
    hierarchy = make_hierarchy(with_angles(strength))
    assert hierarchy.count(0.9) == 2
    assert hierarchy.count(Cut(0.25, 1).threshold(hierarchy)) == 1


def three_parts(height, width):
    image = np.full((height, width, 4), 30, np.uint8)
    image[: height // 2, width // 2 :, 0] = 220
    image[height // 2 :, width // 2 :, 1] = 220
    return image


@pytest.mark.parametrize("side", [200, 50])
def test_a_drawn_image_falls_into_its_parts(side):
    regions = coherent_regions(three_parts(80, 120), gradient_edges, PRESETS["gradient"], side)
    assert regions.shape == (80, 120)
    assert regions.dtype == np.int32
    truth = (1 + (np.arange(80) >= 40))[:, None] * (np.arange(120) >= 60)[None]
    pairs, counts = np.unique(
        np.stack([truth.ravel(), regions.ravel()]), axis=1, return_counts=True
    )
    largest = np.sort(counts)[-3:]
    assert largest.sum() > 0.97 * truth.size
    assert len({*pairs[1, counts >= largest[0]]}) == 3


def test_edges_of_half_the_size_are_repeated():
    def detect(image):
        return gradient_edges(image[::2, ::2])

    cut = PRESETS["pmi"]
    image = three_parts(41, 63)
    regions = coherent_regions(image, detect, cut, 100)
    small = coherent_regions(image[::2, ::2], gradient_edges, cut, 100)
    assert regions.shape == (41, 63)
    np.testing.assert_array_equal(np.unique(regions), np.unique(small))
    np.testing.assert_array_equal(regions[:40:2, :60:2], small[:20, :30])


@pytest.mark.parametrize("wrong", [{"start": 1.5}, {"limit": 0}, {"limit": MOST + 1}, {"step": 0}])
def test_a_cut_out_of_range_is_refused(wrong):
    (name,) = wrong
    with pytest.raises(UserError, match=f"the cut's {name} is"):
        Cut(**{"start": 0.25, "limit": 48} | wrong)


def test_more_regions_than_a_map_can_number_are_refused(noise, monkeypatch):
    monkeypatch.setattr(coherent, "MOST", 20)
    with pytest.raises(UserError, match=r"there are .* regions at the threshold 0; a map holds"):
        coherent_regions(
            np.zeros((60, 80, 3), np.uint8), lambda image: noise, Cut(0, 5, fixed=True), 1000
        )


def test_every_detector_has_a_preset():
    assert DETECTORS.keys() <= PRESETS.keys()
    with pytest.raises(UserError, match="gradient edges read none"):
        DETECTORS["gradient"]("model.yml")
