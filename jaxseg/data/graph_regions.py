"""Coherent regions from the image alone: a graph-based over-segmentation, for want of boundaries.

Pixels are merged along the edges of the grid, the weakest first, as long as an edge is no stronger
than the regions on its two sides are within. No weights, no labels and no files are needed.
"""

import dataclasses
import zlib

import cv2
import numpy as np

from jaxseg.data.fingerprint import of_source
from jaxseg.data.source import Example, Wrapper
from jaxseg.views.geometry import longer_side, resize

# Images are segmented at this size of their longer side, if theirs is larger: two pixels of a
# photograph of usual size are one, while the networks' grids have a cell for eight or sixteen.
_SIDE = 256
_SIGMA = 0.8  # of the blur, in pixels, as in the paper
_SCALE = 100.0  # how readily regions merge; colours are in 0..255
# Regions of fewer pixels are merged with a neighbour. Where regions are too many this number is
# raised, not the scale: at a large scale what is left over beside the few large regions are the
# strips along contours that the blur makes.
_SMALLEST = 100
_STEP = 1.5


def graph_regions(image: np.ndarray, limit: int) -> np.ndarray:
    """Returns at most `limit` connected regions of an image u8[H W Ch] as i32[H W] from 0 on.

    They are found in the image made no larger than 256 pixels, from its first three channels; the
    smallest region grows until they are no more than the limit. The same image always has the same
    regions. Raises ValueError for a limit below 1.

    Source: Felzenszwalb & Huttenlocher 2004, on the 8-neighbour grid (OpenCV). HSG's regions come
    from learned boundaries (METHODS 3.7); these follow edges of colour, and textures fall apart.
    """
    return _as_large(_small_regions(image, limit), image)


def _small_regions(image: np.ndarray, limit: int) -> np.ndarray:
    """Returns the regions of the smaller image, i32[h w]."""
    if limit < 1:
        raise ValueError(f"an image has at least one region; the limit is {limit}")
    small = np.ascontiguousarray(resize(image[..., :3], *_small_size(image)))
    smallest = float(_SMALLEST)
    while True:
        segment = cv2.ximgproc.segmentation.createGraphSegmentation(_SIGMA, _SCALE, int(smallest))
        regions = segment.processImage(small)
        if regions.max() < limit:
            return regions
        smallest *= _STEP


def _small_size(image: np.ndarray) -> tuple[int, int]:
    return longer_side(image.shape, min(_SIDE, max(image.shape[:2])))


def _as_large(regions: np.ndarray, image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    return resize(regions, height, width, "nearest")


@dataclasses.dataclass(frozen=True)
class GraphRegions(Wrapper):
    """Adds to each example of `source` its `graph_regions`, at most `limit` of them.

    An image is segmented the first time that it is read, about 0.1 s of a core for a photograph,
    and its regions are kept in memory, compressed to about 5 kB, for the life of the process.
    Worker processes each segment and keep their own.
    """

    limit: int
    _kept: dict[int, bytes] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    @property
    def fingerprint(self) -> str:
        """That of the source: regions change no image."""
        return of_source(self.source)

    def __getitem__(self, index: int) -> Example:
        index = range(len(self))[index]
        example = self.source[index]
        # Two threads may both segment an image the first time; they find the same.
        kept = self._kept.get(index)
        if kept is None:
            small = _small_regions(example.image, self.limit).astype(np.uint16)
            kept = self._kept[index] = zlib.compress(small.tobytes(), 1)
        small = np.frombuffer(zlib.decompress(kept), np.uint16).reshape(_small_size(example.image))
        regions = _as_large(small.astype(np.int32), example.image)
        return dataclasses.replace(example, regions=regions)

    def __reduce__(self):
        # A worker process starts with nothing kept rather than with a copy sent through a pipe.
        return GraphRegions, (self.source, self.limit)
