"""Softmax attention whose matrix of weights is never kept: the backward pass computes it again.

The matrix of N x N weights a head is by far the largest array of a vision transformer with small
patches, and both writing it and keeping it for the gradient cost more than its products. What is
kept in its place are the outputs and the logarithm of each row's sum of exponentials.

Source: Rabe and Staats 2021; Dao et al. 2022 (FlashAttention), whose gradient this is.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

# On a CPU at most so many weights of a head and an image exist at a time: they stay in a cache from
# one product to the next. Elsewhere all heads and queries are computed at once. The number of
# images, which may be unknown in an export, does not count.
_BLOCK = 1 << 18


def attention_weights(query: Array, key: Array) -> Array:
    """Returns softmax(Q K^T / sqrt(size)), f32[B heads N N]; arguments as those of `attend`."""
    scaled = _heads_first(query / math.sqrt(query.shape[-1]))
    scores = _product(scaled, _heads_first(key).swapaxes(-1, -2))
    return jnp.moveaxis(jax.nn.softmax(scores), 0, 1)


@jax.custom_vjp
def attend(query: Array, key: Array, value: Array) -> Array:
    """Returns softmax(Q K^T / sqrt(size)) V, [B N heads size] in the dtype of `value`.

    All three are [B N heads size] of one dtype; products are added up, and the softmax computed,
    in float32.
    """
    return _forward(query, key, value)[0]


def _forward(query: Array, key: Array, value: Array) -> tuple[Array, tuple[Array, ...]]:
    scaled = query / math.sqrt(query.shape[-1])
    inputs = tuple(map(_heads_first, (scaled, key, value)))
    mixed, level = _over_heads(_attend, inputs)
    return _heads_last(mixed), (*inputs, mixed, level)


def _backward(kept: tuple[Array, ...], upper: Array) -> tuple[Array, Array, Array]:
    below = _over_heads(_attend_backward, (*kept, _heads_first(upper)))
    query, key, value = map(_heads_last, below)
    return query / math.sqrt(query.shape[-1]), key, value


attend.defvjp(_forward, _backward)


def _attend(query: Array, key: Array, value: Array) -> tuple[Array, Array]:
    """Returns a head's output [B N size], and its level f32[B N 1], log of the sum of exp."""

    def rows(_: None, of_rows: tuple[Array]) -> tuple[None, tuple[Array, Array]]:
        (query,) = of_rows
        scores = _product(query, key.swapaxes(-1, -2))
        highest = scores.max(-1, keepdims=True)
        weights = jnp.exp(scores - highest)
        total = weights.sum(-1, keepdims=True)
        # Divided after the product: of fewer numbers.
        mixed = _product(weights.astype(value.dtype), value) / total
        return None, (mixed.astype(value.dtype), highest + jnp.log(total))

    return _by_rows(rows, None, (query,), key)[1]


def _attend_backward(
    query: Array, key: Array, value: Array, mixed: Array, level: Array, upper: Array
) -> tuple[Array, Array, Array]:
    """Returns the gradients of a head's query, key and value, [B N size] each."""

    def rows(
        sums: tuple[Array, Array], of_rows: tuple[Array, ...]
    ) -> tuple[tuple[Array, Array], Array]:
        query, mixed, level, upper = of_rows
        weights = jnp.exp(_product(query, key.swapaxes(-1, -2)) - level)
        inner = (upper.astype(jnp.float32) * mixed.astype(jnp.float32)).sum(-1, keepdims=True)
        slope = weights * (_product(upper, value.swapaxes(-1, -2)) - inner)
        weights, slope = (x.astype(value.dtype).swapaxes(-1, -2) for x in (weights, slope))
        more = _product(slope, query), _product(weights, upper)
        below = _product(slope.swapaxes(-1, -2), key)
        return (sums[0] + more[0], sums[1] + more[1]), below.astype(query.dtype)

    zero = jnp.zeros(key.shape, jnp.float32), jnp.zeros(value.shape, jnp.float32)
    (of_key, of_value), of_query = _by_rows(rows, zero, (query, mixed, level, upper), key)
    return of_query, of_key.astype(key.dtype), of_value.astype(value.dtype)


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, preferred_element_type=jnp.float32)


def _over_heads(function: Callable, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
    """Returns a function of a head's arrays [B N ...] for all heads [H B N ...]."""
    if jax.default_backend() == "cpu":
        return lax.map(lambda of_head: function(*of_head), inputs)
    return function(*inputs)


def _by_rows(function: Callable, sums: Any, rows: tuple[Array, ...], key: Array) -> tuple[Any, Any]:
    """Returns lax.scan's result of a function over blocks of the rows [... N w].

    Blocks are filled up with zeros, which must not change the sums. `key` is what all rows meet.
    """
    count = rows[0].shape[-2]
    most = count
    # A number of tokens that an export leaves open cannot be cut.
    if jax.default_backend() == "cpu" and isinstance(count, int):
        most = min(max(_BLOCK // key.shape[-2], 16), count)
    if most == count:
        return function(sums, rows)
    blocks = -(-count // most)
    height = -(-count // blocks)

    def cut(x: Array) -> Array:
        around = [(0, 0)] * (x.ndim - 2)
        x = jnp.pad(x, [*around, (0, blocks * height - count), (0, 0)])
        return jnp.moveaxis(x.reshape(*x.shape[:-2], blocks, height, x.shape[-1]), -3, 0)

    def whole(x: Array) -> Array:
        x = jnp.moveaxis(x, 0, -3)
        return x.reshape(*x.shape[:-3], -1, x.shape[-1])[..., :count, :]

    sums, found = lax.scan(function, sums, jax.tree.map(cut, rows))
    return sums, jax.tree.map(whole, found)


def _heads_first(x: Array) -> Array:
    return jnp.moveaxis(x, 2, 0)


def _heads_last(x: Array) -> Array:
    return jnp.moveaxis(x, 0, 2)
