"""Vision Transformers whose weights are published: DINO, DINOv2, DINOv3 and the like.

One module covers them all; they differ in where a token's position comes from, in register tokens,
layer scale, the feed-forward layer and the norm's epsilon. Layer order is pre-norm, with one norm
after the last block. Tokens stand in the order class, registers, patches row by row.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct

from jaxseg.models.attention import attend, attention_weights
from jaxseg.models.loop import in_loop
from jaxseg.models.product import dot_general

Array = jax.Array

POSITIONS = ("dino", "antialias", "rotary")
_INIT = nn.initializers.truncated_normal(0.02)


class Tokens(struct.PyTreeNode):
    """What a Vision Transformer says of images; N = 1 + R + h w tokens, all float32."""

    patches: Array  # f32[B h w D] patch tokens after the last norm
    cls: Array  # f32[B D] class token after the last norm
    registers: Array  # f32[B R D] register tokens after the last norm; R is 0 for most models
    keys: Array  # f32[B N D] keys of the last block, heads side by side; not rotated in DINOv3
    attention: Array | None = None  # f32[B heads N N] of the last block, if it was asked for


class VisionTransformer(nn.Module):
    """Images -> tokens (Dosovitskiy et al. 2021; Caron et al. 2021; Oquab et al. 2024; Siméoni et
    al. 2025).

    Attributes:
        patch: side of a patch in pixels.
        width: D, length of a token.
        blocks, heads: depth (1 or more), and attention heads a block, of which D is a multiple.
        trained: cells on a side of the table of absolute positions; unused with "rotary".
        positions: how absolute positions get to another grid: "dino" as DINO and DINOv2 do it,
            "antialias" as DINOv2 with registers does; or "rotary", which has no table (DINOv3).
        registers: R, tokens beside the class token that belong to no patch (Darcet et al. 2024).
        layer_scale: a learned factor for each feature after attention and feed-forward.
        swiglu: a gated feed-forward layer, SiLU(x W1) * (x W2), in the place of GELU(x W).
        hidden: features inside the feed-forward layer; 0 = 4 width.
        epsilon: of the norms.
        remat: whether the backward pass computes each block but the last again in the place of
            keeping what is inside it.
        dtype: of the matrix products; parameters, norms, softmax and the residual sum are float32.
    """

    patch: int
    width: int
    blocks: int
    heads: int
    trained: int = 14
    positions: str = "dino"
    registers: int = 0
    layer_scale: bool = False
    swiglu: bool = False
    hidden: int = 0
    epsilon: float = 1e-6
    remat: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Array, attention: bool = False) -> Tokens:
        """Maps normalised images f[B H W 3] to tokens on the grid h = H / patch, w = W / patch.

        Args:
            image: sides are multiples of `patch`, and need not be those of the training.
            attention: also return the last block's attention. Static.

        Raises:
            ValueError: a side is no multiple of the patch.
        """
        x = self._embed(image)
        grid = (x.shape[1], x.shape[2])
        x = x.reshape(x.shape[0], -1, self.width)
        cls = self.param("cls", _INIT, (self.width,))
        table, rotation = None, None
        if self.positions == "rotary":
            rotation = rotary_angles(grid, self.width // self.heads)
        else:
            table = self.param("positions", _INIT, (1 + self.trained**2, self.width))
            x = x + resample(table[1:], self.trained, grid, self.positions)[None]
            cls = cls + table[0]
        extra = cls[None]
        if self.registers:
            registers = self.param("registers", _INIT, (self.registers, self.width))
            extra = jnp.concatenate([extra, registers])
        x = jnp.concatenate([jnp.broadcast_to(extra, (x.shape[0], *extra.shape)), x], axis=1)
        make = functools.partial(
            _Block,
            self.heads,
            self.hidden or 4 * self.width,
            self.layer_scale,
            self.swiglu,
            self.epsilon,
            self.dtype,
        )

        def lower(block: nn.Module, x: Array) -> Array:
            return block(x, rotation, False)[0]

        *names, last = [f"block{i}" for i in range(self.blocks)]
        x = in_loop(self, make, names, nn.remat(lower) if self.remat else lower, x)
        x, keys, weights = make(name=last)(x, rotation, attention)
        x = _norm(self.epsilon, jnp.float32, "norm")(x)
        first = 1 + self.registers
        return Tokens(
            patches=x[:, first:].reshape(-1, *grid, self.width),
            cls=x[:, 0],
            registers=x[:, 1:first],
            keys=keys.astype(jnp.float32),
            attention=weights,
        )

    def _embed(self, image: Array) -> Array:
        """Returns patch embeddings f32[B h w D], without positions."""
        batch, height, width, channels = image.shape
        p = self.patch
        if height % p or width % p or not height or not width:
            raise ValueError(
                f"an image of {height} x {width} pixels does not divide into patches of {p} x {p}; "
                f"crop or resize it to multiples of {p}, "
                f"such as {max(height // p, 1) * p} x {max(width // p, 1) * p}"
            )
        # A convolution whose stride is its size, written as one matrix product.
        x = image.reshape(batch, height // p, p, width // p, p, channels).swapaxes(2, 3)
        x = x.reshape(batch, height // p, width // p, p * p * channels)
        return _dense(self.width, self.dtype, "embed")(x).astype(jnp.float32)


class _Block(nn.Module):
    """x + Attention(Norm(x)), then x + FeedForward(Norm(x)), f32[B N D] -> f32[B N D]."""

    heads: int
    hidden: int
    layer_scale: bool
    swiglu: bool
    epsilon: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: Array, rotation: np.ndarray | None, attention: bool
    ) -> tuple[Array, Array, Array | None]:
        """Returns (tokens, keys [B N D], attention f32[B heads N N] or None)."""
        mixed, keys, weights = _Attention(self.heads, self.dtype, name="attention")(
            _norm(self.epsilon, self.dtype, "norm1")(x), rotation, attention
        )
        x = x + self._scaled(mixed, "scale1")
        inner = self._feed_forward(_norm(self.epsilon, self.dtype, "norm2")(x))
        return x + self._scaled(inner, "scale2"), keys, weights

    def _scaled(self, x: Array, name: str) -> Array:
        x = x.astype(jnp.float32)
        if not self.layer_scale:
            return x
        return x * self.param(name, nn.initializers.constant(1e-5), x.shape[-1:])[None, None]

    def _feed_forward(self, x: Array) -> Array:
        up = _dense(self.hidden, self.dtype, "up")(x)
        gate = _dense(self.hidden, self.dtype, "gate")(x) if self.swiglu else None
        inner = _gelu(up) if gate is None else _gated(gate, up)
        return _dense(x.shape[-1], self.dtype, "down")(inner)


class _Attention(nn.Module):
    """Softmax attention over all tokens: (mixed [B N D], keys [B N D], weights or None)."""

    heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: Array, rotation: np.ndarray | None, attention: bool
    ) -> tuple[Array, Array, Array | None]:
        batch, count, width = x.shape
        size = width // self.heads
        qkv = _dense(3 * width, self.dtype, "qkv")(x).reshape(batch, count, 3, self.heads, size)
        query, key, value = (qkv[:, :, i] for i in range(3))
        keys = key.reshape(batch, count, width)
        if rotation is not None:
            query, key = (rotate(t, rotation) for t in (query, key))
        weights = attention_weights(query, key) if attention else None
        mixed = attend(query, key, value)
        mixed = _dense(width, self.dtype, "out")(mixed.reshape(batch, count, width))
        return mixed, keys, weights


# Their gradients keep what they take alone, a few arrays less of the largest ones of a block.
_gelu = jax.checkpoint(functools.partial(nn.gelu, approximate=False))
_gated = jax.checkpoint(lambda gate, up: nn.silu(gate) * up)


def _norm(epsilon: float, dtype: jnp.dtype, name: str) -> nn.LayerNorm:
    # The fast variance, E[x^2] - E[x]^2, cancels for the few tokens of very large norm.
    return nn.LayerNorm(epsilon=epsilon, dtype=dtype, use_fast_variance=False, name=name)


def _dense(features: int, dtype: jnp.dtype, name: str) -> nn.Dense:
    return nn.Dense(features, kernel_init=_INIT, dtype=dtype, name=name, dot_general=dot_general)


def resample(table: Array, trained: int, grid: tuple[int, int], how: str) -> Array:
    """Returns positions f32[h w, D] for a grid from a table f32[trained trained, D].

    The table is unchanged at its own grid. "dino" is bicubic with a = -0.75, clamped at the edges,
    without antialiasing, at a scale of (cells + 0.1) / trained along each axis: the 0.1 was meant
    to save the released code from rounding down, and moves every sample. "antialias" is what
    DINOv2 with registers has in its place: a = -0.5, the exact scale, and a kernel that widens
    where the grid is coarser than the table.

    Raises:
        ValueError: `how` is neither.
    """
    if grid == (trained, trained):
        return table
    square = table.reshape(trained, trained, -1)
    if how == "dino":
        rows, columns = (_cubic(cells, trained) for cells in grid)
        square = jnp.einsum("hy,wx,yxd->hwd", rows, columns, square)
    elif how == "antialias":
        square = jax.image.resize(square, (*grid, square.shape[-1]), "cubic")
    else:
        raise ValueError(f"positions is {how!r}; it is one of {', '.join(POSITIONS)}")
    return square.reshape(grid[0] * grid[1], -1)


def _cubic(cells: int, trained: int, a: float = -0.75) -> np.ndarray:
    """Returns the weights f32[cells trained] of the table's cells along one axis, as DINO's."""
    source = (np.arange(cells) + 0.5) * trained / (cells + 0.1) - 0.5
    first = np.floor(source).astype(int) - 1
    matrix = np.zeros((cells, trained))
    for tap in range(4):
        x = np.abs(source - first - tap)
        near = (a + 2) * x**3 - (a + 3) * x**2 + 1
        far = a * (x**3 - 5 * x**2 + 8 * x - 4)
        index = np.clip(first + tap, 0, trained - 1)
        np.add.at(matrix, (np.arange(cells), index), np.where(x <= 1, near, far))
    return matrix.astype(np.float32)


def rotary_angles(grid: tuple[int, int], size: int, base: float = 100.0) -> np.ndarray:
    """Returns angles f32[h w, size / 2] of DINOv3's rotary positions for heads of `size` features.

    Cell centres run over (-1, 1) along each axis whatever the grid; a quarter of the head turns
    with y and a quarter with x, in size / 4 periods from 1 to nearly `base`.

    Raises:
        ValueError: `size` is no multiple of 4.
    """
    if size % 4:
        raise ValueError(f"heads of {size} features cannot rotate; use a multiple of 4")
    periods = base ** (np.arange(size // 4) / (size // 4))
    axes = [2 * (np.arange(cells) + 0.5) / cells - 1 for cells in grid]
    place = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2, 1)
    return (2 * np.pi * place / periods).reshape(len(place), -1).astype(np.float32)


def rotate(x: Array, angles: np.ndarray) -> Array:
    """Turns feature i against feature i + size / 2 of the patch tokens of x [B N heads size].

    `angles` is [P size / 2] for the last P tokens; class and register tokens stay as they are.
    """
    extra, patches = x[:, : -len(angles)], x[:, -len(angles) :].astype(jnp.float32)
    cos, sin = (f(angles)[None, :, None] for f in (np.cos, np.sin))
    first, second = jnp.split(patches, 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1)
    return jnp.concatenate([extra, turned.astype(x.dtype)], axis=1)
