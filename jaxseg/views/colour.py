"""Colour on the device, from keys. Images are RGB(I), channels last; infrared is channel 3.

Photometric changes work on f32[B H W Ch] in [0, 1] and touch the first three channels alone.
"""

import jax
import jax.numpy as jnp

Array = jax.Array

# ImageNet's statistics of RGB in [0, 1]; infrared is centred like a colour.
MEAN = (0.485, 0.456, 0.406, 0.5)
STD = (0.229, 0.224, 0.225, 0.25)
_GREY = (0.299, 0.587, 0.114)  # ITU-R 601 luma, as image libraries use


def to_unit(image: Array) -> Array:
    """Returns u8[...] images as f32 in [0, 1]."""
    return image.astype(jnp.float32) / 255.0


def normalise(image: Array) -> Array:
    """Returns images in [0, 1] with ImageNet's mean and deviation taken out of each channel."""
    shape = (1,) * (image.ndim - 1) + (image.shape[-1],)
    mean = jnp.asarray(MEAN[: image.shape[-1]], image.dtype).reshape(shape)
    std = jnp.asarray(STD[: image.shape[-1]], image.dtype).reshape(shape)
    return (image - mean) / std


def grey(rgb: Array) -> Array:
    """Returns the luma [..., 1] of RGB [..., 3]."""
    weights = jnp.asarray(_GREY, rgb.dtype).reshape((1,) * (rgb.ndim - 1) + (3,))
    return (rgb * weights).sum(-1, keepdims=True)


def _rotate_hue(rgb: Array, turns: Array) -> Array:
    """Rotates hue by `turns` (1 = a full circle) in the YIQ plane, where grey stays grey."""
    to_yiq = jnp.asarray(
        [[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], rgb.dtype
    )
    y, i, q = jnp.moveaxis(rgb @ to_yiq.T, -1, 0)
    cos, sin = jnp.cos(2 * jnp.pi * turns), jnp.sin(2 * jnp.pi * turns)
    turned = jnp.stack([y, cos * i - sin * q, sin * i + cos * q], -1)
    return turned @ jnp.linalg.inv(to_yiq).T


def jitter(
    key: Array,
    image: Array,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
) -> Array:
    """Returns images f32[B H W Ch] with colours changed, one draw an image.

    Factors are U(1 - x, 1 + x) for brightness, contrast and saturation, in this order, then a hue
    rotation by U(-hue, hue) of a circle. Contrast blends with the image's mean luma. The order is
    fixed, where torchvision's ColorJitter shuffles it, and hue turns in YIQ rather than in HSV,
    which needs no branches.
    """
    keys = jax.random.split(key, 4)
    shape = (image.shape[0], 1, 1, 1)

    def factor(k, width, centre=1.0):
        return jax.random.uniform(k, shape, image.dtype, centre - width, centre + width)

    rgb, rest = image[..., :3], image[..., 3:]
    rgb = jnp.clip(rgb * factor(keys[0], brightness), 0, 1)
    mean = grey(rgb).mean((1, 2, 3), keepdims=True)
    rgb = jnp.clip(mean + (rgb - mean) * factor(keys[1], contrast), 0, 1)
    luma = grey(rgb)
    rgb = jnp.clip(luma + (rgb - luma) * factor(keys[2], saturation), 0, 1)
    rgb = jnp.clip(_rotate_hue(rgb, factor(keys[3], hue, 0.0)[..., 0]), 0, 1)
    return jnp.concatenate([rgb, rest], -1)


def flip_where(mask: Array, x: Array) -> Array:
    """Returns [B H W ...] mirrored left to right in the rows where `mask` bool[B] is true."""
    return jnp.where(mask.reshape((-1,) + (1,) * (x.ndim - 1)), x[:, :, ::-1], x)
