import cv2
import numpy as np
import pytest

from jaxseg.boundaries.gradient import gradient_edges


def halves(left, right):
    image = np.empty((40, 60, 3), np.uint8)
    image[:, :30], image[:, 30:] = left, right
    return image


def lab(colour):
    pixel = np.array([[colour]], np.float32) / 255
    return cv2.cvtColor(pixel, cv2.COLOR_RGB2Lab)[0, 0].astype(np.float64)


@pytest.mark.parametrize(
    ("left", "right"),
    [((0, 0, 0), (20, 20, 20)), ((200, 30, 30), (190, 60, 30)), ((90, 90, 90), (90, 95, 110))],
)
def test_a_steps_strength_is_that_of_its_largest_channel(left, right):
    edges = gradient_edges(halves(left, right))
    height = np.abs(lab(left) - lab(right)).max()
    # The two pixels at the step lie half a pixel off the crest of a Gaussian of sigma 3.
    crest = height * np.exp(-0.5 * (0.5 / 3) ** 2)
    assert edges.strength[:, 29:31].max() == pytest.approx(1 - np.exp(-crest / 14), abs=0.02)
    assert edges.strength[:, :15].max() < 1e-3
    np.testing.assert_allclose(edges.angle[10:-10, 29:31], np.pi / 2, atol=0.02)


def test_the_scale_does_not_depend_on_the_rest_of_the_image():
    weak = halves((100, 100, 100), (110, 110, 110))
    strong = np.concatenate([weak, halves((0, 0, 0), (255, 255, 255))])
    one, other = gradient_edges(weak), gradient_edges(strong)
    np.testing.assert_allclose(one.strength[:20], other.strength[:20], atol=1e-6)
    assert other.strength.max() <= 1
    assert other.strength.dtype == np.float32


def test_a_plain_image_has_no_edges_and_a_small_one_is_allowed():
    assert gradient_edges(np.full((20, 30, 3), 80, np.uint8)).strength.max() < 1e-6
    assert gradient_edges(np.zeros((1, 1, 3), np.uint8)).strength.shape == (1, 1)
