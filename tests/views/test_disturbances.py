"""Disturbed test images against plain NumPy, and labels that go with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.views import colour, equivariance
from jaxseg.views.disturbances import COLOURS, DISTURBANCES, disturb

SEED = jnp.arange(2, dtype=jnp.uint32) + 5
SIZE = jnp.asarray([[8, 12], [6, 9]])
HEIGHT, WIDTH = 8, 12


def make_images():
    """A whole image and a padded one, whose padding is 0, with labels of their own pixels."""
    rng = np.random.default_rng(0)
    image = rng.uniform(size=(2, HEIGHT, WIDTH, 3)).astype(np.float32)
    label = np.arange(2 * HEIGHT * WIDTH, dtype=np.int32).reshape(2, HEIGHT, WIDTH)
    for row, (height, width) in enumerate(SIZE.tolist()):
        image[row, height:], image[row, :, width:] = 0, 0
        label[row, height:], label[row, :, width:] = -1, -1
    return image, label


def real(x):
    return [np.asarray(x[i, :h, :w]) for i, (h, w) in enumerate(SIZE.tolist())]


def disturbed(name):
    image, label = make_images()
    found, labels = disturb(name, SEED, jnp.asarray(image), SIZE, {"class": jnp.asarray(label)})
    return (image, label), (np.asarray(found), np.asarray(labels["class"]))


@pytest.mark.parametrize("name", DISTURBANCES)
def test_padding_stays_padding_and_pixels_change(name):
    (image, _), (found, label) = disturbed(name)
    assert found.shape == image.shape
    for row, (height, width) in enumerate(SIZE.tolist()):
        for x, empty in ((found, 0), (label, -1)):
            assert (x[row, height:] == empty).all()
            assert (x[row, :, width:] == empty).all()
        assert (label[row, :height, :width] >= 0).all()
        assert not np.allclose(found[row], image[row])
    assert 0 <= found.min() <= found.max() <= 1 + 1e-6


@pytest.mark.parametrize("name", COLOURS)
def test_colours_leave_labels_alone(name):
    (_, before), (_, after) = disturbed(name)
    np.testing.assert_array_equal(before, after)


def test_a_flip_mirrors_the_real_part():
    (image, label), (found, labels) = disturbed("flip")
    for x, y in ((image, found), (label, labels)):
        for before, after in zip(real(x), real(y), strict=True):
            np.testing.assert_array_equal(after, before[:, ::-1])


@pytest.mark.parametrize("name", ["crop", "geometric"])
def test_a_crop_against_plain_numpy(name):
    (image, label), (found, labels) = disturbed(name)
    boxes = np.asarray(equivariance.crops(SEED))
    for row, (height, width) in enumerate(SIZE.tolist()):
        y0, x0, y1, x1, flip = boxes[row]
        for i, j in np.ndindex(height, width):
            column = width - 1 - j if name == "geometric" and flip else j
            y = np.clip(y0 * height + (y1 - y0) * (i + 0.5) - 0.5, 0, height - 1)
            x = np.clip(x0 * width + (x1 - x0) * (column + 0.5) - 0.5, 0, width - 1)
            nearest = label[row, int(np.floor(y + 0.5)), int(np.floor(x + 0.5))]
            assert labels[row, i, j] == nearest
            a, b = min(int(y), height - 2), min(int(x), width - 2)
            expected = sum(
                abs(1 - p - (y - a)) * abs(1 - q - (x - b)) * image[row, a + p, b + q]
                for p, q in ((0, 0), (0, 1), (1, 0), (1, 1))
            )
            np.testing.assert_allclose(found[row, i, j], expected, atol=1e-5)


def test_grey_and_contrast_see_the_real_part_alone():
    (image, _), (found, _) = disturbed("grey")
    np.testing.assert_allclose(found, np.broadcast_to(colour.grey(image), image.shape), atol=1e-6)
    # The padded image in the corner is disturbed nearly as it would be by itself.
    factor = np.asarray(equivariance.uniform(SEED, 3, 1))[1, 0] * 0.6 + 0.7
    (image, _), (found, _) = disturbed("brightness")
    np.testing.assert_allclose(found[1], np.clip(image[1] * factor, 0, 1), atol=1e-6)


def test_draws_depend_on_the_seed_alone():
    image, _ = make_images()
    both = disturb("all", SEED, jnp.asarray(image), SIZE, {})[0]
    alone = disturb("all", SEED[1:], jnp.asarray(image[1:]), SIZE[1:], {})[0]
    np.testing.assert_allclose(both[1:], alone, atol=1e-6)


def test_an_unknown_disturbance():
    with pytest.raises(ValueError, match="brightness, contrast"):
        jax.eval_shape(lambda: disturb("gray", SEED, jnp.zeros((2, 8, 12, 3)), SIZE, {}))
