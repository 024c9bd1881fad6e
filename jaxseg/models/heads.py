"""Codes on frozen features: the heads of SmooSeg and STEGO, and what both do around them.

Features and codes are grids of cells, f[B h w D]. Methods take either images, which go through the
frozen backbone first, or its features themselves, "tokens", which a cache has kept.
"""

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.clustering.kmeans import normalise, similarity
from jaxseg.models.backbones import Backbone

Array = jax.Array
ACTIVATIONS = {"relu": nn.relu, "silu": nn.silu}


class CodeHead(nn.Module):
    """Codes Z = W_a drop(X) + W_c act(W_b drop'(X)), with biases.

    `drop` sets whole channels of an image to zero, in draws of their own. Weights and biases begin
    as torch's do: uniform up to 1 / sqrt(fan-in).

    Attributes:
        dim: D, length of a code (SmooSeg 64, STEGO 70).
        activation: "silu" (SmooSeg) or "relu" (STEGO).
        dropout: share of the channels that are set to zero (SmooSeg 0.2, STEGO 0.1).
        dtype: of the computation; parameters and codes are float32.

    Source: Lan et al. 2023 (SmooSeg), section 3.3, and Hamilton et al. 2022 (STEGO), released code.
    """

    dim: int
    activation: str
    dropout: float
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps f[B h w C] to f32[B h w D]; `train` needs the generator "dropout"."""
        width = x.shape[-1]

        def dense(features: int, name: str) -> nn.Dense:
            return nn.Dense(
                features,
                dtype=self.dtype,
                kernel_init=torch_kernel,
                bias_init=torch_bias(width),
                name=name,
            )

        def drop(x: Array, name: str) -> Array:
            return nn.Dropout(self.dropout, broadcast_dims=(1, 2), name=name)(x, not train)

        linear = dense(self.dim, "linear")(drop(x, "drop_linear"))
        hidden = dense(width, "mlp1")(drop(x, "drop_mlp"))
        code = linear + dense(self.dim, "mlp2")(ACTIVATIONS[self.activation](hidden))
        return code.astype(jnp.float32)


def codes(head: CodeHead, params: Any, tokens: Array, key: Array | None = None) -> Array:
    """Returns the codes f32[B h w D] of tokens f[B h w C]: in training with a key, else without."""
    rngs = None if key is None else {"dropout": key}
    return cast(Array, head.apply({"params": params}, tokens, key is not None, rngs=rngs))


# U(-1 / sqrt(fan-in), 1 / sqrt(fan-in)), of which the variance is a third of 1 / fan-in.
torch_kernel = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def torch_bias(fan_in: int) -> Callable[..., Array]:
    """Returns the initialiser of the bias of a layer with `fan_in` inputs, uniform as in torch."""
    bound = fan_in**-0.5

    def init(key: Array, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def channel_dropout(key: Array, x: Array, rate: float) -> Array:
    """Returns f[B h w D] with a share `rate` of an image's channels at zero, the others raised."""
    drop = nn.Dropout(rate, broadcast_dims=(1, 2), deterministic=False)
    return cast(Array, drop.apply({}, x, rngs={"dropout": key}))


def unit_prototypes(key: Array, clusters: int, dim: int) -> Array:
    """Returns f32[K D] of length 1, in directions drawn evenly: Xavier-normal, then normalised."""
    return normalise(jax.random.normal(key, (clusters, dim)))


def is_image(view: Array) -> bool:
    """Says whether a view holds pixels, u8, rather than tokens, f16 or f32."""
    return bool(jnp.issubdtype(view.dtype, jnp.integer))


def frozen_tokens(backbone: Backbone, tree: Any, view: Array) -> Array:
    """Returns the backbone's features f32[B h w D] of images u8[B H W Ch], or tokens as they are.

    No gradient passes into the backbone. Raises ValueError for tokens of another width than the
    backbone's.
    """
    if is_image(view):
        return jax.lax.stop_gradient(backbone.features(tree, view))
    if view.shape[-1] != backbone.width:
        raise ValueError(
            f"the tokens have {view.shape[-1]} features, those of {backbone.arch} {backbone.width}"
        )
    return view.astype(jnp.float32)


def predicted_codes(
    backbone: Backbone,
    tree: Any,
    head: Callable[[Array], Array],
    view: Array,
    flip_average: bool,
) -> tuple[Array, Array]:
    """Returns (tokens f32[B h w D], codes f32[B h w D']) of images, or of tokens.

    With `flip_average` the codes of images are averaged with those of the mirrored image, mirrored
    back; tokens give no such pair and are taken as they are.
    """
    tokens = frozen_tokens(backbone, tree, view)
    code = head(tokens)
    if flip_average and is_image(view):
        mirrored = head(frozen_tokens(backbone, tree, view[:, :, ::-1]))
        code = (code + mirrored[:, :, ::-1]) / 2
    return tokens, code


def pixel_scores(code: Array, prototypes: Array, view: Array, patch: int) -> Array:
    """Returns 2 cos f32[B H W K] of codes f[B h w D], brought to pixels first, and f[K D].

    `view` are the images or tokens that the codes come from; H and W are the images', or h and w
    times `patch`. Of these scores the softmax is what a CRF takes as probabilities.
    """
    height, width = code.shape[1:3]
    size = view.shape[1:3] if is_image(view) else (height * patch, width * patch)
    shape = (code.shape[0], *size, code.shape[-1])
    return 2.0 * similarity(jax.image.resize(code, shape, "bilinear", antialias=False), prototypes)
