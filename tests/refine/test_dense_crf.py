import pathlib

import cv2
import jax
import numpy as np
import pytest

from jaxseg.core import UserError
from jaxseg.refine import DenseCRF, DenseCRFReference, dense_crf

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
SHAPE = (15, 13)  # of the small examples; the same for all, so that little is compiled


def agreement(a, b):
    return np.mean(np.argmax(a, axis=-1) == np.argmax(b, axis=-1))


def example(seed=0, shape=SHAPE, classes=5):
    """Regions of a few colours with noise, and probabilities that are noisier than these."""
    rng = np.random.default_rng(seed)
    seeds = rng.random((classes, 2)) * shape
    place = np.stack(np.mgrid[: shape[0], : shape[1]], axis=-1)
    region = np.argmin(((place[:, :, None] - seeds) ** 2).sum(-1), axis=-1)
    colours = rng.integers(20, 236, (classes, 3))
    image = np.clip(colours[region] + rng.normal(0, 3, (*shape, 3)), 0, 255).astype(np.uint8)
    logits = 1.5 * np.eye(classes)[region] + rng.normal(0, 1, (*shape, classes))
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return probabilities[None].astype(np.float32), image[None]


def crf_by_hand(probabilities, image, steps=10, sigma=1.0, xy=67.0, rgb=3.0, near=3.0, far=4.0):
    """All pairs of pixels, in float64."""
    height, width, classes = probabilities.shape
    y, x = (axis.reshape(-1, 1).astype(np.float64) for axis in np.mgrid[:height, :width])
    place = np.concatenate([x, y], axis=1)
    colour = image.reshape(-1, 3).astype(np.float64)
    kernels = []
    for features in (place / sigma, np.concatenate([place / xy, colour / rgb], axis=1)):
        kernel = np.exp(-0.5 * ((features[:, None] - features[None]) ** 2).sum(-1))
        degree = kernel.sum(1) ** -0.5
        kernels.append(degree[:, None] * kernel * degree[None])
    unary = np.log(np.clip(probabilities.reshape(-1, classes).astype(np.float64), 1e-5, 1))
    logits = unary
    for step in range(steps + 1):
        q = np.exp(logits - logits.max(-1, keepdims=True))
        q /= q.sum(-1, keepdims=True)
        if step < steps:
            logits = unary + near * kernels[0] @ q + far * kernels[1] @ q
    return q.reshape(probabilities.shape)


@pytest.mark.parametrize("number", [0, 1])
def test_the_golden_labels(number):
    golden = np.load(GOLDEN / "dense_crf.npz")
    probabilities, image = (golden[f"{key}_{number}"][None] for key in ("probabilities", "image"))
    found = np.asarray(dense_crf(probabilities, image))
    assert agreement(found[0], golden[f"refined_{number}"]) >= 0.99
    assert agreement(probabilities[0], golden[f"refined_{number}"]) < 0.9  # it does have to work
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)


def codes(picture):
    return picture.astype(np.int64) @ np.asarray([1, 256, 65536])


def test_the_pictures_that_the_library_shows(real_data):
    """Of three sizes, as one padded batch: rough marks, other sigmas, 5 steps."""
    folder = real_data("vectors") / "densecrf"
    probabilities = np.full((3, 320, 320, 3), 1 / 3, np.float32)
    images, valid = np.full((3, 320, 320, 3), 200, np.uint8), np.zeros((3, 320, 320), bool)
    expected = []
    for one in range(3):
        image, marks, out = (
            cv2.imread(str(folder / f"{name}{one + 1}.png")) for name in ("im", "anno", "out")
        )
        height, width, _ = image.shape
        names, labels = np.unique(codes(marks), return_inverse=True)
        assert names[0] == 0  # black is unknown
        labels, classes = labels.reshape(height, width) - 1, len(names) - 1
        rest = 0.3 / (classes - 1)
        unary = np.where(np.arange(classes) == labels[..., None], 0.7, rest)
        unary[labels < 0] = 1 / classes
        probabilities[one, :height, :width] = np.pad(unary, ((0, 0), (0, 0), (0, 3 - classes)))
        images[one, :height, :width], valid[one, :height, :width] = image, True
        expected.append(np.searchsorted(names[1:], codes(out)))
    crf = DenseCRF(5, 3.0, 3.0, 80.0, 13.0, 10.0)
    found = np.argmax(crf(probabilities, images, valid), axis=-1)
    for one, labels in enumerate(expected):
        height, width = labels.shape
        assert np.mean(found[one, :height, :width] == labels) >= 0.99


def test_without_colours_it_is_the_exact_filter():
    probabilities, image = example()
    found = dense_crf(probabilities, image, gaussian_sigma=3.0, bilateral_weight=0.0)
    expected = crf_by_hand(probabilities[0], image[0], sigma=3.0, far=0)
    np.testing.assert_allclose(found[0], expected, atol=2e-3)  # 4 sigmas and no further


def test_all_pairs_of_pixels_give_the_same_labels():
    probabilities, image = example(3)
    found = np.asarray(dense_crf(probabilities, image)[0])
    expected = crf_by_hand(probabilities[0], image[0])
    assert agreement(found, expected) >= 0.98
    assert agreement(probabilities[0], expected) < 0.9


