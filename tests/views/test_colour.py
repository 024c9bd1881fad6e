"""Changes of colour: whom they touch, and how."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.views import colour

NOTHING, AMOUNTS = (0.0,) * 4, (0.4, 0.4, 0.4, 0.1)


def images(count=40, channels=3):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.random((count, 6, 5, channels)), jnp.float32)


def test_each_change_meets_its_share_of_the_images():
    before = images(count=400)
    for shares in ((0.8, 0.0, 0.0), (0.0, 0.2, 0.0), (0.0, 0.0, 0.5)):
        after = colour.augment(jax.random.key(1), before, AMOUNTS, *shares)
        changed = np.asarray(jnp.any(after != before, axis=(1, 2, 3)))
        # Four standard deviations of a share of 400 draws.
        assert abs(changed.mean() - sum(shares)) < 4 * 0.5 / 20
        assert float(after.min()) >= 0
        assert float(after.max()) <= 1


def test_grey_has_three_equal_channels_and_leaves_infrared_alone():
    before = images(channels=4)
    after = np.asarray(colour.augment(jax.random.key(0), before, NOTHING, 0.0, 1.0))
    np.testing.assert_allclose(after[..., 0], after[..., 1])
    np.testing.assert_allclose(after[..., :1], colour.grey(before[..., :3]), rtol=1e-6)
    np.testing.assert_array_equal(after[..., 3], before[..., 3])


def test_the_blur_is_that_of_the_released_code():
    image = jnp.zeros((1, 9, 9, 1)).at[0, 4, 4, 0].set(1.0)
    sigma = 1.3
    found = np.asarray(colour.blur(image, jnp.full((1, 1, 1, 1), sigma / 2**0.5), reach=2))[
        0, ..., 0
    ]
    y, x = np.mgrid[-4:5, -4:5]
    kernel = np.exp(-(y**2 + x**2) / sigma**2) * (np.maximum(abs(y), abs(x)) <= 2)
    np.testing.assert_allclose(found, kernel / kernel.sum(), atol=1e-6)
