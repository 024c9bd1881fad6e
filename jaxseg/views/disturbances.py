"""Changes of test images that ask how robust a segmentation is, and of the labels with them.

Images are f32[B H W Ch] in [0, 1], of which i32[B 2] rows and columns are real. All is drawn from
seeds u32[B], one an image, in the ranges that PiCIE's training draws from. A change that is asked
for by itself is made to every image; "photometric", all colours in turn, grey and blur, happens
with training's probabilities (`equivariance.photometric`), for grey would undo saturation and hue;
"geometric" is a crop, in half of the images mirrored; "all" is both.

Source: Cho et al. 2021 (PiCIE), supplement, table 2, which lists the changes; their ranges at test
time are not stated where this was taken from: this project's choice.
"""

import jax
import jax.numpy as jnp

from jaxseg.views import colour, equivariance

Array = jax.Array

COLOURS = (*colour.JITTER, "grey", "blur", "photometric")
GEOMETRIC = ("flip", "crop", "geometric")
DISTURBANCES = (*COLOURS, *GEOMETRIC, "all")

_WIDTHS = dict(zip(colour.JITTER, (0.3, 0.3, 0.3, 0.1), strict=True))
_CHANGES = dict(
    zip(
        colour.JITTER,
        (colour.brighten, colour.contrast_by, colour.saturate, colour.turn_hue),
        strict=True,
    )
)
_STREAM = 3  # of `equivariance`'s draws, whose crops and views are 0 to 2


def disturb(
    name: str, seed: Array, image: Array, size: Array, labels: dict[str, Array]
) -> tuple[Array, dict[str, Array]]:
    """Returns the images with one of DISTURBANCES, and the labels i32[B H W] that then fit them.

    A crop is resized to the size that the image had: its pixels linearly, labels by the nearest.
    What lies beyond `size` is 0 in the image afterwards; colours are changed with the border in its
    place, so that padding is no part of an image's contrast.

    Raises:
        ValueError: another name.
    """
    if name not in DISTURBANCES:
        raise ValueError(f"a disturbance is one of {', '.join(DISTURBANCES)}, not {name!r}")
    box = _boxes(name, seed)
    places = _places(box, size, 0, image.shape[1]), _places(box, size, 1, image.shape[2])
    image = _between(_between(image, places[0], 1), places[1], 2)
    image = _coloured(name, seed, image)
    inside = (jnp.arange(image.shape[1])[None] < size[:, :1])[:, :, None, None]
    inside &= (jnp.arange(image.shape[2])[None] < size[:, 1:])[:, None, :, None]
    found = {}
    for kind, label in labels.items():
        rows, columns = (jnp.floor(place + 0.5).astype(jnp.int32) for place in places)
        label = jnp.take_along_axis(label, rows[:, :, None], axis=1)
        label = jnp.take_along_axis(label, columns[:, None], axis=2)
        found[kind] = jnp.where(inside[..., 0], label, -1)
    return jnp.where(inside, image, 0.0), found


def _boxes(name: str, seed: Array) -> Array:
    """Returns what is seen of each image, as the boxes of `equivariance`."""
    if name in ("crop", "geometric", "all"):
        drawn = equivariance.crops(seed)
        return drawn.at[:, 4].set(0) if name == "crop" else drawn
    return equivariance.whole(len(seed)).at[:, 4].set(name == "flip")


def _places(box: Array, size: Array, axis: int, length: int) -> Array:
    """Returns where in its image each row or column of the result lies, f32[B length]."""
    real = size[:, axis : axis + 1].astype(jnp.float32)
    start, end = box[:, axis : axis + 1], box[:, axis + 2 : axis + 3]
    step = jnp.arange(length, dtype=jnp.float32)[None]
    if axis == 1:
        step = jnp.where(box[:, 4:] > 0, real - 1 - step, step)
    place = start * real + (end - start) * (step + 0.5) - 0.5
    return jnp.clip(place, 0, real - 1)


def _between(image: Array, place: Array, axis: int) -> Array:
    """Returns the images at real places f32[B n] of an axis, by linear interpolation."""
    shape = tuple(place.shape[1] if i == axis else 1 for i in range(1, 4))
    low = jnp.floor(place).astype(jnp.int32)
    share = (place - low).reshape(-1, *shape)
    near, far = (
        jnp.take_along_axis(image, index.reshape(-1, *shape), axis=axis)
        for index in (low, jnp.minimum(low + 1, image.shape[axis] - 1))
    )
    return near * (1 - share) + far * share


def _coloured(name: str, seed: Array, image: Array) -> Array:
    if name in ("photometric", "all"):
        return equivariance.photometric(seed, _STREAM, image, tuple(_WIDTHS.values()))
    u = equivariance.uniform(seed, _STREAM, 1).reshape(-1, 1, 1, 1)
    rgb, rest = image[..., :3], image[..., 3:]
    if name in _CHANGES:
        # Hue turns about 0, the others scale about 1.
        amount = (2 * u - 1) * _WIDTHS[name] + (name != "hue")
        rgb = _CHANGES[name](rgb, amount)
    elif name == "grey":
        rgb = jnp.broadcast_to(colour.grey(rgb), rgb.shape)
    elif name == "blur":
        low, high = equivariance.SIGMA
        return colour.blur(image, low + (high - low) * u, equivariance.REACH)
    return jnp.concatenate([rgb, rest], -1)
