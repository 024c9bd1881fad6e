"""The BatchNorm that all networks share."""

import jax.numpy as jnp
from flax import linen as nn


def batch_norm(
    dtype: jnp.dtype, train: bool, name: str | None = None, exact: bool = False
) -> nn.BatchNorm:
    """BatchNorm over the global batch, with torch's momentum and epsilon.

    With `exact` the variance is the mean squared deviation, in the place of E[x^2] - E[x]^2: one
    more pass over the data, for few values whose mean is large beside their deviation. The running
    variance is the biased one, where torch's is unbiased.
    """
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        dtype=dtype,
        use_fast_variance=not exact,
        name=name,
    )
