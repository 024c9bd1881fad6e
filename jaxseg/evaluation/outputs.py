"""What an evaluation does with outputs before any score: resize, cut, stitch, thin out."""

import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxseg.core import Batch, Output
from jaxseg.processes import fetch

Predict = Callable[[Array], Output]  # u8[B H W Ch] -> Output

_PICTURED_CELLS = 1000  # about so many features of an image are kept for pictures


@functools.partial(jax.jit, static_argnames=("height", "width", "rule"))
def label_map(logits: Array, height: int, width: int, rule: str) -> Array:
    """Returns the clusters i32[B height width] of logits f32[B h w K] at another resolution.

    Args:
        rule: "bilinear" resizes the logits before the argmax; "nearest" the label map after it.
    """
    if rule == "nearest":
        shape = (logits.shape[0], height, width)
        return jax.image.resize(logits.argmax(-1), shape, "nearest").astype(jnp.int32)
    return _resized(logits, height, width, rule).argmax(-1).astype(jnp.int32)


@functools.partial(jax.jit, static_argnames=("height", "width"))
def at_label_size(labels: Array, size: Array, label_size: Array, height: int, width: int) -> Array:
    """Returns maps i32[B H W] at the size of labels, i32[B height width], by nearest neighbour.

    The first `size` i32[B 2] pixels of each map become the first `label_size` i32[B 2]; the values
    of the rest mean nothing.
    """

    def places(length: int, old: Array, new: Array) -> Array:
        found = (2 * jnp.arange(length) + 1) * old // (2 * jnp.maximum(new, 1))
        return jnp.clip(found, 0, jnp.maximum(old - 1, 0))

    def one(labels: Array, size: Array, label_size: Array) -> Array:
        rows = places(height, size[0], label_size[0])
        return labels[rows][:, places(width, size[1], label_size[1])]

    return jax.vmap(one)(labels, size, label_size)


def _resized(logits: Array, height: int, width: int, rule: str) -> Array:
    shape = (logits.shape[0], height, width, logits.shape[-1])
    return jax.image.resize(logits, shape, rule, antialias=False)


@functools.partial(jax.jit, static_argnames=("height", "width", "rule"))
def probabilities(logits: Array, height: int, width: int, rule: str) -> Array:
    """Returns the softmax f32[B height width K] of logits f32[B h w K] at another resolution."""
    return jax.nn.softmax(_resized(logits, height, width, rule), axis=-1)


def tiled(predict: Predict, side: int) -> Predict:
    """Returns a function that predicts in squares of `side` pixels and puts them together again.

    So a large image is seen at the scale of the crops that the method was trained on. It takes
    images whose sides `side` divides; what is no map in `aux` becomes [B squares ...]. Groups of
    different squares are different groups.

    Raises:
        ValueError: `side` does not divide the images.
    """

    def stitched(image: Array) -> Output:
        batch, height, width, channels = image.shape
        if height % side or width % side:
            raise ValueError(
                f"images of {height} x {width} pixels do not divide in squares of {side}"
            )
        rows, columns = height // side, width // side
        squares = image.reshape(batch, rows, side, columns, side, channels)
        squares = jnp.swapaxes(squares, 2, 3).reshape(-1, side, side, channels)
        output = predict(squares)

        def together(x: Array) -> Array:
            grid = x.reshape(batch, rows, columns, *x.shape[1:])
            return jnp.swapaxes(grid, 2, 3).reshape(
                batch, rows * x.shape[1], columns * x.shape[2], *x.shape[3:]
            )

        def numbered(groups: Array) -> Array:
            square = jnp.arange(len(groups), dtype=groups.dtype) % (rows * columns)
            first = (square * (groups.max() + 1)).reshape(-1, 1, 1)
            return jnp.where(groups < 0, groups, groups + first)

        output = output.replace(levels=tuple(map(numbered, output.levels)))
        return map_maps(output, together, lambda x: x.reshape(batch, -1, *x.shape[1:]))

    return stitched


def map_maps(
    output: Output, change: Callable[[Array], Array], rest: Callable[[Array], Array] = lambda x: x
) -> Output:
    """Returns the output with its maps [B h w ...] changed, and what is no map by `rest`.

    Maps are the features, the logits, the levels, and what is [B h w D] with the cells of any of
    those in `aux`.
    """
    own = (output.features, output.logits, *output.levels)
    grids = {x.shape[1:3] for x in own if x is not None}

    def fitting(x: Array) -> Callable[[Array], Array]:
        return change if x.ndim == 4 and x.shape[1:3] in grids else rest

    return Output(
        features=change(output.features),
        logits=None if output.logits is None else change(output.logits),
        levels=tuple(change(x) for x in output.levels),
        aux={name: fitting(x)(x) for name, x in output.aux.items()},
    )


def real_outputs(output: Output, batch: Batch) -> Iterator[Output]:
    """Yields the batch's outputs without fill-up images and without padded cells."""
    sizes, indices = fetch((batch.size, batch.index))
    sizes = sizes[:, 0]
    full = np.asarray(batch.first_view.shape[1:3])
    real = int((indices >= 0).sum())
    if (sizes[:real] == full).all():
        yield jax.tree.map(lambda x: x[:real], output)
        return
    for row in range(real):
        share = sizes[row] / full

        def cut(x: Array, share: np.ndarray = share) -> Array:
            h, w = np.ceil(np.asarray(x.shape[1:3]) * share).astype(int)
            return x[:, :h, :w]

        yield map_maps(jax.tree.map(lambda x, row=row: x[row : row + 1], output), cut)


def for_pictures(output: Output) -> dict[str, np.ndarray]:
    """Returns the features and `aux` of a batch as f16, of maps every n-th cell."""
    cells = output.features.shape[1:3]
    step = max(1, round((cells[0] * cells[1] / _PICTURED_CELLS) ** 0.5))
    thin = map_maps(output, lambda x: x[:, ::step, ::step])
    parts = {"features": thin.features} | thin.aux
    return {name: fetch(x).astype(np.float16) for name, x in parts.items()}
