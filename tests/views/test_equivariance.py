"""PiCIE's views: what is drawn, where a crop lies, and colours against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from jaxseg.views import colour, equivariance, geometry

SEED = jnp.arange(400, dtype=jnp.uint32)


def test_crops_are_squares_inside_the_image_of_uniform_side():
    box = np.asarray(equivariance.crops(SEED))
    side = box[:, 2:4] - box[:, :2]
    np.testing.assert_allclose(side[:, 0], side[:, 1], atol=1e-6)
    assert (box[:, :2] >= 0).all()
    assert (box[:, 2:4] <= 1 + 1e-6).all()
    assert 0.5 - 1e-6 <= side.min() < 0.52
    assert 0.98 < side.max() <= 1
    assert 150 < box[:, 4].sum() < 250
    # A function of the seed alone, whatever stands beside it.
    np.testing.assert_array_equal(equivariance.crops(SEED[7:9]), box[7:9])


def by_hand(x, y0, x0, y1, x1, flip, size):
    """The crop of one image [H W D], pixel by pixel."""
    height, width = x.shape[:2]
    out = np.zeros((size, size, x.shape[2]))
    for i, j in np.ndindex(size, size):
        u = (j + 0.5) / size
        at = (y0 + (y1 - y0) * (i + 0.5) / size, x0 + (x1 - x0) * (1 - u if flip else u))
        y = np.clip(at[0] * height - 0.5, 0, height - 1)
        z = np.clip(at[1] * width - 0.5, 0, width - 1)
        a, b = min(int(y), height - 2), min(int(z), width - 2)
        for p, q in ((0, 0), (0, 1), (1, 0), (1, 1)):
            weight = abs(1 - p - (y - a)) * abs(1 - q - (z - b))
            out[i, j] += weight * x[a + p, b + q]
    return out


def test_warp_is_a_bilinear_crop():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 9, 9, 2)).astype(np.float32)
    box = np.array(
        [[0, 0, 1, 1, 0], [0.2, 0.1, 0.9, 0.8, 1], [0.45, 0.3, 0.95, 0.7, 0]], np.float32
    )
    found = equivariance.warp(jnp.asarray(x), jnp.asarray(box), 5, 5)
    for image, place, got in zip(x, box, found, strict=True):
        np.testing.assert_allclose(got, by_hand(image, *place, 5), atol=1e-5)
    np.testing.assert_allclose(
        equivariance.warp(jnp.asarray(x), equivariance.whole(3), 9, 9), x, atol=1e-6
    )
    resized = jax.image.resize(jnp.asarray(x), (3, 4, 4, 2), "bilinear", antialias=False)
    np.testing.assert_allclose(
        equivariance.warp(jnp.asarray(x), equivariance.whole(3), 4, 4), resized, atol=1e-5
    )


def test_the_same_crop_of_image_and_of_features_agree():
    """A network of averages over 2 x 2 pixels: cropping before it and after it is the same."""
    y, x = np.meshgrid(np.arange(64.0), np.arange(64.0), indexing="ij")
    image = jnp.asarray(np.stack([y, x], -1)[None] / 64, jnp.float32)
    box = jnp.asarray([[0.25, 0.25, 0.75, 0.75, 1.0]])

    def net(z):
        return z.reshape(1, z.shape[1] // 2, 2, z.shape[2] // 2, 2, 2).mean((2, 4))

    before = net(equivariance.warp(image, box, 32, 32))
    small = equivariance.warp(image, equivariance.whole(1), 32, 32)
    after = equivariance.warp(net(small), box, 16, 16)
    np.testing.assert_allclose(before[:, 1:-1, 1:-1], after[:, 1:-1, 1:-1], atol=1e-5)


def test_a_box_warps_an_image_and_its_features_alike():
    """Through 1x1 convolutions: any box if they are linear, mirroring and whole cells if not."""
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.normal(size=(4, 12, 12, 3)), jnp.float32)
    kernel, bias = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((3, 5), (5,)))

    def net(x):
        return x @ kernel + bias.reshape(1, 1, 1, -1)

    drawn = equivariance.crops(SEED[:4])
    exact = jnp.asarray(
        [[0, 0, 1, 1, 0], [0, 0, 1, 1, 1], [0.25, 0.5, 0.75, 1, 0], [0.5, 0.0, 1, 0.5, 1]]
    )
    assert 0 < drawn[:, 4].sum() < 4  # mirrored ones and others
    cases = (net, drawn, 9), (lambda x: jnp.tanh(net(x)), exact[:2], 12)
    for layer, box, size in (*cases, (lambda x: jnp.tanh(net(x)), exact[2:], 6)):
        x = image[: len(box)]
        found = equivariance.warp(layer(x), box, size, size)
        warped = equivariance.warp(x, box, size, size)
        np.testing.assert_allclose(layer(warped), found, atol=1e-5)
        assert np.abs(np.asarray(layer(x)[:, :size, :size] - found)).max() > 0.1  # something moved


@pytest.mark.parametrize("seed", range(4))
def test_the_loader_s_box_warps_the_image_into_its_view(seed):
    """`Batch.box` has the form of the drawn boxes, and `warp` reads it alike."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (20, 31, 3), dtype=np.uint8)
    drawn = geometry.TrainView(12)(image, {}, rng)
    whole, box = jnp.asarray(image[None], jnp.float32), jnp.asarray(drawn.box[None])
    found = equivariance.warp(whole, box, 12, 12)[0]
    np.testing.assert_allclose(found, drawn.image, atol=1e-2)


