"""Contrast between pixels and segments, over all segments of a global batch.

Features are unit vectors, and similarities are dot products times `kappa`, the inverse of the
temperature (16 in HSG and SegSort). Cells are those of an image, with all its views; slots as in
`clustering.segments`. Everything is a log-sum-exp over a masked set: the difference of two sums, as
in the released code, cancels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxseg.clustering.nearest import normalise
from jaxseg.clustering.segments import paint

_CHUNK = 64  # cells of each image that are compared with all segments at a time


class Compared(NamedTuple):
    """The cells of images and the segments of a batch, which they are contrasted with."""

    features: Array  # f[B N D] of each cell, of length 1
    slot: Array  # i32[B N] each cell's segment, S for none
    segments: Array  # f[B S D], of length 1
    mask: Array  # bool[B S], false = an empty slot

    def cast(self, dtype: str) -> "Compared":
        """Returns the same with features and segments of another type."""
        features, segments = self.features.astype(dtype), self.segments.astype(dtype)
        return self._replace(features=features, segments=segments)


def hierarchical_contrast(
    compared: Compared,
    groupings: Sequence[Array],
    kappa: float,
    dtype: str = "float32",
    chunk: int = _CHUNK,
) -> tuple[Array, ...]:
    """Returns the pixel-to-segment contrast f32[] under each of several groupings of the segments.

    Of a cell in segment s, the positives are the other segments of the same group, in whatever view
    of the image; where there is none, s itself. The negatives are the segments of other groups and
    of all other images: -log(positives / (positives + negatives)), the mean over all cells that are
    in a segment. Gradients pass through cells and segments.

    All groupings share the one comparison of cells with all segments, for apart from s itself
    positives and negatives together are always everything. It is done in chunks, and again in the
    backward pass, so that B * chunk * B * S similarities exist at once.

    Args:
        groupings: i32[B S] each, groups of an image's segments.
        kappa: the inverse of the temperature.
        dtype: "float32" or "bfloat16", of what is multiplied; sums are float32.
        chunk: cells of each image that are compared at a time.

    Source: Ke et al. 2022 (HSG), eq. 3 and released code, which has the fallback where a cell has
    no positives; the paper leaves it undefined. The mean is the code's, where the paper has a sum.
    """
    compared = compared.cast(dtype)
    own, others = _own_and_others(compared, kappa, chunk)
    features, slot, segments, mask = compared
    near = kappa * jnp.einsum(
        "bnd,bsd->bns", features, segments, preferred_element_type=jnp.float32
    )
    inside = slot < mask.shape[1]
    index = jnp.arange(mask.shape[1]).reshape(1, 1, -1)
    other = mask[:, None] & (slot[:, :, None] != index)
    losses = []
    for groups in groupings:
        group = paint(groups, slot)
        positive = other & (group[:, :, None] == groups[:, None])
        some = jnp.any(positive, axis=-1)
        together = _logsumexp(near, positive)
        numerator = jnp.where(some, together, own)
        denominator = jnp.where(some, others, jnp.logaddexp(own, others))
        losses.append(jnp.mean(denominator - numerator, where=inside))
    return tuple(losses)


def segment_contrast(
    compared: Compared,
    kappa: float,
    dtype: str = "float32",
    chunk: int = _CHUNK,
) -> Array:
    """Returns f32[], the contrast of each cell's own segment with all others of the batch.

    -log(own / all), the mean over cells in a segment. Arguments as in `hierarchical_contrast`.

    Source: Hwang et al. 2019 (SegSort), the unsupervised form.
    """
    own, others = _own_and_others(compared.cast(dtype), kappa, chunk)
    inside = compared.slot < compared.mask.shape[1]
    return jnp.mean(jnp.logaddexp(own, others) - own, where=inside)


def separation(centroids: Array, kappa: float) -> Array:
    """Returns f32[], how close centroids f[B n D] lie to each other, over the whole batch.

    The mean of -log(exp(kappa) / sum_j exp(kappa z_k z_j)) over all B * n, of length 1.

    Source: Ke et al. 2022 (HSG), eq. 8, with the released code's temperature and batch.
    """
    z = normalise(centroids.reshape(-1, centroids.shape[-1]).astype(jnp.float32))
    similarity = kappa * jnp.einsum("kd,jd->kj", z, z)
    return jnp.mean(jax.nn.logsumexp(similarity, axis=-1) - jnp.diagonal(similarity))


def _own_and_others(compared: Compared, kappa: float, chunk: int) -> tuple[Array, Array]:
    """Returns f32[B N]: similarity to the own segment; log-sum-exp of that to all others.

    Both mean nothing for cells in no segment.
    """
    features, slot, segments, mask = compared
    batch, count, dim = features.shape
    slots = mask.shape[1]
    chunks = -(-count // chunk)
    missing = chunks * chunk - count
    # Chunks are cut from every image, so that a batch on several devices stays where it is.
    cells = jnp.pad(features, ((0, 0), (0, missing), (0, 0))).reshape(batch, chunks, chunk, dim)
    owner = jnp.arange(batch)[:, None] * slots + jnp.minimum(slot, slots - 1)
    owner = jnp.pad(owner, ((0, 0), (0, missing))).reshape(batch, chunks, chunk)
    every, real = segments.reshape(-1, dim), mask.reshape(-1)

    @jax.checkpoint
    def compare(some: tuple[Array, Array]) -> tuple[Array, Array]:
        cells, owner = some
        similarity = kappa * jnp.einsum(
            "bcd,sd->bcs", cells, every, preferred_element_type=jnp.float32
        )
        index = jnp.arange(len(every)).reshape(1, 1, -1)
        other = real.reshape(1, 1, -1) & (owner[:, :, None] != index)
        own = jnp.take_along_axis(similarity, owner[:, :, None], axis=-1)[..., 0]
        return own, _logsumexp(similarity, other)

    found = lax.map(compare, (jnp.swapaxes(cells, 0, 1), jnp.swapaxes(owner, 0, 1)))
    own, others = (jnp.swapaxes(x, 0, 1).reshape(batch, -1)[:, :count] for x in found)
    return own, others


def _logsumexp(x: Array, where: Array) -> Array:
    """Returns the log-sum-exp over the last axis; a large negative number for an empty set.

    Not minus infinity, whose gradient is nan.
    """
    return jax.nn.logsumexp(jnp.where(where, x, -1e9), axis=-1)
