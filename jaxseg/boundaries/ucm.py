"""Oriented watershed transform and ultrametric contour map (Arbelaez et al. 2011), by Higra."""

import dataclasses
import functools
from typing import Any

import higra
import numpy as np

from jaxseg.boundaries.edges import Edges


@dataclasses.dataclass(frozen=True)
class Hierarchy:
    """Regions of an image that merge as a threshold rises; made by `make_hierarchy`.

    Two neighbouring pixels are in one region at a threshold t when the contour between them is no
    stronger than t, so that the regions at a lower threshold lie within those at a higher one.

    Attributes:
        pieces: i32[H W], the finest regions, from 0 on.
        tree: Higra's binary tree of merges, whose leaves are the pieces.
        altitudes: f64[2 S - 1] in [0, 1], the threshold at which each node of the tree comes to be.
    """

    pieces: np.ndarray
    tree: Any
    altitudes: np.ndarray

    @functools.cached_property
    def _merges(self) -> np.ndarray:
        """f64[S - 1], the altitudes of the merges in rising order."""
        return np.sort(self.altitudes[self.tree.num_leaves() :])

    def count(self, threshold: float) -> int:
        """Returns how many regions there are at a threshold, in logarithmic time."""
        merged = np.searchsorted(self._merges, threshold, side="right")
        return len(self._merges) + 1 - int(merged)

    def threshold(self, limit: int) -> float:
        """Returns the lowest threshold at which there are at most `limit` regions, 1 or more."""
        left = len(self._merges) + 1 - limit
        return float(self._merges[left - 1]) if left > 0 else 0.0

    def regions(self, threshold: float) -> np.ndarray:
        """Returns the connected regions at a threshold as i32[H W], from 0 on without gaps."""
        cut = higra.labelisation_horizontal_cut_from_threshold(
            self.tree, self.altitudes, threshold, leaf_graph=None
        )
        numbers = np.unique(cut, return_inverse=True)[1].astype(np.int32)
        return numbers[self.pieces]

    @functools.cached_property
    def doubled_map(self) -> np.ndarray:
        """The ultrametric contour map f32[2H+1 2W+1] of the BSDS benchmark, "ucm2".

        Entry (2y+1, 2x+1) is pixel (y, x) and 0; between two pixels is the contour between them, at
        a corner of four the strongest that meets there, and the outer rim repeats what is next to
        it. So the components (8-neighbours) of what is at most t are the regions at t.
        """
        height, width = self.pieces.shape
        pairs = (self.pieces[:, :-1], self.pieces[:, 1:]), (self.pieces[:-1], self.pieces[1:])
        across, below = (self._contour(*pair) for pair in pairs)
        doubled = np.zeros((2 * height + 1, 2 * width + 1), np.float32)
        doubled[1::2, 2:-1:2], doubled[2:-1:2, 1::2] = across, below
        doubled[2:-1:2, 2:-1:2] = np.maximum(
            np.maximum(across[:-1], across[1:]), np.maximum(below[:, :-1], below[:, 1:])
        )
        doubled[[0, -1]] = doubled[[1, -2]]
        doubled[:, [0, -1]] = doubled[:, [1, -2]]
        return doubled

    def _contour(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Returns the altitude at which the pieces of two arrays i32[...] come together."""
        if len(self.altitudes) == 1:
            return np.zeros(one.shape, np.float32)
        node = self.tree.lowest_common_ancestor(
            one.ravel().astype(np.int64), other.ravel().astype(np.int64)
        )
        return self.altitudes[node].reshape(one.shape).astype(np.float32)


def make_hierarchy(edges: Edges) -> Hierarchy:
    """Returns the hierarchy of an image's edges.

    The strength is flooded from its minima into pieces. Each arc between two pieces is cut into
    straight segments, and a pixel's strength on it counts by the cosine of the angle between the
    segment and the pixel's own edge. Then the two pieces with the lowest mean strength along their
    common border are merged, again and again.

    Source: Arbelaez et al. 2011, section 3, as Higra's `mean_pb_hierarchy` has it: contours run
    between pixels rather than on them, an edge there is the mean of the two pixels, and there is
    one strength with one angle a pixel where the paper has eight strengths, one for each direction.

    Raises:
        ValueError: a strength is outside [0, 1] or not finite.
    """
    strength = edges.strength.astype(np.float64)
    if not (strength.min() >= 0 and strength.max() <= 1):
        raise ValueError(
            f"edges have strengths from {strength.min()} to {strength.max()}; expected [0, 1]"
        )
    graph = higra.get_4_adjacency_graph(strength.shape)
    weights = higra.weight_graph(graph, strength, higra.WeightFunction.mean)
    if not weights.any():  # also an image of one pixel; Higra merges no single piece
        return Hierarchy(np.zeros(strength.shape, np.int32), higra.Tree([0]), np.zeros(1))
    # Higra's angles are those of the gradient, across the edge.
    tree, altitudes = higra.mean_pb_hierarchy(
        graph, weights, edge_orientations=_between(graph, edges.angle) + np.pi / 2
    )
    if edges.contour is not None:
        altitudes = edges.contour(altitudes)
    pieces = higra.CptRegionAdjacencyGraph.get_vertex_map(tree.leaf_graph)
    return Hierarchy(pieces.reshape(strength.shape).astype(np.int32), tree, altitudes)


def _between(graph: Any, angle: np.ndarray) -> np.ndarray:
    """Returns the mean angle f64[edges] of the two pixels of each edge of the grid.

    Angles are of lines: just below pi and just above 0 are neighbours, so that doubled angles are
    averaged, as vectors.
    """
    x, y = (
        higra.weight_graph(graph, part(2 * angle.astype(np.float64)), higra.WeightFunction.mean)
        for part in (np.cos, np.sin)
    )
    return np.mod(np.arctan2(y, x) / 2, np.pi)
