"""Normalised spectral clustering of a small graph with static shapes."""

import jax.numpy as jnp
from jax import Array, lax

from jaxseg.clustering.nearest import normalise
from jaxseg.clustering.small_kmeans import cosines, few_points

# The Laplacian's eigenvalues lie in [0, 2]; a missing vertex gets this one and so comes last.
_MISSING = 3.0


def affinity(points: Array, mask: Array) -> Array:
    """Returns the weights f32[P P] in [0, 1] of the graph over points f[P D]: max(cos, 0).

    Vertices that `mask` bool[P] leaves out have no edges. A point's edge to itself (1) is kept, so
    that no other vertex has degree 0. HSG leaves the affinity open; this one, which Melas-Kyriazi
    et al. 2022 use with deep features, has no temperature, and no edges so weak that single
    precision loses them beside the others, as exp(16 (cos - 1)) has.
    """
    both = mask[:, None] & mask[None, :]
    return jnp.where(both, jnp.maximum(cosines(points), 0.0), 0.0)


def merge(weights: Array, member: Array) -> Array:
    """Returns the graph f32[k k] of groups: the sums of the weights f32[P P] between their members.

    `member` f32[P k] is 1 where a vertex belongs to a group. A normalised cut of this graph has the
    value that the same cut has in the graph of the vertices.
    """
    highest = lax.Precision.HIGHEST
    return jnp.einsum("pa,pq,qb->ab", member, weights, member, precision=highest)


def ncut(weights: Array, mask: Array, k: int, rounds: int = 30) -> Array:
    """Returns labels i32[P] in 0..k-1 of vertices with a small normalised cut; -1 outside `mask`.

    `weights` f32[P P] are symmetric, at least 0, and 0 at vertices outside `mask` bool[P]. The rows
    of the k first eigenvectors of the symmetric normalised Laplacian, made unit length, are
    clustered by spherical k-means: neither the signs of the eigenvectors nor the basis of an
    eigenspace changes the result. Where more than k parts of the graph are unconnected, which of
    them go together is arbitrary. May be vmapped over images.

    Source: Ng et al. 2002, as in von Luxburg 2007, section 4; k-means is spherical here.
    """
    degree = jnp.sum(weights, axis=1)
    scale = jnp.where(degree > 0, lax.rsqrt(jnp.maximum(degree, 1e-12)), 0.0)
    diagonal = jnp.diag(jnp.where(mask, 1.0, _MISSING))
    laplacian = diagonal - scale[:, None] * weights * scale[None, :]
    _, vectors = jnp.linalg.eigh(laplacian)
    return few_points(normalise(vectors[:, :k]), mask, k, rounds)
