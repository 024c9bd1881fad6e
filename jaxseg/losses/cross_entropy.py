"""Cross entropy with weights for classes and labels that do not count."""

import jax
import jax.numpy as jnp
from jax import Array

WEIGHTINGS = ("proportional", "inverse", "none")


def class_weights(share: Array, weighting: str) -> Array | None:
    """Returns the weights f32[K] of classes with a share f32[K] of all points, as WEIGHTINGS name.

    "inverse" gives 0 to a class without points; "none" is None.
    """
    if weighting == "none":
        return None
    if weighting == "inverse":
        return jnp.where(share > 0, 1 / jnp.maximum(share, 1e-9), 0.0)
    return share


def cross_entropy(scores: Array, labels: Array, weights: Array | None = None) -> Array:
    """Returns the weighted mean f32[] of -log softmax(scores)[label], as torch defines it.

    `scores` f32[... K], `labels` i32[...] where -1 does not count, `weights` f32[K] of the classes
    (None: all 1): sum of w_label * loss over sum of w_label. 0 where no weight is left.

    Raises ValueError where the shapes do not fit.
    """
    if scores.shape[:-1] != labels.shape:
        raise ValueError(f"scores {scores.shape} and labels {labels.shape} do not fit")
    known = jnp.maximum(labels, 0)
    loss = -jnp.take_along_axis(jax.nn.log_softmax(scores), known[..., None], axis=-1)[..., 0]
    weight = (labels >= 0).astype(scores.dtype)
    if weights is not None:
        weight = weight * weights[known]
    return jnp.sum(weight * loss) / jnp.maximum(jnp.sum(weight), 1e-12)
