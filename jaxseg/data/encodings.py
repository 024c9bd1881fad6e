"""How data sets write classes into label files, as functions from a path to i32[H W]; -1 = ignored.

Each is a record that can be sent to worker processes. All raise `Unreadable` for a file that cannot
be decoded, and UserError, with the file and the value, for a value that the data set does not have.
"""

import dataclasses
import os
from collections.abc import Mapping

import numpy as np

from jaxseg.core import UserError
from jaxseg.data.images import read_image, read_label

# The corners of the colour cube are what aerial labels are painted in; some published files are off
# by a few grey levels (252 for 255).
_COLOUR_TOLERANCE = 8

_UNKNOWN = -2  # in a table: no value of the data set
_TABLE = 65536  # values that a label of 8 or 16 bits can hold


@dataclasses.dataclass(frozen=True)
class Ids:
    """Ids in an indexed or greyscale PNG: value -> class; -1 = ignored."""

    classes: Mapping[int, int]

    def __call__(self, path: str) -> np.ndarray:
        return look_up(read_label(path), self.classes, path)


@dataclasses.dataclass(frozen=True)
class RedIds:
    """Ids in the red channel of an RGB PNG, as in the panoptic maps of STEP: value -> class.

    A greyscale PNG of the red channel alone is read too.
    """

    classes: Mapping[int, int]

    def __call__(self, path: str) -> np.ndarray:
        return look_up(_read_painted(path)[:, :, 0].astype(np.int32), self.classes, path)


@dataclasses.dataclass(frozen=True)
class Colours:
    """Classes painted in colours, in a PNG or TIFF: (red, green, blue) -> class; -1 = ignored.

    A pixel may be off by up to 8 grey levels in each channel.
    """

    classes: Mapping[tuple[int, int, int], int]

    def __call__(self, path: str) -> np.ndarray:
        painted = _read_painted(path)
        label = np.full(painted.shape[:2], _UNKNOWN, np.int32)
        packed = painted[:, :, 0].astype(np.int32)  # comparing whole colours is much faster
        for band in (1, 2):
            packed <<= 8
            packed |= painted[:, :, band]
        for (r, g, b), value in self.classes.items():
            label[packed == (r << 16 | g << 8 | b)] = value
        odd = label == _UNKNOWN
        if not odd.any():
            return label
        found = painted[odd].astype(np.int32)
        palette = np.array(list(self.classes), np.int32)
        distance = np.abs(found[:, None] - palette).max(axis=2)
        if distance.min(axis=1).max() > _COLOUR_TOLERANCE:
            colour = tuple(found[distance.min(axis=1).argmax()].tolist())
            raise UserError(
                f"label {path} holds the colour {colour}, in "
                f"{int((found == colour).all(axis=1).sum())} pixels; expected one of "
                f"{', '.join(map(str, self.classes))}. Take the label as published: a copy that "
                "was resized or saved as JPEG has mixed colours"
            )
        label[odd] = np.array(list(self.classes.values()), np.int32)[distance.argmin(axis=1)]
        return label


def look_up(stored: np.ndarray, classes: Mapping[int, int], path: str) -> np.ndarray:
    """Returns the classes i32[H W] of stored values i32[H W].

    Raises UserError for a value that is no key of `classes`; `path` is for its message.
    """
    table = np.full(_TABLE, _UNKNOWN, np.int32)  # a table is much faster than testing each value
    inside = {value: index for value, index in classes.items() if 0 <= value < _TABLE}
    table[list(inside)] = list(inside.values())
    label = table.take(stored, mode="clip")
    outside = (stored < 0) | (stored >= _TABLE)
    if outside.any():
        label[outside] = [classes.get(value, _UNKNOWN) for value in stored[outside].tolist()]
    if label.min(initial=0) == _UNKNOWN:
        value = int(stored[label == _UNKNOWN].min())
        raise UserError(
            f"label {path} holds the value {value}, in {int((stored == value).sum())} pixels; "
            f"expected {_listed(sorted(classes))}. Check that it is a label of this data set, in "
            "the encoding of its release"
        )
    return label


def _listed(values: list[int]) -> str:
    """Returns sorted whole numbers as ranges: "0 to 18, 255"."""
    starts = [v for i, v in enumerate(values) if i == 0 or values[i - 1] != v - 1]
    ends = [v for i, v in enumerate(values) if i == len(values) - 1 or values[i + 1] != v + 1]
    spans = zip(starts, ends, strict=True)
    return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in spans)


def _read_painted(path: str) -> np.ndarray:
    """Reads a label in colour, u8[H W 3]; refuses kinds of file that change colours."""
    if os.path.splitext(path)[1].lower() not in (".png", ".tif", ".tiff"):
        raise UserError(
            f"label {path} is no PNG or TIFF; other kinds change the colours that stand for "
            "classes. Take the label as published"
        )
    return read_image(path)
