"""What every edge detector returns: how strong an edge each pixel has, and which way it runs.

A detector is a function of an image u8[H W 3] in RGB that returns `Edges`.
"""

from typing import NamedTuple

import cv2
import numpy as np

# Half the width, in pixels, of the triangle filter before derivatives are taken (METHODS 3.7).
_RADIUS = 4
_TRIANGLE = np.bartlett(2 * _RADIUS + 3)[1:-1] / (_RADIUS + 1)


class Edges(NamedTuple):
    """The edges of an image.

    Attributes:
        strength: f32[H W] in [0, 1], not thinned.
        angle: f32[H W] in [0, pi): the direction in which the edge runs, from the x axis towards
            the y axis, which points down.
    """

    strength: np.ndarray
    angle: np.ndarray


def with_angles(strength: np.ndarray) -> Edges:
    """Returns the edges of a strength f32[H W] in [0, 1], their angles found from the strength.

    The strength is smoothed with a triangle filter of radius 4; an edge is a ridge of what comes
    out, and runs across the direction of the strongest second derivative.

    Source: the edge detection toolbox of Dollar & Zitnick 2015, as METHODS 3.7 describes it. The
    toolbox takes differences of differences; here it is the Hessian's eigenvector, which turns with
    the image.
    """
    smooth = cv2.sepFilter2D(
        strength, cv2.CV_32F, _TRIANGLE, _TRIANGLE, borderType=cv2.BORDER_REFLECT
    )
    dy, dx = np.gradient(smooth)
    dyy, dyx = np.gradient(dy)
    dxy, dxx = np.gradient(dx)
    # The eigenvector of the most negative second derivative points across the ridge; the other one,
    # at half of this angle, runs along it.
    angle = 0.5 * np.arctan2(dxy + dyx, dxx - dyy)
    return Edges(strength, np.mod(angle, np.pi).astype(np.float32))
