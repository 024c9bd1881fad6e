"""HSG's hierarchy: segments -> groups -> groups of groups, a clustering transformer a level.

Each level merges the groups of the one below: a segment's probabilities follow the transitions of
the levels, P_1 = C_0 and P_{l+1} = P_l C_l (Ke et al. 2022, section 3.3).
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from jaxseg.core import PyTree
from jaxseg.models.clustering_transformer import ClusteringTransformer

Array = jax.Array


class Level(struct.PyTreeNode):
    """What a level says of S segments in its n groups; m = S at the first, then n of the last."""

    assignment: Array  # f32[B S n] P, probability of each group; 0 in slots that are padding
    logits: Array  # f32[B m n] of what the level merges, whose softmax is the transition
    centroids: Array  # f32[B n D] Z, not normalised
    attention: Array  # f32[B heads n m] of the last decoder layer, see `Groups`

    @property
    def transition(self) -> Array:
        """C, f32[B m n]: probabilities from what the level merges to its groups."""
        return nn.softmax(self.logits)

    @property
    def group(self) -> Array:
        """The likeliest group of each segment, i32[B S]; -1 in slots that are padding."""
        best = self.assignment.argmax(-1).astype(jnp.int32)
        return jnp.where(self.assignment.max(-1) > 0, best, -1)


class Hierarchy(nn.Module):
    """Groups the segments of an image into fewer and fewer groups.

    Parameters are "rows" and "columns" of the positions, f32[table D/2], and for each level i
    "level_<i>", a `ClusteringTransformer`, and "queries_<i>", f32[n D].

    Attributes:
        sizes: n of each level, fine to coarse; any number of levels.
        table: rows and columns of the position tables.
        trained: cells along a side of the feature map in training (crop / stride, 28 for crops of
            448); another map's positions are resampled, see `resample`. 0 = every map reads the
            first rows and columns, one a cell, as the released training does.
        transformer: makes a level's transformer from `next_level` and `name`:
            `ClusteringTransformer`, or a `functools.partial` of it with fields.
    """

    sizes: Sequence[int] = (8, 4)
    table: int = 50
    trained: int = 0
    transformer: Callable[..., ClusteringTransformer] = ClusteringTransformer

    @nn.compact
    def __call__(
        self, segments: Array, mask: Array, slots: Array, train: bool = False
    ) -> tuple[Level, ...]:
        """Groups the segments of each image.

        Args:
            segments: f32[B S D] features of segments, D even.
            mask: bool[B S], true = there is a segment in this slot.
            slots: i32[B V h w], the slot of each cell's segment; a cell whose number is none of
                0..S-1 belongs to none.
            train: as for `ClusteringTransformer`.

        Raises:
            ValueError: the tables are too small for the map, see `resample`.
        """
        width = segments.shape[-1]
        shape = (self.table, width // 2)
        rows, columns = (
            resample(self.param(name, nn.initializers.uniform(1.0), shape), cells, self.trained)
            for name, cells in (("rows", slots.shape[2]), ("columns", slots.shape[3]))
        )
        codes = segment_positions(slots, rows, columns, segments.shape[1])
        levels: list[Level] = []
        features, positions = segments, codes
        for i, size in enumerate(self.sizes):
            queries = self.param(f"queries_{i}", nn.initializers.normal(1.0), (size, width))
            transformer = self.transformer(next_level=i + 1 < len(self.sizes), name=f"level_{i}")
            found = transformer(features, positions, queries, None if levels else mask, train)
            transition = nn.softmax(found.logits)
            if levels:
                assignment = jnp.einsum("bsm,bmn->bsn", levels[-1].assignment, transition)
            else:
                assignment = transition * mask[..., None]
            level = Level(assignment, found.logits, found.centroids, found.attention)
            levels.append(level)
            if found.features is not None:
                features, positions = found.features, _group_positions(codes, level.group, size)
        return tuple(levels)

    @nn.nowrap
    def draw(self, key: Array, dim: int) -> tuple[PyTree, PyTree]:
        """Returns (params, stats) for features of D = `dim`: random weights, fresh statistics."""
        inputs = jnp.zeros((1, 2, dim)), jnp.ones((1, 2), bool), jnp.zeros((1, 1, 1, 1), jnp.int32)
        variables = jax.jit(self.init)(key, *inputs)
        return variables["params"], variables.get("batch_stats", {})

    @nn.nowrap
    def group(
        self,
        params: PyTree,
        stats: PyTree,
        segments: Array,
        mask: Array,
        slots: Array,
        train: bool,
        key: Array | None = None,
    ) -> tuple[tuple[Level, ...], PyTree]:
        """Returns the levels, fine to coarse, and the new statistics; see `__call__`.

        `key` is that of dropout, which only training needs.
        """
        levels, changed = self.apply(
            {"params": params, "batch_stats": stats},
            segments,
            mask,
            slots,
            train,
            mutable=["batch_stats"],
            rngs=None if key is None else {"dropout": key},
        )
        return levels, changed.get("batch_stats", {})


def resample(table: Array, cells: int, trained: int) -> Array:
    """Returns position codes f32[cells D] along one axis of a feature map, from a table f32[T D].

    Training reads the first `trained` codes, one a cell. A map of another size, which has a finer
    stride or comes from a larger image, reads between those: cell i of n is at (i + 1/2) / n of the
    side, where the training's cell j was at (j + 1/2) / trained, linearly between two cells and
    constant beyond the first and the last. So a place keeps its code, as a fraction of the view's
    side, on every grid, and no code is read that was never trained. (HSG released no inference of
    hierarchies: the tables' 50 codes do not reach over 64 cells, and only 28 of them are trained.)

    With `trained` 0 the first `cells` codes are returned. Raises ValueError where the table has
    fewer codes than are to be read.
    """
    read = trained or cells
    if read > len(table):
        raise ValueError(
            f"a feature map of {read} cells along a side needs as many positions, the table has "
            f"{len(table)}; make it larger, or say on how many cells it is `trained`"
        )
    if cells == read:
        return table[:read]
    return jax.image.resize(table[:read], (cells, table.shape[1]), "bilinear", antialias=False)


def segment_positions(slots: Array, rows: Array, columns: Array, count: int) -> Array:
    """Returns f32[B S D], the mean of [columns[x]; rows[y]] over the cells of each segment.

    Args:
        slots: i32[B V h w] in 0..S-1; other numbers are no segment's.
        rows: f32[h D/2]; columns: f32[w D/2].
        count: S. A slot without cells has zeros.

    Views have one grid: a cell's code does not tell which view it is of.
    """
    inside = slots[..., None] == jnp.arange(count).reshape(1, 1, 1, 1, -1)
    # How many cells a segment has in each row and column says all, for a code is two halves.
    by_row, by_column = (inside.sum(axes).astype(rows.dtype) for axes in ((1, 3), (1, 2)))
    size = jnp.maximum(by_row.sum(1), 1)[..., None]
    halves = [
        jnp.einsum("bis,id->bsd", by_column, columns),
        jnp.einsum("bis,id->bsd", by_row, rows),
    ]
    return jnp.concatenate(halves, -1) / size


def _group_positions(codes: Array, group: Array, count: int) -> Array:
    """Returns f32[B n D], the mean of codes f32[B S D] over segments of group i32[B S], else 0."""
    hard = nn.one_hot(group, count, dtype=codes.dtype)
    return jnp.einsum("bsn,bsd->bnd", hard, codes) / jnp.maximum(hard.sum(1), 1)[..., None]
