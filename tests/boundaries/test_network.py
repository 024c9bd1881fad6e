"""The boundary network: its weights file, images of any size, and what it finds."""

import numpy as np
import pytest
import safetensors.numpy

from jaxseg.boundaries import network
from jaxseg.boundaries.network import WEIGHTS, network_edges
from jaxseg.core import UserError


@pytest.fixture
def square():
    """An orange square on a green ground, of an odd size."""
    image = np.empty((61, 90, 3), np.uint8)
    image[:] = (60, 120, 70)
    image[20:45, 30:60] = (220, 140, 40)
    return image


def test_the_weights_are_small_and_named_for_what_they_have_seen():
    assert WEIGHTS.stat().st_size <= 1_000_000
    notice = WEIGHTS.with_name("NOTICE").read_text()
    assert "BSDS500" in notice
    assert "research" in notice


def test_the_outline_of_a_square_is_found(square):
    edges = network_edges(square)
    assert edges.strength.shape == square.shape[:2]
    assert edges.strength.dtype == np.float32
    assert edges.strength.min() >= 0
    assert edges.strength.max() <= 1
    outline = np.zeros(square.shape[:2], bool)
    outline[19:46, 29:61] = True
    outline[21:44, 31:59] = False
    assert edges.strength[outline].mean() > 4 * edges.strength[~outline].mean()
    upright = edges.angle[30:35, 30]  # away from the corners
    np.testing.assert_allclose(upright, np.pi / 2, atol=0.3)


def test_images_of_like_size_share_a_program_and_few_are_kept(square):
    network_edges(square)  # 61 x 90 pixels, padded to 64 x 96
    before = network._compiled.cache_info()
    network_edges(np.ascontiguousarray(square[:40, :70]))
    after = network._compiled.cache_info()
    assert (after.misses, after.hits) == (before.misses, before.hits + 1)
    assert after.maxsize is not None  # memory is bounded, however many sizes a folder has


def test_weights_that_do_not_fit_are_named(tmp_path, square):
    with pytest.raises(UserError, match=r"cannot read the boundary network .*none\.safetensors"):
        network_edges(square, tmp_path / "none.safetensors")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(WEIGHTS.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"cannot read the boundary network .*damaged"):
        network_edges(square, damaged)
    other = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"params/w": np.zeros(3, np.float32)}, other)
    with pytest.raises(UserError, match=r"other\.safetensors holds another network.*params/w"):
        network_edges(square, other)
