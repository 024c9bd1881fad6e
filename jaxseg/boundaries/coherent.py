"""Coherent regions: the hierarchy of an image's edges, cut where there are few enough regions."""

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np

from jaxseg.boundaries.edges import Edges
from jaxseg.boundaries.ucm import Hierarchy, make_hierarchy
from jaxseg.core import UserError

MOST = 65_535  # regions that a 16-bit map can number


@dataclasses.dataclass(frozen=True)
class Cut:
    """Where a hierarchy is cut: the threshold rises until there are at most `limit` regions.

    Attributes:
        start: the first threshold, in [0, 1].
        limit: the most regions that an image may have.
        step: by how much the threshold rises.
        fixed: keep the first threshold, however many regions there are. The released script for
            PMI boundaries misplaces a parenthesis, so that its loop always ends there; the
            published region maps of Cityscapes are presumably made so (METHODS 3.7). The default is
            the loop that was meant.

    Raises:
        UserError: a field is out of its range.
    """

    start: float
    limit: int
    step: float = 0.01
    fixed: bool = False

    def __post_init__(self):
        for name, value, fits, expected in (
            ("start", self.start, 0 <= self.start <= 1, "0 to 1"),
            ("limit", self.limit, 1 <= self.limit <= MOST, f"1 to {MOST:,}"),
            ("step", self.step, 0 < self.step <= 1, "more than 0, at most 1"),
        ):
            if not fits:
                raise UserError(f"the cut's {name} is {value}; expected {expected}")

    def threshold(self, hierarchy: Hierarchy) -> float:
        """Returns the threshold at which the hierarchy is cut.

        At 1, which no strength exceeds, a single region is left; so the search ends there.
        """
        rises = 0
        while (threshold := min(self.start + rises * self.step, 1.0)) < 1:
            if self.fixed or hierarchy.count(threshold) <= self.limit:
                break
            rises += 1
        return threshold


# Those of the papers (METHODS 3.7), and for the detectors of jaxseg the one nearest to them. HSG's
# code takes at most 48 and 1,024 regions, its paper fewer than these.
PRESETS = {
    "structured_forest": Cut(start=0.25, limit=48),
    "pmi": Cut(start=0.05, limit=1024),
    "pmi_potsdam": Cut(start=0.5, limit=128),
    "network": Cut(start=0.25, limit=48),
    "gradient": Cut(start=0.25, limit=48),
}


def coherent_regions(
    image: np.ndarray, detect: Callable[[np.ndarray], Edges], cut: Cut, side: int
) -> np.ndarray:
    """Returns the coherent regions of an image u8[H W Ch] as i32[H W], from 0 on without gaps.

    Each is connected. They are found from the first three channels, in an image whose longer side
    is `side` if it was larger. A detector may also return edges of a smaller size, as PMI's at half
    resolution; the regions are found at the size of the edges and repeated to that of the image
    (nearest pixel).

    Source: Ke et al. 2022, supplement, as METHODS 3.7 describes it. Departures: the structured
    forest's contours are not combined with spectral ones (sPb); regions meet between pixels and
    leave none to the boundary, so that the original's dilation, which gives those pixels to
    regions, has nothing to do.

    Raises:
        UserError: there are more than 65,535 regions, as a fixed threshold may leave.
    """
    height, width = image.shape[:2]
    small = np.ascontiguousarray(image[..., :3])
    if max(height, width) > side:
        scale = side / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(small, size, interpolation=cv2.INTER_AREA)
    hierarchy = make_hierarchy(detect(small))
    threshold = cut.threshold(hierarchy)
    if hierarchy.count(threshold) > MOST:
        raise UserError(
            f"there are {hierarchy.count(threshold):,} regions at the threshold {threshold:g}; a "
            f"map holds {MOST:,}. Raise the threshold, or do not keep it fixed"
        )
    return _nearest(hierarchy.regions(threshold), height, width)


def _nearest(regions: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns regions i[h w] repeated to i[H W], each pixel that of the nearest centre."""
    if regions.shape == (height, width):
        return regions
    rows, columns = (
        (2 * np.arange(large) + 1) * small // (2 * large)
        for small, large in zip(regions.shape, (height, width), strict=True)
    )
    return regions[rows[:, None], columns[None]]
