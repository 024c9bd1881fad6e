"""ResNets (He et al. 2016) in the layout of the published weights: the stride is in the 3x3.

Convolutions of 1x1 are matrix products, which on a CPU are much faster than convolutions of that
size; one with a stride reads every stride-th pixel first.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.models.norm import batch_norm
from jaxseg.models.pooling import max_pool
from jaxseg.models.product import dot_general

Array = jax.Array

# He et al. 2015, by what a layer puts out, as in the released code: N(0, 2 / (k^2 C_out)).
_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class ResNet(nn.Module):
    """Images -> the maps of the four stages res2 to res5.

    The output stride is that of res5. Where it is below 32 the last stages dilate their 3x3
    convolutions in the place of halving the map, each by 32 / stride and so on, with the same
    weights: `ResNet(..., stride=16)` can train and `ResNet(..., stride=8)` test (Ke et al. 2022).

    Attributes:
        blocks: residual blocks in each stage.
        bottleneck: blocks of 1x1, 3x3, 1x1 convolutions, four times as wide; else of two 3x3.
        stem: channels after the stem; the stages' inner width is 1, 2, 4 and 8 times it.
        stride: of res5: 32, 16 or 8.
        multi_grid: multiplies the dilation of res5's blocks, where res5 dilates. The first block
            of a dilated stage has the dilation of the stage before it and takes no factor.
        remat: whether the backward pass computes each residual block again in the place of keeping
            what is inside it.
        dtype: of the computation; parameters are float32.
    """

    blocks: Sequence[int]
    bottleneck: bool = True
    stem: int = 64
    stride: int = 32
    multi_grid: Sequence[int] = ()
    remat: bool = False
    dtype: jnp.dtype = jnp.float32

    @property
    def width(self) -> int:
        """Channels of res5."""
        return self.stem * 8 * (4 if self.bottleneck else 1)

    @property
    def patch(self) -> int:
        """Side in pixels of what a cell of res5 stands for."""
        return self.stride

    @nn.compact
    def __call__(self, image: Array, train: bool) -> tuple[Array, ...]:
        """Maps normalised images f[B H W Ch] to (res2, res3, res4, res5), f32[B h w C] each.

        Fewer numbers of `blocks` give fewer stages, for IIC's "res12".

        Raises:
            ValueError: the stride or the number of multi-grid factors is none that there is.
        """
        plan = stage_plan(self.blocks, self.stride, self.multi_grid)
        x = _conv(self.stem, 7, 2, 1, self.dtype, "stem")(image)
        x = nn.relu(batch_norm(self.dtype, train, "stem_norm")(x))
        x = max_pool(x)
        block = nn.remat(_Residual, static_argnums=(2,)) if self.remat else _Residual
        maps = []
        for i, stage in enumerate(plan):
            for j, (stride, dilation) in enumerate(stage):
                x = block(
                    self.stem * 2**i,
                    self.bottleneck,
                    stride,
                    dilation,
                    self.dtype,
                    name=f"res{i + 2}_{j}",
                )(x, train)
            maps.append(x.astype(jnp.float32))
        return tuple(maps)


def stage_plan(
    blocks: Sequence[int], stride: int, multi_grid: Sequence[int] = ()
) -> list[list[tuple[int, int]]]:
    """Returns (stride, dilation) of the 3x3 in each block of each stage, METHODS' table for HSG.

    Raises:
        ValueError: the stride is not 32, 16 or 8, or `multi_grid` has not a factor for each block
            of the last stage.
    """
    if stride not in (32, 16, 8):
        raise ValueError(f"a ResNet of stride {stride}; it is 32, 16 or 8")
    if multi_grid and len(multi_grid) != blocks[-1]:
        raise ValueError(f"multi_grid {tuple(multi_grid)} for {blocks[-1]} blocks; give one each")
    plan, reached, dilation = [], 4, 1
    for i, count in enumerate(blocks):
        before, halve = dilation, i > 0 and reached < stride
        if halve:
            reached *= 2
        elif i > 0:
            dilation *= 2
        factors = (
            multi_grid if multi_grid and dilation > 1 and i == len(blocks) - 1 else [1] * count
        )
        rest = [(1, dilation * factor) for factor in factors[1:]]
        plan.append([(2 if halve else 1, before), *rest])
    return plan


class _Residual(nn.Module):
    """A residual block, [B H W C] -> [B H/stride W/stride C'].

    Of the two 3x3 of a plain block both are dilated.
    """

    inner: int
    bottleneck: bool
    stride: int
    dilation: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        def norm(x: Array, name: str) -> Array:
            return batch_norm(self.dtype, train, name)(x)

        width = self.inner * (4 if self.bottleneck else 1)
        if self.bottleneck:
            y = nn.relu(norm(_pointwise(self.inner, self.dtype, "conv1")(x), "norm1"))
            y = _conv(self.inner, 3, self.stride, self.dilation, self.dtype, "conv2")(y)
            y = nn.relu(norm(y, "norm2"))
            y = norm(_pointwise(width, self.dtype, "conv3")(y), "norm3")
        else:
            y = _conv(width, 3, self.stride, self.dilation, self.dtype, "conv1")(x)
            y = nn.relu(norm(y, "norm1"))
            y = norm(_conv(width, 3, 1, self.dilation, self.dtype, "conv2")(y), "norm2")
        if x.shape[-1] != width or self.stride > 1:
            x = x[:, :: self.stride, :: self.stride]
            x = norm(_pointwise(width, self.dtype, "skip")(x), "skip_norm")
        return nn.relu(x + y)


def _conv(
    width: int, kernel: int, stride: int, dilation: int, dtype: jnp.dtype, name: str
) -> nn.Conv:
    return nn.Conv(
        width,
        (kernel, kernel),
        (stride, stride),
        padding=dilation * (kernel // 2),
        kernel_dilation=dilation,
        use_bias=False,
        kernel_init=_INIT,
        dtype=dtype,
        name=name,
    )


def _pointwise(width: int, dtype: jnp.dtype, name: str) -> nn.Dense:
    return nn.Dense(
        width, use_bias=False, kernel_init=_INIT, dtype=dtype, name=name, dot_general=dot_general
    )
