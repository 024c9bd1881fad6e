"""Each detector by its name: what it returns for an ordinary image, and the regions made of it."""

import numpy as np
import pytest

from jaxseg.boundaries.coherent import PRESETS, coherent_regions
from jaxseg.boundaries.detectors import DEFAULT, DETECTORS
from jaxseg.core import UserError

# The forest needs a file; its tests make one.
WITHOUT_FILE = sorted(set(DETECTORS) - {"structured_forest"})


@pytest.fixture(scope="module")
def image():
    """A bright disk on a dark, slightly noisy ground, u8[64 80 3]."""
    y, x = np.mgrid[:64, :80]
    inside = np.hypot(y - 32, x - 40) < 18
    noise = np.random.default_rng(0).normal(0, 4, (64, 80, 3))
    return np.clip(
        np.where(inside[..., None], (210, 170, 60), (40, 60, 90)) + noise, 0, 255
    ).astype(np.uint8)


@pytest.mark.parametrize("name", WITHOUT_FILE)
def test_regions_follow_the_edges(image, name):
    detect = DETECTORS[name]("")
    edges = detect(image)
    assert edges.strength.shape == edges.angle.shape
    assert edges.strength.dtype == edges.angle.dtype == np.float32
    assert edges.strength.shape in {(64, 80), (32, 40)}
    assert 0 <= edges.strength.min() <= edges.strength.max() <= 1
    regions = coherent_regions(image, detect, PRESETS[name], 2048)
    assert regions.shape == (64, 80)
    assert 2 <= regions.max() + 1 <= PRESETS[name].limit
    y, x = np.mgrid[:64, :80]
    distance = np.hypot(y - 32, x - 40)
    # Each region is of the disk or of the ground. A cut can leave a spur where nothing is seen.
    table = np.stack([np.bincount(regions[part], minlength=regions.max() + 1)
                      for part in (distance < 15, distance > 21)])  # fmt: skip
    assert table.min(axis=0).sum() < 0.02 * table.sum()


@pytest.mark.parametrize("name", ["pmi", "gradient"])
def test_a_file_that_nothing_reads_is_refused(name):
    with pytest.raises(UserError, match=f"{name} edges read none"):
        DETECTORS[name]("some.file")


def test_a_network_that_cannot_be_read_is_named_before_there_is_an_image():
    with pytest.raises(UserError, match=r"cannot read the boundary network none\.safetensors"):
        DETECTORS["network"]("none.safetensors")


def test_every_detector_has_a_preset():
    assert set(DETECTORS) <= set(PRESETS)
    assert DEFAULT in DETECTORS
