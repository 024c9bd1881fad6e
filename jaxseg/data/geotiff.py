"""Where on Earth a TIFF lies: its GeoTIFF tags, read from one file and written into another.

The tags are copied, not understood: a file of the same pixels lies where the first one does.
Source: GeoTIFF 1.1, OGC 19-008r4, annex A.
"""

import os
import pathlib
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from jaxseg.data.disk import new_file

# Pixel scale, tie points, transformation, key directory, and its numbers and texts.
_TAGS = (33550, 33922, 34264, 34735, 34736, 34737)
_ORIENTATION = 274

Tags = dict[int, tuple[int, Any]]  # TIFF type and value, by tag


def read_tags(path: str | os.PathLike[str]) -> Tags:
    """Returns the GeoTIFF tags of an image file; {} for one that has none or cannot be read.

    Of a file whose pixels are turned when they are read (EXIF orientation) there are none either:
    they would hold for the pixels as stored.
    """
    try:
        with Image.open(path) as image:
            if not isinstance(image, TiffImagePlugin.TiffImageFile):
                return {}
            tags = image.tag_v2
            if tags.get(_ORIENTATION, 1) != 1:
                return {}
            return {tag: (tags.tagtype[tag], tags[tag]) for tag in _TAGS if tag in tags}
    except Exception:  # Pillow raises a dozen kinds; reading the pixels says what is wrong
        return {}


def write_labels(path: pathlib.Path, labels: np.ndarray, tags: Tags) -> None:
    """Writes labels u8 or u16 [H W] as a TIFF (deflate) with GeoTIFF tags, atomically."""
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, (kind, value) in tags.items():
        directory.tagtype[tag] = kind
        directory[tag] = value
    with new_file(path, labels.nbytes, "--out") as file:
        picture = Image.fromarray(labels)
        picture.save(file, "TIFF", tiffinfo=directory, compression="tiff_adobe_deflate")
