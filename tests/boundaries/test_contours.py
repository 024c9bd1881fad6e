"""Contours as a method: the levels are those of each image's hierarchy, padded or not."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.boundaries.contours import Contours
from jaxseg.boundaries.network import network_edges
from jaxseg.boundaries.ucm import make_hierarchy
from jaxseg.core import Batch


def levels(images, sizes):
    method = Contours(sizes)
    spec = Batch(index=jnp.zeros(2, jnp.int32), seed=jnp.zeros(2, jnp.uint32))
    state = method.init(jax.random.key(0), spec)
    output = jax.jit(method.predict)(state, jnp.asarray(images))
    np.testing.assert_allclose(output.features, images / np.float32(255), rtol=1e-6)
    return [np.asarray(level) for level in output.levels]


def blocks(height, width):
    drawn = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), np.uint8)
    return drawn.repeat(16, 1).repeat(16, 2)[:, :height, :width]


def test_levels_are_those_of_the_hierarchy_of_each_image():
    sizes, images = (9, 4, 2), blocks(64, 96)
    found = levels(images, sizes)
    for row, image in enumerate(images):
        hierarchy = make_hierarchy(network_edges(image))
        for limit, level in zip(sizes, found, strict=True):
            expected = hierarchy.regions(hierarchy.threshold(limit))
            assert 2 <= level[row].max() + 1 <= limit
            np.testing.assert_array_equal(level[row], expected)


def test_images_of_odd_sizes_have_levels_of_their_size():
    for level in levels(blocks(61, 77), (5, 3)):
        assert level.shape == (2, 61, 77)
        assert level.dtype == np.int32
        assert level.max() >= 1
