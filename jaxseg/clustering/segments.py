"""Segments of an image in static shapes: the grid k-means, its split by regions, a fixed number of
slots.

An image's cells are those of all its views, N = V h w of them. A segment is the cells of one view
that share a k-means label and a coherent region (it need not be connected). Segments take slots,
the largest first; a cell that is padding has slot S, one past the last.

Source: Ke et al. 2022 (HSG), section 3.1 and released code.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxseg.clustering import kmeans
from jaxseg.clustering.nearest import normalise

# Region ids are those of 16-bit PNG files, so that view, label and region fit an i32 together.
REGIONS = 1 << 16


class Segments(NamedTuple):
    """Which cell is in which segment, and what the segments are."""

    slot: Array  # i32[B V h w] in 0..S, where S means padding
    mask: Array  # bool[B S] true where the slot holds a segment
    view: Array  # i32[B S] its view; 0 in empty slots
    region: Array  # i32[B S] its coherent region; -1 in empty slots
    merged: Array  # i32[B] segments for which there was no slot


def grid_kmeans(
    features: Array, grid: tuple[int, int], rounds: int, valid: Array | None = None
) -> Array:
    """Returns the labels i32[B h w] of spherical k-means on each image, started from a grid.

    A cell is compared by its direction and its place (see `kmeans.with_location`). Labels are
    row + rows * column of the start `grid`, (rows, columns); without `rounds` they are the start.
    No gradient.

    Args:
        features: f[B h w D], of any length.
        rounds: times {centroids, assignments}.
        valid: bool[B h w]; false = moves no centroid, and its label means nothing. None: all count.
    """
    batch, height, width = features.shape[:3]
    rows, columns = grid
    start = jnp.asarray(kmeans.grid_labels(height, width, rows, columns)).reshape(-1)
    points = kmeans.with_location(lax.stop_gradient(features), kmeans.locations(height, width))
    if valid is None:
        valid = jnp.ones((batch, height, width), bool)

    def one(points: Array, valid: Array) -> Array:
        return kmeans.lloyd_from_labels(points, start, rows * columns, rounds, mask=valid)

    found = jax.vmap(one)(points.reshape(batch, height * width, -1), valid.reshape(batch, -1))
    return found.reshape(batch, height, width)


def reduce_map(regions: Array, height: int, width: int) -> Array:
    """Returns maps [... H W] at height x width cells, each the pixel at its top-left corner."""
    rows = jnp.arange(height) * regions.shape[-2] // height
    columns = jnp.arange(width) * regions.shape[-1] // width
    return regions[..., rows, :][..., columns]


def split(labels: Array, regions: Array, slots: int) -> Segments:
    """Returns the segments of views with k-means labels and coherent regions.

    Where an image has more segments than slots, the largest keep theirs, and each of the others is
    merged into the largest of the same view and region; failing that, of the same view and label;
    failing that, of the same view. The released code stops instead.

    Args:
        labels: i32[B V h w], at least 0.
        regions: i32[B V h w] below `REGIONS`; negative = padding, in no segment.
        slots: S, at least V.
    """
    return jax.vmap(lambda one, region: _split(one, region, slots))(labels, regions)


def _split(labels: Array, regions: Array, slots: int) -> Segments:
    """`split` of one image, i32[V h w]."""
    none = jnp.iinfo(jnp.int32).max
    groups = jnp.max(labels) + 1
    views = jnp.arange(labels.shape[0]).reshape(-1, 1, 1)
    part = jnp.broadcast_to(views, labels.shape) * groups + labels
    keys = jnp.where(regions < 0, none, part * REGIONS + regions).reshape(-1)
    found, inverse, counts = jnp.unique(
        keys, size=keys.size, fill_value=none, return_inverse=True, return_counts=True
    )
    counts = jnp.where(found == none, 0, counts)
    order = jnp.argsort(-counts, stable=True)
    rank = jnp.zeros_like(order).at[order].set(jnp.arange(len(order)))
    kept = jnp.full(slots, none).at[: len(order)].set(found[order[:slots]])

    def parts(key: Array) -> tuple[Array, Array, Array]:
        own = key // REGIONS
        return own // groups, own % groups, jnp.where(key == none, -1, key % REGIONS)

    (view, label, region), own = parts(kept), parts(found)
    same_view = (own[0][:, None] == view[None]) & (kept != none)[None]
    closeness = same_view * (
        1 + (own[1][:, None] == label[None]) + 2 * (own[2][:, None] == region[None])
    )
    # The first of the closest is the largest.
    slot = jnp.where(rank < slots, rank, jnp.argmax(closeness, axis=-1))
    slot = jnp.where(found == none, slots, slot).astype(jnp.int32)
    return Segments(
        slot=slot[inverse].reshape(labels.shape),
        mask=kept != none,
        view=jnp.where(kept == none, 0, view),
        region=region,
        merged=jnp.sum((found != none) & (rank >= slots)),
    )


def segments_of_views(
    features: Array,
    regions: Array | None,
    grid: tuple[int, int],
    rounds: int,
    slots: int,
) -> Segments:
    """Returns the segments of images: k-means on each view from a grid, split by regions.

    Args:
        features: f[B V h w D].
        regions: i32[B V H W], coherent regions; negative = padding.
        grid, rounds: see `grid_kmeans`; one cluster leaves the regions as they are.
        slots: see `split`.

    Raises:
        ValueError: there are no regions.
    """
    if regions is None:
        raise ValueError("the batch has no coherent regions; set data.regions")
    batch, views, height, width = features.shape[:4]
    small = reduce_map(regions, height, width)
    if grid == (1, 1):
        return split(jnp.zeros_like(small), small, slots)
    flat = features.reshape(batch * views, *features.shape[2:])
    labels = grid_kmeans(flat, grid, rounds, small.reshape(-1, height, width) >= 0)
    return split(labels.reshape(small.shape), small, slots)


def segment_sums(values: Array, slot: Array, slots: int) -> Array:
    """Returns the sums f32[B S D] of f[B ... D] over the cells of each slot i32[B ...].

    Cells of slot S are in none. Differentiable.
    """

    def one(values: Array, slot: Array) -> Array:
        return jax.ops.segment_sum(values, slot, num_segments=slots + 1)[:-1]

    batch = values.shape[0]
    flat = values.reshape(batch, -1, values.shape[-1]).astype(jnp.float32)
    return jax.vmap(one)(flat, slot.reshape(batch, -1))


def segment_directions(features: Array, slot: Array, slots: int) -> Array:
    """Returns the segments' features f32[B S D]: sums of f[B ... D], of length 1; 0 where empty."""
    return normalise(segment_sums(features, slot, slots))


