"""PAMR: spreads probabilities to neighbours of similar colour, a light alternative to the CRF."""

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax

_EIGHT = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0))


@functools.partial(jax.jit, static_argnames=("steps", "dilations"))
def pamr(
    probabilities: Array,
    image: Array,
    valid: Array | None = None,
    *,
    steps: int = 10,
    dilations: Sequence[int] = (1, 2, 4, 8, 12, 24),
) -> Array:
    """Returns the probabilities f32[B H W K] after `steps` of pixel-adaptive mask refinement.

    `probabilities` f[B H W K], `image` u8[B H W Ch], of which the first three channels are
    compared. A step replaces each pixel's values by a weighted mean of its neighbours', the eight
    around it at each of the distances `dilations` (a tuple); the pixel itself is not among them.
    The weights are softmax over the neighbours n of mean_c -|x_c - x_nc| / (0.1 s_c + 1e-8), where
    s_c is the standard deviation (n - 1) of channel c over the 3 x 3 points of all distances, with
    the pixel counted once for each distance. Beyond the border the border's pixels are repeated.

    `valid` bool[B H W] is true on a rectangle at the top left, as padding leaves it; its border
    then is the border, and what is outside neither influences it nor means anything.

    Departs from the paper, as its released code does: equation 3 divides by the variance. Image
    and probabilities must have the same size; the released code resizes the latter.

    Raises ValueError for shapes that do not fit and for distances below 1.

    Source: Araslanov & Roth 2020, section 3.3 and released code; 10 steps and the distances of
    their VOC settings.
    """
    if probabilities.ndim != 4 or image.ndim != 4 or image.shape[:3] != probabilities.shape[:3]:
        raise ValueError(
            f"probabilities {probabilities.shape} and image {image.shape} must be [B H W K] and "
            "[B H W Ch]"
        )
    if valid is not None and valid.shape != image.shape[:3]:
        raise ValueError(f"valid must be bool{image.shape[:3]} (B H W), not {valid.shape}")
    if not dilations or min(dilations) < 1:
        raise ValueError(f"dilations {dilations}: there must be some, all at least 1")
    batch, height, width, _ = image.shape
    sizes = jnp.broadcast_to(jnp.asarray([[height, width]]), (batch, 2))
    if valid is not None:
        sizes = jnp.stack([jnp.sum(jnp.any(valid, axis=axis), axis=1) for axis in (2, 1)], axis=1)

    def refine(arguments: tuple[Array, Array, Array]) -> Array:
        probability, pixels, size = arguments
        weights = _affinities(pixels[..., :3].astype(jnp.float32), size, dilations)

        def step(_: int, values: Array) -> Array:
            around = _neighbours(values, size, dilations)
            return sum(weight[..., None] * one for weight, one in zip(weights, around, strict=True))

        return lax.fori_loop(0, steps, step, probability.astype(jnp.float32))

    # One after another: the weights alone are 8 numbers a pixel and distance.
    return lax.map(refine, (probabilities, image, sizes))


def _affinities(pixels: Array, size: Array, dilations: Sequence[int]) -> Array:
    """Returns the weights f32[neighbours H W] of f32[H W 3]; over the neighbours they sum to 1."""
    points = len(dilations) * 9
    around = list(_neighbours(pixels, size, dilations))
    mean = (sum(around) + len(dilations) * pixels) / points
    squares = sum((one - mean) ** 2 for one in around) + len(dilations) * (pixels - mean) ** 2
    scale = 0.1 * jnp.sqrt(squares / (points - 1)) + 1e-8
    distances = jnp.stack([jnp.mean(jnp.abs(one - pixels) / scale, axis=-1) for one in around])
    return jax.nn.softmax(-distances, axis=0)


def _neighbours(values: Array, size: Array, dilations: Sequence[int]) -> Iterator[Array]:
    """Yields what each pixel of f32[H W D] sees at each distance in the eight directions.

    Of the values only the first `size` i32[2] (height, width) are real.
    """
    far = max(dilations)
    padded = values
    for axis in (0, 1):
        index = jnp.arange(-far, values.shape[axis] + far)
        padded = jnp.take(padded, jnp.clip(index, 0, size[axis] - 1), axis=axis)
    height, width, _ = values.shape
    for distance in dilations:
        for y, x in _EIGHT:
            top, left = far + y * distance, far + x * distance
            yield padded[top : top + height, left : left + width]
