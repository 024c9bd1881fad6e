"""SAN: semantic attention, learned from scratch by reconstructing images.

A shallow encoder gives every pixel an embedding Q (P features, full resolution); a generator gives
N semantics ζ of the whole batch, and says how much of each an image has: Γ = p ζ. Attention makes
each pixel a mix of its image's semantics, Θ = softmax(Q Γ^T / sqrt(P)) Γ, and one decoder F_G has
to give the image from Q and from Θ. The likeliest semantic of a pixel is its segment.

No code was released and the figure of the layers is not legible, so that numbers of this method are
those of our reading of it. [P] marks what the paper says, [R] what this project chose where it is
silent or contradicts itself, [?] what no field settles for sure:

- [P] 3x3 convolutions to P/2, then to P = 1024, at full resolution; a ViT of 6 blocks, patch 8, as
  wide as P; N = number of classes; attention with keys = values; a decoder of pointwise
  convolutions shared by Q and Θ; L_Rec and L_Con; Adam at 1e-4, 30 epochs, crops of 128.
- [R] order and norms of all layers (`models/san.py`), 8 heads, MLPs four times as wide, the common
  ViT's class token, which is dropped; batches of 64.
- [?] how tokens become semantics: `scope` "batch" takes their mean over the whole global batch
  (eq. 4 sums over it), then an MLP for each semantic whose BatchNorm runs over the N semantics, in
  test too (`norm`), as an ordinary one is degenerate on a single vector.
- [?] `matcher`: the text has a softmax, the figure a sigmoid (default).
- [?] `consistency`: |Θ - Q|^2 by the caption (default), or by eq. 9 between F_G(Θ) and F_G(Q).
- [R] squared errors are means over pixels and channels, of weight 1 each; x is the normalised image
  that the networks see, after the change of its colours.
- [?] `inference`: Γ depends on the batch, and the paper does not say on which in the test. "fixed"
  takes the mean of ζ over the training batches, which `finish` makes; before `finish` a running
  mean in `extra`. "batch" makes ζ of the images that are predicted together.
- [P] the orthogonality term and its cosine form brought the paper no gain; both are off.

Pixels beyond an image (`Batch.size`) and images that only fill up a batch are in no loss and in no
semantic; a fill-up image is known in `predict` by being black all over. BatchNorm and the
transformer do see padding.
"""

import dataclasses
import functools
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp

from jaxseg.core import Array, Batch, Method, Output, PyTree, State, Stream, UserError
from jaxseg.losses.reconstruction import cosine, orthogonality, squared_error
from jaxseg.models.san import (
    ENCODERS,
    GENERATORS,
    MATCHERS,
    NORMS,
    Decoder,
    PixelEncoder,
    SemanticGenerator,
    attend,
    attention_scores,
)
from jaxseg.processes import fetch
from jaxseg.views import colour

_SHARE = 0.1  # of the new batch in the running mean of the semantics