def paint(values: Array, slot: Array, empty: int = -1) -> Array:
    """Returns [B h w ...], what each cell's slot i32[B h w] holds in values [B S ...].

    Cells of slot S hold `empty`.
    """
    filling = jnp.full((values.shape[0], 1, *values.shape[2:]), empty, values.dtype)
    padded = jnp.concatenate([values, filling], axis=1)
    return jax.vmap(lambda row, index: row[index])(padded, slot)


def base_segments(
    features: Array,
    size: Sequence[int],
    grid: tuple[int, int],
    rounds: int,
    valid: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Returns the segments of images by the grid k-means alone, without regions.

    The features are brought to `size` bilinearly and to length 1 before `grid_kmeans`.

    Args:
        features: f[B h w D].
        size: (height, width) of the segments' map.
        grid, rounds, valid: see `grid_kmeans`; `valid` is bool[B height width].

    Returns:
        labels i32[B height width] in 0..S - 1 with S = rows * columns of the grid, S where not
        valid; the segments' features f32[B S D] of length 1; bool[B S], false for empty ones.

    Source: Ke et al. 2022 (HSG), released test code.
    """
    shape = (features.shape[0], *size, features.shape[-1])
    unit = normalise(jax.image.resize(features, shape, "bilinear", antialias=False))
    labels, slots = grid_kmeans(unit, grid, rounds, valid), grid[0] * grid[1]
    if valid is not None:
        labels = jnp.where(valid, labels, slots)
    counts = segment_sums(jnp.ones((*labels.shape, 1)), labels, slots)[..., 0]
    return labels, segment_directions(unit, labels, slots), counts > 0
