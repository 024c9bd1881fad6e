"""FINCH with static shapes: groups of points linked by their first neighbours.

Points are given as sums f32[P D], each over what it stands for; sums are compared by their cosine,
which is that of the means. A group lives on in the slot of its first point; the other slots are
dead. Sums over members are matrix products, for a scatter adds in no fixed order on a GPU.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxseg.clustering.nearest import normalise
from jaxseg.clustering.small_kmeans import cosines


class _Groups(NamedTuple):
    slot: Array  # i32[P] the slot of each point's group
    sums: Array  # f32[P D] of each group, by slot
    alive: Array  # bool[P] slots that hold a group

    @property
    def total(self) -> Array:
        return jnp.sum(self.alive)


def finch(sums: Array, mask: Array, k: int) -> Array:
    """Returns labels i32[P] of at most k groups, numbered by their first points; -1 outside `mask`.

    Partitions by first neighbours follow one another as long as they keep k groups or more; then
    the pair of groups with the closest means is merged until k are left. Fewer points than k
    stay apart. May be vmapped over images.

    Source: Sarfraz et al. 2019, algorithms 1 and 2, metric cosine. Departure: where the first
    partition has fewer than k groups already, pairs of points are merged, in the place of an error.
    """
    groups = _merge_pairs(_merge_neighbours(_Groups(jnp.arange(len(sums)), sums, mask), k), k)
    number = jnp.cumsum(groups.alive) - 1
    return jnp.where(mask, number[groups.slot], -1).astype(jnp.int32)


def partition(sums: Array, mask: Array) -> Array:
    """Returns FINCH's next partition, i32[P]: the first point of the group that a point is in.

    Two points are linked where one is the other's first neighbour or both have the same; groups are
    the connected components. Points outside `mask` bool[P] stay alone. Ties of neighbours go to the
    smaller index.
    """
    points = jnp.arange(len(sums))
    other = mask[:, None] & mask[None, :] & (points[:, None] != points[None, :])
    similarity = jnp.where(other, cosines(sums), -jnp.inf)
    neighbour = jnp.where(jnp.any(other, axis=1), jnp.argmax(similarity, axis=1), points)
    return components(neighbour)


def components(link: Array) -> Array:
    """Returns the smallest index in the component of each of P points linked to `link` i32[P].

    A link holds in both directions, so that points with the same link are in one component.
    """

    def spread(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        label, _ = carry
        lower = jnp.minimum(label, label[link])
        lower = lower.at[link].min(lower)
        lower = lower[lower]  # a label is a point of the component: jump to that point's label
        return lower, jnp.any(lower != label)

    start = (jnp.arange(len(link)), jnp.array(True))
    return lax.while_loop(lambda carry: carry[1], spread, start)[0]


def _merge_neighbours(groups: _Groups, k: int) -> _Groups:
    """Takes one partition after another that leaves k groups or more."""

    def step(carry: tuple[_Groups, Array]) -> tuple[_Groups, Array]:
        before, _ = carry
        root = partition(before.sums, before.alive)
        slots = jnp.arange(len(root))
        member = (root[:, None] == slots[None, :]) & before.alive[:, None]
        sums = jnp.einsum(
            "pr,pd->rd", member.astype(jnp.float32), before.sums, precision=lax.Precision.HIGHEST
        )
        after = _Groups(root[before.slot], sums, before.alive & (root == slots))
        more = (after.total >= k) & (after.total < before.total)
        return jax.tree.map(lambda new, old: jnp.where(more, new, old), after, before), more

    return lax.while_loop(lambda carry: carry[1], step, (groups, jnp.array(True)))[0]


def _merge_pairs(groups: _Groups, k: int) -> _Groups:
    """Merges the two groups with the closest means until no more than k are left."""
    size = len(groups.slot)

    def step(carry: tuple[_Groups, Array]) -> tuple[_Groups, Array]:
        (slot, sums, alive), similarity = carry
        pairs = jnp.triu(alive[:, None] & alive[None, :], k=1)
        closest = jnp.argmax(jnp.where(pairs, similarity, -jnp.inf))
        first, second = closest // size, closest % size
        sums = sums.at[first].add(sums[second])
        mean = normalise(sums)
        row = jnp.einsum("pd,d->p", mean, mean[first], precision=lax.Precision.HIGHEST)
        similarity = similarity.at[first].set(row).at[:, first].set(row)
        merged = _Groups(jnp.where(slot == second, first, slot), sums, alive.at[second].set(False))
        return merged, similarity

    start = (groups, cosines(groups.sums))
    return lax.while_loop(lambda carry: carry[0].total > k, step, start)[0]
