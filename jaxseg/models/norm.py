"""The BatchNorm that all networks share."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

Array = jax.Array

_MOMENTUM = 0.9
_EPSILON = 1e-5


def batch_norm(
    dtype: jnp.dtype, train: bool, name: str | None = None, exact: bool = False
) -> nn.Module:
    """BatchNorm over the global batch, with torch's momentum and epsilon.

    With `exact` the variance is the mean squared deviation, in the place of E[x^2] - E[x]^2: one
    more pass over the data, for few values whose mean is large beside their deviation; its call
    takes a `mask`. The running variance is the biased one, where torch's is unbiased.
    """
    if train and not exact:
        return BatchNorm(dtype, name=name)
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=_MOMENTUM,
        epsilon=_EPSILON,
        dtype=dtype,
        use_fast_variance=not exact,
        name=name,
    )


class BatchNorm(nn.Module):
    """`nn.BatchNorm` in training, with the same variables, whose gradient takes fewer passes.

    Derived step by step, the gradient is several sums over the batch one after another; written
    down (Ioffe and Szegedy 2015, section 3) it is two sums of one pass and a second pass. On a CPU
    that takes less time (benchmarks/formulations.py measures how much). It has the name of Flax's
    class, for that becomes part of the parameters' names.

    Attributes:
        dtype: of the output; statistics and the gradient's sums are float32.
    """

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps f[... C] to `dtype` [... C]; the statistics are over all axes but the last."""
        width = x.shape[-1:]
        running = [
            self.variable("batch_stats", name, fill, width, jnp.float32)
            for name, fill in (("mean", jnp.zeros), ("var", jnp.ones))
        ]
        scale = self.param("scale", nn.initializers.ones, width)
        bias = self.param("bias", nn.initializers.zeros, width)
        y, *found = _normalised(self.dtype, x, scale, bias)
        if not self.is_initializing():
            for old, new in zip(running, found, strict=True):
                old.value = _MOMENTUM * old.value + (1 - _MOMENTUM) * new
        return y


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _normalised(
    dtype: jnp.dtype, x: Array, scale: Array, bias: Array
) -> tuple[Array, Array, Array]:
    """Returns f[... C] normalised, and mean and variance f32[C], which have no gradient."""
    return _forward(dtype, x, scale, bias)[0]


def _wide(vector: Array, x: Array) -> Array:
    """Returns f32[C] with the axes of x."""
    return vector.reshape((1,) * (x.ndim - 1) + vector.shape)


def _forward(dtype: jnp.dtype, x: Array, scale: Array, bias: Array) -> tuple:
    wide = x.astype(jnp.float32)
    # Not flattened to [N C]: XLA leaves out a rounding to bfloat16 only between neighbours. With a
    # reshape before the next layer, gradients in bfloat16 were measurably worse.
    over = tuple(range(x.ndim - 1))
    mean, square = wide.mean(over), (wide**2).mean(over)
    variance = jnp.maximum(square - mean**2, 0.0)  # rounding may make it negative
    inverse = jax.lax.rsqrt(variance + _EPSILON)
    y = (wide - _wide(mean, x)) * _wide(inverse * scale, x) + _wide(bias, x)
    return (y.astype(dtype), mean, variance), (x, scale, mean, inverse)


def _backward(dtype: jnp.dtype, kept: tuple, gradients: tuple) -> tuple[Array, Array, Array]:
    x, scale, mean, inverse = kept
    upper = gradients[0].astype(jnp.float32)
    centred = x.astype(jnp.float32) - _wide(mean, x)
    over, count = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
    of_bias, of_scale = upper.sum(over), (upper * centred).sum(over) * inverse
    level, slope = _wide(of_bias / count, x), _wide(of_scale * inverse / count, x)
    below = (upper - level - centred * slope) * _wide(scale * inverse, x)
    return below.astype(x.dtype), of_scale, of_bias


_normalised.defvjp(_forward, _backward)
