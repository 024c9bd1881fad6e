"""InfoSeg (Harb and Knöbelreiter 2021, "InfoSeg: Unsupervised Semantic Image Segmentation with
Mutual Information Maximization").

Per image the network gives K global vectors H_k and a grid of local vectors L_ij. Scores
s_ijk = <L_ij, H_k>, assignments V = softmax_k(tau s), assigned mixes S_ij = sum_k V_ijk H_k. The
loss raises a bound on the mutual information between L and S: pairs (L(x), S(x)) against pairs
(L(x), S(x')) with another image x'. The argmax of V is the segmentation.

No code was released. What the paper leaves open and what is chosen here: the layers (see
`models/infoseg.py`); the negative's S(x') is taken at the same cell; one negative an image;
gradient flows through V, as the formula has it; inputs are normalised with ImageNet's mean and
deviation.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg.core import Array, Batch, Method, Output, PyTree, State, UserError
from jaxseg.losses.mutual_information import dv_bound, iic, jsd_bound
from jaxseg.models.infoseg import InfoSegNet
from jaxseg.views import colour

BOUNDS = {"jsd": jsd_bound, "dv": dv_bound}


@dataclasses.dataclass(frozen=True)
class InfoSeg(Method):
    """InfoSeg and the variants of its table 2.

    Attributes:
        clusters: K, the number of segments to learn.
        features: P, length of local and global vectors.
        patch_widths, global_widths: channels, as in `InfoSegNet`.
        objective: "infomax" (the method) or "iic": the segmentation step alone, trained by IIC's
            objective (Ji et al. 2019) between the V of an image and of its jittered, flipped copy.
        bound: "jsd" (the method) or "dv" (Donsker-Varadhan).
        assignment: "soft" mixes the H_k by V; "hard" takes the H of the largest score.
        sg_V: stops the gradient through V, as the paper's two-step story suggests; its formula, the
            default, does not.
        tau: multiplies the scores in the softmax.
        negatives: other images that each image is contrasted with.
        layer_norm: LayerNorm on L and H; the paper does not say.
        jitter: brightness, contrast, saturation and hue of the copy for "iic".
        displacement: largest shift, in cells, of "iic".
        lam: weight of the marginals' entropy in "iic"; Ji et al. use 1 to 1.5.
        dtype: "float32" or "bfloat16", of the network's computation; losses are float32.
    """

    clusters: int
    features: int = 1024
    patch_widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    global_widths: tuple[int, ...] = (512, 1024, 1024)
    objective: str = "infomax"
    bound: str = "jsd"
    assignment: str = "soft"
    sg_V: bool = False
    tau: float = 0.8
    negatives: int = 1
    layer_norm: bool = False
    jitter: tuple[float, ...] = (0.4, 0.4, 0.4, 0.125)
    displacement: int = 1
    lam: float = 1.0
    dtype: str = "float32"

    choices: ClassVar[dict[str, tuple[str, ...]]] = {
        "objective": ("infomax", "iic"),
        "bound": tuple(BOUNDS),
        "assignment": ("soft", "hard"),
        "dtype": ("float32", "bfloat16"),
    }
    lowest: ClassVar[dict[str, int]] = {"clusters": 1, "features": 1, "negatives": 1}
    numbers: ClassVar[dict[str, tuple[str, ...]]] = {"jitter": colour.JITTER}

    def __post_init__(self):
        super().__post_init__()
        if len(self.patch_widths) != 5:
            raise UserError(f"method.patch_widths is {self.patch_widths}; it has five channels.")
        if self.objective == "iic" and self.assignment == "hard":
            raise UserError(
                "method.objective 'iic' has no gradient through assignment 'hard'; use 'soft'."
            )

    @property
    def _net(self) -> InfoSegNet:
        return InfoSegNet(
            clusters=self.clusters,
            features=self.features,
            patch_widths=self.patch_widths,
            global_widths=self.global_widths,
            layer_norm=self.layer_norm,
            dtype=jnp.dtype(self.dtype),
        )

    def init(self, key: Array, spec: Batch) -> State:
        """Returns fresh parameters (group "net") and BatchNorm statistics."""
        image = jnp.zeros((1, *jax.eval_shape(lambda b: b.first_view, spec).shape[1:]), jnp.float32)
        variables = self._net.init(key, image, train=False)
        return State(
            step=jnp.zeros((), jnp.int32),
            params={"net": variables["params"]},
            extra=variables["batch_stats"],
            frozen={},
        )

    def _apply(self, state: State, unit: Array, train: bool) -> tuple[Array, Array, PyTree]:
        """Runs the network on images in [0, 1]: (L, H, new BatchNorm statistics)."""
        x = colour.normalise(unit).astype(self.dtype)
        variables = {"params": state.params["net"], "batch_stats": state.extra}
        (local, heads), changed = self._net.apply(variables, x, train, mutable=["batch_stats"])
        return local, heads, changed["batch_stats"]

    def loss(
        self, state: State, batch: Batch, key: Array
    ) -> tuple[Array, tuple[PyTree, dict[str, Array]]]:
        """Returns the loss on the first view of each image, of which a batch needs two or more."""
        image = colour.to_unit(batch.first_view)
        if self.objective == "iic":
            return self._iic_loss(state, image, key)
        local, heads, extra = self._apply(state, image, train=True)
        scores, mix = self._assign(local, heads)
        positive = _matched(local, heads, mix)
        others = [
            _matched(local, heads[other], mix[other])
            for other in partners(key, image.shape[0], self.negatives)
        ]
        negative = jnp.stack(others)
        loss = BOUNDS[self.bound](positive, negative)
        metrics = {
            "positive": positive.mean(),
            "negative": negative.mean(),
            # Dot products of long vectors grow and saturate the bounds; this shows it early.
            "score_size": jnp.abs(scores).mean(),
        }
        return loss, (extra, metrics)

    def _assign(self, local: Array, heads: Array) -> tuple[Array, Array]:
        """Returns scores s and assignments V, both f32[B h w K]."""
        scores = jnp.einsum("bhwp,bkp->bhwk", local, heads)
        mix = jax.nn.softmax(self.tau * scores, axis=-1)
        if self.assignment == "hard":
            mix = jax.nn.one_hot(scores.argmax(-1), self.clusters, dtype=scores.dtype)
        return scores, jax.lax.stop_gradient(mix) if self.sg_V else mix

    def _iic_loss(
        self, state: State, image: Array, key: Array
    ) -> tuple[Array, tuple[PyTree, dict[str, Array]]]:
        colour_key, flip_key = jax.random.split(key)
        flip = jax.random.bernoulli(flip_key, 0.5, (image.shape[0],))
        copy = colour.flip_where(flip, colour.jitter(colour_key, image, *self.jitter))
        both = jnp.concatenate([image, copy])
        local, heads, extra = self._apply(state, both, train=True)
        mix = self._assign(local, heads)[1]
        first, second = jnp.split(mix, 2)
        loss = iic(first, colour.flip_where(flip, second), None, self.displacement, self.lam)
        return loss, (extra, {})

    def predict(self, state: State, image: Array) -> Output:
        """Returns the local vectors as features and tau s as logits, at a quarter of the size."""
        variables = {"params": state.params["net"], "batch_stats": state.extra}
        x = colour.normalise(colour.to_unit(image)).astype(self.dtype)
        local, heads = self._net.apply(variables, x, train=False)
        scores = jnp.einsum("bhwp,bkp->bhwk", local, heads)
        return Output(features=local, logits=self.tau * scores)


def partners(key: Array, batch: int, count: int) -> list[Array]:
    """Returns `count` derangements i32[B]: in each, every image gets another image of the batch.

    The images are put on a circle in random order; the n-th partner stands n places on, so that
    the partners of one image differ.

    Raises:
        ValueError: the batch has no `count` other images.
    """
    if not 0 < count < batch:
        raise ValueError(f"{count} other images for each of a batch of {batch}: use a larger batch")
    order = jax.random.permutation(key, batch)
    return [
        jnp.zeros((batch,), order.dtype).at[order].set(jnp.roll(order, -n))
        for n in range(1, count + 1)
    ]


def _matched(local: Array, heads: Array, mix: Array) -> Array:
    """Returns <L_ij, S_ij> f32[B h w] without forming S: sum_k V_ijk <L_ij, H_k>."""
    return (mix * jnp.einsum("bhwp,bkp->bhwk", local, heads)).sum(-1)
