"""Which pixels of other images are most alike to a pixel, by the cosine of their features.

Source: Cho et al. 2021 (PiCIE), the released retrieval script, which searches the test split and
keeps the nearest pixel of each batch; here it is that of each image.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.clustering.kmeans import similarity
from jaxseg.core import Array, Batch, Stream
from jaxseg.evaluation.outputs import Predict
from jaxseg.processes import fetch
from jaxseg.record import Spot


def search(
    predict: Predict, queries: Stream, images: Stream, count: int = 5, seed: int = 0
) -> list[list[Spot]]:
    """Returns a list for each image of `queries`: a pixel of it, then the nearest, best first.

    The pixel is the middle of a cell drawn from `seed`. Each of `images` but the query's own offers
    its nearest cell, and the best `count` of these are kept: memory does not grow with the number
    of images.
    """
    rng, rows, directions = np.random.default_rng(seed), [], []
    for batch in queries():
        output = predict(batch.view(0))
        grid = output.features.shape[1:3]
        features, real, shown = fetch((output.features, _real(batch, grid), _shown(batch)))
        for i in np.flatnonzero(real.any(axis=(1, 2))):
            cell = int(rng.choice(np.flatnonzero(real[i])))
            directions.append(features[i].reshape(-1, features.shape[-1])[cell])
            rows.append([_spot(shown, int(i), cell, grid, 1.0)])
    for batch in images():
        features = predict(batch.view(0)).features
        grid = features.shape[1:3]
        found = _nearest(features, _real(batch, grid), np.stack(directions))
        (values, cells), shown = fetch((found, _shown(batch)))
        for (i, q), value in np.ndenumerate(values):
            own, *others = rows[q]
            worst = others[-1].cosine if len(others) == count else -np.inf
            if value > worst and shown.number[i] != own.index:
                others.append(_spot(shown, i, int(cells[i, q]), grid, float(value)))
                rows[q] = [own, *sorted(others, key=lambda spot: -spot.cosine)[:count]]
    return rows


@jax.jit
def _nearest(features: Array, real: Array, directions: Array) -> tuple[Array, Array]:
    """Returns the highest cosine of each image with each direction and its cell, [B Q].

    `features` f32[B h w D], `directions` f32[Q D]; where no cell is `real`, the cosine is -inf.
    """
    cosines = similarity(features, directions)
    cosines = jnp.where(real[..., None], cosines, -jnp.inf)
    cosines = cosines.reshape(len(features), -1, len(directions))
    return cosines.max(axis=1), cosines.argmax(axis=1)


def _real(batch: Batch, grid: tuple[int, ...]) -> Array:
    """Returns bool[B h w], true where the middle of a cell lies in a real image."""
    shape, sizes = batch.first_view.shape[1:3], jnp.asarray(batch.size)[:, 0]
    inside = (batch.index >= 0).reshape(-1, 1, 1)
    for axis in (0, 1):
        middle = (jnp.arange(grid[axis]) + 0.5) * shape[axis] / grid[axis]
        line = middle[None] < sizes[:, axis : axis + 1]
        inside = inside & jnp.expand_dims(line, 2 - axis)
    return inside


class _Shown(NamedTuple):
    """What is shown of a batch."""

    image: Array  # u8[B H W Ch]
    size: Array  # i32[B 2]
    number: Array  # i32[B], index of the image in its split


def _shown(batch: Batch) -> _Shown:
    return _Shown(batch.first_view, jnp.asarray(batch.size)[:, 0], batch.index)


def _spot(shown: _Shown, i: int, cell: int, grid: tuple[int, ...], cosine: float) -> Spot:
    height, width = shown.size[i]
    shape = shown.image.shape[1:3]
    row, column = (
        (place + 0.5) * pixels / cells - 0.5
        for place, pixels, cells in zip(divmod(cell, grid[1]), shape, grid, strict=True)
    )
    image = np.asarray(shown.image[i, :height, :width])
    return Spot(int(shown.number[i]), image, row, column, cosine)
