"""The networks of IIC (Ji et al. 2019): a trunk, and heads of pointwise convolutions."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.models.norm import batch_norm
from jaxseg.models.resnet import ResNet

Array = jax.Array

_INIT = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class VGGTrunk(nn.Module):
    """Six 3x3 convolutions with BatchNorm and ReLU, f[B H W Ch] -> f32[B h w widths[-1]].

    A max-pooling halves the map after the second; the last two are dilated by 2 but padded by 1, so
    that each takes a cell off every side: 128 x 128 pixels become 60 x 60 cells.

    Attributes:
        widths: channels of the convolutions.
        dtype: of the computation; parameters are float32.

    Source: Ji et al. 2019 (IIC), released code.
    """

    widths: Sequence[int] = (64, 128, 256, 256, 512, 512)
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        for i, width in enumerate(self.widths):
            x = nn.Conv(
                width,
                (3, 3),
                padding=1,
                kernel_dilation=2 if i > 3 else 1,
                use_bias=False,
                kernel_init=_INIT,
                dtype=self.dtype,
                name=f"conv{i}",
            )(x)
            x = nn.relu(batch_norm(self.dtype, train, f"norm{i}")(x))
            if i == 1:
                x = nn.max_pool(x, (2, 2), (2, 2))
        return x.astype(jnp.float32)


class Res12Trunk(nn.Module):
    """ResNet-18 up to its second stage, f[B H W Ch] -> f32[B H/8 W/8 2 stem].

    Source: Ji et al. 2019's baseline in Cho et al. 2021 (PiCIE), "IIC-res12".
    """

    stem: int = 64
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        net = ResNet((2, 2), bottleneck=False, stem=self.stem, stride=8, dtype=self.dtype)
        return net.copy(name="resnet")(x, train)[-1]


class Head(nn.Module):
    """A pointwise convolution without bias, f32[B h w D] -> scores f32[B h+2p w+2p clusters].

    Attributes:
        padding: p, cells of zeros around the map; the released code has 1, which makes of 60 cells
            62, those at the edge with equal scores for all clusters.
    """

    clusters: int
    padding: int = 0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        pad = (self.padding, self.padding)
        x = jnp.pad(x, ((0, 0), pad, pad, (0, 0)))
        return nn.Dense(self.clusters, use_bias=False, kernel_init=_INIT)(x)
