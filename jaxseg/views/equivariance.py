"""PiCIE's two views of an image, on the device: colours apart, one crop in common.

All is drawn from `Batch.seed`, u32[B], so that whoever sees an image in an epoch draws the same for
it: k-means before the epoch and the loss within it. Images are f32[B H W Ch] in [0, 1].

A geometric transform is a box f32[B 5] of the form of `Batch.box`: y0 x0 y1 x1 in fractions of what
it is cut from, then 1 where it is mirrored. `warp` applies it, to an image or to a map of features.
The boxes drawn here are cut from the batch's first view, which both networks see: where the loader
has cropped that view from its image, `Batch.box` says where, and is the same for both, so that it
has no part in bringing them together.

Source: Cho et al. 2021 (PiCIE), section 3 and released code. The corners of a crop are real numbers
here, where the released code rounds them on the image and again on the features.
"""

import jax
import jax.numpy as jnp

from jaxseg.views import colour

Array = jax.Array

# The released code's mistakes that can be switched on: grey is never drawn, the blur's deviation
# comes out of another formula, view 1 is learned without a change of colours although its labels
# were found with one (Cityscapes alone).
BUGS = ("no_grey", "blur_sigma", "plain_view_1")

_COLOUR_PROBABILITY = 0.8
_GREY_PROBABILITY = 0.2
_BLUR_PROBABILITY = 0.5
SIGMA = (0.1, 2.0)  # pixels
REACH = 6  # three times the largest deviation
_CROP_STREAM = 0  # views are streams 1 and 2


def uniform(seed: Array, stream: int, count: int) -> Array:
    """Returns f32[B count] in [0, 1), a function of seed and stream."""

    def draw(one: Array) -> Array:
        return jax.random.uniform(jax.random.fold_in(jax.random.key(one), stream), (count,))

    return jax.vmap(draw)(seed)


def check_smallest(smallest: float) -> None:
    """Raises ValueError unless `smallest` is the side of a crop."""
    if not 0 < smallest <= 1:
        raise ValueError(f"smallest_crop is {smallest}; it lies in (0, 1].")


def crops(seed: Array, smallest: float = 0.5) -> Array:
    """Returns boxes of side U(smallest, 1), anywhere in the image, half of them mirrored."""
    u = uniform(seed, _CROP_STREAM, 4)
    side = smallest + (1 - smallest) * u[:, 0]
    corner = u[:, 1:3] * (1 - side)[:, None]
    flip = (u[:, 3] < 0.5).astype(jnp.float32)
    return jnp.concatenate([corner, corner + side[:, None], flip[:, None]], axis=-1)


def whole(count: int) -> Array:
    """Returns the boxes f32[count 5] of whole images."""
    return jnp.tile(jnp.asarray([[0.0, 0.0, 1.0, 1.0, 0.0]]), (count, 1))


def warp(x: Array, box: Array, height: int, width: int) -> Array:
    """Returns the boxes of f32[B H W D], resized to f32[B height width D]; differentiable in x.

    Bilinear with half-pixel centres and without averaging, as in torch; the image's edges repeat.
    Of a network that a pixel passes by itself, as 1x1 convolutions do, the features of a warped
    image are the warped features, if it is linear or the box takes pixels to pixels.
    """
    y0, x0, y1, x1, flip = jnp.moveaxis(box, -1, 0)
    rows = _tents(y0, y1, jnp.zeros_like(flip), x.shape[1], height)
    columns = _tents(x0, x1, flip, x.shape[2], width)
    precision = jax.lax.Precision.HIGHEST
    x = jnp.einsum("bhi,biwd->bhwd", rows, x, precision=precision)
    return jnp.einsum("bwj,bhjd->bhwd", columns, x, precision=precision)


def _tents(start: Array, end: Array, flip: Array, old: int, new: int) -> Array:
    """Returns the weights f32[B new old] of linear interpolation along one axis."""
    place = (jnp.arange(new) + 0.5)[None] / new
    place = jnp.where(flip[:, None] > 0, 1 - place, place)
    source = (start[:, None] + (end - start)[:, None] * place) * old - 0.5
    source = jnp.clip(source, 0, old - 1)
    distance = jnp.abs(source[..., None] - jnp.arange(old, dtype=jnp.float32)[None, None])
    return jnp.maximum(1 - distance, 0)


def photometric(
    seed: Array,
    view: int,
    image: Array,
    jitter: tuple[float, ...] = (0.3, 0.3, 0.3, 0.1),
    bugs: tuple[str, ...] = (),
) -> Array:
    """Returns the images in the colours of view 1 or 2.

    Brightness, contrast and saturation by factors U(1 - x, 1 + x), then hue by U(-x, x) of a
    circle, each with probability 0.8; grey with 0.2; a blur of U(0.1, 2) pixels with 0.5. Channels
    beyond RGB are blurred alone. Hue turns in YIQ, see `colour`.

    Args:
        jitter: x for brightness, contrast, saturation and hue.
        bugs: which of the released code's mistakes to make, of BUGS.
    """
    u = uniform(seed, view, 11)

    def each(column: Array) -> Array:
        return column.reshape(-1, 1, 1, 1)

    rgb, rest = image[..., :3], image[..., 3:]
    changes = (colour.brighten, colour.contrast_by, colour.saturate, colour.turn_hue)
    for i, (change, width) in enumerate(zip(changes, jitter, strict=True)):
        # Hue turns about 0, the others scale about 1.
        amount = (2 * u[:, 2 * i] - 1) * width + (i < 3)
        drawn = each(u[:, 2 * i + 1] < _COLOUR_PROBABILITY)
        rgb = jnp.where(drawn, change(rgb, each(amount)), rgb)
    if "no_grey" not in bugs:
        drawn = each(u[:, 8] < _GREY_PROBABILITY)
        rgb = jnp.where(drawn, jnp.broadcast_to(colour.grey(rgb), rgb.shape), rgb)
    image = jnp.concatenate([rgb, rest], -1)
    drawn, low, high = u[:, 9] < _BLUR_PROBABILITY, *SIGMA
    sigma = low + (high - low) * u[:, 10]
    if "blur_sigma" in bugs:
        # The draw that decides is used again, and the library takes the deviation without its sign.
        sigma = jnp.abs(2 * (high - low) * (u[:, 9] - 0.5) + low)
    return colour.blur(image, each(jnp.where(drawn, sigma, 0.0)), REACH)
