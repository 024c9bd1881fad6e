"""Masks of COCO's JSON files: run lengths, compressed or not, and polygons.

A pixel (row i, column j) covers [i, i + 1) x [j, j + 1); masks are bool[H W].
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_LOWEST_CHARACTER = 48  # a character stands for its code minus this, 6 bits


def decode_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Returns the mask bool[H W] of a COCO segmentation: a list of polygons, or a run-length dict.

    Raises ValueError, saying what is wrong, for anything else or for one of another size.
    """
    if isinstance(segmentation, Mapping):
        mask = decode_runs(segmentation)
        if mask.shape != (height, width):
            raise ValueError(f"a run-length mask has size {mask.shape}, not ({height}, {width})")
        return mask
    if not isinstance(segmentation, Sequence) or isinstance(segmentation, str):
        raise ValueError(f"a segmentation is a {type(segmentation).__name__}")
    mask = np.zeros((height, width), bool)
    for polygon in segmentation:
        mask |= fill_polygon(polygon, height, width)
    return mask


def decode_runs(runs: Mapping[str, Any]) -> np.ndarray:
    """Returns the mask bool[H W] of {"size": [H, W], "counts": runs}.

    Runs go down the columns and alternate between outside and inside, outside first. They are a
    list of integers, or COCO's string: numbers in groups of 5 bits, low groups first, each with a
    bit for "more follows", two's complement; from the fourth on, differences to the one two before.
    Raises ValueError for a malformed string or runs that do not fill the size.
    """
    counts = runs.get("counts")
    size = runs.get("size")
    if not (isinstance(size, Sequence) and len(size) == 2 and all(_is_count(n) for n in size)):
        raise ValueError(f"a run-length mask has the size {size!r}, expected [height, width]")
    if isinstance(counts, str):
        counts = _decode_counts(counts)
    if not (isinstance(counts, Sequence) and all(_is_count(n) for n in counts)):
        raise ValueError("the counts of a run-length mask are not whole numbers from 0 on")
    height, width = size
    if sum(counts) != height * width:
        raise ValueError(f"runs of {sum(counts)} pixels in a mask of {height} x {width}")
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape(width, height).T


def _is_count(number: Any) -> bool:
    return isinstance(number, int) and 0 <= number < 2**31


def _decode_counts(text: str) -> list[int]:
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - _LOWEST_CHARACTER
        if not 0 <= bits < 64 or shift > 30:
            raise ValueError(f"the counts of a run-length mask hold {character!r} out of place")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("the counts of a run-length mask end within a number")
    return counts


def fill_polygon(polygon: Sequence[float], height: int, width: int) -> np.ndarray:
    """Returns the mask bool[H W] of the pixels whose centres lie in a polygon x0 y0 x1 y1 ...

    Even-odd rule. COCO's own tool rounds the outline to fifths of a pixel instead; the two differ
    on the outline alone.
    Raises ValueError for anything but three or more pairs of numbers below 2^31.
    """
    try:
        points = np.asarray(polygon, np.float64)
    except (TypeError, ValueError):
        points = np.zeros(0)
    in_range = bool((np.abs(points) < 2**31).all())  # False for NaN as well
    if points.ndim != 1 or len(points) < 6 or len(points) % 2 or not in_range:
        raise ValueError("a polygon is not a list of three or more pairs of numbers")
    x0, y0 = points[0::2], points[1::2]
    x1, y1 = np.roll(x0, -1), np.roll(y0, -1)
    # Only the window around the polygon is computed.
    top, bottom = _extent(y0, height)
    left, right = _extent(x0, width)
    centres = np.arange(top, bottom)[:, None] + 0.5
    # An edge counts where the centre line of a row lies between its ends, the upper one included.
    row, edge = np.nonzero((y0 <= centres) != (y1 <= centres))
    slope = (x1[edge] - x0[edge]) / (y1[edge] - y0[edge])
    crossing = x0[edge] + (row + top + 0.5 - y0[edge]) * slope
    column = np.clip(np.ceil(crossing - 0.5), left, right).astype(np.int64) - left
    flips = np.zeros((bottom - top, right - left + 1), bool)
    np.logical_xor.at(flips, (row, column), True)
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = np.logical_xor.accumulate(flips, axis=1)[:, :-1]
    return mask


def _extent(places: np.ndarray, side: int) -> tuple[int, int]:
    """Returns the pixels that points touch, first and end, within a side."""
    first = int(np.clip(np.floor(places.min()), 0, side))
    return first, int(np.clip(np.ceil(places.max()), first, side))
