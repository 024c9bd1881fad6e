"""A small network that finds boundaries: a U-shaped ResNet that works at half resolution."""

from collections.abc import Sequence

import jax
from flax import linen as nn

from jaxseg.models.norm import batch_norm

Array = jax.Array


class BoundaryNet(nn.Module):
    """Images -> logits of a boundary in each cell of 2 x 2 pixels, and coarser ones to learn from.

    Four stages of residual blocks halve the map each; the last one dilates its convolutions. Then
    each stage's map is added to the upsampled coarser one and convolved. Every level has logits of
    its own; only the finest are used after training (deep supervision: Xie & Tu 2015).

    Attributes:
        widths: channels of the stages at strides 2, 4, 8 and 16, on the way down and up.
        blocks: residual blocks in each stage.
        dilations: of the blocks of the last stage.
    """

    widths: Sequence[int] = (16, 40, 60, 64)
    blocks: Sequence[int] = (1, 2, 2, 2)
    dilations: Sequence[int] = (1, 2)

    @property
    def multiple(self) -> int:
        """Height and width of images are to be multiples of this."""
        return 2 ** len(self.widths)

    @nn.compact
    def __call__(self, image: Array, train: bool) -> tuple[Array, ...]:
        """Maps f32[B H W 3] in [-1, 1] to logits f32[B H/2 W/2], f32[B H/4 W/4], and so on."""
        x, stages = image, []
        for stage, (width, blocks) in enumerate(zip(self.widths, self.blocks, strict=True)):
            x = _cells(x) if stage == 0 else nn.avg_pool(x, (2, 2), (2, 2))
            x = nn.relu(_normalised(_conv(width)(x), train))
            last = stage == len(self.widths) - 1
            for block in range(blocks):
                x = _residual(x, train, self.dilations[block] if last else 1)
            stages.append(x)
        logits = [_logits(x)]
        for width, skip in zip(self.widths[-2::-1], stages[-2::-1], strict=True):
            coarse = _conv(width, side=1)(x)
            # Each value four times; the convolution after it smooths. On a CPU a bilinear resize
            # takes half as long as all else in a training step.
            coarse = coarse.repeat(2, 1).repeat(2, 2)
            x = nn.relu(_normalised(_conv(width, side=1)(skip) + coarse, train))
            x = nn.relu(_normalised(_conv(width)(x), train))
            logits.append(_logits(x))
        return tuple(logits[::-1])


def _cells(image: Array) -> Array:
    """Makes each 2 x 2 pixels one cell with their values side by side."""
    batch, height, width, channels = image.shape
    x = image.reshape(batch, height // 2, 2, width // 2, 2, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // 2, width // 2, 4 * channels)


def _conv(width: int, side: int = 3, dilation: int = 1) -> nn.Conv:
    return nn.Conv(
        width,
        (side, side),
        kernel_dilation=dilation,
        use_bias=False,
        kernel_init=nn.initializers.he_normal(),
    )


def _normalised(x: Array, train: bool) -> Array:
    return batch_norm(x.dtype, train)(x)


def _residual(x: Array, train: bool, dilation: int) -> Array:
    width = x.shape[-1]
    inner = nn.relu(_normalised(_conv(width, dilation=dilation)(x), train))
    return nn.relu(x + _normalised(_conv(width, dilation=dilation)(inner), train))


def _logits(x: Array) -> Array:
    # Few pixels are boundaries: learning starts from about one in ten.
    return nn.Conv(1, (1, 1), bias_init=nn.initializers.constant(-2.0))(x)[..., 0]
