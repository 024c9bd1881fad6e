"""Masks of labels as COCO's run lengths and as polygons."""

from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """Returns {"size": [H, W], "counts": COCO's string} of a mask bool[H W]; it is exact."""
    found = coco.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(mask.shape), "counts": found["counts"].decode("ascii")}


def polygons(mask: np.ndarray, smallest: float = 0) -> list[dict[str, Any]]:
    """Returns the connected parts of a mask bool[H W] as polygons with holes.

    Each is {"outer": ring, "holes": [ring, ...]}; a ring is f32[x0 y0 x1 y1 ...], in pixels from
    the top-left corner of the image, so that the centre of its first pixel is (0.5, 0.5). Vertices
    are centres of border pixels of the part (8-connected), as OpenCV's `findContours` finds them:
    a polygon encloses half a pixel less than its part on every side, and that of a line is flat.

    Args:
        mask: what to outline.
        smallest: area in square pixels below which a polygon is left out, as is a hole.
    """
    rings, hierarchy = cv2.findContours(
        mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
    )
    found: dict[int, dict[str, Any]] = {}
    # Two levels: outer rings, and holes with the number of the ring around them, their parent.
    parents = np.reshape(hierarchy, (-1, 4))[:, 3].tolist() if len(rings) else []
    large = [not smallest or cv2.contourArea(ring) >= smallest for ring in rings]
    for number, parent in enumerate(parents):
        if parent < 0 and large[number]:
            found[number] = {"outer": _flat(rings[number]), "holes": []}
    for number, parent in enumerate(parents):
        if parent in found and large[number]:
            found[parent]["holes"].append(_flat(rings[number]))
    return list(found.values())


def _flat(ring: np.ndarray) -> np.ndarray:
    # Not a list: the numbers of a large image's polygons would take ten times the room.
    return ring.reshape(-1) + np.float32(0.5)
