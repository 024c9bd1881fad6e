"""STEGO (Hamilton et al. 2022, "Unsupervised Semantic Segmentation by Distilling Feature
Correspondences").

On the features of a frozen vision transformer a head learns codes whose cosines follow those of the
features: with the image itself, with one of its nearest neighbours in the data set, and with random
other images, at points sampled anew in every step (`losses/correspondence.py`). K centres, the
cluster probe, follow the codes without moving them, and are the segmentation.

From the released code, where the paper is silent: features are dropped out by channel before they
are compared, in a draw of their own; the neighbour and all random images are sampled at the same
points. The released code's further losses have weight 0 there and are left out; its linear probe
is `methods.online_probes`.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg.core import Array, Batch, Method, Output, PyTree, State, UserError
from jaxseg.losses.correspondence import cluster_loss, correspondence, permutation, sample
from jaxseg.models import heads
from jaxseg.models.backbones import ARCHITECTURES, Backbone


@dataclasses.dataclass(frozen=True)
class STEGO(Method):
    """STEGO; defaults are the released ones for COCO-Stuff-27 and DINO ViT-S/8.

    Attributes:
        clusters: K, centres of the cluster probe.
        backbone: the frozen network, a key of `models.backbones.ARCHITECTURES`.
        dim: D, length of a code.
        dropout: share of the channels dropped in training.
        w_self, w_knn, w_random: weights of the terms.
        b_self, b_knn, b_random: shifts of the terms; closeness above them attracts.
        points: along a side of the grid of sampled points, points^2 in all.
        negatives: random images that each image is compared with.
        pointwise, zero_clamp, stabilise: see `losses.correspondence.correspondence`.
        flip_average: in inference, average the codes of an image and of its mirror image.
        dtype: "float32" or "bfloat16", of backbone and head; losses are float32.
    """

    clusters: int
    backbone: str = "vit_small_8"
    dim: int = 70
    dropout: float = 0.1
    w_self: float = 0.67
    w_knn: float = 0.25
    w_random: float = 0.63
    b_self: float = 0.08
    b_knn: float = 0.02
    b_random: float = 0.66
    points: int = 11
    negatives: int = 5
    pointwise: bool = True
    zero_clamp: bool = True
    stabilise: bool = False
    flip_average: bool = True
    dtype: str = "float32"

    choices: ClassVar[dict[str, tuple[str, ...]]] = {
        "backbone": tuple(ARCHITECTURES),
        "dtype": ("float32", "bfloat16"),
    }
    lowest: ClassVar[dict[str, int]] = {"clusters": 1, "dim": 1, "points": 1, "negatives": 1}

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.dropout <= 1:
            raise UserError(f"method.dropout is {self.dropout}; it lies in [0, 1].")

    @property
    def _backbone(self) -> Backbone:
        return Backbone(self.backbone, self.dtype)

    @property
    def _head(self) -> heads.CodeHead:
        return heads.CodeHead(self.dim, "relu", self.dropout, jnp.dtype(self.dtype))

    def init(self, key: Array, spec: Batch) -> State:
        """Returns fresh groups "head" and "cluster"; the backbone is random until a file fills it.

        Raises:
            ValueError: `spec` has one view; the second is an image's neighbour.
        """
        views = spec.image if spec.tokens is None else spec.tokens
        if views is None or views.shape[1] < 2:
            raise ValueError(
                "STEGO's batches hold an image and its neighbour: set data.partners to 1 or more"
            )
        backbone_key, head_key, cluster_key = jax.random.split(key, 3)
        cells = jnp.zeros((1, 1, 1, self._backbone.width))
        return State(
            step=jnp.zeros((), jnp.int32),
            params={
                "head": self._head.init(head_key, cells, False)["params"],
                "cluster": {"centres": jax.random.normal(cluster_key, (self.clusters, self.dim))},
            },
            extra={},
            frozen={"backbone": self._backbone.init(backbone_key)},
        )

    def loss(
        self, state: State, batch: Batch, key: Array
    ) -> tuple[Array, tuple[PyTree, dict[str, Array]]]:
        """Returns the loss on the first two views, an image and its neighbour; pixels or tokens.

        Metrics: the terms before they are weighted, and the cluster probe's loss.
        """
        head_key, drop_key, point_key, image_key = jax.random.split(key, 4)
        views = [batch.view(0), batch.view(1)]
        # The pair of an image stays side by side, on its device.
        both = jnp.stack(views, axis=1).reshape(-1, *views[0].shape[1:])
        tokens = heads.frozen_tokens(self._backbone, state.frozen["backbone"], both)
        codes = heads.codes(self._head, state.params["head"], tokens, head_key)
        features = heads.channel_dropout(drop_key, tokens, self.dropout)
        pairs = [m.reshape(-1, 2, *m.shape[1:]) for m in (features, codes)]
        anchor, neighbour = (tuple(m[:, n] for m in pairs) for n in (0, 1))
        shape = (2, len(views[0]), self.points, self.points, 2)
        points = jax.random.uniform(point_key, shape, minval=-1.0, maxval=1.0)
        sampled = tuple(sample(m, points[0]) for m in anchor)

        def term(others: tuple[Array, ...], shift: float) -> Array:
            of_features, of_codes = zip(sampled, others, strict=True)
            options = (self.pointwise, self.zero_clamp, self.stabilise)
            return jnp.mean(correspondence(of_features, of_codes, shift, *options))

        def random_term(key: Array) -> Array:
            order = permutation(key, len(views[0]))
            return term(tuple(sample(m[order], points[1]) for m in anchor), self.b_random)

        own = term(sampled, self.b_self)
        knn = term(tuple(sample(m, points[1]) for m in neighbour), self.b_knn)
        # One after another: side by side they would need `negatives` times the memory.
        random = jnp.mean(jax.lax.map(random_term, jax.random.split(image_key, self.negatives)))
        cluster = cluster_loss(anchor[1], state.params["cluster"]["centres"])
        loss = self.w_self * own + self.w_knn * knn + self.w_random * random + cluster
        metrics = {"L_self": own, "L_knn": knn, "L_random": random, "L_cluster": cluster}
        return loss, (state.extra, metrics)

    def predict(self, state: State, image: Array) -> Output:
        """Returns the codes as features and 2 cos with the centres as logits, for each pixel.

        aux: "tokens" f32[B h w C], the backbone's features, and "prototypes" f32[B K D], the
        centres, the same for each image.
        """

        def head(tokens: Array) -> Array:
            return heads.codes(self._head, state.params["head"], tokens)

        backbone, centres = self._backbone, state.params["cluster"]["centres"]
        tokens, code = heads.predicted_codes(
            backbone, state.frozen["backbone"], head, image, self.flip_average
        )
        logits = heads.pixel_scores(code, centres, image, backbone.patch)
        return Output(
            features=code,
            logits=logits,
            aux={
                "tokens": tokens,
                "prototypes": jnp.broadcast_to(centres[None], (image.shape[0], *centres.shape)),
            },
        )

    def encode(self, state: State, image: Array) -> Array:
        """Returns the backbone's features f32[B h w D] of images u8[B H W Ch]."""
        return self._backbone.features(state.frozen["backbone"], image)
