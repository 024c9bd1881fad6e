"""HSG's clustering transformer: the segments of an image -> a few groups of them (Ke et al. 2022).

An encoder looks at the segments, a decoder turns learned queries into centroids of groups; what
goes into the decoder is the same vector for every query, made from mean and deviation of the
encoder's output. Wiring is DETR's (Carion et al. 2020): positions are added to queries and keys of
the attention, never to values; norms come after the residual sum, and are BatchNorms.

The tree is that of `published_hsg`, with its "stats" as the collection "batch_stats". Running
variances are biased, as everywhere here (see `norm.batch_norm`); the released code's are not.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from jaxseg.models.heads import torch_bias, torch_kernel
from jaxseg.models.norm import batch_norm

Array = jax.Array

NORMS = ("batch", "layer")
DEVIATIONS = ("code", "valid")
_XAVIER = nn.initializers.xavier_uniform()


class Groups(struct.PyTreeNode):
    """What a clustering transformer says of S segments in n groups."""

    # f32[B S n] of segment a in group b: Y_a·Z_b / sqrt(D). Slots that are padding have some too.
    logits: Array
    centroids: Array  # f32[B n D] Z, which segments are assigned to
    features: Array | None  # f32[B n D] X of the next level, if there is one
    encoded: Array  # f32[B S D] Y, the encoder's output
    attention: Array  # f32[B heads n S] of the last decoder layer to the segments, before dropout


class _Parts(nn.Module):
    """The sizes that all parts share, and what they do alike."""

    heads: int = 4
    hidden: int = 256
    dropout: float = 0.1
    norm: str = "batch"
    masked_norm: bool = False
    dtype: jnp.dtype = jnp.float32

    def _normalise(self, x: Array, name: str, train: bool, mask: Array | None = None) -> Array:
        if self.norm == "layer":
            return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name=name)(x)
        where = mask[..., None] if self.masked_norm and mask is not None else None
        # The decoder's input has one row an image: few values, which fast variances get wrong.
        return batch_norm(jnp.float32, train, name, exact=True)(x, mask=where)

    def _drop(self, x: Array, train: bool) -> Array:
        return nn.Dropout(self.dropout)(x, deterministic=not train)

    def _attend(
        self, name: str, query: Array, key: Array, value: Array, mask: Array | None, train: bool
    ) -> tuple[Array, Array]:
        """Returns (mixed f32[B N D], weights f32[B heads N S])."""
        layer = _Attention(self.heads, self.dropout, self.dtype, name=name)
        mixed, weights = layer(query, key, value, mask, train)
        return self._drop(mixed, train), weights

    def _feed_forward(self, x: Array, train: bool) -> Array:
        inner = self._drop(nn.relu(self._dense(x, self.hidden, "up")), train)
        return self._drop(self._dense(inner, x.shape[-1], "down"), train)

    def _dense(self, x: Array, width: int, name: str, bias: bool = True) -> Array:
        layer = nn.Dense(
            width,
            use_bias=bias,
            kernel_init=_XAVIER,
            bias_init=torch_bias(x.shape[-1]),
            dtype=self.dtype,
            name=name,
        )
        return layer(x).astype(jnp.float32)

    def _sizes(self) -> dict[str, Any]:
        """The fields of this class, for a part inside."""
        shared = ("heads", "hidden", "dropout", "norm", "masked_norm", "dtype")
        return {name: getattr(self, name) for name in shared}


class ClusteringTransformer(_Parts):
    """One level of HSG's grouping.

    Attributes:
        heads: of every attention; D is a multiple of it.
        hidden: features inside the feed-forward layers.
        dropout: share of attention weights, of what is added to a residual sum, and of the
            feed-forward layers' hidden features that training sets to zero.
        norm: "batch" as published, with statistics over images and slots; "layer" has LayerNorm in
            the place of every BatchNorm, of a token by itself, without running statistics.
        masked_norm: whether the BatchNorms of the encoder leave padded slots out of their
            statistics; False = they count, as in the released code. Those that see groups or whole
            images have no padding. Only training is concerned.
        dtype: of the matrix products; parameters, norms, softmax and outputs are float32.
        layers: of the encoder and of the decoder.
        masked_std: of the encoder's output where there is a mask, see `moments`.
        next_level: whether there is one, which reads the groups' features. The last level of the
            released code has them too, and nothing learns from them.
    """

    layers: tuple[int, int] = (2, 2)
    masked_std: str = "code"
    next_level: bool = True

    @nn.compact
    def __call__(
        self,
        segments: Array,
        positions: Array,
        queries: Array,
        mask: Array | None = None,
        train: bool = False,
    ) -> Groups:
        """Groups the segments of each image.

        Args:
            segments: f32[B S D], one a slot.
            positions: f32[B S D], where they are.
            queries: f32[n D], one a group.
            mask: bool[B S], true = there is a segment in this slot; None = in all, for which the
                deviation is the unbiased one. An image without any has finite groups of no meaning.
            train: BatchNorm takes the statistics of the batch, and dropout needs the generator
                "dropout" unless its share is 0.

        Raises:
            ValueError: `norm` or `masked_std` is none that there is.
        """
        if self.norm not in NORMS:
            raise ValueError(f"norm is {self.norm!r}; it is one of {', '.join(NORMS)}")
        encoded, width = segments, segments.shape[-1]
        for i in range(self.layers[0]):
            encoder = _EncoderLayer(**self._sizes(), name=f"encoder{i}")
            encoded = encoder(encoded, positions, mask, train)
        summary = jnp.concatenate(moments(encoded, mask, self.masked_std), axis=-1)
        content = _Content(**self._sizes(), name="content")(summary, train)
        shape = (segments.shape[0], *queries.shape)
        state = jnp.broadcast_to(content[:, None], shape)
        queries = jnp.broadcast_to(queries[None], shape)
        for i in range(self.layers[1]):
            decoder = _DecoderLayer(**self._sizes(), name=f"decoder{i}")
            state, attention = decoder(state, queries, encoded, positions, mask, train)
        state = nn.relu(self._normalise(state, "decoder_norm", train))
        centroids = _Readout(**self._sizes(), name="centroid")(state, train)
        features = None
        if self.next_level:
            features = _Readout(**self._sizes(), name="feature")(state, train)
        logits = jnp.einsum("bsd,bnd->bsn", encoded, centroids) / math.sqrt(width)
        return Groups(logits, centroids, features, encoded, attention)


def moments(x: Array, mask: Array | None, form: str = "code") -> tuple[Array, Array]:
    """Returns mean and standard deviation f32[B D] of the slots of x f32[B S D].

    Without a mask the deviation is unbiased, over S - 1. With a mask bool[B S] of n valid slots the
    mean is theirs, and the deviation is, by `form`,

        "code": sqrt(sum over all S slots of (m y - mean)^2 / (n + 1)), m = 0 at padding, so that
            every padded slot adds the mean's square, as released (a slip);
        "valid": unbiased over the valid slots, the same as without a mask where all are valid.

    Where the deviation is 0 its gradient is 0. Raises ValueError for another `form`.
    """
    if form not in DEVIATIONS:
        raise ValueError(f"masked_std is {form!r}; it is one of {', '.join(DEVIATIONS)}")
    if mask is None:
        mask, form = jnp.ones(x.shape[:2], bool), "valid"
    valid = mask[..., None].astype(x.dtype)
    count = valid.sum(1)
    mean = (x * valid).sum(1) / jnp.maximum(count, 1)
    gap = x * valid - mean[:, None]
    if form == "valid":
        variance = (gap**2 * valid).sum(1) / jnp.maximum(count - 1, 1)
    else:
        variance = (gap**2).sum(1) / (count + 1)
    some = variance > 0
    return mean, jnp.where(some, jnp.sqrt(jnp.where(some, variance, 1)), 0)


class _EncoderLayer(_Parts):
    """x <- BN(x + MHA(x + p, x + p, x)), x <- BN(x + FFN(x)), f32[B S D]."""

    @nn.compact
    def __call__(self, x: Array, positions: Array, mask: Array | None, train: bool) -> Array:
        placed = x + positions
        mixed, _ = self._attend("attention", placed, placed, x, mask, train)
        x = self._normalise(x + mixed, "norm1", train, mask)
        return self._normalise(x + self._feed_forward(x, train), "norm2", train, mask)


class _DecoderLayer(_Parts):
    """Attention among groups, then to the segments, then FFN, each with sum and BN, f32[B n D]."""

    @nn.compact
    def __call__(
        self,
        x: Array,
        queries: Array,
        encoded: Array,
        positions: Array,
        mask: Array | None,
        train: bool,
    ) -> tuple[Array, Array]:
        placed = x + queries
        mixed, _ = self._attend("self_attention", placed, placed, x, None, train)
        x = self._normalise(x + mixed, "norm1", train)
        mixed, weights = self._attend(
            "cross_attention", x + queries, encoded + positions, encoded, mask, train
        )
        x = self._normalise(x + mixed, "norm2", train)
        return self._normalise(x + self._feed_forward(x, train), "norm3", train), weights


class _Content(_Parts):
    """Mean and deviation f32[B 2D] -> the decoder's input f32[B D]: W2 ReLU(BN(W1 x))."""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        inner = self._normalise(self._dense(x, x.shape[-1], "up", bias=False), "norm", train)
        return self._dense(nn.relu(inner), x.shape[-1] // 2, "down")


class _Readout(_Parts):
    """A pointwise layer without bias, and BN, f32[B n D]."""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        layer = nn.Dense(
            x.shape[-1], use_bias=False, kernel_init=torch_kernel, dtype=self.dtype, name="dense"
        )
        return self._normalise(layer(x).astype(jnp.float32), "norm", train)


class _Attention(nn.Module):
    """Softmax attention, (f32[B N D], f32[B S D] twice) -> (f32[B N D], weights [B heads N S])."""

    heads: int
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, query: Array, key: Array, value: Array, mask: Array | None, train: bool
    ) -> tuple[Array, Array]:
        width = query.shape[-1]
        query, key, value = (
            x.reshape(*x.shape[:2], self.heads, width // self.heads)
            for x in _Projections(self.dtype, name="qkv")(query, key, value)
        )
        scores = jnp.einsum(
            "bqhd,bkhd->bhqk",
            query / math.sqrt(width // self.heads),
            key,
            preferred_element_type=jnp.float32,
        )
        if mask is not None:
            # Finite, so that a row without any valid slot is spread evenly and not NaN.
            lowest = jnp.finfo(scores.dtype).min
            scores = jnp.where(mask[:, None, None], scores, lowest)
        weights = nn.softmax(scores)
        kept = nn.Dropout(self.dropout)(weights, deterministic=not train)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", kept.astype(self.dtype), value)
        mixed = mixed.reshape(*mixed.shape[:2], width)
        out = nn.Dense(width, kernel_init=_XAVIER, dtype=self.dtype, name="out")
        return out(mixed).astype(jnp.float32), weights


class _Projections(nn.Module):
    """Queries, keys and values through their thirds of one matrix, [B N D] each."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, *inputs: Array) -> list[Array]:
        width = inputs[0].shape[-1]
        # Xavier's bound is that of the joint matrix, as in torch.
        kernel = self.param("kernel", _XAVIER, (width, 3 * width))
        bias = self.param("bias", nn.initializers.zeros, (3 * width,))
        return [
            x.astype(self.dtype) @ w.astype(self.dtype) + b.astype(self.dtype)[None, None]
            for x, w, b in zip(
                inputs, jnp.split(kernel, 3, axis=1), jnp.split(bias, 3), strict=True
            )
        ]
