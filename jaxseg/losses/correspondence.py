"""STEGO's loss: correspondences of features, distilled into codes, at sampled points.

Source: Hamilton et al. 2022 (STEGO), eq. 4, and the released code.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxseg.clustering.kmeans import normalise, similarity


def permutation(key: Array, count: int) -> Array:
    """Returns i32[count], another image for each: a random permutation without fixed points.

    A fixed point i is moved on to i + 1 modulo `count`, as in the released code of STEGO and
    SmooSeg, so that the result need not be a permutation. A single image stays with itself.
    """
    order = jax.random.permutation(key, count)
    places = jnp.arange(count)
    return jnp.where(order == places, order + 1, order) % count


def sample(features: Array, points: Array) -> Array:
    """Returns features f32[B ... C] of maps f[B h w C] at points f32[B ... 2], bilinearly.

    A point is (y, x) in [-1, 1], where -1 and 1 are the centres of the outermost cells (torch calls
    this align_corners=True); beyond them the border goes on.
    """
    batch, height, width, channels = features.shape
    last = jnp.asarray([height - 1, width - 1], jnp.float32)
    place = (points.reshape(batch, -1, 2).astype(jnp.float32) + 1.0) / 2.0 * last[None, None]
    place = jnp.clip(place, 0.0, last[None, None])
    low = jnp.floor(place)
    part = place - low
    first = low.astype(jnp.int32)
    second = jnp.minimum(first + 1, last.astype(jnp.int32)[None, None])
    flat = features.reshape(batch, height * width, channels)

    def corner(y: Array, x: Array, weight: Array) -> Array:
        return jnp.take_along_axis(flat, (y * width + x)[..., None], axis=1) * weight[..., None]

    (y0, x0), (y1, x1) = jnp.moveaxis(first, -1, 0), jnp.moveaxis(second, -1, 0)
    dy, dx = jnp.moveaxis(part, -1, 0)
    found = (
        corner(y0, x0, (1 - dy) * (1 - dx))
        + corner(y0, x1, (1 - dy) * dx)
        + corner(y1, x0, dy * (1 - dx))
        + corner(y1, x1, dy * dx)
    )
    return found.reshape(*points.shape[:-1], channels)


def correlation(first: Array, second: Array) -> Array:
    """Returns the cosines f32[B p q] of the vectors of f[B ... D] and f[B ... D]."""
    first, second = (normalise(x).reshape(x.shape[0], -1, x.shape[-1]) for x in (first, second))
    return jnp.einsum("bpd,bqd->bpq", first, second, precision=lax.Precision.HIGHEST)


def correspondence(
    features: tuple[Array, Array],
    codes: tuple[Array, Array],
    shift: float,
    pointwise: bool = True,
    zero_clamp: bool = True,
    stabilise: bool = False,
) -> Array:
    """Returns the loss -S (F - shift) of each pair of points, f32[B p q]; its mean is the term.

    F are the cosines of the `features` f[B ... C] of two images, without gradient, and S those of
    their `codes` f[B ... D].

    Args:
        features: at the sampled points of an image and of its partner.
        codes: at the same points.
        shift: b: what is as close as this neither attracts nor repels.
        pointwise: centres F: each row's mean is taken off and the mean over the batch added back
            on.
        zero_clamp: replaces a negative S by 0, so that what is apart is not pushed further.
        stabilise: replaces an S above 0.8 by 0.8, so that what is close is not pulled further.
    """
    closeness = lax.stop_gradient(correlation(*features))
    if pointwise:
        rows = jnp.mean(closeness, axis=2, keepdims=True)
        closeness = closeness - rows + jnp.mean(closeness)
    similar = jnp.clip(correlation(*codes), 0.0 if zero_clamp else None, 0.8 if stabilise else None)
    return -similar * (closeness - shift)


def cluster_loss(codes: Array, centres: Array) -> Array:
    """Returns minus the mean cosine f32[] of codes f[... D] to the nearest of centres f[K D].

    No gradient passes through the codes: this is the cluster probe, which follows them.
    """
    return -jnp.mean(jnp.max(similarity(lax.stop_gradient(codes), centres), axis=-1))
