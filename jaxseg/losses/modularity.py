"""How good a grouping of an image's segments is: modularity, and evenness of the groups.

Segments are f[B S D] of length 1 with a mask bool[B S]; an assignment is P f[B S n], the share of
each segment in each group, 0 in empty slots. Losses are f32[], means over the images.

Source: Ke et al. 2022 (HSG), section 3.3 and released code.
"""

import jax.numpy as jnp
from jax import Array, lax

COUNTS = ("valid", "padded")


def nearest_graph(
    segments: Array, mask: Array, neighbours: int, view: Array | None = None, views: int = 1
) -> Array:
    """Returns the graph f32[B S S] of nearest segments: 1 from each to its nearest others, else 0.

    Directed, without loops, and without gradient. All that tie with the last of the nearest are
    neighbours too, as in the released code.

    Args:
        neighbours: how many nearest, of at least 1; with `view` as many in each view.
        view: i32[B S] in 0..views - 1; None: all views together.
        views: V, how many views there are.
    """
    segments = lax.stop_gradient(segments).astype(jnp.float32)
    similarity = jnp.einsum("bsd,btd->bst", segments, segments, precision=lax.Precision.HIGHEST)
    allowed = mask[:, :, None] & mask[:, None, :] & ~jnp.eye(mask.shape[1], dtype=bool)[None]
    graph = jnp.zeros_like(allowed)
    for one in range(views):
        candidates = allowed if view is None else allowed & (view == one)[:, None, :]
        found = jnp.where(candidates, similarity, -jnp.inf)
        last = _kth_largest(found, min(neighbours, found.shape[-1]))
        graph |= candidates & (similarity >= last)
    return graph.astype(jnp.float32)


def _kth_largest(x: Array, k: int) -> Array:
    """Returns the k-th largest of the last axis, ties counted one by one, f32[... 1].

    On a CPU XLA's top_k of more than two axes sorts all of them, which takes 20 times as long as
    the few passes that a small k needs.
    """

    def lower(_: Array, last: Array) -> Array:
        below = jnp.max(jnp.where(x < last, x, -jnp.inf), axis=-1, keepdims=True)
        return jnp.where(jnp.sum(x >= last, axis=-1, keepdims=True) < k, below, last)

    return lax.fori_loop(1, k, lower, jnp.max(x, axis=-1, keepdims=True))


def modularity_loss(graph: Array, assignment: Array) -> Array:
    """Returns 1 - tr(Pᵀ (A - d dᵀ / z) P) / z, with d = A 1 and z = 2 sum(A), for graph A.

    As A is directed and z twice the number of its edges, everything in one group gives 0.75, where
    textbook modularity (of a symmetric A) would give 1. An image without any edge gives 1.

    Args:
        graph: f32[B S S]; assignment: P f32[B S n].
    """
    degree = jnp.sum(graph, axis=-1)
    total = 2 * jnp.sum(degree, axis=-1)
    inside = jnp.sum(jnp.einsum("bst,btn->bsn", graph, assignment) * assignment, axis=(1, 2))
    expected = jnp.sum(jnp.einsum("bs,bsn->bn", degree, assignment) ** 2, axis=-1)
    total = jnp.maximum(total, 1.0)
    return jnp.mean(1 - (inside - expected / total) / total)


def collapse_loss(assignment: Array, mask: Array, count: str = "valid") -> Array:
    """Returns sqrt(n) / n0 * |Pᵀ 1|, which is 1 for groups of equal size and sqrt(n) for one group.

    The paper subtracts 1, which changes no gradient.

    Args:
        assignment: P f32[B S n].
        count: n0, "valid" segments of the image, or "padded": all slots, as in the released code.
    """
    sizes = jnp.linalg.norm(jnp.sum(assignment, axis=1), axis=-1)
    if count == "padded":
        number = jnp.full(len(mask), float(mask.shape[1]))
    else:
        number = jnp.maximum(jnp.sum(mask, axis=-1).astype(jnp.float32), 1.0)
    return jnp.mean(assignment.shape[-1] ** 0.5 / number * sizes)