def test_colours_are_changed_as_often_as_they_should_be():
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.uniform(0.3, 0.6, (400, 4, 4, 4)), jnp.float32)
    one = equivariance.photometric(SEED, 1, image)
    np.testing.assert_array_equal(one, equivariance.photometric(SEED, 1, image))
    assert not np.allclose(one, equivariance.photometric(SEED, 2, image))
    plain = (0.0, 0.0, 0.0, 0.0)
    found = np.asarray(equivariance.photometric(SEED, 1, image, plain))
    sharp = np.abs(found[..., 3] - np.asarray(image)[..., 3]).max((1, 2)) < 1e-5
    grey = np.ptp(found[..., :3], axis=-1).max((1, 2)) < 1e-5
    assert 160 < sharp.sum() < 240  # a blur with probability 0.5
    assert 50 < grey.sum() < 110  # grey with probability 0.2
    bugs = equivariance.photometric(SEED, 1, image, plain, ("no_grey",))
    assert (np.ptp(bugs[..., :3], axis=-1).max((1, 2)) > 1e-3).all()
    # Of brightness alone: unchanged with probability 0.2, else U(0.7, 1.3).
    bright = equivariance.photometric(SEED, 1, image, (0.3, 0.0, 0.0, 0.0), ("no_grey",))
    ratio = np.asarray(bright[..., :3].mean((1, 2, 3)) / image[..., :3].mean((1, 2, 3)))
    assert 55 < (np.abs(ratio - 1) < 1e-3).sum() < 110
    assert ratio.min() == pytest.approx(0.7, abs=0.03)
    assert ratio.max() == pytest.approx(1.3, abs=0.03)


def test_blur_is_a_gaussian():
    image = np.random.default_rng(0).uniform(size=(3, 20, 17, 2)).astype(np.float32)
    sigma = np.array([0.0, 0.7, 1.8], np.float32).reshape(3, 1, 1, 1)
    found = colour.blur(jnp.asarray(image), jnp.asarray(sigma), 6)
    np.testing.assert_allclose(found[0], image[0], atol=1e-6)
    for i in (1, 2):
        expected = image[i]
        for axis in (0, 1):
            radius = {"mode": "nearest", "radius": 6}
            expected = gaussian_filter1d(expected, float(sigma[i, 0, 0, 0]), axis, **radius)
        np.testing.assert_allclose(found[i], expected, atol=1e-5)


def test_the_released_blur_uses_the_draw_that_decides():
    image = jnp.asarray(np.random.default_rng(0).uniform(size=(400, 8, 8, 3)), jnp.float32)
    plain = (0.0, 0.0, 0.0, 0.0)
    bug = equivariance.photometric(SEED, 1, image, plain, ("no_grey", "blur_sigma"))
    u = np.asarray(equivariance.uniform(SEED, 1, 11))[:, 9]
    sigma = np.where(u < 0.5, np.abs(3.8 * (u - 0.5) + 0.1), 0.0)
    assert sigma.max() == pytest.approx(1.8, abs=0.05)
    expected = colour.blur(image, jnp.asarray(sigma, jnp.float32).reshape(-1, 1, 1, 1), 6)
    np.testing.assert_allclose(bug, expected, atol=1e-4)


def test_sobel_of_a_ramp():
    ramp = jnp.tile(jnp.arange(6.0), (5, 1))[None, :, :, None]
    found = colour.sobel(ramp)
    np.testing.assert_allclose(found[0, 1:-1, 1:-1, 0], -8)
    np.testing.assert_allclose(found[0, 1:-1, 1:-1, 1], 0)
    np.testing.assert_allclose(colour.sobel(ramp.swapaxes(1, 2))[0, 1:-1, 1:-1, 1], -8)
