"""The supervised ceiling: the network of PiCIE, IIC and MDC trained with labels.

IT READS LABELS in training, all of them, so that its scores are no result of learning without them:
evaluate it with `evals.NAME.matching="identity"`, which marks them. It also fine-tunes what another
run has learned without labels: `train.init_from` that run, `train.init_groups=("backbone", "fpn",
"extra")`, the last for BatchNorm's statistics.

Source: Cho et al. 2021 (PiCIE), supplement (a learning rate of 1e-3); the views are those of the
data section, for the paper names none.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg.core import Array, Batch, Method, Output, PyTree, State
from jaxseg.losses.cross_entropy import cross_entropy
from jaxseg.models.fpn import FORMS, RESNETS, BackboneFPN
from jaxseg.views import colour


@dataclasses.dataclass(frozen=True)
class Supervised(Method):
    """Cross entropy of a linear classifier on the features, with the labels of the training split.

    Attributes:
        classes: C, of the labels; label: which label map.
        backbone: one of `models.fpn.RESNETS`; dim: D, features of a cell; fpn: "code" or "paper",
            see `PanopticFPN`.
        frozen_features: learn the classifier alone, on the features as they are (a linear probe).
        dtype: "float32" or "bfloat16", of the network's computation.
    """

    classes: int
    label: str = "class"
    backbone: str = "resnet18"
    dim: int = 128
    fpn: str = "code"
    frozen_features: bool = False
    dtype: str = "float32"

    reads_labels: ClassVar[bool] = True
    choices: ClassVar[dict[str, tuple[str, ...]]] = {
        "backbone": RESNETS,
        "fpn": FORMS,
        "dtype": ("float32", "bfloat16"),
    }
    lowest: ClassVar[dict[str, int]] = {"classes": 1, "dim": 1}

    @property
    def _net(self) -> BackboneFPN:
        return BackboneFPN(self.backbone, self.dim, self.fpn, self.dtype)

    def init(self, key: Array, spec: Batch) -> State:
        """Returns fresh groups "backbone", "fpn" and "head"."""
        del spec
        key_net, key_head = jax.random.split(key)
        params, extra = self._net.init(key_net)
        kernel = 0.01 * jax.random.normal(key_head, (self.dim, self.classes))
        params["head"] = {"kernel": kernel, "bias": jnp.zeros(self.classes)}
        return State(step=jnp.zeros((), jnp.int32), params=params, extra=extra, frozen={})

    def loss(
        self, state: State, batch: Batch, key: Array
    ) -> tuple[Array, tuple[PyTree, dict[str, Array]]]:
        """Returns the loss on the first view, at the labels' resolution, and its accuracy.

        Raises:
            ValueError: the batch has no such labels.
        """
        del key
        if self.label not in batch.label:
            raise ValueError(f"the batch has no labels {self.label!r}, only {sorted(batch.label)}")
        labels = batch.label[self.label]
        unit = colour.to_unit(batch.first_view)
        train = not self.frozen_features
        features, extra = self._net.features(state.params, state.extra, unit, train)
        if self.frozen_features:
            features = jax.lax.stop_gradient(features)
        scores = self._scores(state, features)
        shape = (*labels.shape, self.classes)
        scores = jax.image.resize(scores, shape, "bilinear", antialias=False)
        right = (scores.argmax(-1) == labels).sum() / jnp.maximum((labels >= 0).sum(), 1)
        return cross_entropy(scores, labels), (extra, {"accuracy": right})

    def _scores(self, state: State, features: Array) -> Array:
        head = state.params["head"]
        bias = head["bias"].reshape(1, 1, 1, -1)
        return jnp.einsum("bhwd,dc->bhwc", features, head["kernel"]) + bias

    def active_groups(self, step: Array) -> dict[str, Array] | None:
        """Moves the classifier alone where the features are frozen, weight decay included."""
        del step
        still = jnp.bool_(False)
        return {"backbone": still, "fpn": still} if self.frozen_features else None

    def predict(self, state: State, image: Array) -> Output:
        """Returns the features and the classes' scores as logits, f32[B h w C]."""
        found, _ = self._net.features(state.params, state.extra, colour.to_unit(image), False)
        return Output(features=found, logits=self._scores(state, found))
