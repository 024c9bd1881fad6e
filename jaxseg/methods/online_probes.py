"""Probes that are trained beside a method, on features through which no gradient passes back.

The linear probe READS LABELS: its scores tell what the features hold, not what was found without
labels. The cluster probe, STEGO's, does not. What the inner method learns is the same with and
without them, but for how a compiler rounds.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg.clustering.kmeans import similarity
from jaxseg.core import Array, Batch, Method, Output, PyTree, State, Stream, UserError, check_range
from jaxseg.losses.correspondence import cluster_loss
from jaxseg.models.heads import torch_bias, torch_kernel

# The probes' key is folded out of the one that the inner method splits, so that this draws what it
# draws without them; the number lies far beyond any that a split counts to.
_FAR = 2**31


@dataclasses.dataclass(frozen=True)
class OnlineProbes(Method):
    """A method with a linear probe, which reads labels, and perhaps a cluster probe beside it.

    In training as in inference the probes read what `inner.predict` says of the first view: the
    released STEGO trains them on features with dropout; here they see what they will be tested on.
    That costs a forward pass, of the inner method's head alone where a batch holds tokens.

    Attributes:
        inner: the method.
        classes: C, of the labels.
        clusters: K, centres of the cluster probe; 0 = none.
        label: which label map the linear probe learns.
        features: what the probes read: "features" or a key of the inner method's `Output.aux`.
    """

    inner: Method
    classes: int
    clusters: int = 0
    label: str = "class"
    features: str = "features"

    reads_labels: ClassVar[bool] = True

    def __post_init__(self):
        super().__post_init__()
        check_range("method.online_probes", self, classes=1, clusters=0)
        for name in ("resets", "needs_refit"):
            object.__setattr__(self, name, getattr(self.inner, name))

    def init(self, key: Array, spec: Batch) -> State:
        """Returns the inner method's state with groups "linear_probe" and perhaps "cluster_probe".

        The inner method's own part is what it draws from the same key by itself.
        """
        state = self.inner.init(key, spec)
        output = jax.eval_shape(lambda s, b: self.inner.predict(s, b.view(0)), state, spec)
        width = self._read(output).shape[-1]
        keys = jax.random.split(jax.random.fold_in(key, _FAR), 3)
        probes = {
            "linear_probe": {
                "kernel": torch_kernel(keys[0], (width, self.classes)),
                "bias": torch_bias(width)(keys[1], (self.classes,)),
            }
        }
        if self.clusters:
            probes["cluster_probe"] = {
                "centres": jax.random.normal(keys[2], (self.clusters, width))
            }
        return state.replace(params=state.params | probes)

    def _read(self, output: Output) -> Array:
        """Returns the features f32[B h w D] that the probes read."""
        if self.features == "features":
            return output.features
        if self.features not in output.aux:
            raise UserError(
                f"method.online_probes.features is {self.features!r}; it is one of "
                f"{', '.join(['features', *output.aux])}."
            )
        return output.aux[self.features]

    def _of_inner(self, state: State) -> State:
        probes = ("linear_probe", "cluster_probe")
        return state.replace(params={k: v for k, v in state.params.items() if k not in probes})

    def _with_probes(self, new: State, old: State) -> State:
        return new.replace(params=old.params | new.params)

    def loss(
        self, state: State, batch: Batch, key: Array
    ) -> tuple[Array, tuple[PyTree, dict[str, Array]]]:
        """Returns the inner method's loss, with the probes' gradients but not their values.

        So the loss that is logged, and that may choose the state to keep, holds no labels. The
        linear probe's loss is the cross entropy at the labels' resolution, to which its scores go
        up bilinearly, over pixels with a label in 0..C-1. Metrics "with_labels/..." are its own.
        """
        inner = self._of_inner(state)
        loss, (extra, metrics) = self.inner.loss(inner, batch, key)
        features = jax.lax.stop_gradient(self._read(self.inner.predict(inner, batch.view(0))))
        if self.label not in batch.label:
            raise ValueError(f"the linear probe needs labels {self.label!r}, the batch has none")
        probe, accuracy = self._linear_loss(state, features, batch.label[self.label])
        metrics = metrics | {
            "with_labels/linear_probe": probe,
            "with_labels/linear_probe_accuracy": accuracy,
        }
        if self.clusters:
            cluster = cluster_loss(features, state.params["cluster_probe"]["centres"])
            probe, metrics = probe + cluster, metrics | {"cluster_probe": cluster}
        return loss + probe - jax.lax.stop_gradient(probe), (extra, metrics)

    def _linear(self, state: State, features: Array) -> Array:
        """Returns f32[B h w C]."""
        probe = state.params["linear_probe"]
        bias = probe["bias"].reshape(1, 1, 1, -1)
        return jnp.einsum("bhwd,dc->bhwc", features, probe["kernel"]) + bias

    def _linear_loss(self, state: State, features: Array, label: Array) -> tuple[Array, Array]:
        """Returns the cross entropy and the accuracy, f32[], over labelled pixels."""
        # Bilinear weights sum to 1, so that scores brought up are those of features brought up.
        shape = (*label.shape, self.classes)
        logits = jax.image.resize(self._linear(state, features), shape, "bilinear", antialias=False)
        valid = (label >= 0) & (label < self.classes)
        count = jnp.maximum(jnp.sum(valid), 1)
        target = jnp.where(valid, label, 0)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), target[..., None], -1)[..., 0]
        hits = valid & (jnp.argmax(logits, -1) == target)
        return -jnp.sum(jnp.where(valid, chosen, 0.0)) / count, jnp.sum(hits) / count

    def predict(self, state: State, image: Array) -> Output:
        """Returns the inner method's output with the probes' scores in its `aux`.

        "linear_probe" f32[B h w C], which comes from labels, on the features' cells;
        "cluster_probe" f32[B h' w' K], 2 cos with the centres, at the resolution of the inner
        method's logits where it has some, to which the features go up bilinearly.
        """
        return self._probed(state, self.inner.predict(self._of_inner(state), image))

    def predict_cells(self, state: State, image: Array) -> Output:
        """Returns `predict` without levels."""
        return self._probed(state, self.inner.predict_cells(self._of_inner(state), image))

    def _probed(self, state: State, output: Output) -> Output:
        """Returns the inner method's output with the probes' scores."""
        features = self._read(output)
        found = {"linear_probe": self._linear(state, features)}
        if self.clusters:
            grid = output.features if output.logits is None else output.logits
            shape = (*grid.shape[:3], features.shape[-1])
            fine = jax.image.resize(features, shape, "bilinear", antialias=False)
            centres = state.params["cluster_probe"]["centres"]
            found["cluster_probe"] = 2.0 * similarity(fine, centres)
        return output.replace(aux=output.aux | found)

    def encode(self, state: State, image: Array) -> Array:
        """Returns the inner method's frozen features."""
        return self.inner.encode(self._of_inner(state), image)

    def refit(self, state: State, stream: Stream, key: Array) -> State:
        """Refits the inner method; the probes stay."""
        return self._with_probes(self.inner.refit(self._of_inner(state), stream, key), state)

    def finish(self, state: State, stream: Stream, key: Array) -> State:
        """Finishes the inner method; the probes stay."""
        return self._with_probes(self.inner.finish(self._of_inner(state), stream, key), state)

    def active_groups(self, step: Array) -> dict[str, Array] | None:
        """Returns the inner method's groups; the probes move in every step."""
        return self.inner.active_groups(step)
