"""The nearest pixels of other images, against a search by hand."""

import jax.numpy as jnp
import numpy as np

from jaxseg import similar_pixels
from jaxseg.core import Batch, Output
from jaxseg.report import figures

SIZES = np.array([[8, 8], [8, 6], [4, 8], [8, 8], [8, 8]])


def make_images():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (5, 1, 8, 8, 3), np.uint8)
    for i, (height, width) in enumerate(SIZES):
        # Padding that would be like anything: it must not be found.
        image[i, 0, height:], image[i, 0, :, width:] = 120, 120
    return image


def make_stream(order):
    """Batches of two of the images, in the given order; the last is filled up."""
    image = make_images()

    def stream(batch_size=None, limit=None):
        for start in range(0, len(order), 2):
            rows = order[start : start + 2]
            index = np.array([*rows, *[-1] * (2 - len(rows))])
            sizes = np.where(index[:, None] >= 0, SIZES[index], 0)
            yield Batch(
                index=jnp.asarray(index),
                seed=jnp.zeros(2, jnp.uint32),
                image=jnp.asarray(image[index]),
                size=jnp.asarray(sizes[:, None]),
            )

    return stream


def predict(image):
    """A cell is two by two pixels; its feature is the colour of one of them."""
    return Output(features=image[:, ::2, ::2].astype(jnp.float32) + 1)


def test_the_nearest_pixels_are_found_across_batches_without_padding():
    rows = similar_pixels.search(predict, make_stream([3, 1]), make_stream([0, 1, 2, 3, 4]), 3)
    assert [row[0].index for row in rows] == [3, 1]
    images = make_images()[:, 0].astype(np.float64)
    for own, *found in rows:
        assert own.image.shape == (*SIZES[own.index], 3)
        asked = images[own.index, int(own.row - 0.5), int(own.column - 0.5)] + 1
        expected = []
        for i, (height, width) in enumerate(SIZES):
            if i != own.index:
                cells = images[i, :height:2, :width:2] + 1
                cosines = cells @ asked / np.linalg.norm(cells, axis=-1) / np.linalg.norm(asked)
                y, x = np.unravel_index(cosines.argmax(), cosines.shape)
                expected.append((cosines.max(), i, 2 * y + 0.5, 2 * x + 0.5))
        expected = sorted(expected, reverse=True)[:3]
        assert [(s.index, s.row, s.column) for s in found] == [e[1:] for e in expected]
        np.testing.assert_allclose([s.cosine for s in found], [e[0] for e in expected], atol=1e-6)


def test_the_picture_marks_a_pixel_in_each_image():
    rows = similar_pixels.search(predict, make_stream([0]), make_stream([0, 4]), 3)
    figure = figures.similar_pixels(rows)
    marked = [axis.lines[0].get_xydata()[0].tolist() for axis in figure.axes if axis.lines]
    assert marked == [[spot.column, spot.row] for spot in rows[0]]
