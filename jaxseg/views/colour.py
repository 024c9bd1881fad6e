"""Colour on the device, from keys. Images are RGB(I), channels last; infrared is channel 3.

Photometric changes work on f32[B H W Ch] in [0, 1] and touch the first three channels alone.
"""

import jax
import jax.numpy as jnp

Array = jax.Array

# ImageNet's statistics of RGB in [0, 1]; infrared is centred like a colour.
MEAN = (0.485, 0.456, 0.406, 0.5)
STD = (0.229, 0.224, 0.225, 0.25)
JITTER = ("brightness", "contrast", "saturation", "hue")  # what `jitter` changes
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
    rgb = brighten(rgb, factor(keys[0], brightness))
    rgb = contrast_by(rgb, factor(keys[1], contrast))
    rgb = saturate(rgb, factor(keys[2], saturation))
    rgb = turn_hue(rgb, factor(keys[3], hue, 0.0))
    return jnp.concatenate([rgb, rest], -1)


def brighten(rgb: Array, factor: Array) -> Array:
    """Returns RGB f32[B H W 3] times factor f32[B 1 1 1]."""
    return jnp.clip(rgb * factor, 0, 1)


def contrast_by(rgb: Array, factor: Array) -> Array:
    """Returns RGB f32[B H W 3] whose distance from the image's mean luma is scaled."""
    mean = grey(rgb).mean((1, 2, 3), keepdims=True)
    return jnp.clip(mean + (rgb - mean) * factor, 0, 1)


def saturate(rgb: Array, factor: Array) -> Array:
    """Returns RGB f32[B H W 3] whose distance from the pixel's luma is scaled; 0 = grey."""
    luma = grey(rgb)
    return jnp.clip(luma + (rgb - luma) * factor, 0, 1)


def turn_hue(rgb: Array, turns: Array) -> Array:
    """Returns RGB f32[B H W 3] with the hue turned by f32[B 1 1 1] of a circle."""
    return jnp.clip(_rotate_hue(rgb, turns[..., 0]), 0, 1)


def blur(image: Array, sigma: Array, reach: int) -> Array:
    """Returns images f32[B H W Ch] blurred by Gaussians of f32[B 1 1 1] pixels; edges repeat.

    The Gaussians are cut off `reach` pixels from their middle; sigma 0 leaves an image as it is.
    """
    step = jnp.arange(-reach, reach + 1, dtype=image.dtype).reshape(1, 1, 1, -1)
    weight = jnp.exp(-0.5 * (step / jnp.maximum(sigma, 1e-3)) ** 2)
    weight = weight / weight.sum(-1, keepdims=True)
    for axis in (1, 2):
        image = _filter(image, weight, axis)
    return image


def _filter(image: Array, weight: Array, axis: int) -> Array:
    """Returns the image filtered along an axis by weights f32[B 1 1 taps]; edges repeat."""
    taps, size = weight.shape[-1], image.shape[axis]
    padding = [(taps // 2, taps // 2) if i == axis else (0, 0) for i in range(4)]
    padded = jnp.pad(image, padding, mode="edge")

    # A loop, for unrolled it takes longer to compile than to run.
    def add(i: Array, total: Array) -> Array:
        shifted = jax.lax.dynamic_slice_in_dim(padded, i, size, axis=axis)
        return total + jax.lax.dynamic_slice_in_dim(weight, i, 1, axis=3) * shifted

    return jax.lax.fori_loop(0, taps, add, jnp.zeros_like(image))


def sobel(grey_image: Array) -> Array:
    """Returns the horizontal and the vertical Sobel derivative f32[B H W 2] of f32[B H W 1].

    Outside the image it is 0 (Ji et al. 2019, IIC, released code).
    """
    side = jnp.asarray([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]], grey_image.dtype)
    kernel = jnp.stack([side, side.T], -1)[:, :, None]
    return jax.lax.conv_general_dilated(
        grey_image, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def flip_where(mask: Array, x: Array) -> Array:
    """Returns [B H W ...] mirrored left to right in the rows where `mask` bool[B] is true."""
    return jnp.where(mask.reshape((-1,) + (1,) * (x.ndim - 1)), x[:, :, ::-1], x)


def augment(
    key: Array,
    image: Array,
    amounts: tuple[float, ...],
    jitter_share: float,
    grey_share: float,
    blur_share: float = 0.0,
) -> Array:
    """Returns images f32[B H W Ch] of which a share each is jittered, made grey and blurred.

    Args:
        amounts: brightness, contrast, saturation and hue, as in `jitter`.
        jitter_share, grey_share, blur_share: probabilities; an image's draws are its own.

    The blur is that of HSG's code: 5 x 5 pixels with weights exp(-r^2 / s^2), s from U(0.1, 5).
    """
    keys = jax.random.split(key, 5)
    shape = (len(image), 1, 1, 1)

    def drawn(key: Array, share: float) -> Array:
        return jax.random.uniform(key, shape) < share

    image = jnp.where(drawn(keys[0], jitter_share), jitter(keys[1], image, *amounts), image)
    rgb, rest = image[..., :3], image[..., 3:]
    rgb = jnp.where(drawn(keys[2], grey_share), jnp.broadcast_to(grey(rgb), rgb.shape), rgb)
    image = jnp.concatenate([rgb, rest], axis=-1)
    if not blur_share:
        return image
    sigma = jax.random.uniform(keys[3], shape, minval=0.1, maxval=5.0) / 2**0.5
    return jnp.where(drawn(keys[4], blur_share), blur(image, sigma, reach=2), image)
