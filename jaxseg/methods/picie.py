"""PiCIE (Cho et al. 2021, "PiCIE: Unsupervised Semantic Segmentation Using Invariance and
Equivariance in Clustering").

Two views of an image differ in colour; one is cropped before the network, the other after it. Each
epoch begins with k-means on the features of each view (`refit`, so that `train.refit_every` is to
be -1, an epoch). The nearest centroid of either view is then the label that the features of both
views are to have, with the centroids as a classifier that does not learn.

Where paper and released code differ, a field says what it does; the defaults are the code's but for
its mistakes (`faithful_bugs`). Labels are the nearest centroids by distance, training and test
score by the dot product, without a temperature, as released. What has no field: labels are not
stored but found again in the loss, by a copy of the network as it was at the refit; views are drawn
in each epoch from `Batch.seed`; the first centroids come from a sample of the first batches rather
than from all of their pixels; the last, incomplete batch of an epoch moves neither centroids nor
BatchNorm.
"""

import dataclasses
import functools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.clustering import streaming_kmeans as streaming
from jaxseg.clustering.kmeans import assign, normalise
from jaxseg.core import Array, Batch, Method, Output, PyTree, State, Stream, UserError
from jaxseg.losses.cross_entropy import WEIGHTINGS, class_weights, cross_entropy
from jaxseg.models.fpn import FORMS, RESNETS, BackboneFPN
from jaxseg.processes import fetch
from jaxseg.views import colour, equivariance


