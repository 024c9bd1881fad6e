"""The networks of SAN: pixel encoder, semantic generator, semantic attention, decoder.

The paper gives the layers in a figure whose numbers are not legible, and released no code. Theirs
are: 3x3 convolutions at full resolution to P/2 features and on to P = 1024; a Vision Transformer of
4 or 6 blocks on patches of 8 pixels, P wide; an MLP that makes N semantics of the whole batch; a
token matcher (text: softmax, figure: sigmoid); a decoder of pointwise convolutions that pixels and
semantics share; ResNet-18 and U-Net in the place of either network. The rest is this project's
design: orders, norms, heads, how tokens are merged (their mean), and how ResNet and U-Net get to
full resolution.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.models.fpn import PanopticFPN
from jaxseg.models.norm import batch_norm
from jaxseg.models.resnet import ResNet
from jaxseg.models.vit import VisionTransformer

Array = jax.Array

ENCODERS = ("conv", "resnet18", "unet")
GENERATORS = ("vit", "resnet18", "unet")
MATCHERS = ("sigmoid", "softmax", "none")
NORMS = ("batch", "none")

_RESNET18 = (2, 2, 2, 2)


class _Layer(nn.Module):
    """Convolution without bias, BatchNorm, perhaps GELU: f[B H W C] -> [B H W width] of `dtype`."""

    width: int
    kernel: int
    gelu: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        if self.kernel == 1:
            # A matrix product, which on a CPU is much faster than a convolution of that size.
            x = nn.Dense(self.width, use_bias=False, dtype=self.dtype, name="conv")(x)
        else:
            x = nn.Conv(
                self.width, (self.kernel,) * 2, padding=self.kernel // 2, use_bias=False,
                dtype=self.dtype, name="conv",
            )(x)  # fmt: skip
        x = batch_norm(self.dtype, train, "norm")(x)
        return nn.gelu(x, approximate=False) if self.gelu else x


class UNet(nn.Module):
    """Images f[B H W Ch] -> a map [B H W width] (Ronneberger et al. 2015).

    Two 3x3 convolutions with BatchNorm and GELU at each of `levels` sizes, each half of the one
    before and twice as wide, down and up again, with maps of the same size side by side.

    Attributes:
        width: channels at full resolution.
        levels: sizes.
        remat, dtype: as for `PixelEncoder`.
    """

    width: int
    levels: int = 5
    remat: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        layer = _rematerialised(_Layer, self.remat)

        def twice(x: Array, level: int, name: str) -> Array:
            width = self.width * 2**level
            x = layer(width, 3, True, self.dtype, name=f"{name}{level}a")(x, train)
            return layer(width, 3, True, self.dtype, name=f"{name}{level}b")(x, train)

        maps = []
        for level in range(self.levels):
            # Odd sides are rounded up.
            x = nn.max_pool(x, (2, 2), (2, 2), padding="SAME") if level else x
            x = twice(x, level, "down")
            maps.append(x)
        for level in range(self.levels - 2, -1, -1):
            x = _resized(x, maps[level].shape[1:3])
            x = twice(jnp.concatenate([maps[level], x], axis=-1), level, "up")
        return x


class PixelEncoder(nn.Module):
    """Images -> pixel embeddings Q at full resolution, with BatchNorm's mean 0 and deviation 1.

    Attributes:
        features: P.
        kind: of what comes before the last, pointwise layer: "conv" (a 3x3 convolution to P/2),
            "resnet18" (with PiCIE's feature pyramid of P/2 features, upsampled by 4) or "unet".
        stem: channels of the first layer of ResNet and U-Net.
        remat: whether the backward pass computes what is inside a layer again in the place of
            keeping it.
        dtype: of the computation and of Q; parameters and statistics are float32.
    """

    features: int
    kind: str = "conv"
    stem: int = 64
    remat: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Array, train: bool) -> Array:
        """Maps f[B H W Ch] to Q [B H W P] of `dtype`."""
        layer = _rematerialised(_Layer, self.remat)
        half = max(1, self.features // 2)
        if self.kind == "conv":
            x = layer(half, 3, True, self.dtype, name="perceptron")(image, train)
        elif self.kind == "resnet18":
            maps = _resnet(self, "resnet")(image, train)
            x = PanopticFPN(half, dtype=self.dtype, name="fpn")(maps)
            x = nn.gelu(_resized(x, image.shape[1:3]), approximate=False)
        else:
            net = UNet(self.stem, remat=self.remat, dtype=self.dtype, name="unet")
            x = net(image, train)
        return layer(self.features, 1, False, self.dtype, name="pixels")(x, train)


class SemanticGenerator(nn.Module):
    """Images -> a summary of each, N semantics of a summary, and how much each image has of them.

    Attributes:
        semantics: N.
        features: P, also the width of the transformer.
        kind: "vit", "resnet18" or "unet"; the summary is the mean of its tokens, or of its last map
            taken to P features.
        norm: "batch" normalises each feature over the N semantics, in test too; "none" does not,
            and gives the linear layers a bias.
        matcher: "sigmoid" or "softmax" over the semantics, or "none": images have all of them.
        patch, blocks, heads: of the transformer; trained_cells: patches along a side of the images
            that it is trained on.
        stem, remat, dtype: as for `PixelEncoder`; semantics and matcher are computed in float32.
    """

    semantics: int
    features: int
    kind: str = "vit"
    norm: str = "batch"
    matcher: str = "sigmoid"
    patch: int = 8
    blocks: int = 6
    heads: int = 8
    trained_cells: int = 16
    stem: int = 64
    remat: bool = False
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        if self.kind == "vit":
            self.vit = VisionTransformer(
                patch=self.patch,
                width=self.features,
                blocks=self.blocks,
                heads=self.heads,
                trained=self.trained_cells,
                positions="antialias",
                remat=self.remat,
                dtype=self.dtype,
            )
        elif self.kind == "resnet18":
            self.resnet = _resnet(self)
            self.project = nn.Dense(self.features)
        else:
            self.unet = UNet(self.stem, remat=self.remat, dtype=self.dtype)
            self.project = nn.Dense(self.features)
        self.hidden = SemanticLayer(self.semantics, self.features, self.norm)
        self.out = SemanticLayer(self.semantics, self.features, self.norm)
        if self.matcher != "none":
            self.match = nn.Dense(self.semantics)

    def __call__(self, image: Array, train: bool) -> tuple[Array, Array, Array]:
        """Maps f[B H W Ch] to (summary, semantics and shares of each image); for `init`."""
        summary = self.summary(image, train)
        return summary, self.generate(summary), self.shares(summary)

    def summary(self, image: Array, train: bool) -> Array:
        """Returns f32[B P], what the network says of each image."""
        if self.kind == "vit":
            return self.vit(image).patches.mean((1, 2))
        if self.kind == "resnet18":
            return self.project(self.resnet(image, train)[-1].mean((1, 2)))
        return self.project(self.unet(image, train).astype(jnp.float32).mean((1, 2)))

    def generate(self, summary: Array) -> Array:
        """Returns semantics ζ f32[G N P] of summaries f32[G P]: of the batch, or of each image."""
        x = jnp.broadcast_to(
            summary[:, None], (summary.shape[0], self.semantics, summary.shape[-1])
        )
        return self.out(nn.gelu(self.hidden(x), approximate=False))

    def shares(self, summary: Array) -> Array:
        """Returns p f32[B N], how much of each semantic the images of summaries f32[B P] have."""
        if self.matcher == "none":
            return jnp.ones((summary.shape[0], self.semantics))
        scores = self.match(summary)
        return nn.softmax(scores) if self.matcher == "softmax" else nn.sigmoid(scores)


class SemanticLayer(nn.Module):
    """A linear layer of its own for each semantic, normalised over the semantics.

    f32[G N C] -> f32[G N features]. With `norm` "batch" the N semantics are BatchNorm's batch: mean
    and variance of each feature are theirs, also in test, so that nothing is carried over; of two
    semantics only the signs are left.
    """

    semantics: int
    features: int
    norm: str = "batch"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        init = nn.initializers.lecun_normal(batch_axis=(0,))
        kernel = self.param("kernel", init, (self.semantics, x.shape[-1], self.features))
        y = jnp.einsum("gnc,ncf->gnf", x, kernel)
        if self.norm == "none":
            bias = self.param("bias", nn.initializers.zeros, (self.semantics, self.features))
            return y + bias[None]
        y = y - y.mean(1, keepdims=True)
        y = y * jax.lax.rsqrt((y**2).mean(1, keepdims=True) + 1e-5)
        scale = self.param("scale", nn.initializers.ones, (self.features,))
        offset = self.param("offset", nn.initializers.zeros, (self.features,))
        return y * scale[None, None] + offset[None, None]


class Decoder(nn.Module):
    """F_G, embeddings f[... P] -> colours f32[... channels]: a pointwise MLP with one hidden layer.

    Attributes:
        hidden: features of the hidden layer.
        channels: of the images.
        dtype: of the computation; parameters are float32.
    """

    channels: int
    hidden: int = 256
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.Dense(self.hidden, dtype=self.dtype, name="hidden")(x)
        x = nn.gelu(x, approximate=False)
        return nn.Dense(self.channels, dtype=self.dtype, name="out")(x).astype(jnp.float32)


def attention_scores(pixels: Array, semantics: Array) -> Array:
    """Returns Q Γ^T / sqrt(P) f32[B ... N] of pixels [B ... P] and each image's semantics [B N P].

    The matrix product is in the pixels' type, its sum in float32.
    """
    flat = pixels.reshape(pixels.shape[0], -1, pixels.shape[-1])
    scores = jnp.einsum(
        "bxp,bnp->bxn", flat, semantics.astype(pixels.dtype), preferred_element_type=jnp.float32
    )
    return scores.reshape(*pixels.shape[:-1], -1) / pixels.shape[-1] ** 0.5


def attend(pixels: Array, semantics: Array) -> Array:
    """Returns Θ = softmax(Q Γ^T / sqrt(P)) Γ [B X P], pixels [B X P] as mixes of semantics [B N P].

    Keys are values. The softmax is in float32, the products in the pixels' type.
    """
    weights = nn.softmax(attention_scores(pixels, semantics))
    return jnp.einsum("bxn,bnp->bxp", weights.astype(pixels.dtype), semantics.astype(pixels.dtype))


def _rematerialised(layer: type[nn.Module], remat: bool) -> Any:
    return nn.remat(layer, static_argnums=(2,)) if remat else layer


def _resized(x: Array, size: tuple[int, ...]) -> Array:
    return jax.image.resize(x, (x.shape[0], *size, x.shape[-1]), "bilinear", antialias=False)


def _resnet(module: Any, name: str | None = None) -> ResNet:
    return ResNet(
        _RESNET18, bottleneck=False, stem=module.stem, remat=module.remat, dtype=module.dtype,
        name=name,
    )  # fmt: skip
