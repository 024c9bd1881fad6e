"""Exact nearest neighbours by dot product, in chunks, with static shapes.

Vectors of length 1 are compared by their cosine; nothing is normalised here. Products ask for full
precision, for rounded ones change ranks.
"""

import functools
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxseg.clustering.nearest import chunk_size
from jaxseg.processes import ordered, put


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
    # A divisor where there is one, or the bank would be copied; top_k needs k to choose from.
    wide = max(k, chunk_size(len(bank), k, chunk))
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


def spread(bank: np.ndarray, devices: set[jax.Device]) -> Array:
    """Returns a bank [N ...] with equal shares of its rows on each device, filled up with zeros."""
    mesh = Mesh(ordered(devices), ("data",))
    filled = np.pad(bank, [(0, -len(bank) % mesh.size)] + [(0, 0)] * (bank.ndim - 1))
    return put(filled, NamedSharding(mesh, PartitionSpec("data")))


def nearest_spread(queries: Array, bank: Array, k: int, count: int) -> tuple[Array, Array]:
    """Returns what `nearest` returns, of the first `count` rows of a bank that `spread` laid out.

    Each device searches its own share of the bank f32[N D] for all queries f32[Q D], and the k best
    of each share are compared: Q k scores and indices a device travel, and never the bank.
    """
    mesh = cast(NamedSharding, bank.sharding).mesh
    queries = put(queries, NamedSharding(mesh, PartitionSpec()))
    return _nearest_spread(queries, bank, k, mesh, jnp.asarray(count))


@functools.partial(jax.jit, static_argnames=("k", "mesh"))
def _nearest_spread(
    queries: Array, bank: Array, k: int, mesh: Mesh, count: Array
) -> tuple[Array, Array]:
    (axis,) = mesh.axis_names

    def search(queries: Array, share: Array, count: Array) -> tuple[Array, Array]:
        first = lax.axis_index(axis) * len(share)
        scores, indices = nearest(queries, share, k, mask=first + jnp.arange(len(share)) < count)
        indices = jnp.where(indices < 0, -1, first + indices)
        # Shares come in their order, so that of equal scores the smaller index stays first.
        scores, indices = (lax.all_gather(x, axis, axis=1, tiled=True) for x in (scores, indices))
        top, place = lax.top_k(scores, k)
        return top, jnp.take_along_axis(indices, place, axis=1)

    everywhere = PartitionSpec()
    return jax.shard_map(
        search,
        mesh=mesh,
        in_specs=(everywhere, PartitionSpec(axis), everywhere),
        out_specs=everywhere,
        check_vma=False,  # all devices end with the same, which JAX cannot see from a top_k
    )(queries, bank, count)


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
