"""What every edge detector returns: how strong an edge each pixel has, and which way it runs.

A detector is a function of an image u8[H W 3] in RGB that returns `Edges`.
"""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
import scipy.ndimage

# Half the width, in pixels, of the triangle filter before derivatives are taken (METHODS 3.7).
_RADIUS = 4
# Of non-maximum suppression, as the toolbox sets them for its benchmark: how much a neighbour must
# be stronger, and how many pixels at the border fade, where detectors answer to the padding.
_LENIENCE, _BORDER = 1.01, 5
_TRIANGLE = np.bartlett(2 * _RADIUS + 3)[1:-1] / (_RADIUS + 1)


class Edges(NamedTuple):
    """The edges of an image.

    Attributes:
        strength: f32[H W] in [0, 1], not thinned.
        angle: f32[H W] in [0, pi): the direction in which the edge runs, from the x axis towards
            the y axis, which points down.
        contour: what thresholds of a contour are compared with, f[...] in [0, 1], given the mean
            strength along it, f[...] in [0, 1]; never falls. None: that mean.
    """

    strength: np.ndarray
    angle: np.ndarray
    contour: Callable[[np.ndarray], np.ndarray] | None = None


def with_angles(strength: np.ndarray) -> Edges:
    """Returns the edges of a strength f32[H W] in [0, 1], their angles found from the strength.

    The strength is smoothed with a triangle filter of radius 4; an edge is a ridge of what comes
    out, and runs across the direction of the second derivative of the largest magnitude.

    Source: the edge detection toolbox of Dollar & Zitnick 2015, as METHODS 3.7 describes it. The
    toolbox takes differences of differences; here it is the Hessian's eigenvector, which turns with
    the image.
    """
    smooth = cv2.sepFilter2D(
        strength, cv2.CV_32F, _TRIANGLE, _TRIANGLE, borderType=cv2.BORDER_REFLECT
    )
    # Two more pixels on each side, for the first and second derivatives of narrow images.
    dy, dx = np.gradient(np.pad(smooth, 2, mode="edge"))
    dyy, dyx = np.gradient(dy)
    dxy, dxx = np.gradient(dx)
    # Half of this angle is the eigenvector of the larger second derivative; the smaller one's is at
    # a right angle to it. That of the larger magnitude is across: the smaller on a ridge, whose top
    # bends down, and the larger on its flanks and between two ridges, which bend up.
    angle = 0.5 * np.arctan2(dxy + dyx, dxx - dyy) + np.where(dxx + dyy > 0, np.pi / 2, 0)
    angle = angle[2:-2, 2:-2]
    return Edges(strength, np.mod(angle, np.pi).astype(np.float32))


def suppressed(edges: Edges) -> np.ndarray:
    """Returns the strength f32[H W] of pixels that are ridges, and 0 elsewhere: thinned edges.

    A pixel is kept unless one of the two points at distance 1 across its edge, read bilinearly (the
    image's border repeated), is more than 1 % stronger. The outermost 5 pixels fade to 0.

    Source: the edge detection toolbox of Dollar & Zitnick 2015, with its benchmark's settings.
    """
    strength = edges.strength
    y, x = np.indices(strength.shape, np.float32)
    across_y, across_x = np.cos(edges.angle), -np.sin(edges.angle)
    kept = np.ones(strength.shape, bool)
    for side in (-1, 1):
        places = np.stack([y + side * across_y, x + side * across_x])
        beside = scipy.ndimage.map_coordinates(strength, places, order=1, mode="nearest")
        kept &= strength * _LENIENCE >= beside
    rows, columns = (_fade(length) for length in strength.shape)
    return (strength * kept * rows[:, None] * columns[None]).astype(np.float32)


def _fade(length: int) -> np.ndarray:
    """Returns f32[length], 1 but for the ends, where it falls to 0."""
    place = np.arange(length)
    from_end = np.minimum(place, length - 1 - place)
    return np.minimum(from_end / min(_BORDER, max(length // 2, 1)), 1).astype(np.float32)
