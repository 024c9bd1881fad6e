"""The features whose statistics `pmi` takes: CIELab, and how much colour varies around a pixel.

Source: Isola et al. 2014, section 5, with the details of its release. The release's CIELab has the
white of D50 and a colour profile; here it is OpenCV's, of D65.
"""

import cv2
import numpy as np
from PIL import Image

NAMES = ("colour", "variance")


def unit_range(values: np.ndarray) -> np.ndarray:
    """Returns values f32 of any shape, moved and scaled together to [0, 1]; constant ones to 0."""
    values = values - values.min()
    return (values / max(float(values.max()), 1e-12)).astype(np.float32)


def principal(maps: np.ndarray) -> np.ndarray:
    """Returns maps f64[h w D] in the axes of their principal components, centred, not scaled."""
    flat = maps.reshape(-1, maps.shape[-1]).astype(np.float64)
    flat = flat - flat.mean(axis=0)
    _, axes = np.linalg.eigh(flat.T @ flat)
    return (flat @ axes[:, ::-1]).reshape(maps.shape)


def local_variance(image: np.ndarray, radius: int) -> np.ndarray:
    """Returns the root of the standard deviation f64[H W 3] in a disk around each pixel.

    It is that of the colours of the image u8[H W 3] in the axes of their principal components.
    """
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = (x**2 + y**2 <= radius**2).astype(np.float64)
    colours = principal(image / 255)

    def total(maps):
        return cv2.filter2D(maps, cv2.CV_64F, disk, borderType=cv2.BORDER_REFLECT)

    count = disk.sum()
    spread = (total(colours**2) - total(colours) ** 2 / count) / (count - 1)
    return np.maximum(spread, 0) ** 0.25


def feature_maps(image: np.ndarray, name: str, halvings: int) -> np.ndarray:
    """Returns a feature set f32[h w 3] in [0, 1] of an image u8[H W 3], halved and decorrelated.

    `name` is one of `NAMES`. The disk of "variance" has the radius of a pixel of the halved image.
    The three features have one scale in common, so that the first principal component spans most.
    """
    if name == "colour":
        maps = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    else:
        maps = local_variance(image, 2**halvings)
    maps = unit_range(maps)
    height, width = (-(-side // 2**halvings) for side in image.shape[:2])
    # Pillow's cubic filter widens as it shrinks an image, as the release's does; OpenCV's does not.
    small = [
        np.asarray(Image.fromarray(part).resize((width, height), Image.Resampling.BICUBIC))
        for part in np.moveaxis(maps, -1, 0)
    ]
    return unit_range(principal(np.stack(small, axis=-1)))
