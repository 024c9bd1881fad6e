"""HSG's head: two pointwise convolutions (Ke et al. 2022)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.models.heads import torch_bias, torch_kernel
from jaxseg.models.norm import batch_norm

Array = jax.Array


class FCNHead(nn.Module):
    """W2 ReLU(BN(W1 x)) + b: as many channels inside as come in; weights begin as in torch.

    Attributes:
        dim: D, features of a cell.
        dtype: of the computation; parameters and features are float32.
    """

    dim: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps f[B h w C] to f32[B h w D]."""
        width = x.shape[-1]
        x = nn.Dense(
            width, use_bias=False, kernel_init=torch_kernel, dtype=self.dtype, name="hidden"
        )(x)
        x = nn.relu(batch_norm(self.dtype, train, "norm")(x))
        x = nn.Dense(
            self.dim,
            kernel_init=torch_kernel,
            bias_init=torch_bias(width),
            dtype=self.dtype,
            name="out",
        )(x)
        return x.astype(jnp.float32)