@dataclasses.dataclass(frozen=True)
class SAN(Method):
    """SAN and the variants of its tables 4 and 5.

    Attributes:
        clusters: N, the number of semantics to learn, 2 or more; with `norm` "batch" and 2 of them
            their normalised features are signs, which get nearly no gradient.
        features: P, length of pixels and semantics; with generator "vit" a multiple of `heads`.
        encoder: "conv", "resnet18" or "unet"; generator: "vit", "resnet18" or "unet".
        blocks, heads, patch: of the ViT; trained_cells: data.crop / patch.
        stem: channels of the first layer of ResNet and U-Net.
        decoder_width: hidden features of the decoder.
        scope: "batch": one set of semantics for the global batch; "image": one for each image (no
            batch-wise semantics; inference is then "fixed" by itself).
        matcher: "sigmoid", "softmax" or "none".
        norm: of the semantics, "batch" or "none".
        reconstruction_weight, consistency_weight: of L_Rec and L_Con; 0 = without.
        consistency: what L_Con compares, "embeddings" or "images".
        orthogonality_weight, cosine_weight: of the terms on the semantics.
        inference: "fixed" or "batch".
        jitter: brightness, contrast, saturation and hue, of all images; grey_share: share of the
            images that lose their colour.
        chunk: pixels of an image that attention, decoder and losses are computed for at once, and
            again in the backward pass; 0 = all, and nothing twice.
        remat: whether the backward pass computes what is inside a layer of the encoder, or a block
            of the generator, again in the place of keeping it.
        dtype: "float32" or "bfloat16", of networks and attention; parameters, statistics,
            semantics, softmax and losses are float32.
    """

    clusters: int
    features: int = 1024
    encoder: str = "conv"
    generator: str = "vit"
    blocks: int = 6
    heads: int = 8
    patch: int = 8
    trained_cells: int = 16
    stem: int = 64
    decoder_width: int = 256
    scope: str = "batch"
    matcher: str = "sigmoid"
    norm: str = "batch"
    reconstruction_weight: float = 1.0
    consistency_weight: float = 1.0
    consistency: str = "embeddings"
    orthogonality_weight: float = 0.0
    cosine_weight: float = 0.0
    inference: str = "fixed"
    jitter: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    grey_share: float = 0.0
    chunk: int = 0
    remat: bool = False
    dtype: str = "float32"

    choices: ClassVar[dict[str, tuple[str, ...]]] = {
        "encoder": ENCODERS,
        "generator": GENERATORS,
        "scope": ("batch", "image"),
        "matcher": MATCHERS,
        "norm": NORMS,
        "consistency": ("embeddings", "images"),
        "inference": ("fixed", "batch"),
        "dtype": ("float32", "bfloat16"),
    }
    lowest: ClassVar[dict[str, int]] = {
        "clusters": 2, "features": 1, "blocks": 1, "heads": 1, "patch": 1, "trained_cells": 1,
        "stem": 1, "decoder_width": 1, "reconstruction_weight": 0, "consistency_weight": 0,
        "orthogonality_weight": 0, "cosine_weight": 0, "grey_share": 0, "chunk": 0,
    }  # fmt: skip
    numbers: ClassVar[dict[str, tuple[str, ...]]] = {"jitter": colour.JITTER}

    def __post_init__(self):
        super().__post_init__()
        if self.generator == "vit" and self.features % self.heads:
            raise UserError(
                f"method.features is {self.features}, which method.heads={self.heads} does not "
                "divide; the transformer is as wide as the features."
            )
        if not (self.reconstruction_weight or self.consistency_weight):
            raise UserError(
                "method.reconstruction_weight and method.consistency_weight are both 0; nothing "
                "would be learned."
            )

    @property
    def _encoder(self) -> PixelEncoder:
        return PixelEncoder(
            self.features, self.encoder, self.stem, self.remat, jnp.dtype(self.dtype)
        )

    @property
    def _generator(self) -> SemanticGenerator:
        return SemanticGenerator(
            semantics=self.clusters,
            features=self.features,
            kind=self.generator,
            norm=self.norm,
            matcher=self.matcher,
            patch=self.patch,
            blocks=self.blocks,
            heads=self.heads,
            trained_cells=self.trained_cells,
            stem=self.stem,
            remat=self.remat,
            dtype=jnp.dtype(self.dtype),
        )

    def _decoder(self, channels: int) -> Decoder:
        return Decoder(channels, self.decoder_width, jnp.dtype(self.dtype))

    def init(self, key: Array, spec: Batch) -> State:
        """Returns fresh groups "encoder", "generator" and "decoder", and drawn running semantics.

        The semantics of `extra`, f32[N P], are there with `scope` "batch".
        """
        keys = jax.random.split(key, 4)
        channels = jax.eval_shape(lambda b: b.first_view, spec).shape[-1]
        side = 4 * self.patch
        image = jnp.zeros((1, side, side, channels))
        encoder = self._encoder.init(keys[0], image, False)
        generator = self._generator.init(keys[1], image, False)
        decoder = self._decoder(channels).init(keys[2], jnp.zeros((1, self.features)))
        extra = {
            "encoder": encoder["batch_stats"],
            "generator": generator.get("batch_stats", {}),
        }
        if self.scope == "batch":
            extra["semantics"] = jax.random.normal(keys[3], (self.clusters, self.features))
        params = {
            "encoder": encoder["params"],
            "generator": generator["params"],
            "decoder": decoder["params"],
        }
        return State(step=jnp.zeros((), jnp.int32), params=params, extra=extra, frozen={})

    def _embed(self, state: State, x: Array, train: bool) -> tuple[Array, PyTree]:
        """Returns Q [B H W P] of normalised images, and new statistics."""
        variables = {"params": state.params["encoder"], "batch_stats": state.extra["encoder"]}
        found, changed = self._encoder.apply(variables, x, train, mutable=["batch_stats"])
        return cast(Array, found), changed["batch_stats"]

    def _summary(self, state: State, x: Array, train: bool) -> tuple[Array, PyTree]:
        """Returns what the generator says of each image, f32[B P], and new statistics."""
        found, changed = self._generator.apply(
            self._variables(state), x, train, mutable=["batch_stats"], method="summary"
        )
        return cast(Array, found), changed.get("batch_stats", {})

    def _variables(self, state: State) -> dict[str, Any]:
        own = {"params": state.params["generator"]}
        stats = state.extra["generator"]
        return own | ({"batch_stats": stats} if stats else {})

    def _semantics(self, state: State, summary: Array, real: Array) -> Array:
        """Returns ζ f32[G N P], G = 1 for the batch or B; `real` bool[B] is false for fill-ups."""
        if self.scope == "batch":
            # Where nothing is real, all count, for a mean of nothing would be nan.
            some = (real | ~real.any(keepdims=True))[:, None]
            summary = summary.mean(0, keepdims=True, where=some)
        found = self._generator.apply(self._variables(state), summary, method="generate")
        return cast(Array, found)

    def _shares(self, state: State, summary: Array) -> Array:
        """Returns p f32[B N], how much of each semantic the images have."""
        found = self._generator.apply(self._variables(state), summary, method="shares")
        return cast(Array, found)

    def loss(
        self, state: State, batch: Batch, key: Array
    ) -> tuple[Array, tuple[PyTree, dict[str, Array]]]:
        """Returns the loss on the first view of each image.

        Metrics: "L_Rec" and "L_Con"; "L_Orth" and "L_Cos" of the semantics, whatever their weight.
        """
        unit = colour.to_unit(batch.first_view)
        if any(self.jitter) or self.grey_share:
            unit = colour.augment(key, unit, self.jitter, 1.0, self.grey_share)
        x, valid = colour.normalise(unit), batch.valid_pixels.astype(jnp.float32)
        pixels, encoder_stats = self._embed(state, x, train=True)
        summary, generator_stats = self._summary(state, x, train=True)
        semantics = self._semantics(state, summary, batch.index >= 0)
        matched = self._shares(state, summary)[..., None] * semantics
        terms = self._pixel_terms(state.params["decoder"], pixels, matched, x, valid)
        metrics = terms | {"L_Orth": orthogonality(semantics), "L_Cos": cosine(semantics)}
        loss = (
            self.reconstruction_weight * metrics["L_Rec"]
            + self.consistency_weight * metrics["L_Con"]
            + self.orthogonality_weight * metrics["L_Orth"]
            + self.cosine_weight * metrics["L_Cos"]
        )
        extra = state.extra | {"encoder": encoder_stats, "generator": generator_stats}
        if self.scope == "batch":
            # The first steps take a plain mean, so that nothing of the draw is left.
            share = jnp.maximum(1.0 / (state.step + 1.0), _SHARE)
            before = state.extra["semantics"]
            new = jax.lax.stop_gradient(semantics[0])
            extra["semantics"] = before + share * (new - before)
        return loss, (extra, metrics)

    def _pixel_terms(
        self, decoder: PyTree, pixels: Array, matched: Array, x: Array, valid: Array
    ) -> dict[str, Array]:
        """Returns L_Rec and L_Con, means over the valid pixels, computed chunk by chunk."""

        def decode(embedding: Array) -> Array:
            found = self._decoder(x.shape[-1]).apply({"params": decoder}, embedding)
            return cast(Array, found)

        def terms(total: tuple[Array, Array], part: tuple[Array, Array, Array]):
            q, image, counts = part
            mixed = attend(q, matched)
            images = decode(q), decode(mixed)
            rec = sum(squared_error(found, image, counts) for found in images)
            pair = (mixed, q) if self.consistency == "embeddings" else images
            return (total[0] + rec, total[1] + squared_error(*pair, counts)), None

        batch, size = len(pixels), x.shape[1] * x.shape[2]
        parts = jax.tree.map(lambda t: t.reshape(batch, size, *t.shape[3:]), (pixels, x, valid))
        zero = (jnp.zeros(()), jnp.zeros(()))
        if 0 < self.chunk < size:
            parts = jax.tree.map(functools.partial(_chunks, chunk=self.chunk), parts)
            (rec, con), _ = jax.lax.scan(jax.checkpoint(terms), zero, parts)
        else:
            (rec, con), _ = terms(zero, parts)
        count = jnp.maximum(valid.sum(), 1.0)
        return {"L_Rec": rec / count, "L_Con": con / count}

    def finish(self, state: State, stream: Stream, key: Array) -> State:
        """Returns the state with ζ fixed: its mean over the batches of an epoch, by their images.

        Images that fill up a batch count nothing. With `scope` "image" there is nothing to fix.

        Raises:
            ValueError: the stream holds no image.
        """
        del key
        if self.scope == "image":
            return state
        total, count = jnp.zeros_like(state.extra["semantics"]), 0
        for batch in stream():
            images = int((fetch(batch.index) >= 0).sum())
            total = total + images * _batch_semantics(self, state, batch)
            count += images
        if not count:
            raise ValueError("no images to fix the semantics with")
        return state.replace(extra=state.extra | {"semantics": total / count})

    def predict(self, state: State, image: Array) -> Output:
        """Returns pixel embeddings Q as features and Q Γ^T / sqrt(P) as logits, at full size.

        aux: "semantics" Γ f32[B N P] and "shares" p f32[B N], of each image.

        Raises:
            ValueError: with generator "vit", sides that `patch` does not divide.
        """
        x = colour.normalise(colour.to_unit(image))
        pixels, _ = self._embed(state, x, train=False)
        summary, _ = self._summary(state, x, train=False)
        if self.scope == "batch" and self.inference == "fixed":
            semantics = state.extra["semantics"][None]
        else:
            semantics = self._semantics(state, summary, (image > 0).any((1, 2, 3)))
        shares = self._shares(state, summary)
        matched = shares[..., None] * semantics
        return Output(
            features=pixels.astype(jnp.float32),
            logits=attention_scores(pixels, matched),
            aux={"semantics": matched, "shares": shares},
        )


def _chunks(x: Array, chunk: int) -> Array:
    """Returns [chunks B chunk ...] of [B X ...], the last one filled up with zeros."""
    missing = -x.shape[1] % chunk
    if missing:
        x = jnp.pad(x, [(0, missing) if axis == 1 else (0, 0) for axis in range(x.ndim)])
    return jnp.moveaxis(x.reshape(len(x), -1, chunk, *x.shape[2:]), 1, 0)


@functools.partial(jax.jit, static_argnums=0)
def _batch_semantics(method: SAN, state: State, batch: Batch) -> Array:
    x = colour.normalise(colour.to_unit(batch.first_view))
    summary, _ = method._summary(state, x, train=False)
    return method._semantics(state, summary, batch.index >= 0)[0]
