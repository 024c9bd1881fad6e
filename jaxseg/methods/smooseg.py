"""SmooSeg (Lan et al. 2023, "SmooSeg: Smoothness Prior for Unsupervised Semantic Segmentation").

On the features X of a frozen vision transformer a projector learns codes Z, and K prototypes label
them: A = softmax(cos(Z, teacher prototypes) / tau). Patches that are close in X are to have like
labels, within an image and across two (`losses/smoothness.py`); this moves the projector. The
argmax of A is the target of the student prototypes, of which the teacher is a moving average.

Where paper and released code differ, a field says what it does; the defaults are the code's, as is
what has no field: features are dropped out by channel before the closeness is taken, in a draw of
their own; terms are means, where the paper has sums; the teacher moves before the optimiser does,
and so lags a step; nothing normalises the teacher again, but it is normalised where it is used.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg.clustering.kmeans import similarity
from jaxseg.core import Array, Batch, Method, Output, PyTree, State, UserError
from jaxseg.losses import smoothness as energy
from jaxseg.losses.correspondence import permutation
from jaxseg.models import heads
from jaxseg.models.backbones import ARCHITECTURES, Backbone

TERMS = ("data", "across", "within")
HISTOGRAM_BINS = 50


@dataclasses.dataclass(frozen=True)
class SmooSeg(Method):
    """SmooSeg and the variants of its tables.

    Attributes:
        clusters: K, the number of groups to learn.
        backbone: the frozen network, a key of `models.backbones.ARCHITECTURES`.
        dim: D, length of a code.
        dropout: share of the channels dropped in training, from what the projector and the
            closeness see (released code; the paper has none).
        tau: divides the cosines in the softmax; 0.1 and less work, 0.2 and more collapse.
        alpha: how much of the teacher stays in a step; 0.99 and more are stable.
        beta_within, beta_across: thresholds on the closeness within and across images. These are
            the released code's for Cityscapes; eq. 4 of the paper swaps their names. They decide
            between segments and a collapse, and other features want others.
        closeness: how W is centred, "code" or "paper"; see `losses.smoothness.smoothness`.
        terms: of the loss, any of "data", "across" and "within"; the ablations leave some out.
        flip_average: in inference, average the codes of an image and of its mirror image (released
            evaluation; the released training script's own test does not).
        dtype: "float32" or "bfloat16", of backbone and projector; losses are float32.
    """

    clusters: int
    backbone: str = "vit_small_8"
    dim: int = 64
    dropout: float = 0.2
    tau: float = 0.1
    alpha: float = 0.998
    beta_within: float = -0.02
    beta_across: float = 0.5
    closeness: str = "code"
    terms: tuple[str, ...] = TERMS
    flip_average: bool = True
    dtype: str = "float32"

    choices: ClassVar[dict[str, tuple[str, ...]]] = {
        "backbone": tuple(ARCHITECTURES),
        "closeness": energy.CLOSENESS,
        "dtype": ("float32", "bfloat16"),
    }
    lowest: ClassVar[dict[str, int]] = {"clusters": 1, "dim": 1}

    def __post_init__(self):
        super().__post_init__()
        if self.tau <= 0:
            raise UserError(f"method.tau is {self.tau}; it must be above 0.")
        for field in ("dropout", "alpha"):
            if not 0 <= (value := getattr(self, field)) <= 1:
                raise UserError(f"method.{field} is {value}; it lies in [0, 1].")
        if not self.terms or not set(self.terms) <= set(TERMS):
            raise UserError(f"method.terms is {self.terms}; it is some of {', '.join(TERMS)}.")

    @property
    def _backbone(self) -> Backbone:
        return Backbone(self.backbone, self.dtype)

    @property
    def _projector(self) -> heads.CodeHead:
        return heads.CodeHead(self.dim, "silu", self.dropout, jnp.dtype(self.dtype))

    def init(self, key: Array, spec: Batch) -> State:
        """Returns fresh groups "projector" and "prototypes", the teacher a copy of the student.

        The backbone has random weights until a file gives it others.
        """
        del spec
        backbone_key, projector_key, prototype_key = jax.random.split(key, 3)
        cells = jnp.zeros((1, 1, 1, self._backbone.width))
        student = heads.unit_prototypes(prototype_key, self.clusters, self.dim)
        return State(
            step=jnp.zeros((), jnp.int32),
            params={
                "projector": self._projector.init(projector_key, cells, False)["params"],
                "prototypes": {"student": student},
            },
            extra={"teacher": student},
            frozen={"backbone": self._backbone.init(backbone_key)},
        )

    def loss(
        self, state: State, batch: Batch, key: Array
    ) -> tuple[Array, tuple[PyTree, dict[str, Array]]]:
        """Returns the loss on the first view's tokens, or those of its pixels where it has none.

        Metrics: the terms, whether the loss counts them or not; the mean penalties delta; and
        "bimodality", of the penalties within images (`losses.smoothness.penalty_bimodality`), which
        needs no labels and says whether patches are either alike or not. The histogram of those
        penalties is with `predict`, whose look at fixed images the log holds now and then.
        """
        head_key, closeness_key, image_key = jax.random.split(key, 3)
        tokens = heads.frozen_tokens(self._backbone, state.frozen["backbone"], batch.view(0))
        code = heads.codes(self._projector, state.params["projector"], tokens, head_key)
        student, teacher = state.params["prototypes"]["student"], state.extra["teacher"]
        scores = similarity(code, teacher)
        labels = jax.nn.softmax(scores / self.tau, axis=-1)
        seen = heads.channel_dropout(closeness_key, tokens, self.dropout)
        here = energy.summarise(seen, labels)
        there = here.of(permutation(image_key, len(tokens)))
        within, delta_within = energy.smoothness(here, here, self.beta_within, self.closeness)
        across, delta_across = energy.smoothness(here, there, self.beta_across, self.closeness)
        data = energy.data_term(similarity(jax.lax.stop_gradient(code), student), scores)
        terms = {"data": data, "across": across, "within": within}
        metrics = {f"L_{name}": value for name, value in terms.items()} | {
            "delta_within": delta_within,
            "delta_across": delta_across,
            "bimodality": energy.penalty_bimodality(labels),
        }
        moved = self.alpha * teacher + (1 - self.alpha) * jax.lax.stop_gradient(student)
        loss = sum((terms[name] for name in self.terms), jnp.zeros(()))
        return loss, ({"teacher": moved}, metrics)

    def predict(self, state: State, image: Array) -> Output:
        """Returns the codes as features and 2 cos with the teacher as logits, for each pixel.

        aux: "tokens" f32[B h w C], the backbone's features; "prototypes" f32[B K D], the teacher's,
        the same for each image; and "delta_histogram" f32[B 50], the shares of an image's pairs of
        cells by their penalty, from 0 to 1, padding included.
        """

        def head(tokens: Array) -> Array:
            return heads.codes(self._projector, state.params["projector"], tokens)

        backbone, teacher = self._backbone, state.extra["teacher"]
        tokens, code = heads.predicted_codes(
            backbone, state.frozen["backbone"], head, image, self.flip_average
        )
        labels = jax.nn.softmax(similarity(code, teacher) / self.tau, axis=-1)
        histogram = energy.penalty_histogram(labels, HISTOGRAM_BINS)
        return Output(
            features=code,
            logits=heads.pixel_scores(code, teacher, image, backbone.patch),
            aux={
                "tokens": tokens,
                "prototypes": jnp.broadcast_to(teacher[None], (image.shape[0], *teacher.shape)),
                "delta_histogram": histogram,
            },
        )

    def encode(self, state: State, image: Array) -> Array:
        """Returns the backbone's features f32[B h w D] of images u8[B H W Ch]."""
        return self._backbone.features(state.frozen["backbone"], image)