def test_an_image_without_valid_pixels_disturbs_nothing():
    probabilities, image = (np.repeat(array, 2, axis=0) for array in example())
    valid = np.repeat([[[True]], [[False]]], SHAPE[0], axis=1).repeat(SHAPE[1], axis=2)
    found = dense_crf(probabilities, image, valid)
    np.testing.assert_allclose(found[1], probabilities[1], atol=1e-4)
    np.testing.assert_allclose(found[:1], dense_crf(*example()), atol=1e-6)


def test_no_steps_leave_clipped_probabilities():
    probabilities, image = example()
    probabilities[0, 0, 0] = (1, 0, 0, 0, 0)
    found = dense_crf(probabilities, image, steps=0)
    clipped = np.clip(probabilities, 1e-5, 1)
    np.testing.assert_allclose(found, clipped / clipped.sum(-1, keepdims=True), rtol=1e-4)


def test_a_batch_is_its_images_again_and_again():
    examples = [example(seed) for seed in (0, 1)]
    alone = [np.asarray(dense_crf(*one)[0]) for one in examples]
    batch = [np.concatenate(arrays) for arrays in zip(*examples, strict=True)]
    found = np.asarray(dense_crf(*batch))
    np.testing.assert_allclose(found, alone, atol=1e-6)
    np.testing.assert_array_equal(found, dense_crf(*batch))
    np.testing.assert_array_equal(found[0], dense_crf(*(one[::-1] for one in batch))[1])


def test_padding_and_a_fourth_channel_have_no_influence():
    probabilities, image = example()
    height, width = SHAPE
    rng = np.random.default_rng(1)
    for filler in (0, 1):
        noise = rng.integers(0, 256, (1, height + 5, width + 3, 4), np.uint8) * filler
        noise[:, :height, :width, :3] = image
        beliefs = rng.dirichlet(np.ones(5), noise.shape[:3]).astype(np.float32)
        beliefs[:, :height, :width] = probabilities
        valid = np.zeros(noise.shape[:3], bool)
        valid[:, :height, :width] = True
        found = dense_crf(beliefs, noise, valid)
        alone = dense_crf(probabilities, image)
        np.testing.assert_allclose(found[:, :height, :width], alone, atol=2e-5)
        np.testing.assert_allclose(found[~valid], beliefs[~valid], atol=1e-4)


@pytest.mark.parametrize("classes", [2, 27])
def test_a_uniform_image_takes_the_label_of_most(classes):
    rng = np.random.default_rng(0)
    image = np.full((1, *SHAPE, 3), 255, np.uint8)
    logits = rng.normal(0, 0.3, (1, *SHAPE, classes)) + (np.arange(classes) == 1)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    found = np.asarray(dense_crf(probabilities.astype(np.float32), image))
    assert found.shape == probabilities.shape
    assert (found.argmax(-1) == 1).all()
    assert np.isfinite(found).all()


def test_it_agrees_with_the_library():
    pytest.importorskip("pydensecrf")
    golden = np.load(GOLDEN / "dense_crf.npz")
    probabilities, image = golden["probabilities_0"][None], golden["image_0"][None]
    expected = DenseCRFReference()(probabilities, image)
    assert agreement(DenseCRF()(probabilities, image), expected) >= 0.998
    # Without the Gaussian of positions, which the library approximates, all is the same; also for
    # noise, which has so many vertices that only the largest table holds them.
    probabilities, image = probabilities[:, 20:80, 30:90], image[:, 20:80, 30:90]
    noise = np.random.default_rng(0).integers(0, 256, image.shape, np.uint8)
    exact = {"gaussian_weight": 0.0, "bilateral_sigma_xy": 20.0}
    for picture in (image, noise):
        found = DenseCRF(**exact)(probabilities, picture)
        expected = DenseCRFReference(**exact)(probabilities, picture)
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_library_sees_no_padding():
    pytest.importorskip("pydensecrf")
    probabilities, image = (np.repeat(array, 2, axis=0) for array in example())
    valid = np.zeros((2, *SHAPE), bool)
    valid[:1, :11, :9] = True  # and nothing at all of the second
    found = DenseCRFReference()(probabilities, image, valid)
    found = np.asarray(found)
    alone = DenseCRFReference()(probabilities[:1, :11, :9], image[:1, :11, :9])
    np.testing.assert_array_equal(found[:1, :11, :9], alone)
    np.testing.assert_array_equal(found[~valid], probabilities[~valid])


def test_arrays_and_sigmas_that_do_not_fit_are_refused():
    probabilities, image = example()
    with pytest.raises(ValueError, match=r"must be \[B H W K\]"):
        dense_crf(probabilities[:, 1:], image)
    with pytest.raises(ValueError, match="image must be u8"):
        dense_crf(probabilities, image.astype(np.float32))
    with pytest.raises(ValueError, match="valid must be bool"):
        dense_crf(probabilities, image, np.ones((1, *SHAPE), np.int32))
    with pytest.raises(ValueError, match="above 0"):
        dense_crf(probabilities, image, gaussian_sigma=0.0)
    shapes = [
        jax.ShapeDtypeStruct((1, 320, 320, d), t) for d, t in ((9, np.float32), (3, np.uint8))
    ]
    with pytest.raises(UserError, match="use larger sigmas"):
        jax.eval_shape(DenseCRF(bilateral_sigma_rgb=0.5), *shapes)
    assert jax.eval_shape(DenseCRF(bilateral_sigma_rgb=1.2), *shapes).shape == (1, 320, 320, 9)
