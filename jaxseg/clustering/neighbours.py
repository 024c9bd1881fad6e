"""Exact nearest neighbours by dot product, in chunks, with static shapes.

Vectors of length 1 are compared by their cosine; nothing is normalised here. Products ask for full
precision, for rounded ones change ranks.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax


@functools.partial(jax.jit, static_argnames=("k", "chunk"))
def nearest(
    queries: Array,
    bank: Array,
    k: int,
    chunk: int = 4096,
    mask: Array | None = None,
    own: Array | None = None,
) -> tuple[Array, Array]:
    """Returns the k members of the bank with the highest dot product with each query.

    No more than chunk^2 products exist at once (64 MiB at the default), for the bank is read in
    chunks that merge into a running top k. No gradient.

    Args:
        queries: f32[Q D]; bank: f32[N D]; finite.
        mask: bool[N], which members count; default: all.
        own: i32[Q], a member that each query does not find, such as itself; -1 = none.

    Returns:
        (scores f32[Q k], indices i32[Q k]), from the highest score down; of equal scores the
        smaller index comes first. Where fewer than k members count, the score is -inf and the
        index -1.

    Raises:
        ValueError: k or chunk below 1, or D differs.
    """
    if k < 1 or chunk < 1 or queries.shape[1] != bank.shape[1]:
        raise ValueError(
            f"k={k}, chunk={chunk}, queries {queries.shape} and bank {bank.shape}: k and chunk "
            "must be at least 1 and the vectors of one width"
        )
    queries, bank = (lax.stop_gradient(x).astype(jnp.float32) for x in (queries, bank))
    mask = jnp.ones(len(bank), bool) if mask is None else mask
    own = jnp.full(len(queries), -1, jnp.int32) if own is None else own.astype(jnp.int32)
    wide = max(k, min(chunk, len(bank)))  # top_k needs k products to choose from
    blocks, alive = _blocks(bank, wide), _blocks(mask, wide)
    starts = jnp.arange(len(blocks), dtype=jnp.int32) * wide

    def search(some: tuple[Array, Array]) -> tuple[Array, Array]:
        rows, excluded = some

        def merge(best: tuple[Array, Array], block: tuple[Array, Array, Array]) -> tuple:
            vectors, counts, start = block
            indices = start + jnp.arange(wide, dtype=jnp.int32)
            scores = jnp.matmul(rows, vectors.T, precision=lax.Precision.HIGHEST)
            allowed = counts[None] & (indices[None] != excluded[:, None])
            top, place = lax.top_k(jnp.where(allowed, scores, -jnp.inf), k)
            # Those found before have the smaller indices, and top_k prefers what comes first.
            scores = jnp.concatenate([best[0], top], axis=1)
            indices = jnp.concatenate([best[1], jnp.take(indices, place)], axis=1)
            top, place = lax.top_k(scores, k)
            return (top, jnp.take_along_axis(indices, place, axis=1)), None

        none = jnp.full((len(rows), k), -jnp.inf), jnp.full((len(rows), k), -1, jnp.int32)
        (scores, indices), _ = lax.scan(merge, none, (blocks, alive, starts))
        return scores, jnp.where(scores == -jnp.inf, -1, indices)

    high = max(1, min(chunk, len(queries)))
    found = lax.map(search, (_blocks(queries, high), _blocks(own, high)))
    scores, indices = (x.reshape(-1, k)[: len(queries)] for x in found)
    return scores, indices


def _blocks(array: Array, chunk: int) -> Array:
    """Returns [N ...] as [ceil(N / chunk) chunk ...], filled up with zeros."""
    missing = -len(array) % chunk
    padded = jnp.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))
    return padded.reshape(-1, chunk, *array.shape[1:])


def partners(features: np.ndarray, count: int = 7, chunk: int = 4096) -> np.ndarray:
    """Returns the `count` nearest other images of each image, nearest first, i32[N count].

    `features` f32[N D] are the mean features of the images, of length 1. STEGO draws an image's
    partner from ranks 1 to 7 of its neighbours and takes rank 0 for the image itself. Here the
    image is left out by its index: where another image has equal features, the released code may
    leave out that one and give the image as its own partner.

    Raises ValueError unless 1 <= count < N.

    Source: Hamilton et al. 2022 (STEGO), section 4, and released code.
    """
    total = len(features)
    if not 1 <= count < total:
        raise ValueError(f"{count} partners of {total} images; each has {total - 1} others")
    itself = np.arange(total, dtype=np.int32)
    return np.asarray(nearest(features, features, count, chunk, own=itself)[1])
