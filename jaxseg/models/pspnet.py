"""PSPNet's head: a map beside its averages over coarse grids (Zhao et al. 2017)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxseg.models.heads import torch_bias, torch_kernel
from jaxseg.models.norm import batch_norm

Array = jax.Array


class PSPHead(nn.Module):
    """Pyramid pooling, a 3x3 convolution and a pointwise one; weights begin as in torch.

    Each grid's averages go through a pointwise convolution, BN and ReLU and are brought back to the
    map's size; with the map itself, which comes first, they go through the 3x3.

    Attributes:
        dim: D, features of a cell.
        width: channels of each grid, and after the 3x3.
        grids: cells along a side of each grid.
        dtype: of the computation; parameters and features are float32.

    Source: Ke et al. 2022 (HSG), for weights that begin with ImageNet's; released code has the
    pooling unused, so that what follows it is taken from the paper's description.
    """

    dim: int
    width: int = 512
    grids: Sequence[int] = (1, 2, 3, 6)
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps f[B h w C] to f32[B h w D]."""
        maps = [x.astype(self.dtype)]
        for i, cells in enumerate(self.grids):
            pooled = nn.Dense(
                self.width,
                use_bias=False,
                kernel_init=torch_kernel,
                dtype=self.dtype,
                name=f"grid{i}",
            )(adaptive_average(x, cells))
            pooled = nn.relu(batch_norm(self.dtype, train, f"grid{i}_norm")(pooled))
            shape = (*x.shape[:3], self.width)
            maps.append(jax.image.resize(pooled, shape, "bilinear", antialias=False))
        x = nn.Conv(
            self.width,
            (3, 3),
            padding=1,
            use_bias=False,
            kernel_init=torch_kernel,
            dtype=self.dtype,
            name="hidden",
        )(jnp.concatenate(maps, -1))
        x = nn.relu(batch_norm(self.dtype, train, "norm")(x))
        x = nn.Dense(
            self.dim,
            kernel_init=torch_kernel,
            bias_init=torch_bias(self.width),
            dtype=self.dtype,
            name="out",
        )(x)
        return x.astype(jnp.float32)


def adaptive_average(x: Array, cells: int) -> Array:
    """Returns means f32[B cells cells C] of f[B h w C], as torch's adaptive average pooling.

    Bin i of n covers the rows from floor(i h / n) to before ceil((i + 1) h / n), so that bins
    overlap where n does not divide h.
    """
    rows, columns = (_bins(size, cells) for size in x.shape[1:3])
    return jnp.einsum("iy,jx,byxc->bijc", rows, columns, x.astype(jnp.float32))


def _bins(size: int, cells: int) -> np.ndarray:
    """Returns f32[cells size]: the weights of each bin's mean along one axis."""
    bins = np.zeros((cells, size), np.float32)
    for i in range(cells):
        first, last = i * size // cells, -(-(i + 1) * size // cells)
        bins[i, first:last] = 1 / (last - first)
    return bins
