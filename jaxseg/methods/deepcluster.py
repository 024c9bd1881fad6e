"""Modified DeepCluster (MDC), the baseline of PiCIE: DeepCluster (Caron et al. 2018) on pixels.

Each epoch begins with k-means on the features of one view of each image (`refit`, so that
`train.refit_every` is to be -1, an epoch); the clusters are the labels of a linear classifier,
which begins anew then, with its optimiser. View, network and k-means are those of PiCIE's view 1.

Source: Cho et al. 2021 (PiCIE), section 4 and released code. Departures: labels are found again in
the loss, by a copy of the network as it was at the refit; the last centroids are of training
images, where the released code takes the validation images that it tests on; the first centroids
come from a sample of the first batches; a learning rate that falls after 20 epochs, which are never
reached, is left to `optim.schedule`.
"""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.clustering import streaming_kmeans as streaming
from jaxseg.clustering.kmeans import assign, normalise
from jaxseg.core import Array, Batch, Method, Output, PyTree, State, Stream
from jaxseg.losses.cross_entropy import WEIGHTINGS, class_weights, cross_entropy
from jaxseg.models.fpn import FORMS, RESNETS, BackboneFPN
from jaxseg.processes import fetch
from jaxseg.views import colour, equivariance


@dataclasses.dataclass(frozen=True)
class DeepCluster(Method):
    """Modified DeepCluster.

    Attributes:
        clusters: K, the number of groups; PiCIE's supplement found the number of classes best.
        backbone: one of `models.fpn.RESNETS`; dim: D, features of a cell; fpn: "code" or "paper",
            see `PanopticFPN`.
        size: side in pixels of what the network sees of an image; the data give a larger one.
        jitter: brightness, contrast, saturation and hue of the view; smallest_crop: side of the
            smallest crop.
        weighting: of the clusters in the loss: "proportional" to their size (released code),
            "inverse" or "none".
        cluster_batch: images in a batch of the refit; 0 = as in training.
        start, sample_size, sample_batches, sample_rounds, update_every: of the refit, see
            `streaming_kmeans.Plan`.
        dtype: "float32" or "bfloat16", of the network's computation.
    """

    clusters: int
    backbone: str = "resnet18"
    dim: int = 128
    fpn: str = "code"
    size: int = 320
    jitter: tuple[float, ...] = (0.3, 0.3, 0.3, 0.1)
    smallest_crop: float = 0.5
    weighting: str = "proportional"
    cluster_batch: int = 0
    start: str = "random"
    sample_size: int = 300_000
    sample_batches: int = 20
    sample_rounds: int = 20
    update_every: int = 1
    dtype: str = "float32"

    resets: ClassVar[tuple[str, ...]] = ("head",)
    needs_refit: ClassVar[bool] = True
    choices: ClassVar[dict[str, tuple[str, ...]]] = {
        "backbone": RESNETS,
        "fpn": FORMS,
        "weighting": WEIGHTINGS,
        "start": streaming.STARTS,
        "dtype": ("float32", "bfloat16"),
    }
    lowest: ClassVar[dict[str, int]] = {
        "clusters": 2, "dim": 1, "size": 1, "cluster_batch": 0, "sample_size": 1,
        "sample_batches": 1, "sample_rounds": 0, "update_every": 1,
    }  # fmt: skip
    numbers: ClassVar[dict[str, tuple[str, ...]]] = {"jitter": colour.JITTER}

    def __post_init__(self):
        super().__post_init__()
        equivariance.check_smallest(self.smallest_crop)

    @property
    def _net(self) -> BackboneFPN:
        return BackboneFPN(self.backbone, self.dim, self.fpn, self.dtype)

    @property
    def _plan(self) -> streaming.Plan:
        return streaming.Plan(
            self.start, self.sample_size, self.sample_batches, self.sample_rounds, self.update_every
        )

    def _new_head(self, key: Array) -> PyTree:
        """Returns the classifier: weights N(0, 0.01), no bias yet."""
        kernel = 0.01 * jax.random.normal(key, (self.dim, self.clusters))
        return {"kernel": kernel, "bias": jnp.zeros(self.clusters)}

    def init(self, key: Array, spec: Batch) -> State:
        """Returns fresh groups "backbone", "fpn" and "head"; centroids are random until a refit."""
        del spec
        key_net, key_head, key_centroids = jax.random.split(key, 3)
        params, rest = self._net.init(key_net)
        centroids = normalise(jax.random.normal(key_centroids, (self.clusters, self.dim)))
        extra = rest | {
            "centroids": centroids,
            "weights": jnp.full(self.clusters, 1 / self.clusters, jnp.float32),
            # What `predict` scores with: the centroids, and after `finish` fresh ones.
            "classifier": centroids,
            "snapshot": {"params": params, **rest},
        }
        params = params | {"head": self._new_head(key_head)}
        return State(step=jnp.zeros((), jnp.int32), params=params, extra=extra, frozen={})

    def _image(self, batch: Batch, plain: bool = False) -> Array:
        """Returns the view, f32[B size size Ch] in [0, 1]; `plain` is the image as it is."""
        unit, box = colour.to_unit(batch.first_view), equivariance.whole(len(batch.index))
        if not plain:
            unit = equivariance.photometric(batch.seed, 1, unit, self.jitter)
            box = equivariance.crops(batch.seed, self.smallest_crop)
        return equivariance.warp(unit, box, self.size, self.size)

    def loss(
        self, state: State, batch: Batch, key: Array
    ) -> tuple[Array, tuple[PyTree, dict[str, Array]]]:
        """Returns the loss on the first view of each image, and the classifier's accuracy."""
        del key  # everything is drawn from the batch's seeds
        image, snapshot = self._image(batch), state.extra["snapshot"]
        seen, _ = self._net.directions(snapshot["params"], snapshot, image, train=False)
        labels = assign(jax.lax.stop_gradient(seen), state.extra["centroids"], "euclidean")
        features, extra = self._net.directions(state.params, state.extra, image, train=True)
        scores = self._scores(state.params["head"], features)
        weights = class_weights(state.extra["weights"], self.weighting)
        agreement = (scores.argmax(-1) == labels).mean()
        return cross_entropy(scores, labels, weights), (extra, {"agreement": agreement})

    def _scores(self, head: PyTree, features: Array) -> Array:
        bias = head["bias"].reshape(1, 1, 1, -1)
        return jnp.einsum("bhwd,dk->bhwk", features, head["kernel"]) + bias

    def refit(self, state: State, stream: Stream, key: Array) -> State:
        """Returns the state with the epoch's centroids, a new classifier and a snapshot of the net.

        Two passes over the epoch: k-means in training mode (which moves BatchNorm's statistics, as
        released), then the sizes of the clusters as the snapshot will label them.

        Raises:
            ValueError: fewer features than clusters.
        """
        key_fit, key_head = jax.random.split(key)
        net = {name: state.params[name] for name in ("backbone", "fpn")}
        centroids, extra = self._fit(net, state.extra, stream, key_fit)
        snapshot = {"params": net, "backbone": extra["backbone"]}
        sizes = np.zeros(self.clusters)
        for batch in stream(batch_size=self.cluster_batch or None):
            features, _ = _directions(self, net, snapshot, batch, False, False)
            sizes += streaming.assigned([(features, batch.index >= 0)], centroids)
        found = {
            "centroids": jnp.asarray(centroids),
            "classifier": jnp.asarray(centroids),
            "weights": jnp.asarray(sizes / sizes.sum(), jnp.float32),
            "snapshot": snapshot,
        }
        params = state.params | {"head": self._new_head(key_head)}
        return state.replace(params=params, extra=extra | found)

    def _fit(
        self, net: PyTree, extra: PyTree, stream: Stream, key: Array, plain: bool = False
    ) -> tuple[np.ndarray, PyTree]:
        """Returns the centroids of an epoch in training mode, and the new rest."""
        fit = streaming.MiniBatch(key, self.clusters, plan=self._plan)
        for batch in stream(batch_size=self.cluster_batch or None):
            if fetch(batch.index).min() < 0:
                continue
            features, extra = _directions(self, net, extra, batch, True, plain)
            fit.add(features, jnp.ones(len(batch.index)))
        return fit.result()[0], extra

    def finish(self, state: State, stream: Stream, key: Array) -> State:
        """Returns the state with fresh centroids, of the images as they are, for `predict`."""
        net = {name: state.params[name] for name in ("backbone", "fpn")}
        centroids, extra = self._fit(net, state.extra, stream, key, plain=True)
        return state.replace(extra=extra | {"classifier": jnp.asarray(centroids)})

    def predict(self, state: State, image: Array) -> Output:
        """Returns features of length 1 and their dot products with the centroids as logits.

        The centroids are the fresh ones of `finish`, before it those of the refit. aux:
        "training_centroids" f32[B h w K], the logits by those of the refit in any case, and "head"
        f32[B h w K], the classifier's scores.
        """
        found, _ = self._net.directions(state.params, state.extra, colour.to_unit(image), False)
        training = jnp.einsum("bhwd,kd->bhwk", found, state.extra["centroids"])
        head = self._scores(state.params["head"], found)
        return Output(
            features=found,
            logits=jnp.einsum("bhwd,kd->bhwk", found, state.extra["classifier"]),
            aux={"training_centroids": training, "head": head},
        )


@functools.partial(jax.jit, static_argnums=(0, 4, 5))
def _directions(
    method: DeepCluster, net: PyTree, extra: PyTree, batch: Batch, train: bool, plain: bool
) -> tuple[Array, PyTree]:
    return method._net.directions(net, extra, method._image(batch, plain), train)
