"""The max-pooling of ResNets, whose gradient XLA would compute by a scatter."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array


@jax.custom_vjp
def max_pool(x: Array) -> Array:
    """Returns the maxima f[B ceil(H/2) ceil(W/2) C] of 3 x 3 windows at every second pixel.

    Of f[B H W C]. The gradient goes to the first of equal values in a window, row by row, as XLA's
    does. For it, rows and columns are taken apart into even and odd ones, so that forward and
    backward are comparisons of whole arrays: on a CPU several times as fast
    (benchmarks/formulations.py).
    """
    # Without a gradient, and for sides that an export leaves open.
    return nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))


def _forward(x: Array) -> tuple[Array, tuple[Array, tuple[int, ...]]]:
    best, *others = _taps(x)
    place = jnp.zeros(best.shape, jnp.int8)
    for number, tap in enumerate(others, 1):
        higher = tap > best
        best, place = jnp.where(higher, tap, best), jnp.where(higher, jnp.int8(number), place)
    return best, (place, x.shape)


def _backward(kept: tuple[Array, tuple[int, ...]], upper: Array) -> tuple[Array]:
    place, shape = kept
    part = [jnp.where(place == number, upper, 0) for number in range(9)]
    # Of three taps along an axis the first is the odd pixel before, which belongs to the next
    # window as its last.
    rows = [(part[3 + i], part[6 + i] + _before(part[i], 1)) for i in range(3)]
    even, odd = zip(*rows, strict=True)
    pixels = [[some[1], some[2] + _before(some[0], 2)] for some in (even, odd)]
    below = jnp.stack([jnp.stack(some, axis=3) for some in pixels], axis=2)
    batch, height, _, width, _, channels = below.shape
    below = below.reshape(batch, 2 * height, 2 * width, channels)
    return (below[:, : shape[1], : shape[2]],)


max_pool.defvjp(_forward, _backward)


def _taps(x: Array) -> list[Array]:
    """Returns the nine pixels of all windows, row by row, f[B h w C] each."""
    height, width = x.shape[1:3]
    around = ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
    x = jnp.pad(x, around, constant_values=-jnp.inf)

    def three(x: Array, axis: int) -> list[Array]:
        even, odd = (x[(slice(None),) * axis + (slice(first, None, 2),)] for first in (0, 1))
        return [_after(odd, axis), even, odd]

    return [tap for row in three(x, 1) for tap in three(row, 2)]


def _after(x: Array, axis: int) -> Array:
    """Returns x moved on by one along an axis; the first are below everything."""
    return _moved(x, axis, (1, 0), -jnp.inf)


def _before(x: Array, axis: int) -> Array:
    """Returns x moved back by one along an axis; the last are 0."""
    return _moved(x, axis, (0, 1), 0)


def _moved(x: Array, axis: int, around: tuple[int, int], filling: float) -> Array:
    first = around[1]
    part = jax.lax.slice_in_dim(x, first, first + x.shape[axis] - 1, axis=axis)
    padding = [(0, 0)] * x.ndim
    padding[axis] = around
    return jnp.pad(part, padding, constant_values=filling)