@dataclasses.dataclass(frozen=True)
class PiCIE(Method):
    """PiCIE and its variants.

    Attributes:
        clusters: K, the number of groups to learn.
        overclusters: K2 of the second clustering of "PiCIE + H", which the paper has 100 of; 0 =
            none. UNVERIFIED: its code was not released, and the weights of the two losses, log K2 /
            (log K + log K2) and log K / (log K + log K2), are taken from a description.
        backbone: one of `models.fpn.RESNETS`; dim: D, features of a cell; fpn: "code" or "paper",
            see `PanopticFPN`.
        size: side in pixels of what the network sees of a view; the data give a larger image, of
            640 in the paper, that view 1 is cropped from.
        jitter: brightness, contrast, saturation and hue of the views; smallest_crop: side of the
            smallest crop.
        weighting: of the clusters in the loss: "proportional" to their size (released code),
            "inverse" (the paper's word is balanced) or "none".
        faithful_bugs: the released code's mistakes to make, of `equivariance.BUGS`.
        cluster_batch: images in a batch of the refit; 0 = as in training.
        start, sample_size, sample_batches, sample_rounds, update_every: of the refit, see
            `streaming_kmeans.Plan`.
        dtype: "float32" or "bfloat16", of the network's computation.
    """

    clusters: int
    overclusters: int = 0
    backbone: str = "resnet18"
    dim: int = 128
    fpn: str = "code"
    size: int = 320
    jitter: tuple[float, ...] = (0.3, 0.3, 0.3, 0.1)
    smallest_crop: float = 0.5
    weighting: str = "proportional"
    faithful_bugs: tuple[str, ...] = ()
    cluster_batch: int = 0
    start: str = "random"
    sample_size: int = 300_000
    sample_batches: int = 20
    sample_rounds: int = 20
    update_every: int = 1
    dtype: str = "float32"

    needs_refit: ClassVar[bool] = True
    choices: ClassVar[dict[str, tuple[str, ...]]] = {
        "backbone": RESNETS,
        "fpn": FORMS,
        "weighting": WEIGHTINGS,
        "start": streaming.STARTS,
        "dtype": ("float32", "bfloat16"),
    }
    lowest: ClassVar[dict[str, int]] = {
        "clusters": 2, "overclusters": 0, "dim": 1, "size": 1, "cluster_batch": 0, "sample_size": 1,
        "sample_batches": 1, "sample_rounds": 0, "update_every": 1,
    }  # fmt: skip
    numbers: ClassVar[dict[str, tuple[str, ...]]] = {"jitter": colour.JITTER}

    def __post_init__(self):
        super().__post_init__()
        equivariance.check_smallest(self.smallest_crop)
        if not set(self.faithful_bugs) <= set(equivariance.BUGS):
            raise UserError(
                f"method.faithful_bugs is {self.faithful_bugs}; it holds some of "
                f"{', '.join(equivariance.BUGS)}."
            )

    @property
    def _net(self) -> BackboneFPN:
        return BackboneFPN(self.backbone, self.dim, self.fpn, self.dtype)

    @property
    def _clusterings(self) -> dict[str, tuple[int, float]]:
        """The number of clusters and the weight in the loss of each clustering."""
        if not self.overclusters:
            return {"main": (self.clusters, 1.0)}
        few, many = math.log(self.clusters), math.log(self.overclusters)
        return {
            "main": (self.clusters, many / (few + many)),
            "over": (self.overclusters, few / (few + many)),
        }

    @property
    def _plan(self) -> streaming.Plan:
        return streaming.Plan(
            self.start, self.sample_size, self.sample_batches, self.sample_rounds, self.update_every
        )

    def init(self, key: Array, spec: Batch) -> State:
        """Returns fresh groups "backbone" and "fpn"; centroids are random until the first refit."""
        del spec
        key_net, key_centroids = jax.random.split(key)
        params, rest = self._net.init(key_net)
        found = {}
        for i, (name, (k, _)) in enumerate(self._clusterings.items()):
            draw = jax.random.normal(jax.random.fold_in(key_centroids, i), (2, k, self.dim))
            found[name] = {
                "centroids": normalise(draw),
                "weights": jnp.full((2, k), 1 / k, jnp.float32),
            }
        extra = rest | {
            "clusterings": found,
            # What `predict` scores with: view 1's centroids, and after `finish` fresh ones.
            "classifier": found["main"]["centroids"][0],
            "snapshot": {"params": params, **rest},
        }
        return State(step=jnp.zeros((), jnp.int32), params=params, extra=extra, frozen={})

    def _image(self, batch: Batch, view: int, plain: bool = False) -> Array:
        """Returns what the network sees of view 1 or 2, f32[B size size Ch] in [0, 1]."""
        unit = colour.to_unit(batch.first_view)
        if not plain:
            unit = equivariance.photometric(batch.seed, view, unit, self.jitter, self.faithful_bugs)
        box = self._box(batch) if view == 1 else equivariance.whole(len(unit))
        return equivariance.warp(unit, box, self.size, self.size)

    def _box(self, batch: Batch) -> Array:
        """Returns f32[B 5], where view 1 lies in view 2: it warps the image and the features."""
        return equivariance.crops(batch.seed, self.smallest_crop)

    def _cropped(self, batch: Batch, features: Array) -> Array:
        """Returns view 2's features f32[B h w D], of length 1, where view 1 lies."""
        return normalise(equivariance.warp(features, self._box(batch), *features.shape[1:3]))

    def _views(
        self, params: PyTree, extra: PyTree, batch: Batch, plain: bool = False
    ) -> tuple[tuple[Array, Array], PyTree]:
        """Returns both views' features, of length 1, in training mode, and the new rest.

        BatchNorm takes the statistics of each view by itself.
        """
        one, extra = self._net.directions(params, extra, self._image(batch, 1, plain), train=True)
        two, extra = self._net.features(params, extra, self._image(batch, 2), train=True)
        return (one, self._cropped(batch, two)), extra

    def _views_of(self, snapshot: PyTree, batch: Batch) -> tuple[Array, Array]:
        """Returns both views' features, of length 1, by a snapshot in evaluation mode."""
        # Side by side within each image, so that a sharded batch stays where it is.
        both = jnp.stack([self._image(batch, 1), self._image(batch, 2)], axis=1)
        both = both.reshape(-1, *both.shape[2:])
        found, _ = self._net.features(snapshot["params"], snapshot, both, train=False)
        found = found.reshape(-1, 2, *found.shape[1:])
        return normalise(found[:, 0]), self._cropped(batch, found[:, 1])

    def loss(
        self, state: State, batch: Batch, key: Array
    ) -> tuple[Array, tuple[PyTree, dict[str, Array]]]:
        """Returns the loss on the first view of each image, and metrics L_within and L_cross."""
        del key  # everything is drawn from the batch's seeds
        seen = jax.lax.stop_gradient(self._views_of(state.extra["snapshot"], batch))
        plain = "plain_view_1" in self.faithful_bugs
        features, extra = self._views(state.params, state.extra, batch, plain)
        metrics = {"L_within": jnp.zeros(()), "L_cross": jnp.zeros(())}
        for name, (_, share) in self._clusterings.items():
            own = state.extra["clusterings"][name]
            for here in (0, 1):
                centroids = own["centroids"][here]
                labels = assign(seen[here], centroids, "euclidean")
                weights = class_weights(own["weights"][here], self.weighting)
                for there in (0, 1):
                    scores = jnp.einsum("bhwd,kd->bhwk", features[there], centroids)
                    term = "L_within" if here == there else "L_cross"
                    metrics[term] += share / 2 * cross_entropy(scores, labels, weights)
        return (metrics["L_within"] + metrics["L_cross"]) / 2, (extra, metrics)

    def refit(self, state: State, stream: Stream, key: Array) -> State:
        """Returns the state with the epoch's centroids, their weights and a snapshot of the net.

        Two passes over the epoch: k-means in training mode (which moves BatchNorm's statistics, as
        released), then the sizes of the clusters as the snapshot will label them.

        Raises:
            ValueError: fewer features than clusters.
        """
        extra, places = state.extra, [(name, view) for name in self._clusterings for view in (0, 1)]
        fits = {
            place: streaming.MiniBatch(
                jax.random.fold_in(key, i), self._clusterings[place[0]][0], plan=self._plan
            )
            for i, place in enumerate(places)
        }
        for batch in stream(batch_size=self.cluster_batch or None):
            if fetch(batch.index).min() < 0:
                continue
            features, extra = _train_views(self, state.params, extra, batch)
            for place, fit in fits.items():
                fit.add(features[place[1]], jnp.ones(len(batch.index)))
        centroids = {place: fit.result()[0] for place, fit in fits.items()}
        snapshot = {"params": state.params, "backbone": extra["backbone"]}
        sizes = {place: np.zeros(len(centroids[place])) for place in places}
        for batch in stream(batch_size=self.cluster_batch or None):
            features = _snapshot_views(self, snapshot, batch)
            for name, view in places:
                found = (features[view], batch.index >= 0)
                sizes[name, view] += streaming.assigned([found], centroids[name, view])
        clusterings = {
            name: {
                "centroids": jnp.stack([jnp.asarray(centroids[name, v]) for v in (0, 1)]),
                "weights": jnp.stack(
                    [
                        jnp.asarray(sizes[name, v] / sizes[name, v].sum(), jnp.float32)
                        for v in (0, 1)
                    ]
                ),
            }
            for name in self._clusterings
        }
        classifier = clusterings["main"]["centroids"][0]
        return state.replace(
            extra=extra
            | {"clusterings": clusterings, "classifier": classifier, "snapshot": snapshot}
        )

    def finish(self, state: State, stream: Stream, key: Array) -> State:
        """Returns the state with fresh centroids, of the images as they are, for `predict`.

        K-means goes over the training images without views, in training mode, as released.
        """
        extra, fit = state.extra, streaming.MiniBatch(key, self.clusters, plan=self._plan)
        for batch in stream(batch_size=self.cluster_batch or None):
            if fetch(batch.index).min() < 0:
                continue
            features, extra = _train_images(self, state.params, extra, batch)
            fit.add(features, jnp.ones(len(batch.index)))
        return state.replace(extra=extra | {"classifier": jnp.asarray(fit.result()[0])})

    def predict(self, state: State, image: Array) -> Output:
        """Returns features of length 1 and their dot products with the centroids as logits.

        The centroids are the fresh ones of `finish`, before it those of view 1. aux:
        "training_centroids" f32[B h w K], the logits by those of view 1 in any case.
        """
        found, _ = self._net.directions(state.params, state.extra, colour.to_unit(image), False)
        training = state.extra["clusterings"]["main"]["centroids"][0]
        return Output(
            features=found,
            logits=jnp.einsum("bhwd,kd->bhwk", found, state.extra["classifier"]),
            aux={"training_centroids": jnp.einsum("bhwd,kd->bhwk", found, training)},
        )


@functools.partial(jax.jit, static_argnums=0)
def _train_views(method: PiCIE, params: PyTree, extra: PyTree, batch: Batch):
    return method._views(params, extra, batch)


@functools.partial(jax.jit, static_argnums=0)
def _snapshot_views(method: PiCIE, snapshot: PyTree, batch: Batch):
    return method._views_of(snapshot, batch)


@functools.partial(jax.jit, static_argnums=0)
def _train_images(method: PiCIE, params: PyTree, extra: PyTree, batch: Batch):
    image = method._image(batch, 2, plain=True)
    return method._net.directions(params, extra, image, train=True)
