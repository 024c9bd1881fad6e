"""SAN's terms: images reconstructed from pixels and from their semantics, and how these differ.

The decoder F_G gives images from pixel embeddings Q and from mixes of semantics Theta. L_Rec =
|F_G(Q) - x|^2 + |F_G(Theta) - x|^2; L_Con = |Theta - Q|^2, or by another reading |F_G(Theta) -
F_G(Q)|^2. The paper says "L2" and gives no reduction: here a mean over pixels and channels.

Source: the SAN paper, eq. 6 to 9, as METHODS 7.3 reads them.
"""

import jax.numpy as jnp
from jax import Array

from jaxseg.clustering.kmeans import normalise


def squared_error(one: Array, other: Array, valid: Array) -> Array:
    """Returns f32[], the squared difference, averaged over channels and summed over valid pixels.

    `one` and `other` f[... D] of any float type, `valid` f32[...], 0 where a pixel counts nothing.
    """
    difference = one.astype(jnp.float32) - other.astype(jnp.float32)
    return (valid * (difference**2).mean(-1)).sum()


def orthogonality(semantics: Array) -> Array:
    """Returns f32[], the mean square of S S^T / P - E over semantics f32[G N P].

    0 where the semantics are orthogonal and each of mean square 1, which is the size that their
    normalisation gives them. Eq. 6 prints S^T S = E, whose sides do not fit for N < P; the division
    by P is this project's.
    """
    count, width = semantics.shape[-2:]
    gram = jnp.einsum("gnp,gmp->gnm", semantics, semantics) / width
    return ((gram - jnp.eye(count)[None]) ** 2).mean()


def cosine(semantics: Array) -> Array:
    """Returns f32[], the mean squared cosine of two different semantics of f32[G N P], N >= 2.

    The variant of `orthogonality` that leaves their lengths free.
    """
    count = semantics.shape[-2]
    unit = normalise(semantics)
    gram = jnp.einsum("gnp,gmp->gnm", unit, unit)
    others = 1.0 - jnp.eye(count)[None]
    return (others * gram**2).sum((1, 2)).mean() / (count * (count - 1))
