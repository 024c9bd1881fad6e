"""The BatchNorm that all convolutional networks share."""

import jax.numpy as jnp
from flax import linen as nn


def batch_norm(dtype: jnp.dtype, train: bool, name: str | None = None) -> nn.BatchNorm:
    """BatchNorm over the global batch, with torch's momentum and epsilon."""
    return nn.BatchNorm(
        use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype, name=name
    )
