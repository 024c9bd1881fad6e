"""The network of InfoSeg (Harb and Knöbelreiter 2021): local vectors and class-wise global ones.

The paper gives channels, kernels and norms only in a figure without numbers, and released no code:
P = 1024 features, stride 4, and the order of the blocks are the paper's; the layers are this
project's design in the style of Local Deep InfoMax (Hjelm et al. 2019).
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.models.norm import batch_norm

Array = jax.Array


def _near_identity(key: Array, shape: Sequence[int], dtype=jnp.float32) -> Array:
    """Ones where input meets the like-numbered output, U(-0.01, 0.01) elsewhere (as in DIM)."""
    noise = jax.random.uniform(key, tuple(shape), dtype, -0.01, 0.01)
    eye = jnp.eye(shape[-2], shape[-1], dtype=dtype).reshape(
        (1,) * (len(shape) - 2) + tuple(shape[-2:])
    )
    return jnp.where(eye > 0, eye, noise)


class ConvBlock(nn.Module):
    """Convolution without bias, BatchNorm, ReLU: [B H W C] -> [B H/stride W/stride width]."""

    width: int
    kernel: int
    stride: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        kernel, stride = (self.kernel,) * 2, (self.stride,) * 2
        x = nn.Conv(self.width, kernel, stride, padding=1, use_bias=False, dtype=self.dtype)(x)
        return nn.relu(batch_norm(self.dtype, train)(x))


class PointwiseResidual(nn.Module):
    """Block C: y = W3 ReLU(BN(W2 x)) + W_skip x with pointwise W, [... C] -> [... features]."""

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        dense: Callable = lambda **kw: nn.Dense(  # noqa: E731
            self.features, use_bias=False, dtype=self.dtype, **kw
        )
        hidden = nn.relu(batch_norm(self.dtype, train)(dense(name="w2")(x)))
        return dense(name="w3")(hidden) + dense(name="skip", kernel_init=_near_identity)(x)


class InfoSegNet(nn.Module):
    """Images -> (local vectors L, global vectors H).

    Attributes:
        clusters: K, number of global vectors an image.
        features: P, length of a vector (paper: 1024).
        patch_widths: channels of block A's five convolutions; the second and fourth halve the size.
        global_widths: channels of block B's convolutions, each of which halves the size.
        layer_norm: LayerNorm without scale and offset on L and H; off in the default design.
        dtype: of the computation; parameters are float32.
    """

    clusters: int
    features: int = 1024
    patch_widths: Sequence[int] = (64, 128, 256, 512, 512)
    global_widths: Sequence[int] = (512, 1024, 1024)
    layer_norm: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> tuple[Array, Array]:
        """Maps f[B H W Ch] to L f32[B H/4 W/4 P] and H f32[B K P]."""
        shapes = ((3, 1), (4, 2), (3, 1), (4, 2), (3, 1))  # kernel, stride
        for i, (width, (kernel, stride)) in enumerate(zip(self.patch_widths, shapes, strict=True)):
            x = ConvBlock(width, kernel, stride, self.dtype, name=f"patch{i}")(x, train)
        local = PointwiseResidual(self.features, self.dtype, name="local")(x, train)
        for i, width in enumerate(self.global_widths):
            if any(side < 2 for side in x.shape[1:3]):
                raise ValueError(
                    f"an image is too small for InfoSeg: its map of {x.shape[1:3]} cells cannot be "
                    f"halved for global_widths[{i}]; use a larger crop or fewer global_widths"
                )
            x = ConvBlock(width, 4, 2, self.dtype, name=f"global{i}")(x, train)
        pooled = x.mean((1, 2))
        pooled = PointwiseResidual(self.features, self.dtype, name="global")(pooled, train)
        heads = nn.Dense(self.clusters * self.features, dtype=self.dtype, name="heads")(pooled)
        heads = heads.reshape(-1, self.clusters, self.features)
        local, heads = local.astype(jnp.float32), heads.astype(jnp.float32)
        if self.layer_norm:
            norm = nn.LayerNorm(use_scale=False, use_bias=False)
            local, heads = norm(local), norm(heads)
        return local, heads
