"""Gaussian filtering of scattered points on the permutohedral lattice, in static shapes.

The lattice cuts feature space into simplices. A point gives its value to the d + 1 vertices of its
simplex (splat), neighbouring vertices are mixed along d + 1 directions (blur), and the point reads
its vertices again (slice): a Gaussian filter of unit standard deviation in O(points), whatever the
sigma. Only vertices that some point touches exist; what would flow through others is lost. All is
sorts, searches, gathers and segment sums, so that it runs on any device.

Source: Adams, Baek & Davis 2010; the rules for ties and missing vertices are those of the released
dense CRF of Krähenbühl & Koltun 2011.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array, lax

from jaxseg.core import UserError

_NOWHERE = np.uint32(2**32 - 1)  # the code of what is no vertex


class Simplices(struct.PyTreeNode):
    """Where points lie, and the vertices around them in the order of their codes.

    The first `count` rows of the table of vertices are filled; there are (d + 1) N + 1.
    """

    corner: Array  # i32[d+1 N] the rows of a point's vertices; `count` where it is not valid
    weight: Array  # f32[d+1 N] barycentric: positive but for rounding, the sum is 1; 0 if not valid
    codes: Array  # u32[rows] a number for each vertex
    vertices: Array  # i32[rows d] the first d of a vertex's d + 1 lattice coordinates
    count: Array  # i32[]


class Lattice(struct.PyTreeNode):
    """A filter whose vertices are the rows of a table, of which the last is always empty."""

    corner: Array  # i32[d+1 N]
    weight: Array  # f32[d+1 N]
    neighbours: Array  # i32[d+1 2 rows] along each direction; the last row where there is none


def code_strides(extent: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Returns how vertices near the box [0, extent] are numbered: (lowest digits, strides), d each.

    A vertex has d + 1 coordinates that sum to 0 and leave the same remainder r when divided by
    d + 1. Coordinate j is far from 0 only through features j - 1 and above, of which the later
    coordinates already tell; digit j is what remains, and its range is that of feature j - 1 alone.
    Together with r the digits make a number below 2^32 - 1, the code. The first features are the
    most significant, so that rows that are near each other in them are near in memory.

    Raises UserError where there are more vertices than numbers.
    """
    d = len(extent)
    low, sizes = [], []
    for j in range(1, d + 1):
        # A vertex of a point's simplex, or a neighbour of one, is off the point by at most 2 d in a
        # coordinate and by (d + 1)^2 / 4 + d in the sum of any of them; 1 is for rounding.
        slack = 2 * d + ((d + 1) ** 2 // 4 + d) / (j + 1) + 1
        reach = j * _scales(d)[j - 1] * extent[j - 1]
        low.append(math.floor((-reach - slack - d) / (d + 1)) - 1)
        sizes.append(math.ceil(slack / (d + 1)) - low[-1] + 1)
    if math.prod(sizes) * (d + 1) >= _NOWHERE:
        raise UserError(
            f"a box of {', '.join(f'{side:.4g}' for side in extent)} standard deviations holds too "
            "many lattice vertices to be numbered in 32 bits; use larger sigmas or smaller images"
        )
    strides = [(d + 1) * math.prod(sizes[j + 1 :]) for j in range(d)]
    return np.asarray(low, np.int32), np.asarray(strides, np.uint32)


def locate(features: Array, extent: Sequence[float], valid: Array) -> Simplices:
    """Returns the simplices around points `features` f32[N d], in units of the standard deviation.

    `extent` holds an upper bound of each feature; the lower is 0. Points that are not `valid`
    bool[N] touch no vertex. Raises UserError as `code_strides` does.
    """
    points, d = features.shape
    vertex, weight = _enclose(features)
    code = jnp.where(valid[:, None], _encode(vertex, extent), _NOWHERE).reshape(-1)
    # A sort of codes alone and a search are several times as fast as a sort that carries along
    # where each code came from.
    ordered = jnp.sort(code)
    first = jnp.concatenate([jnp.ones(1, bool), ordered[1:] != ordered[:-1]])
    first = first & (ordered != _NOWHERE)
    count = jnp.cumsum(first, dtype=jnp.int32)
    size = code.size + 1
    row = jnp.where(first, count - 1, size)
    codes = jnp.full(size, _NOWHERE).at[row].set(ordered, mode="drop")
    corner = _find(codes, code)
    # Any of the points at a vertex tells where it is: they agree.
    vertices = jnp.zeros((size, d), jnp.int32).at[corner].set(vertex.reshape(-1, d))
    weight = jnp.where(valid[:, None], weight, 0.0)
    return Simplices(corner.reshape(points, d + 1).T, weight.T, codes, vertices, count[-1])


def connect(simplices: Simplices, extent: Sequence[float], rows: int) -> Lattice:
    """Returns the filter in a table of `rows`, which must be above `simplices.count`."""
    d = len(extent)
    codes, vertices = simplices.codes[:rows], simplices.vertices[:rows]

    def find_neighbours(_: None, step: Array) -> tuple[None, Array]:
        code = _encode(vertices + step[None], extent)
        ahead = _find(codes, code)
        there = (codes[ahead] == code) & (codes != _NOWHERE)
        behind = jnp.full(rows, rows - 1, jnp.int32)
        own = jnp.arange(rows, dtype=jnp.int32)
        behind = behind.at[jnp.where(there, ahead, rows)].set(own, mode="drop")
        return None, jnp.stack([jnp.where(there, ahead, rows - 1), behind])

    # The vectors to the neighbours: 1 along each coordinate but one, and what makes the sum 0.
    steps = 1 - (d + 1) * np.eye(d + 1, d, dtype=np.int32)
    _, neighbours = lax.scan(find_neighbours, None, jnp.asarray(steps))
    return Lattice(simplices.corner, simplices.weight, neighbours)


def smooth(lattice: Lattice, values: Array) -> Array:
    """Returns the values f32[N K] filtered, up to a constant factor.

    The kernel is symmetric but for what missing vertices lose, which depends on the order of the
    directions. K is best a multiple of 8: a row is what is moved at once.
    """

    # Scans, not unrolled loops: XLA would fuse each pass into the three uses of its result in the
    # next and compute it anew for each.
    def splat(vertices: Array, corner: tuple[Array, Array]) -> tuple[Array, None]:
        rows, weight = corner
        parts = weight[:, None] * values
        return vertices.at[rows].add(parts, mode="promise_in_bounds"), None

    def blur(vertices: Array, neighbours: Array) -> tuple[Array, None]:
        ahead, behind = (_rows(vertices, rows) for rows in neighbours)
        return vertices + 0.5 * (ahead + behind), None

    vertices = jnp.zeros((lattice.neighbours.shape[-1], values.shape[1]), values.dtype)
    vertices, _ = lax.scan(splat, vertices, (lattice.corner, lattice.weight))
    vertices, _ = lax.scan(blur, vertices, lattice.neighbours)
    corners = zip(lattice.corner, lattice.weight, strict=True)
    return sum(weight[:, None] * _rows(vertices, rows) for rows, weight in corners)


def _scales(d: int) -> np.ndarray:
    """Returns by what each feature is scaled, so that the blur's standard deviation is 1."""
    i = np.arange(1, d + 1)
    return np.asarray(math.sqrt(2 / 3) * (d + 1) / np.sqrt(i * (i + 1)), np.float32)


def _enclose(features: Array) -> tuple[Array, Array]:
    """Returns the vertices i32[N d+1 d] around points f32[N d], and their weights f32[N d+1]."""
    d = features.shape[1]
    scaled = features * _scales(d)[None]
    # Of the d + 1 coordinates, coordinate j is the sum of the features from j on minus j times
    # feature j - 1.
    later = jnp.cumsum(scaled[:, ::-1], axis=1)[:, ::-1]
    own = scaled * np.arange(1, d + 1, dtype=np.float32)[None]
    position = jnp.pad(later, ((0, 0), (0, 1))) - jnp.pad(own, ((0, 0), (1, 0)))
    nearest = jnp.round(position / (d + 1))
    excess = jnp.sum(nearest, axis=1, keepdims=True).astype(jnp.int32)
    rest = position - nearest * (d + 1)
    # The rank of a coordinate: how many rests are larger; of equal ones the earlier counts.
    earlier = np.tri(d + 1, k=-1, dtype=bool)[None]
    this, other = rest[:, :, None], rest[:, None, :]
    rank = jnp.sum((other > this) | ((other == this) & earlier), axis=2, dtype=jnp.int32) + excess
    # Back into the plane where the coordinates sum to 0.
    turn = (rank < 0).astype(jnp.int32) - (rank > d).astype(jnp.int32)
    rank, origin = rank + turn * (d + 1), (nearest.astype(jnp.int32) + turn) * (d + 1)
    rest = (position - origin) / (d + 1)
    backwards = np.arange(d + 1)[::-1]
    at_rank = rank[:, None, :] == backwards[None, :, None]
    by_rank = jnp.sum(jnp.where(at_rank, rest[:, None, :], 0.0), axis=2)  # the last rank first
    weight = by_rank - jnp.roll(by_rank, 1, axis=1) + np.eye(1, d + 1, dtype=np.float32)
    # Vertex m adds m to each coordinate, and takes d + 1 off those of the last m ranks.
    m = np.arange(d + 1)[None, :, None]
    vertex = origin[:, None] + m - (d + 1) * (rank[:, None] > d - m)
    return vertex[..., :d], weight


def _encode(vertex: Array, extent: Sequence[float]) -> Array:
    """Returns the codes u32[...] of vertices i32[... d]; see code_strides."""
    d = vertex.shape[-1]
    low, strides = code_strides(extent)
    # The coordinates 1 .. d, from the last; what the first d are is given, and all sum to 0.
    last = -jnp.sum(vertex, axis=-1)
    remainder = last % (d + 1)
    code = remainder.astype(jnp.uint32)
    total = jnp.zeros_like(last)
    for j in range(d, 0, -1):
        coordinate = last if j == d else vertex[..., j]
        digit = (coordinate - remainder) // (d + 1) + total // ((j + 1) * (d + 1)) - low[j - 1]
        code = code + digit.astype(jnp.uint32) * strides[j - 1]
        total = total + coordinate
    return code


def _find(codes: Array, code: Array) -> Array:
    """Returns the rows i32[...] of codes in the ordered table; the next row where one is not."""
    return jnp.minimum(jnp.searchsorted(codes, code), len(codes) - 1).astype(jnp.int32)


def _rows(values: Array, index: Array) -> Array:
    return values.at[index].get(mode="promise_in_bounds")
